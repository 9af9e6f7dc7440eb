"""A control server on loopback, and members of it: what the tests of this room have in common."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from events.log import Log
from lanrage.control import client as control
from lanrage.control.client import ControlClient, ControlNotice, Joined, Target
from lanrage.control.server import ControlServer
from lanrage.identity import Identity, fresh
from lanrage.protocols import partylog
from lanrage.protocols.invite import Invite
from lanrage.protocols.partylog import Chain
from lanrage.refusal import Refusal

N = TypeVar("N")
PATIENCE_S = 20.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def serving(
    state: Path,
    port: int = 0,
    creators: frozenset[str] | None = None,
    relay_secret: bytes = b"",
) -> AsyncIterator[ControlServer]:
    await asyncio.to_thread(state.mkdir, exist_ok=True)
    log = await Log.open(state / "control.sqlite", session="s" * 16)
    assert isinstance(log, Log), log
    server = await ControlServer.start(
        "127.0.0.1", port, log, creators=creators, relay_secret=relay_secret
    )
    assert isinstance(server, ControlServer), server
    faults: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context))
    try:
        yield server
    finally:
        await server.close()
        await log.close()
        loop.set_exception_handler(None)
    assert not faults, faults


class Node:
    """A member with its client, and every notice it got."""

    def __init__(self, name: str = "ada", identity: Identity | None = None) -> None:
        self.identity = identity or fresh(name)
        self.notices: list[ControlNotice] = []
        self.chain = partylog.EMPTY
        self._grown = asyncio.Condition()
        self._pending: set[asyncio.Task[None]] = set()
        self.client = ControlClient(self.identity, self._deliver)

    def _deliver(self, notice: ControlNotice) -> None:
        self.notices.append(notice)
        if isinstance(notice, control.Records):
            assert notice.after == self.chain.length
            for record in notice.records:
                after = partylog.verify(self.chain, record)
                assert isinstance(after, Chain), after
                self.chain = after
        task = asyncio.ensure_future(self._wake())
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _wake(self) -> None:
        async with self._grown:
            self._grown.notify_all()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._grown:
            await self._grown.wait_for(holds)

    async def heard(self, kind: type[N], start: int = 0) -> N:
        """The first notice of that kind among those from `start` on."""

        def found() -> list[N]:
            return [each for each in self.notices[start:] if isinstance(each, kind)]

        await self.until(lambda: bool(found()))
        return found()[0]

    def enter(self, joined: Joined, *urls: str) -> None:
        chain = partylog.extend(partylog.EMPTY, joined.records)
        assert isinstance(chain, Chain)
        self.chain = chain
        self.client.want(Target(joined.party, urls or (joined.url,), chain))

    @property
    def online(self) -> tuple[str, ...]:
        """Who was connected at the last report."""
        told = [each.online for each in self.notices if isinstance(each, control.Presence)]
        return told[-1] if told else ()

    async def found(self, server: ControlServer, name: str = "Friday") -> Joined:
        return await self.found_at(url_of(server), name)

    async def found_at(self, url: str, name: str = "Friday") -> Joined:
        record = partylog.genesis(
            self.identity.signer,
            name=name,
            founder_name=self.identity.name,
            wireguard=self.identity.wireguard_public,
            nonce=secrets.token_bytes(16),
            at_ms=now_ms(),
        )
        joined = await control.create(url, self.identity, record)
        assert isinstance(joined, Joined), joined
        self.enter(joined)
        return joined

    async def invite(
        self, server: ControlServer, *, uses: int = 1, life_ms: int = 60_000, at_ms: int = 0
    ) -> Invite:
        seed = secrets.token_bytes(32)
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        at = at_ms or now_ms()
        chain = await self.client.append(
            lambda chain: partylog.issue_invite(
                self.identity.signer,
                chain,
                invite_public=public,
                uses=uses,
                expires_at=at + life_ms,
                at_ms=at,
            )
        )
        assert isinstance(chain, Chain), chain
        return Invite(
            party=chain.party,
            seed=seed,
            head=chain.head,
            length=chain.length,
            control=(url_of(server),),
            name=chain.name,
        )

    async def join(self, invite: Invite) -> Joined:
        joined = await self.client.join(invite)
        assert isinstance(joined, Joined), joined
        self.enter(joined)
        return joined

    async def append(self, build: Callable[[Chain], bytes]) -> Chain | Refusal:
        return await self.client.append(build)

    async def kick(self, peer: str) -> Chain | Refusal:
        return await self.append(
            lambda chain: partylog.kick(self.identity.signer, chain, peer=peer, at_ms=now_ms())
        )

    async def leave(self) -> Chain | Refusal:
        return await self.append(
            lambda chain: partylog.leave(self.identity.signer, chain, at_ms=now_ms())
        )

    async def rename(self, name: str) -> Chain | Refusal:
        return await self.append(
            lambda chain: partylog.rename_member(
                self.identity.signer, chain, name=name, at_ms=now_ms()
            )
        )


@asynccontextmanager
async def nodes(*names: str) -> AsyncIterator[list[Node]]:
    made = [Node(name) for name in names]
    try:
        yield made
    finally:
        for each in made:
            await each.client.close()


def url_of(server: ControlServer) -> str:
    return f"127.0.0.1:{server.port}"
