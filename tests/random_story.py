"""A node's life as numbers: steps that any generator can make, turned into commands by the state.

One step is three small numbers: what happens, to whom, and which variant. So hypothesis can shrink
a failing life, and a fixed list of numbers is the same life in every process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from events.base import Event, Stored
from events.log import FILE_NAME, Log, Reader
from events.path import PathQuality
from events.peer import Candidate
from lanrage import commands as c
from lanrage.decide import decide
from lanrage.protocols import partylog
from lanrage.protocols.partylog import Chain
from lanrage.refusal import Refusal
from projections import mesh
from projections.mesh import Mesh
from tests.playbook import ALICE, BOB, CAROL, INVITE, NOW_MS, Player, joined, party_of

Step: TypeAlias = tuple[int, int, int]
PLAYERS = (ALICE, BOB, CAROL)
ADDRESSES = ("198.51.100.9:26666", "192.168.1.5:26666", "[2001:db8::9]:26666", "10.0.0.9:1")
URL = "ws://203.0.113.2:8667"


def _player(who: int) -> Player:
    return PLAYERS[who % len(PLAYERS)]


def _quality(which: int) -> PathQuality:
    address = ADDRESSES[which % len(ADDRESSES)]
    return PathQuality(kind="direct", address=address, rtt_us=1_000 + which, loss_permille=which)


def _candidates(which: int) -> tuple[Candidate, ...]:
    return tuple(Candidate("host", address) for address in ADDRESSES[: which % 4])


@functools.cache
def _party(guests: int) -> tuple[Chain, tuple[bytes, ...]]:
    return party_of(*PLAYERS[1 : 1 + guests])


def _enter(_state: Mesh, who: int, which: int) -> c.Reported:
    chain, records = _party(who % 3)
    return c.Enter(party=chain.party, control=(URL,), embedded=bool(which % 2), records=records)


def _accept(state: Mesh, who: int, which: int) -> c.Reported:
    """A record that some player signs upon our head; often not a valid one, sometimes stale."""
    chain, player = state.chain, _player(who)
    if not chain.length:
        return c.AcceptRecords(party=state.party, after=0, records=())
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: joined(chain, player),
        lambda: partylog.leave(player.signer, chain, at_ms=NOW_MS),
        lambda: partylog.kick(ALICE.signer, chain, peer=player.peer, at_ms=NOW_MS),
        lambda: partylog.rename_member(player.signer, chain, name=f"p{which}", at_ms=NOW_MS),
        lambda: partylog.rename_party(ALICE.signer, chain, name=f"Party {which}", at_ms=NOW_MS),
        lambda: partylog.revoke_invite(ALICE.signer, chain, invite_public=INVITE, at_ms=NOW_MS),
    )
    record = makers[which % len(makers)]()
    after = chain.length - (which % 7 == 6)
    return c.AcceptRecords(party=state.party, after=after, records=(record,) * (1 + (which == 9)))


COMMANDS: tuple[Callable[[Mesh, int, int], c.Reported], ...] = (
    _enter,
    _accept,
    _accept,
    _accept,
    lambda s, who, which: c.NoteControl(
        party=s.party, url=URL, connected=bool(who % 2), reason="" if who % 2 else f"r{which}"
    ),
    lambda s, who, which: c.NotePresence(
        party=s.party, online=tuple(each.peer for each in PLAYERS[: who % 4]), reason=f"r{which}"
    ),
    lambda _, who, which: c.NoteCandidates(
        peer=_player(who).peer, generation=which, candidates=_candidates(which)
    ),
    lambda _, who, which: c.NoteAddresses(addresses=ADDRESSES[who % 4 : who % 4 + which % 3]),
    lambda _, who, which: c.NoteMapping(
        server=f"192.0.2.{who}:8667", mapped=("", *ADDRESSES)[which % 5], rtt_ms=which, reason="r"
    ),
    lambda _, who, which: c.NoteLabel(label=f"label {which}", server=f"stun{who}"),
    lambda _, who, which: c.NoteTunnel(interface="lanrage0", port=which, backend="userspace"),
    lambda _, who, which: c.NoteConfigured(
        address=f"10.66.0.{who}/16", address6="", mtu=1_400 + which
    ),
    lambda _, who, which: c.NoteTunnelStopped(reason=f"r{which}"),
    lambda _, who, which: c.NoteProbing(peer=_player(who).peer, addresses=ADDRESSES[: which % 4]),
    lambda _, who, which: c.NotePath(
        peer=_player(who).peer,
        old=_quality(which) if which % 3 else None,
        new=_quality(which + 1) if which % 2 else None,
        took_ms=which,
        reason=f"r{which}",
    ),
    lambda _, who, which: c.NoteUnreachable(
        peer=_player(who).peer, tried=ADDRESSES[: which % 4], after_ms=which, reason="r"
    ),
    lambda _, who, which: c.NoteSession(
        peer=_player(who).peer, established=bool(which % 2), took_ms=which, reason="r"
    ),
    lambda _, who, which: c.NoteProfile(
        profile=f"game{who}", reason="started", mtu=1_400 + which, keepalive_s=which
    ),
    lambda s, who, which: c.NoteDiverged(party=s.party, reason=f"r{which}"),
    lambda _, who, which: c.FailJoin(reason=f"r{which}"),
    lambda s, who, which: c.NoteRelays(
        party=s.party,
        relays=tuple(
            c.RelayOffer(relay=address, region="eu", tcp="", boot=f"{which // 4}")
            for address in ADDRESSES[: 2 - who % 3]
        ),
    ),
    lambda _, who, which: c.NoteRelayBound(
        relay=ADDRESSES[who % 2],
        carrier="tcp" if which % 3 == 2 else "relay",
        address=ADDRESSES[2] if which % 2 else "",
        rtt_us=which,
        reason=f"r{which}",
    ),
    lambda s, who, which: c.NotePicks(
        party=s.party,
        picks=tuple(
            c.RelayPick(peer=each.peer, relay=ADDRESSES[which % 2], sum_ms=which)
            for each in PLAYERS[: who % 4]
        ),
    ),
    lambda _, who, which: c.NotePortMapping(
        protocol="udp" if who % 3 else "tcp",
        port=which,
        external=ADDRESSES[0] if which % 2 else "",
        method="pcp",
        reason=f"r{which}",
    ),
    lambda _, who, which: c.NoteBehaviour(
        mapping=("independent", "port")[who % 2],
        filtering="port",
        hairpin="",
        server="192.0.2.1:3478",
        evidence=(f"test {which}",),
    ),
    lambda _, who, which: c.NotePeerNat(
        peer=_player(who).peer, mapping=("", "port")[which % 2], filtering="", hairpin="no"
    ),
    lambda _, who, which: c.NoteNetwork(
        network=f"net{who}", gateway="192.168.1.1", reason=f"r{which}"
    ),
    lambda _, who, which: c.NoteResumed(asleep_ms=which * 1_000),
    lambda _, who, which: c.NoteDoubt(
        peer=_player(who).peer,
        path=_quality(which),
        second=_quality(which + 1) if which % 3 else None,
        ms=which,
        trusted=bool(which % 2),
    ),
    lambda s, who, which: c.NoteOffered(
        party=s.party, expires_at=which, places=ADDRESSES[: who % 4]
    ),
    lambda s, who, which: c.NoteAnswered(
        party=s.party,
        wireguard=_player(who).wireguard,
        address="10.66.255.254",
        own_address="10.66.0.9" if which % 3 == 2 else "",
        places=ADDRESSES[: which % 4],
    ),
    lambda _, who, which: c.EndPact(reason=f"r{which}"),
    lambda _, who, which: c.ExitParty(reason="left" if which % 2 else "kicked"),
)
RETRY, CLOSE, KILL = range(len(COMMANDS), len(COMMANDS) + 3)
KINDS = KILL + 1


class Life:
    """One node on a real log, doing what `lanrage.node` does, and what was seen of its state."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self.seen: dict[int, bytes] = {0: mesh.canonical(mesh.EMPTY)}  # seq -> canonical state
        self.state = mesh.EMPTY
        self.runs = 0
        self.now_ms = NOW_MS
        self._last: tuple[list[Event], list[str]] = ([], [])

    async def play(self, steps: Sequence[Step]) -> None:
        """The steps in order, in appends of up to three commands."""
        await self._open()
        batch: list[Step] = []
        for step in steps:
            if step[0] < RETRY and len(batch) < 3 and step[1] % 2:
                batch.append(step)
                continue
            await self._tell([*batch, step] if step[0] < RETRY else batch)
            batch = []
            await self._upset(step[0])
        await self._tell(batch)
        await self.log.close()

    async def _upset(self, kind: int) -> None:
        if kind == RETRY:
            await self._append(*self._last)
        if kind == CLOSE:
            await self._store(lambda state: c.CloseSession(reason="stopped"))
        if kind in (CLOSE, KILL):
            await self.log.close()
            await self._open()

    async def _open(self) -> None:
        self.runs += 1
        log = await Log.open(self.path, session=f"run-{self.runs}")
        assert isinstance(log, Log), log
        self.log = log
        await self._store(
            lambda state: c.OpenSession(
                version="0",
                platform="test",
                peer=ALICE.peer,
                name=ALICE.name,
                wireguard=ALICE.wireguard,
            )
        )

    async def _tell(self, steps: Sequence[Step]) -> None:
        await self._store(
            *(lambda state, step=step: COMMANDS[step[0]](state, step[1], step[2]) for step in steps)
        )

    async def _store(self, *commands: Callable[[Mesh], c.Reported]) -> None:
        self.now_ms += 7
        state = self.state
        events: list[Event] = []
        for command in commands:
            decision = decide(state, command(state), self.now_ms)
            if isinstance(decision, Refusal):
                continue
            for event in decision:
                seq = self.log.head + len(events) + 1
                state = mesh.evolve(
                    state, event, seq=seq, at=self.now_ms, session_id=self.log.session
                )
                self.seen[seq] = mesh.canonical(state)
                events.append(event)
        ids = [f"{self.log.head + 1 + number:032x}" for number in range(len(events))]
        await self._append(events, ids)
        self.state = state

    async def _append(self, events: list[Event], ids: list[str]) -> None:
        stored = await self.log.append(events, at=self.now_ms, ids=ids)
        assert isinstance(stored, tuple), stored
        assert [row.seq for row in stored] == [int(id, 16) for id in ids]
        self._last = events, ids


async def all_rows(log: Reader) -> list[Stored]:
    rows: list[Stored] = []
    while more := await log.read(len(rows), limit=500):
        rows += more
    return rows
