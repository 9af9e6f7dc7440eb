"""Whose a numbered datagram is, and what a friend passes on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.protocols.relay import wire
from lanrage.tunnel.arrivals import Arrivals
from lanrage.tunnel.friend import BYTES_PER_S, PACKETS_BURST, PACKETS_PER_S, Friend
from lanrage.tunnel.outside import stamped

S = 1_000_000_000
US, BOB, CAROL, DAVE = 1, 2, 3, 4
ADDRESSES: dict[str, Address] = {"bob": ("192.0.2.2", 2), "carol": ("192.0.2.3", 3)}
RELAY: Address = ("192.0.2.99", 3478)
DATA = [b"\x04\0\0\0" + bytes([n]) * 60 for n in range(3)]
PROBE = wire.PROBE_MAGIC + bytes(60)


class Known:
    """Where members and relays are proven to be."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Place]] = []

    def is_ours(self, datagram: bytes) -> bool:
        return datagram.startswith(wire.PROBE_MAGIC)

    def receive(self, datagram: bytes, source: Place, now_ns: int) -> None:
        self.received.append((datagram, source))

    def member_at(self, address: Address) -> str | None:
        return next((peer for peer, known in ADDRESSES.items() if known == address), None)

    def direct_of(self, peer: str) -> Address | None:
        return ADDRESSES.get(peer)

    def name_at(self, source: Place) -> tuple[str, str] | None:
        if isinstance(source, Via):
            return ("tcp", source.name) if source.carrier == "tcp" else None
        return ("relay", "r") if source == RELAY else None


class Us:
    """Member 1; bob and carol are reached directly, dave is known and not reached."""

    def __init__(self) -> None:
        self.sent: list[tuple[Address, list[bytes]]] = []
        self.core, self.relays = Known(), Known()
        self.friend = Friend(self.send)
        self.arrivals = Arrivals(self.core, self.relays, self.friend)
        self.arrivals.number = US
        for peer, number in (("bob", BOB), ("carol", CAROL), ("dave", DAVE)):
            self.arrivals.put_member(peer, number)

    def send(self, address: Address, datagrams: Sequence[bytes]) -> None:
        self.sent.append((address, list(datagrams)))

    def unwrap(
        self, source: Place, sender: int, receiver: int, now_ns: int = S
    ) -> list[tuple[Place, list[bytes]]]:
        datagrams = stamped(DATA, wire.number(sender, receiver))
        return self.arrivals.unwrap(datagrams, source, now_ns)


@pytest.fixture
def us() -> Us:
    return Us()


def test_through_a_relay_the_number_says_who_sent_it(us: Us) -> None:
    assert us.unwrap(RELAY, BOB, US) == [(Via("relay", "r", wire.number(US, BOB)), DATA)]
    tcp = Via("tcp", "r", 0)
    assert us.unwrap(tcp, BOB, US) == [(Via("tcp", "r", wire.number(US, BOB)), DATA)]


def test_a_batch_of_several_senders_is_split_in_order(us: Us) -> None:
    datagrams = [
        *stamped(DATA[:2], wire.number(BOB, US)),
        *stamped([PROBE], wire.number(CAROL, US)),
        *stamped(DATA[2:], wire.number(BOB, US)),
    ]
    bob, carol = (Via("relay", "r", wire.number(US, each)) for each in (BOB, CAROL))
    assert us.arrivals.unwrap(datagrams, RELAY, S) == [
        (bob, DATA[:2]),
        (carol, [PROBE]),
        (bob, DATA[2:]),
    ]


def test_a_relay_that_forwards_what_is_not_ours_is_not_believed(us: Us) -> None:
    assert us.unwrap(RELAY, BOB, CAROL) == []
    assert us.unwrap(RELAY, US, US) == []
    assert us.unwrap(RELAY, 0, US) == []
    assert us.arrivals.drops == {"relayed_to_nobody": 9}
    assert us.sent == []


def test_what_came_through_a_friend_is_answered_through_it(us: Us) -> None:
    via = Via("friend", "carol", wire.number(US, BOB))
    assert us.unwrap(ADDRESSES["carol"], BOB, US) == [(via, DATA)]


def test_a_friend_passes_on_what_a_member_sends_from_where_it_is(us: Us) -> None:
    assert us.unwrap(ADDRESSES["bob"], BOB, CAROL) == []
    assert us.sent == [(ADDRESSES["carol"], stamped(DATA, wire.number(BOB, CAROL)))]
    assert us.friend.forwarded_packets == 3


