"""A member's side of a relay, against a relay of a few lines, on a virtual clock."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from heapq import heappop, heappush

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import wire
from lanrage.protocols.relay.binding import (
    BEAT_NS,
    BEAT_SPREAD_NS,
    MS,
    Binding,
    BindingNotice,
    Bound,
    Measured,
    Unbound,
)
from tests.protocols.relay.answering import MEMBER_SEED, RELAY_SEED, TICKET, Relay, keys_of

S = 1000 * MS
FOUR: Address = ("192.0.2.1", 3478)
SIX: Address = ("2001:db8::1", 3478)


class World:
    """The binding, the relay and what is on the way between them."""

    def __init__(self, *addresses: Address, one_way_ns: int = 20 * MS) -> None:
        self.now_ns = 7 * S
        self.relay = Relay()
        self.one_way_ns = dict.fromkeys(addresses, one_way_ns)
        self.loses: Callable[[bytes], bool] = lambda datagram: False
        self.notices: list[tuple[int, BindingNotice]] = []
        self._on_the_way: list[tuple[int, int, bool, Address, bytes]] = []
        self._sent = 0
        self.binding = Binding(
            keys=keys_of(MEMBER_SEED, RELAY_SEED, relay=False),
            ticket=TICKET,
            addresses=addresses,
            random=random.Random(7).randbytes,
        )

    def start(self) -> None:
        self.binding.start(self.now_ns)
        self.settle()

    def settle(self) -> None:
        self.notices += [(self.now_ns, notice) for notice in self.binding.take_notices()]
        for address, datagram in self.binding.take_outgoing():
            self.put(address, datagram, to_relay=True)

    def put(self, address: Address, datagram: bytes, *, to_relay: bool) -> None:
        if self.loses(datagram):
            return
        self._sent += 1
        arrives_ns = self.now_ns + self.one_way_ns[address]
        heappush(self._on_the_way, (arrives_ns, self._sent, to_relay, address, datagram))

    def run(self, for_ns: int) -> None:
        end_ns = self.now_ns + for_ns
        while True:
            due_ns = self.binding.timer()
            dues = [due_ns] if due_ns is not None else []
            dues += [self._on_the_way[0][0]] if self._on_the_way else []
            if not dues or min(dues) > end_ns:
                self.now_ns = end_ns
                return
            self.now_ns = max(self.now_ns, min(dues))
            if due_ns is not None and due_ns <= self.now_ns:
                self.binding.handle_timer(self.now_ns)
            else:
                self._arrive()
            self.settle()

    def _arrive(self) -> None:
        _, _, to_relay, address, datagram = heappop(self._on_the_way)
        if not to_relay:
            self.binding.receive(datagram, address, self.now_ns)
            return
        answer = self.relay.answer(datagram, address, self.now_ns)
        if answer is not None:
            self.put(address, answer, to_relay=False)

    def said(self, kind: type) -> list[BindingNotice]:
        return [notice for _, notice in self.notices if isinstance(notice, kind)]


def kinds(*wanted: int) -> Callable[[bytes], bool]:
    return lambda datagram: wire.kind_of(datagram) in wanted


@pytest.fixture
def world() -> World:
    made = World(FOUR)
    made.start()
    return made


def test_it_is_bound_after_two_round_trips_and_says_where_it_is_seen(world: World) -> None:
    world.run(S)
    assert world.notices == [
        (7 * S + 80 * MS, Bound(("198.51.100.7", 40_000), 40 * MS, 80 * MS)),
    ]
    assert world.binding.address == FOUR
    assert [kind for _, kind in world.relay.heard] == [wire.BIND, wire.ANSWER]


def test_an_unanswered_bind_is_repeated_soon_and_later_rarely(world: World) -> None:
    world.loses = kinds(wire.CHALLENGE)
    world.run(60 * S)
    waits = [(at - 7 * S) // MS - 20 for at, _ in world.relay.heard]
    assert waits == [0, 150, 400, 900, 2000, 4000, 8000, 16_000, 31_000, 46_000]
    world.loses = kinds()
    world.run(15 * S + 100 * MS)
    assert world.binding.is_bound


def test_beats_are_rare_and_keep_it_bound(world: World) -> None:
    world.run(120 * S)
    beats = [at for at, kind in world.relay.heard if kind == wire.BEAT]
    gaps = [later - earlier for earlier, later in itertools.pairwise(beats)]
    assert len(beats) >= 6
    assert all(BEAT_NS <= gap <= BEAT_NS + BEAT_SPREAD_NS + S for gap in gaps)
    assert len(set(gaps)) > 1, "members must not beat in step"
    assert world.said(Unbound) == []


def test_one_lost_beat_is_repeated_and_three_end_it(world: World) -> None:
    world.run(S)
    lost = iter([True])
    world.loses = lambda datagram: wire.kind_of(datagram) == wire.BEATEN and next(lost, False)
    world.run(40 * S)
    assert world.said(Unbound) == []
    beats = [at for at, kind in world.relay.heard if kind == wire.BEAT]
    assert beats[1] - beats[0] == S
    world.loses = kinds(wire.BEATEN)
    world.run(22 * S)
    (ended,) = (at for at, notice in world.notices if isinstance(notice, Unbound))
    beats = [at for at, kind in world.relay.heard if kind == wire.BEAT][-3:]
    assert [(at - beats[0]) // MS for at in beats] == [0, 1000, 1300]
    assert ended == beats[0] - 20 * MS + 1600 * MS
    assert world.binding.is_bound, "the relay is there, so binding anew works"
    assert len(world.said(Bound)) == 2


def test_after_a_restart_of_the_relay_a_stranger_is_reason_to_bind_at_once(world: World) -> None:
    world.run(S)
    world.relay.restart()
    world.put(FOUR, wire.stranger(wire.Stranger(world.relay.boot)), to_relay=False)
    world.run(150 * MS)
    assert world.relay.bound_over == FOUR
    assert world.binding.is_bound
    assert (len(world.said(Bound)), world.said(Unbound)) == (1, []), "nothing changed for us"


def test_strangers_that_do_not_stop_cost_four_binds_a_second(world: World) -> None:
    world.run(S)
    heard = len(world.relay.heard)
    for _ in range(1000):
        world.put(FOUR, wire.stranger(wire.Stranger(bytes(8))), to_relay=False)
        world.run(2 * MS)
    binds = [kind for _, kind in world.relay.heard[heard:] if kind == wire.BIND]
    assert len(binds) <= 9
    assert world.binding.is_bound


def test_a_renewal_that_nobody_answers_ends_it(world: World) -> None:
    world.run(S)
    world.loses = kinds(wire.CHALLENGE)
    world.put(FOUR, wire.stranger(wire.Stranger(bytes(8))), to_relay=False)
    world.run(2 * S)
    assert world.said(Unbound) == []
    world.run(S)
    assert world.said(Unbound) == [Unbound("the relay does not know us any more")]
    assert world.binding.address is None


def test_a_new_ticket_or_boot_renews_and_the_same_again_does_nothing(world: World) -> None:
    world.run(S)
    heard = len(world.relay.heard)
    world.binding.put_ticket(TICKET, b"boot-one", world.now_ns)
    world.settle()
    world.run(S)
    assert len(world.relay.heard) == heard
    world.relay.restart()
    world.binding.put_ticket(TICKET, b"boot-two", world.now_ns)
    world.settle()
    world.run(S)
    assert world.relay.bound_over == FOUR


def test_a_changed_address_of_ours_is_told(world: World) -> None:
    world.run(S)
    world.relay.observed = ("203.0.113.9", 1024)
    world.binding.doubt(world.now_ns)
    world.settle()
    world.run(S)
    last = world.said(Bound)[-1]
    assert isinstance(last, Bound)
    assert last.observed == ("203.0.113.9", 1024)
    assert world.said(Unbound) == []


def test_of_two_addresses_the_faster_one_is_used_and_the_relay_agrees() -> None:
    for one_way_ns in (1 * MS, 60 * MS, 100 * MS, 160 * MS):
        world = World(FOUR, SIX, one_way_ns=one_way_ns)
        world.one_way_ns[SIX] = one_way_ns + 5 * MS
        world.start()
        world.run(3 * S)
        assert world.binding.address == world.relay.bound_over == FOUR


def test_where_one_address_is_dead_the_other_is_found_within_the_first_steps() -> None:
    world = World(SIX, FOUR)
    world.loses = lambda datagram: wire.kind_of(datagram) == wire.WELCOME
    world.start()
    world.run(100 * MS)
    world.loses = lambda datagram: False
    world.one_way_ns[SIX] = 3600 * S
    world.run(3 * S)
    assert world.binding.address == world.relay.bound_over == FOUR


def test_at_rest_nothing_is_sent_or_believed(world: World) -> None:
    world.run(S)
    world.binding.rest("the tunnel took over", world.now_ns)
    world.settle()
    assert world.said(Unbound) == [Unbound("the tunnel took over")]
    assert world.binding.timer() is None
    world.put(FOUR, wire.stranger(wire.Stranger(bytes(8))), to_relay=False)
    world.run(60 * S)
    assert world.binding.timer() is None
    world.start()
    world.run(S)
    assert world.binding.is_bound


def test_what_is_forged_or_reflected_is_dropped_and_counted(world: World) -> None:
    world.loses = kinds(wire.WELCOME)
    world.run(100 * MS)
    others = wire.Keys(bytes(32), bytes(32))
    nonce = bytes(8)
    for datagram in (
        wire.welcome(wire.Welcome(nonce, bytes(8), 60, FOUR), others),
        wire.beaten(wire.Beat(bytes(8), 1), others),
        wire.challenge(wire.Challenge(nonce, bytes(8), bytes(16))),
        wire.stranger(wire.Stranger(bytes(8))),
        wire.bind(wire.Bind(nonce, TICKET)),
        wire.beat(wire.Beat(bytes(8), 1), keys_of(MEMBER_SEED, RELAY_SEED, relay=False)),
        b"",
    ):
        world.binding.receive(datagram, FOUR, world.now_ns)
    assert not world.binding.is_bound
    assert sum(world.binding.drops.values()) == 7


def test_a_round_trip_is_told_again_only_when_it_has_changed_by_a_fifth(world: World) -> None:
    world.run(100 * S)
    assert world.said(Measured) == []
    world.one_way_ns[FOUR] = 50 * MS
    world.run(100 * S)
    told = world.said(Measured)
    assert told
    assert all(isinstance(each, Measured) for each in told)
    assert 80 * MS <= world.binding.rtt_ns <= 100 * MS
    assert len(told) <= 4


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    loss_percent=st.integers(0, 60),
    one_way_ms=st.integers(1, 400),
)
def test_whatever_is_lost_in_the_end_both_agree(
    seed: int, loss_percent: int, one_way_ms: int
) -> None:
    dice = random.Random(seed)
    world = World(FOUR, SIX, one_way_ns=one_way_ms * MS)
    world.loses = lambda datagram: dice.randrange(100) < loss_percent
    world.start()
    for _ in range(4):
        world.run(dice.randrange(20) * S)
        if dice.randrange(2):
            world.relay.restart()
    world.loses = lambda datagram: False
    world.run(60 * S)
    assert world.binding.is_bound
    assert world.binding.address == world.relay.bound_over


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(list(wire.SIZES)))
def test_no_bytes_raise(body: bytes, kind: int) -> None:
    world = World(FOUR)
    world.start()
    shaped = (wire.HEADER + bytes([kind]) + body)[: wire.SIZES[kind]]
    for datagram in (body, shaped.ljust(wire.SIZES[kind], b"\0")):
        world.binding.receive(datagram, FOUR, world.now_ns)
    assert not world.binding.is_bound
