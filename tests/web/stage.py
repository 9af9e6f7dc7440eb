"""A node as the web room sees one (web.port.Node), without tunnel and control.

The log, the fold, the views and the signed chain are the real ones; only what would need a
network is left out: `submit` signs and stores at once.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from events.base import Event, PeerId, Stored
from events.log import Log
from events.party import ControlConnected, PartyEntered, PartyExited
from events.path import PathOpened, PathQuality
from events.peer import Candidate, PeerCandidates, PeerOnline
from events.session import SessionStarted
from events.tunnel import TunnelConfigured, TunnelEstablished, TunnelStarted
from lanrage import commands as c
from lanrage.identity import Identity, fresh
from lanrage.protocols import invite as invites
from lanrage.protocols import partylog
from lanrage.recorded import event_of
from lanrage.refusal import Refusal
from projections import lobby, mesh

CONTROL = "ws://127.0.0.1:8667"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Stage:
    def __init__(self, log: Log, me: Identity) -> None:
        self.log = log
        self.me = me
        self.mesh = mesh.EMPTY
        self.live: dict[PeerId, lobby.Live] = {}
        self.asked: list[c.Asked] = []
        self.refusal: Refusal | None = None
        self.seeds: dict[str, bytes] = {}
        self._version = 1
        self._news = asyncio.Condition()

    @classmethod
    async def open(cls, folder: Path, name: str = "Ada") -> Stage:
        log = await Log.open(folder / "events.sqlite", session="20261123-000000-abcdef")
        assert isinstance(log, Log)
        stage = cls(log, fresh(name))
        await stage.append(
            SessionStarted(
                version="0.1.0",
                platform="Linux",
                peer=stage.me.peer,
                name=stage.me.name,
                wireguard=stage.me.wireguard_public,
            ),
            TunnelStarted(interface="lanrage0", port=26666, backend="userspace"),
        )
        return stage

    # --- web.port.Node ---------------------------------------------------------------------------

    @property
    def head(self) -> int:
        return self.log.head

    def status(self) -> lobby.Status:
        return lobby.status(self.mesh, self.live)

    def state(self) -> bytes:
        return mesh.canonical(self.mesh)

    async def read(self, after: int, limit: int, type_glob: str | None = None) -> Sequence[Stored]:
        return await self.log.read(after, limit=limit, type_glob=type_glob)

    def subscribe(self, after: int) -> AsyncIterator[tuple[Stored, ...]]:
        return self.log.subscribe(after)

    async def changed(self, seen: int) -> int:
        async with self._news:
            await self._news.wait_for(lambda: self._version != seen)
            return self._version

    async def submit(self, command: c.Asked) -> dict[str, Any] | Refusal:
        self.asked.append(command)
        if self.refusal is not None:
            return self.refusal
        match command:
            case c.Create(name=name):
                return await self._create(name)
            case c.Invite(uses=uses, expires_s=expires_s):
                return await self.invite(uses, expires_s)
            case c.Join(link=link):
                return await self._join(link)
            case c.RevokeInvite(invite=invite):
                public = partylog.key_of(invite)
                assert public is not None
                await self._record(
                    partylog.revoke_invite(
                        self.me.signer, self.mesh.chain, invite_public=public, at_ms=now_ms()
                    )
                )
            case c.Kick(peer=peer):
                await self._record(
                    partylog.kick(self.me.signer, self.mesh.chain, peer=peer, at_ms=now_ms())
                )
            case c.Rename(name=name):
                await self._record(
                    partylog.rename_member(
                        self.me.signer, self.mesh.chain, name=name, at_ms=now_ms()
                    )
                )
            case c.Leave():
                await self.append(PartyExited(party=self.mesh.party, reason="left"))
        return {}

    # --- what happens to it ----------------------------------------------------------------------

    async def append(self, *events: Event) -> None:
        stored = await self.log.append(events, at=now_ms())
        assert isinstance(stored, tuple), stored
        self.mesh = mesh.fold_all(self.mesh, stored)
        await self._tell()

    async def measure(self, peer: PeerId, rtt_us: int) -> None:
        self.live[peer] = lobby.Live(
            rtt_us=rtt_us, loss_permille=0, rx_bytes=rtt_us * 31, tx_bytes=rtt_us * 17
        )
        await self._tell()

    async def invite(self, uses: int = 5, expires_s: int = 3600) -> dict[str, Any]:
        seed = secrets.token_bytes(32)
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        record = partylog.issue_invite(
            self.me.signer,
            self.mesh.chain,
            invite_public=public,
            uses=uses,
            expires_at=now_ms() + expires_s * 1000,
            at_ms=now_ms(),
        )
        await self._record(record)
        self.seeds[partylog.text_of(public)] = seed
        link = invites.Invite(
            party=self.mesh.party,
            name=self.mesh.chain.name,
            seed=seed,
            head=self.mesh.chain.head,
            length=self.mesh.chain.length,
            control=(CONTROL,),
        )
        return {
            "party": self.mesh.party,
            "invite": invites.link(link),
            "id": partylog.text_of(public),
        }

    async def welcome(self, name: str, *, rtt_us: int = 41_000, address: str = "") -> Identity:
        """Another player joins, comes online, and is connected (unless `rtt_us` is 0)."""
        other = fresh(name)
        invite = await self.invite(uses=1)
        record = partylog.join(
            other.signer,
            self.seeds[invite["id"]],
            self.mesh.chain,
            name=name,
            wireguard=other.wireguard_public,
            at_ms=now_ms(),
        )
        await self._record(record)
        await self.append(PeerOnline(peer=other.peer))
        if rtt_us:
            await self.connect(other.peer, rtt_us, address or "203.0.113.7:26666")
        return other

    async def connect(self, peer: PeerId, rtt_us: int, address: str) -> None:
        candidate = Candidate(kind="mapped", address=address)
        path = PathQuality(kind="direct", address=address, rtt_us=rtt_us)
        await self.append(
            PeerCandidates(peer=peer, generation=1, candidates=(candidate,)),
            PathOpened(peer=peer, path=path, took_ms=84),
            TunnelEstablished(peer=peer, took_ms=43),
        )
        await self.measure(peer, rtt_us)

    async def _create(self, name: str) -> dict[str, Any]:
        record = partylog.genesis(
            self.me.signer,
            name=name,
            founder_name=self.me.name,
            wireguard=self.me.wireguard_public,
            nonce=secrets.token_bytes(16),
            at_ms=now_ms(),
        )
        after = partylog.verify(partylog.EMPTY, record, now_ms=now_ms())
        assert isinstance(after, partylog.Chain), after
        me = after.members[self.me.peer]
        await self.append(
            PartyEntered(party=after.party, control=(CONTROL,), embedded=True),
            event_of(after, record),
            ControlConnected(party=after.party, url=CONTROL),
            TunnelConfigured(address=f"{me.address}/16", address6=f"{me.address6}/64", mtu=1420),
        )
        return await self.invite(uses=1)

    async def _join(self, link: str) -> dict[str, Any] | Refusal:
        parsed = invites.parse(link)
        if isinstance(parsed, partylog.Invalid):
            return Refusal("bad_invite", "Cannot join", parsed.reason, "Ask for a new link.")
        return await self._create(parsed.name)

    async def _record(self, record: bytes) -> None:
        after = partylog.verify(self.mesh.chain, record, now_ms=now_ms())
        assert isinstance(after, partylog.Chain), after
        await self.append(event_of(after, record))

    async def _tell(self) -> None:
        async with self._news:
            self._version += 1
            self._news.notify_all()
