"""Standard WireGuard peers at a relay: a kernel or a phone whose `Endpoint` is the relay. Pure.

They send number 0 and know of no relay, so it learns from their handshakes whom they mean. Mac1 of
an initiation is keyed with the receiver's public key: the member for whom it is right gets it. To
that member the sender is a *guest* with a number of its own, 3840 to 4095, lent for as long as it
talks; what the member sends to this number leaves with number 0. All other messages name a session
by the index that the member chose for it, seen in what the member sent to this very guest.

    guest   trigger                                            what it may
    new     an initiation with a member's mac1                 get as many bytes as it sent
    proven  a message with an index that only it was told      get all its member sends

Nothing moves: from another address a peer is another guest, and has to shake hands again, which
WireGuard does by itself 15 s after the last answer. Mac1 proves no more than that a public key is
known, so new guests are few, short-lived, and budgeted together with the hashes it takes to find
out whom they mean.
"""

from __future__ import annotations

from hashlib import blake2s
from hmac import compare_digest
from typing import TypeAlias

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import wire
from lanrage.protocols.relay.budget import SECOND, Budget, Budgets, Rate
from lanrage.protocols.relay.registry import PACKET_BYTES_MIN, SOURCES_MAX, Member

GUESTS_MAX = 4_096
NEW_MAX = 256
NEW_NS = 10 * SECOND
SILENT_NS = 180 * SECOND  # as long as a WireGuard session lives
INDICES_MAX = 4  # sessions of one guest: previous, current, next, and one being made
INITIATIONS = Rate(2, 10)  # of one source
INITIATIONS_TOGETHER = Rate(500, 500)
TRIES = Rate(50_000, 20_000)  # hashes: a twentieth of a core; one look at all members at least

INITIATION, RESPONSE, COOKIE, TRANSPORT = 1, 2, 3, 4
_SIZES = {INITIATION: 148, RESPONSE: 92, COOKIE: 64}
_MACS_AT, _MAC2_AT = 116, 132

Sent: TypeAlias = tuple[Address, bytes]


class Guest:
    __slots__ = (
        "address",
        "budget",
        "credit_bytes",
        "heard_ns",
        "indices",
        "is_proven",
        "member",
        "number",
    )

    def __init__(self, address: Address, member: Member, number: int, budget: Budget) -> None:
        self.address = address
        self.member = member
        self.number = number
        self.budget = budget
        self.is_proven = False
        self.credit_bytes = 0
        self.heard_ns = 0
        self.indices: list[bytes] = []


class Guests:
    def __init__(self, rate: Rate, now_ns: int) -> None:
        self._rate = rate
        self._count = 0
        self._at: dict[Address, list[Guest]] = {}
        self._new: dict[Guest, None] = {}  # not proven yet, oldest first
        self._sessions: dict[tuple[Address, bytes], Guest] = {}
        self._initiations = Budgets(INITIATIONS, INITIATIONS_TOGETHER, SOURCES_MAX, now_ns)
        self._tries = Budget(TRIES, now_ns)

    def __len__(self) -> int:
        return self._count

    def from_outside(
        self, datagram: bytes, source: Address, members: dict[Address, Member], now_ns: int
    ) -> Sent | str:
        """A WireGuard message with number 0 from no member: for whom it is, and what they get."""
        kind = datagram[0]
        if len(datagram) != _SIZES.get(kind, len(datagram)):
            return "guest_size"
        if kind == INITIATION:
            guest = self._initiated(datagram, source, members, now_ns)
        else:
            guest = self._continued(datagram, source)
        if isinstance(guest, str):
            return guest
        if not guest.budget.take(max(len(datagram), PACKET_BYTES_MIN), now_ns):
            return "relay_budget"
        guest.heard_ns = now_ns
        if not guest.is_proven:
            guest.credit_bytes += len(datagram)
        session = wire.number(guest.number, guest.member.number)
        return guest.member.address, wire.stamp(datagram, session)

    def from_member(self, datagram: bytes, member: Member, now_ns: int) -> Sent | str:
        """What a member sent to a guest's number."""
        kind, number = datagram[0], wire.ends(wire.number_of(datagram))[1]
        guest = member.guests.get(number)
        if guest is None or kind == wire.PROBE or len(datagram) != _SIZES.get(kind, len(datagram)):
            return "guest_unknown"
        if not guest.is_proven and guest.credit_bytes < len(datagram):
            return "guest_unproven"
        if not guest.is_proven:
            guest.credit_bytes -= len(datagram)
        if kind in (INITIATION, RESPONSE):
            self._learn(guest, datagram[4:8])
        return guest.address, wire.unstamp(datagram)

    def expire(self, now_ns: int) -> None:
        for guest in [each for there in self._at.values() for each in there]:
            life_ns = SILENT_NS if guest.is_proven else NEW_NS
            if not guest.member.is_bound or guest.heard_ns < now_ns - life_ns:
                self._forget(guest)

    # --- whom they mean -------------------------------------------------------------------------

    def _initiated(
        self, datagram: bytes, source: Address, members: dict[Address, Member], now_ns: int
    ) -> Guest | str:
        for guest in self._at.get(source, ()):
            if guest.member.is_bound and _is_meant(datagram, guest.member):
                return guest
        if not self._initiations.take(source, now_ns):
            return "guest_initiations"
        if not self._tries.take(max(1, len(members)), now_ns):
            return "guest_tries"
        for member in members.values():
            if _is_meant(datagram, member):
                return self._lend(source, member, now_ns)
        return "guest_mac1"

    def _continued(self, datagram: bytes, source: Address) -> Guest | str:
        at = 8 if datagram[0] == RESPONSE else 4
        guest = self._sessions.get((source, datagram[at : at + 4]))
        if guest is None or not guest.member.is_bound:
            return "guest_unknown"
        guest.is_proven = True
        self._new.pop(guest, None)
        return guest

    def _lend(self, source: Address, member: Member, now_ns: int) -> Guest | str:
        if len(self._new) >= NEW_MAX:
            self._forget(next(iter(self._new)))  # the oldest
        numbers = range(wire.GUEST_MIN, wire.GUEST_MAX + 1)
        number = next((each for each in numbers if each not in member.guests), None)
        if number is None or self._count >= GUESTS_MAX:
            return "guest_full"
        guest = Guest(source, member, number, Budget(self._rate, now_ns))
        self._count += 1
        self._new[guest] = None
        self._at.setdefault(source, []).append(guest)
        member.guests[number] = guest
        return guest

    def _learn(self, guest: Guest, index: bytes) -> None:
        key = guest.address, index
        if key in self._sessions:
            return  # sent again; or another member chose the same, and its peer will shake again
        self._sessions[key] = guest
        guest.indices.append(index)
        while len(guest.indices) > INDICES_MAX:
            del self._sessions[guest.address, guest.indices.pop(0)]

    def _forget(self, guest: Guest) -> None:
        for index in guest.indices:
            del self._sessions[guest.address, index]
        there = self._at[guest.address]
        there.remove(guest)
        if not there:
            del self._at[guest.address]
        self._new.pop(guest, None)
        self._count -= 1
        del guest.member.guests[guest.number]


def _is_meant(initiation: bytes, member: Member) -> bool:
    mac1 = blake2s(initiation[:_MACS_AT], key=member.mac1_key, digest_size=wire.MAC_BYTES).digest()
    return compare_digest(mac1, initiation[_MACS_AT:_MAC2_AT])