def test_strangers_and_members_that_claim_to_be_others_get_nothing_forwarded(us: Us) -> None:
    us.unwrap(("203.0.113.66", 6), BOB, CAROL)
    us.unwrap(ADDRESSES["bob"], DAVE, CAROL)
    us.unwrap(Via("port", "7 192.0.2.2:2", 0), BOB, CAROL)
    assert us.unwrap(ADDRESSES["bob"], BOB, US) == [], "who is here needs no friend"
    us.unwrap(ADDRESSES["bob"], BOB, BOB)
    assert us.sent == []
    assert us.arrivals.drops == {"relayed_by_stranger": 6, "relayed_to_nobody": 9}


def test_a_friend_forwards_only_to_where_it_reaches_directly_and_if_it_wants(us: Us) -> None:
    us.unwrap(ADDRESSES["bob"], BOB, DAVE)
    us.friend.volunteers = False
    us.unwrap(ADDRESSES["bob"], BOB, CAROL)
    assert us.sent == []
    assert us.friend.drops == {"friend_unreached": 3, "friend_unwilling": 3}


def test_what_friends_use_of_our_line_is_bounded(us: Us) -> None:
    for tick in range(4000):
        us.unwrap(ADDRESSES["bob"], BOB, CAROL, S + tick * S // 2000)
    packets = sum(len(datagrams) for _, datagrams in us.sent)
    assert PACKETS_PER_S * 1.9 <= packets <= PACKETS_PER_S * 2 + PACKETS_BURST + 3
    assert us.friend.drops["friend_budget"] == 12_000 - packets


def test_probes_get_through_where_data_has_used_up_its_share(us: Us) -> None:
    probe = stamped([PROBE], wire.number(BOB, CAROL))
    for tick in range(1000):
        us.unwrap(ADDRESSES["bob"], BOB, CAROL, S + tick * S // 2000)
        if tick % 10 == 0:
            us.arrivals.unwrap(probe, ADDRESSES["bob"], S + tick * S // 2000)
    assert us.friend.drops["friend_budget"] > 0
    assert [run for _, run in us.sent].count(probe) == 100


def test_large_batches_are_bounded_by_their_bytes(us: Us) -> None:
    batch = stamped([b"\x04\0\0\0" + bytes(1440)] * 40, wire.number(BOB, CAROL))
    for tick in range(1000):
        us.arrivals.unwrap(batch, ADDRESSES["bob"], S + tick * 2 * S // 1000)
    size = sum(sum(map(len, datagrams)) for _, datagrams in us.sent)
    assert BYTES_PER_S * 1.9 <= size <= BYTES_PER_S * 2 * 1.2


def test_a_member_that_left_is_known_no_more(us: Us) -> None:
    us.arrivals.drop_member("carol")
    us.unwrap(ADDRESSES["bob"], BOB, CAROL)
    assert us.sent == []
    us.arrivals.put_member("bob", CAROL)  # renumbered
    assert us.unwrap(ADDRESSES["bob"], CAROL, US) == []


def test_what_relays_say_is_theirs_and_probes_the_path_cores(us: Us) -> None:
    stranger = wire.stranger(wire.Stranger(bytes(8)))
    assert us.arrivals.is_ours(stranger)
    us.arrivals.receive(stranger, RELAY, S)
    us.arrivals.receive(PROBE, RELAY, S)
    assert us.relays.received == [(stranger, RELAY)]
    assert us.core.received == [(PROBE, RELAY)]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*ADDRESSES.values(), RELAY, ("203.0.113.66", 6)]),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5), st.integers(0, 5)), max_size=20),
)
def test_whatever_numbers_arrive_nobody_is_impersonated(
    source: Address, heads: list[tuple[int, int, int]]
) -> None:
    us = Us()
    datagrams = [
        (kind << 24 | wire.number(sender, receiver)).to_bytes(4, "big") + bytes(40)
        for kind, sender, receiver in heads
    ]
    for place, run in us.arrivals.unwrap(datagrams, source, S):
        assert isinstance(place, Via)
        own, other = wire.ends(place.number)
        assert own == US
        assert other not in (0, US)
        assert all(wire.number_of(each) == 0 or each[:4] == wire.PROBE_MAGIC for each in run)
    for to, run in us.sent:
        (peer,) = (peer for peer, address in ADDRESSES.items() if address == source)
        senders = {wire.ends(wire.number_of(each))[0] for each in run}
        assert senders == {us.arrivals._numbers[peer]}
        assert to in ADDRESSES.values()
