"""What arrives beside plain WireGuard: whose it is, and through whom it came.

    shape                 from                          whose
    control message       a relay                       the bindings' (relays.py)
    probe, STUN           anywhere                      the path core's
    number (a, b)         a relay we are bound to       ours, from member a, if b is us
    number (a, b)         a member's proven address     ours, if b is us: that member is our friend
    number (a, b)         a member's proven address     to be passed on to b, if a is that member

A number is only a claim of whoever sent the datagram. A relay may lie about it, a friend too, a
stranger gets nowhere. It decides nothing but the place that an answer would go to: what is inside
proves itself, as everything else does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from events.base import PeerId
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.protocols.relay import wire
from lanrage.tunnel.friend import Friend
from lanrage.tunnel.outside import unstamped

Relayed = list[tuple[Place, list[bytes]]]


class Core(Protocol):
    """What is asked of the path core."""

    def is_ours(self, datagram: bytes) -> bool: ...

    def receive(self, datagram: bytes, source: Place, now_ns: int) -> None: ...

    def member_at(self, address: Address) -> PeerId | None: ...

    def direct_of(self, peer: PeerId) -> Address | None: ...


class Bindings(Protocol):
    """What is asked of the relays."""

    def receive(self, datagram: bytes, source: Place, now_ns: int) -> None: ...

    def name_at(self, source: Place) -> tuple[str, str] | None:
        """Carrier and name of the relay that is bound there."""
        ...


class Arrivals:
    """`number` is our own member number; 0 while unknown. `stirred` says whether the path core has
    heard anything since this was last set to False."""

    def __init__(self, core: Core, relays: Bindings, friend: Friend) -> None:
        self.number = 0
        self.stirred = False
        self.drops: dict[str, int] = {}
        self._core = core
        self._relays = relays
        self._friend = friend
        self._numbers: dict[PeerId, int] = {}
        self._members: dict[int, PeerId] = {}

    def put_member(self, peer: PeerId, number: int) -> None:
        self.drop_member(peer)
        if number:
            self._numbers[peer] = number
            self._members[number] = peer

    def drop_member(self, peer: PeerId) -> None:
        number = self._numbers.pop(peer, 0)
        if self._members.get(number) == peer:
            del self._members[number]

    def is_ours(self, datagram: bytes) -> bool:
        return self._core.is_ours(datagram) or wire.is_control(datagram)

    def receive(self, datagram: bytes, source: Place, now_ns: int) -> None:
        if wire.is_control(datagram):
            self._relays.receive(datagram, source, now_ns)
        else:
            self.stirred = True
            self._core.receive(datagram, source, now_ns)

    def unwrap(self, datagrams: list[bytes], source: Place, now_ns: int) -> Relayed:
        """Relayed datagrams of one source: those for us by the place they came from, as their
        senders made them. What is for others is passed on, the rest dropped and counted."""
        relay = self._relays.name_at(source)
        if relay is not None:
            return self._unwrap_relay(*relay, datagrams)
        friend = None if isinstance(source, Via) else self._core.member_at(source)
        if friend is None:
            self._drop("relayed_by_stranger", len(datagrams))
            return []
        return self._unwrap_friend(friend, datagrams, now_ns)

    def _unwrap_relay(self, carrier: str, name: str, datagrams: list[bytes]) -> Relayed:
        found: Relayed = []
        for sender, receiver, run in _runs(datagrams):
            if receiver != self.number or sender in (0, self.number):
                self._drop("relayed_to_nobody", len(run))
                continue
            place = Via(carrier, name, wire.number(self.number, sender))
            found.append((place, unstamped(run)))
        return found

    def _unwrap_friend(self, friend: PeerId, datagrams: list[bytes], now_ns: int) -> Relayed:
        found: Relayed = []
        number = self._numbers.get(friend, 0)
        for sender, receiver, run in _runs(datagrams):
            if sender == number != receiver and receiver in self._members:
                self._friend.forward(run, self._core.direct_of(self._members[receiver]), now_ns)
            elif receiver != self.number or sender in (0, number, self.number):
                self._drop("relayed_to_nobody", len(run))
            else:
                place = Via("friend", friend, wire.number(self.number, sender))
                found.append((place, unstamped(run)))
        return found

    def _drop(self, reason: str, count: int) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + count


def _runs(datagrams: list[bytes]) -> Iterator[tuple[int, int, list[bytes]]]:
    """Sender, receiver, and the neighbours that share them. Nearly always it is one run."""
    at, count = 0, len(datagrams)
    while at < count:
        number, end = datagrams[at][1:4], at + 1
        while end < count and datagrams[end][1:4] == number:
            end += 1
        sender, receiver = wire.ends(int.from_bytes(number, "big"))
        yield sender, receiver, datagrams[at:end]
        at = end
