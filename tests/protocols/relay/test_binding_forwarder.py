"""Both sides of a relay back to back: members' bindings and the forwarder, nothing between."""

from __future__ import annotations

import random

import pytest

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import ticket, wire
from lanrage.protocols.relay.binding import Binding, Bound, Unbound
from lanrage.protocols.relay.forwarder import Forwarder
from tests.protocols.relay.answering import RELAY_SEED, keys_of, public

MS = 1_000_000
S = 1000 * MS
WALL_S = 1_800_000_000
RELAY: Address = ("192.0.2.99", 3478)
TICKET_KEY = bytes([9]) * 32


class Town:
    """A relay and two members; what is sent arrives 10 ms later."""

    def __init__(self) -> None:
        self.now_ns = 3 * S
        self.random = random.Random(5)
        self.restart()
        self.addresses: list[Address] = [("198.51.100.1", 1111), ("198.51.100.2", 2222)]
        self.bindings = [self._binding(number) for number in (1, 2)]
        self.got: list[list[bytes]] = [[], []]

    def restart(self) -> None:
        self.relay = Forwarder(
            private_key=RELAY_SEED,
            ticket_key=TICKET_KEY,
            boot=self.random.randbytes(wire.BOOT_BYTES),
            random=self.random.randbytes,
            wall_offset_ns=WALL_S * S,
            now_ns=self.now_ns,
        )

    def ticket(self, number: int, life_s: int = ticket.LIFE_S) -> bytes:
        expires_s = WALL_S + self.now_ns // S + life_s
        holder = ticket.Ticket(bytes(16), number, public(bytes([number]) * 32), expires_s)
        return ticket.issue(holder, TICKET_KEY)

    def _binding(self, number: int) -> Binding:
        binding = Binding(
            keys=keys_of(bytes([number]) * 32, RELAY_SEED, relay=False),
            ticket=self.ticket(number),
            addresses=(RELAY,),
            random=self.random.randbytes,
        )
        binding.start(self.now_ns)
        return binding

    def run(self, for_ns: int) -> None:
        end_ns = self.now_ns + for_ns
        while self.now_ns < end_ns:
            self.now_ns += 10 * MS
            self.relay.handle_timer(self.now_ns, WALL_S * S)
            self._to_relay()
            for run in self.relay.take_outgoing():
                self._from_relay(b"".join(run.buffers), run.size, run.address)

    def _to_relay(self) -> None:
        for binding, address in zip(self.bindings, self.addresses, strict=True):
            due_ns = binding.timer()
            if due_ns is not None and due_ns <= self.now_ns:
                binding.handle_timer(self.now_ns)
            for _, datagram in binding.take_outgoing():
                self.relay.receive(datagram, len(datagram), address, self.now_ns)

    def _from_relay(self, data: bytes, size: int, address: Address) -> None:
        if address not in self.addresses:
            return
        at = self.addresses.index(address)
        for start in range(0, len(data), size):
            datagram = data[start : start + size]
            if wire.is_control(datagram):
                self.bindings[at].receive(datagram, RELAY, self.now_ns)
            else:
                self.got[at].append(datagram)

    def send(self) -> bytes:
        """From the first to the second member."""
        datagram = wire.stamp(b"\x04\0\0\0" + self.random.randbytes(60), wire.number(1, 2))
        self.relay.receive(datagram, len(datagram), self.addresses[0], self.now_ns)
        return datagram

    def said(self) -> list[type]:
        return [type(each) for binding in self.bindings for each in binding.take_notices()]


@pytest.fixture
def town() -> Town:
    made = Town()
    made.run(S)
    assert made.said() == [Bound, Bound]
    return made


def test_both_are_bound_and_what_one_sends_reaches_the_other(town: Town) -> None:
    datagram = town.send()
    town.run(100 * MS)
    assert town.got == [[], [datagram]]


def test_beats_keep_them_bound_for_as_long_as_their_tickets_live(town: Town) -> None:
    for _ in range(6):
        town.run(ticket.LIFE_S * S // 2)
        for number, binding in enumerate(town.bindings, 1):
            binding.put_ticket(town.ticket(number), bytes(8), town.now_ns)
    datagram = town.send()
    town.run(S)
    assert town.got[1] == [datagram]
    assert Unbound not in town.said()


def test_a_restart_of_the_relay_is_healed_by_what_is_sent_next(town: Town) -> None:
    town.restart()
    lost = town.send()
    town.run(200 * MS)
    assert town.bindings[0].is_bound
    town.run(20 * S)  # the other one sends nothing, and hears of it with its next beat
    datagram = town.send()
    town.run(100 * MS)
    assert lost not in town.got[1]
    assert town.got[1] == [datagram]
    assert Unbound not in town.said()


def test_who_moves_is_bound_at_the_new_address_alone(town: Town) -> None:
    town.addresses[0] = ("203.0.113.7", 7777)
    town.send()
    town.run(300 * MS)
    datagram = town.send()
    town.run(100 * MS)
    assert town.got[1] == [datagram]
    assert Bound in town.said()
    assert town.relay.members == 2


def test_an_expired_ticket_binds_nobody_and_a_new_one_does(town: Town) -> None:
    town.bindings[0].put_ticket(town.ticket(1, -ticket.SLACK_S - 1), bytes(8), town.now_ns)
    town.run(5 * S)
    assert Unbound in town.said()
    town.bindings[0].put_ticket(town.ticket(1), bytes(8), town.now_ns)
    town.run(S)
    assert town.bindings[0].is_bound
