"""One connection at the server: who it is, and what it is still owed.

Sending is level-triggered. A connection keeps how far it was told (chain length, presence) and the
writer asks "what next?"; news only wake it up. So a slow reader costs no memory and cannot fall
out of order: it gets the records that follow the last ones it took, whenever it takes them. Only
signals and replies are queued, both bounded. Tickets for relays are made when they are sent, and
again when half of their life is over.

Order matters: records go before replies, so that whoever is told "conflict" or "appended" has
already been sent all that led to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque

from lanrage.control import limits, tickets
from lanrage.control.messages import (
    PAGE,
    FromServer,
    Pick,
    Picks,
    Presence,
    Records,
    Refused,
    Relays,
    Signal,
    Welcome,
)
from lanrage.control.parties import Party
from lanrage.control.picks import Rtts
from lanrage.control.tickets import PartyRelays


class Audience:
    """Everybody connected for one party."""

    def __init__(self, party: Party, relays: PartyRelays) -> None:
        self.party = party
        self.relays = relays
        self.conversations: list[Conversation] = []

    def enter(self, conversation: Conversation) -> None:
        """Only the newest few connections of one device stay: the others are its dead ones."""
        same = [each for each in self.conversations if each.peer == conversation.peer]
        for old in same[: len(same) + 1 - limits.CONNECTIONS_PER_PEER_MAX]:
            old.end(Refused(code="replaced", reason="this device connected again"))
        self.conversations.append(conversation)
        self.wake()

    def exit(self, conversation: Conversation) -> None:
        self.conversations.remove(conversation)
        if not any(each.peer == conversation.peer for each in self.conversations):
            self.relays.forget(conversation.peer)
        self.wake()

    def wake(self) -> None:
        for each in self.conversations:
            each.wake()

    def measure(self, peer: str, rtts_ms: Rtts) -> None:
        self.relays.measure(peer, rtts_ms)
        self.wake()

    def online(self) -> tuple[str, ...]:
        members = self.party.chain.members
        present = {each.peer for each in self.conversations if each.present}
        return tuple(sorted(present & members.keys()))

    def forward(self, to: str, signal: Signal) -> None:
        for each in self.conversations:
            if each.peer == to:
                each.push_signal(signal)


class Conversation:
    def __init__(
        self,
        peer: str,
        audience: Audience,
        told: int,
        guest: bool,
        *,
        wants_relays: bool = False,
        refilling: bool = False,
    ) -> None:
        self.peer = peer
        self.guest = guest  # holds an invite; must become a member soon
        self.present = not guest  # counts as online; a guest does from `Stay` on
        self.audience = audience
        self.party = audience.party
        self.final: Refused | None = None  # nothing follows it
        self._told = told  # length of the chain as sent
        # Says that it holds more than we do. Until that makes it a member it is shown nothing.
        self._refilling = refilling
        self._told_online: tuple[str, ...] = ()
        self._wants_relays = wants_relays
        self._told_relays: tickets.Shown = ()
        self._tickets_at = 0.0  # when they were made, on the monotonic clock
        self._told_picks: tuple[Pick, ...] = ()
        self._picks_seen = 0  # version of the party's picks
        self._welcome: Welcome | None = Welcome(
            length=self.party.chain.length, head=self.party.chain.head
        )
        self._replies: deque[FromServer] = deque()
        self._signals: deque[Signal] = deque(maxlen=limits.SIGNALS_MAX)
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def wake(self) -> None:
        self._news.set()

    def push_signal(self, signal: Signal) -> None:
        self._signals.append(signal)
        self.wake()

    def stay(self) -> None:
        if not self.guest:
            self.present = True
            self.audience.wake()

    def showed(self, length: int) -> None:
        """It has sent us our chain up to there, so it need not be told."""
        self._told = max(self._told, length)
        if self.guest and self.peer in self.party.chain.members:
            self.guest = False
            self.stay()
        self.audience.wake()

    async def reply(self, frame: FromServer) -> None:
        """Queue an answer; waits where the other side asks faster than it listens."""
        await self._room.wait()
        self._replies.append(frame)
        if len(self._replies) >= limits.REPLIES_MAX:
            self._room.clear()
        self.wake()

    def end(self, refused: Refused) -> None:
        """Send what is owed of the chain, then this, then nothing."""
        self.final = self.final or refused
        self.wake()

    async def next(self) -> FromServer | None:
        """The next frame to send; None after the final one."""
        while True:
            self._news.clear()
            frame = self._next()
            if frame is not None:
                return frame
            if self._over():
                return None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), self._renewal_s())

    def _next(self) -> FromServer | None:
        if self._welcome is not None:
            welcome, self._welcome = self._welcome, None
            return welcome
        page = self._page()
        if page is not None:
            return page
        if self._replies:
            self._room.set()
            return self._replies.popleft()
        if self._over():
            return None
        online = self.audience.online()
        if self._told_online != online and not self.guest:
            self._told_online = online
            return Presence(online=online)
        if self._wants_relays and not self.guest:
            told = self._relays() or self._picks()
            if told is not None:
                return told
        return self._signals.popleft() if self._signals else None

    def _relays(self) -> Relays | None:
        shown = self.audience.relays.shown()
        stale = bool(shown) and self._renewal_s() == 0
        if shown == self._told_relays and not stale:
            return None
        self._told_relays, self._tickets_at = shown, time.monotonic()
        return Relays(
            relays=self.audience.relays.grants(self.party.chain, self.peer, int(time.time()))
        )

    def _renewal_s(self) -> float | None:
        """Until tickets are to be made anew; None if there are none."""
        if not self._told_relays:
            return None
        return max(0.0, self._tickets_at + tickets.RENEW_S - time.monotonic())

    def _picks(self) -> Picks | None:
        if self._picks_seen == self.audience.relays.version:
            return None
        self._picks_seen = self.audience.relays.version
        picks = self.audience.relays.picks(self.peer)
        if picks == self._told_picks:
            return None
        self._told_picks = picks
        return Picks(picks=picks)

    def _page(self) -> Records | None:
        """The records that follow those sent, to the end, or to the departure of this peer."""
        end = self.party.departed_at.get(self.peer, 0) if self._over() else 0
        end = end or self.party.chain.length
        if self._told >= end or (self.guest and self._refilling):
            return None
        page = tuple(self.party.records[self._told : min(self._told + PAGE, end)])
        after, self._told = self._told, self._told + len(page)
        self._told_online = ()  # who left and came back within it is new to the reader
        return Records(after=after, records=page)

    def _over(self) -> bool:
        if self.final is None and not self.guest and self.peer not in self.party.chain.members:
            why = self.party.chain.departed.get(self.peer, "left")
            self.final = Refused(code=why, reason=DEPARTED[why])
        return self.final is not None


DEPARTED = {
    "kicked": "this device was kicked out of the party",
    "left": "this device left the party",
}
