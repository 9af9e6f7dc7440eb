"""A control server that says whatever a test wants it to say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from lanrage.control import messages as m
from lanrage.protocols import partylog

Said: TypeAlias = "m.FromServer | bytes | str"

CHALLENGE = m.Challenge(version=m.PROTOCOL, nonce=bytes(16), at=1_800_000_000_000)


class Liar:
    def __init__(self) -> None:
        self.url = ""
        self.hellos: list[m.FromNode | None] = []
        self.appends: list[m.Append] = []


@asynccontextmanager
async def lying(
    after_hello: Sequence[Said],
    *,
    first: Said = CHALLENGE,
    on_append: Callable[[m.Append], Sequence[Said]] = lambda _: (),
    subprotocol: str = m.SUBPROTOCOL,
) -> AsyncIterator[Liar]:
    liar = Liar()

    async def talk(socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            await socket.send(_bytes(first))
            liar.hellos.append(m.from_node(await socket.recv()))
            for each in after_hello:
                await socket.send(_bytes(each))
            async for message in socket:
                frame = m.from_node(message)
                if isinstance(frame, m.Append):
                    liar.appends.append(frame)
                    for each in on_append(frame):
                        await socket.send(_bytes(each))

    async with serve(talk, "127.0.0.1", 0, subprotocols=[Subprotocol(subprotocol)]) as server:
        liar.url = f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield liar


def welcome(records: Sequence[bytes]) -> m.Welcome:
    head = partylog.hash_of(records[-1]).hex() if records else ""
    return m.Welcome(length=len(records), head=head)


def pages(records: Sequence[bytes], after: int = 0) -> list[m.FromServer]:
    return [
        m.Records(after=at, records=tuple(records[at : at + m.PAGE]))
        for at in range(after, len(records), m.PAGE)
    ]


def _bytes(said: Said) -> bytes | str:
    return said if isinstance(said, bytes | str) else m.encode(said)
