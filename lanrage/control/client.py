"""The member's side of control: stay connected for one party, for ever, without being asked twice.

Level-triggered: `want` says which party; the client connects, proves who it is, resumes after the
part of the chain it holds, and comes back by itself whenever the connection ends. It verifies every
record before it hands it on, so a dishonest server shows here, and the node never sees what it made
up. What it reports are notices; what they mean is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lanrage.control.entry import Joined, create, enter, join
from lanrage.control.link import Link
from lanrage.control.messages import Relay
from lanrage.control.notices import (
    Connected,
    ControlNotice,
    Disconnected,
    Diverged,
    Granted,
    Picked,
    Presence,
    Records,
    SignalArrived,
    Target,
)
from lanrage.control.refused import refusal
from lanrage.control.session import WHAT, Session
from lanrage.identity import Identity
from lanrage.protocols import partylog
from lanrage.protocols.invite import Invite
from lanrage.protocols.partylog import Chain, Invalid
from lanrage.refusal import Refusal

__all__ = [
    "Connected",
    "ControlClient",
    "ControlNotice",
    "Disconnected",
    "Diverged",
    "Granted",
    "Joined",
    "Picked",
    "Presence",
    "Records",
    "Relay",
    "SignalArrived",
    "Target",
    "create",
    "join",
]


class ControlClient:
    def __init__(self, identity: Identity, deliver: Callable[[ControlNotice], None]) -> None:
        self._identity = identity
        self._deliver = deliver
        self._session: Session | None = None
        self._rtts_ms: dict[str, int] = {}
        self._kept: tuple[Joined, Link] | None = None  # from a join, for the session that follows

    async def join(self, invite: Invite, name: str | None = None) -> Joined | Refusal:
        """As the function `join`; the connection is kept for the `want` that follows, which saves
        three round trips."""
        entered = await enter(invite, self._identity, name)
        if isinstance(entered, Refusal):
            return entered
        self._drop_kept()
        self._kept = entered
        return entered[0]

    def _drop_kept(self) -> None:
        if self._kept is not None:
            self._kept[1].abort()
        self._kept = None

    def want(self, target: Target | None) -> None:
        """Call it as often as you like: the same party at the same addresses changes nothing. None
        disconnects."""
        now = self._session
        if now and target and (now.party, now.urls) == (target.party, target.urls):
            return
        if now is not None:
            now.stop()
        self._session = None
        link = self._fitting(target)
        self._drop_kept()
        if target is not None:
            self._session = Session(self._identity, target, self._deliver, link)
            self._session.measured(self._rtts_ms)

    def _fitting(self, target: Target | None) -> Link | None:
        """The connection of the join that led to this target, if it is just at its chain."""
        if self._kept is None or target is None:
            return None
        joined, link = self._kept
        if partylog.hash_of(joined.records[-1]).hex() != target.chain.head:
            return None
        self._kept = None
        return link

    async def append(self, build: Callable[[Chain], bytes | Invalid]) -> Chain | Refusal:
        """Compare-and-swap: `build` signs a record on the chain it is given; when others were
        faster it is called again with the new chain. `Records` is delivered before this returns."""
        if self._session is None:
            return refusal(WHAT, "not_member", "in no party")
        return await self._session.append(build)

    def signal(self, to: str, sealed: bytes) -> None:
        """Best effort; dropped while not connected."""
        if self._session is not None:
            self._session.signal(to, sealed)

    def adopt(self, after: int, records: Sequence[bytes]) -> None:
        """Records that came another way, verified: control is given what it lacks of them."""
        if self._session is not None:
            self._session.adopt(after, records)

    def hurry(self) -> None:
        """Our network changed, or somebody doubts that control is there: ask it, and unless it
        answers at once dial anew."""
        if self._session is not None:
            self._session.hurry()

    def measured(self, rtts_ms: Mapping[str, int]) -> None:
        """Round trips to relays by name, all that are known: told to control now and after each
        reconnect."""
        self._rtts_ms = dict(rtts_ms)
        if self._session is not None:
            self._session.measured(self._rtts_ms)

    async def close(self) -> None:
        self._drop_kept()
        session, self._session = self._session, None
        if session is not None:
            session.stop()
            await session.stopped()
