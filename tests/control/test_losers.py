"""Of several addresses of control one wins; nothing stays open to the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from lanrage.control import messages as m
from tests.control.liar import CHALLENGE
from tests.control.room import nodes, serving, url_of


async def test_a_slow_address_that_lost_is_hung_up_on(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def mute(socket: ServerConnection) -> None:
        await socket.send(m.encode(CHALLENGE))
        await socket.wait_closed()
        ended.set()

    async with (
        serving(tmp_path) as server,
        nodes("ada", "bob") as (ada, bob),
        serve(mute, "127.0.0.1", 0, subprotocols=[Subprotocol(m.SUBPROTOCOL)]) as slow,
    ):
        await ada.found(server)
        invite = await ada.invite(server)
        url = f"127.0.0.1:{next(iter(slow.sockets)).getsockname()[1]}"
        await bob.join(msgspec.structs.replace(invite, control=(url, url_of(server))))
        async with asyncio.timeout(3):
            await ended.wait()
