"""No packet is lost when keys change, whoever changes them, and whatever the wire does."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols.endpoint import Place
from lanrage.protocols.wireguard.constants import MILLISECOND, SECOND
from lanrage.protocols.wireguard.engine import Peer

from .wire import INNER_A, INNER_B, A, B, Pair, Sent, Wire, ipv4, pair


class Traffic:
    """Numbered packets both ways, one each `every_ms`, and what should arrive."""

    def __init__(self, both: Pair, *, every_ms: int, seconds: float) -> None:
        self.both = both
        self.sent: dict[Place, list[bytes]] = {A: [], B: []}
        start, count = both.wire.now_ns, int(seconds * 1000 / every_ms)
        for number in range(count):
            both.wire.at(start + number * every_ms * MILLISECOND, self._send)

    def _send(self) -> None:
        number = len(self.sent[A]).to_bytes(4, "big")
        for source, to, peer, packet in (
            (A, B, self.both.to_b, ipv4(INNER_A, INNER_B, number)),
            (B, A, self.both.to_a, ipv4(INNER_B, INNER_A, number)),
        ):
            self.sent[to].append(packet)
            self.both.wire.send(source, peer, [packet])

    def all_arrived(self) -> bool:
        return all(sorted(self.sent[to]) == sorted(self.both.wire.received[to]) for to in (A, B))


def indices(peer: Peer) -> tuple[bool, bool]:
    assert peer.current is not None
    return peer.current.initiator, peer.next is not None


@pytest.mark.parametrize("starter", [A, B])
@pytest.mark.parametrize("jitter_ms", [0, 30])
def test_three_rekeys_under_traffic_lose_nothing(starter: Place, jitter_ms: int) -> None:
    both = pair(Wire(jitter_ns=jitter_ms * MILLISECOND))
    peer, packet = (
        (both.to_b, ipv4(INNER_A, INNER_B)) if starter == A else (both.to_a, ipv4(INNER_B, INNER_A))
    )
    both.wire.send(starter, peer, [packet])
    both.wire.run(0.5)
    both.wire.received[A].clear()
    both.wire.received[B].clear()
    traffic = Traffic(both, every_ms=50, seconds=3 * 120 + 20)
    both.wire.run(3 * 120 + 21)
    assert traffic.all_arrived()
    initiations = both.of_kind(1)
    assert [s.source for s in initiations] == [starter] * 4
    assert both.wire.notices[A] == both.wire.notices[A][:1], "a rekey is no news"
    gaps = [(after.at_ns - before.at_ns) / SECOND for before, after in pairwise(initiations)]
    assert all(120 <= gap <= 120.2 for gap in gaps)


@pytest.mark.parametrize("smaller", ["a", "b"])
def test_crossing_initiations_converge_at_once(smaller: str) -> None:
    both = pair(keepalive_s=25, smaller=smaller)
    both.wire.run(0.1)
    assert both.to_b.has_session
    assert both.to_a.has_session
    traffic = Traffic(both, every_ms=40, seconds=3 * 120 + 20)
    both.wire.run(3 * 120 + 21)
    assert traffic.all_arrived()
    # The crossing left one initiator: only the smaller key renews, and only one session is in use.
    assert {s.source for s in both.of_kind(1)[2:]} == {A if smaller == "a" else B}
    assert len(both.of_kind(1)) == 2 + 3
    assert indices(both.to_b) == (smaller == "a", False)
    assert indices(both.to_a) == (smaller == "b", False)


@pytest.mark.parametrize("smaller", ["a", "b"])
@pytest.mark.parametrize(("kind", "source"), [(1, A), (1, B), (2, A), (2, B), (4, A), (4, B)])
def test_a_crossing_survives_the_loss_of_any_one_message(
    smaller: str, kind: int, source: Place
) -> None:
    lost: list[Sent] = []

    def loses(sent: Sent) -> bool:
        if lost or sent.kind != kind or sent.source != source:
            return False
        lost.append(sent)
        return True

    both = pair(Wire(loses=loses), keepalive_s=25, smaller=smaller)
    both.wire.run(0.9)
    assert both.to_b.has_session
    assert both.to_a.has_session
    traffic = Traffic(both, every_ms=10, seconds=10)
    both.wire.run(11)
    assert traffic.all_arrived()


@pytest.mark.parametrize("lead_ms", [1, 10, 19, 21, 39, 41, 59, 100, 400])
def test_sides_that_start_one_after_the_other_converge_too(lead_ms: int) -> None:
    both = pair(keepalive_s=25, endpoints=False)
    both.a.set_endpoint(both.to_b, B, both.wire.now_ns)
    both.wire.run(lead_ms / 1000)
    both.b.set_endpoint(both.to_a, A, both.wire.now_ns)
    both.wire.run(0.1)
    traffic = Traffic(both, every_ms=10, seconds=10)
    both.wire.run(11)
    assert traffic.all_arrived()
    assert len(both.of_kind(1)) <= 2


def test_a_rekey_whose_messages_get_lost_is_retried_while_the_old_key_serves() -> None:
    both = pair()
    both.connect()
    both.wire.loses = lambda sent: sent.kind in (1, 2)
    traffic = Traffic(both, every_ms=100, seconds=170)
    both.wire.run(165)
    both.wire.loses = lambda sent: False
    both.wire.run(7)
    assert traffic.all_arrived()
    assert both.to_b.has_session


def test_a_restarted_peer_is_back_within_a_round_trip() -> None:
    both = pair(keepalive_s=25)
    both.wire.run(0.1)
    # The same key, no memory: what a crash leaves.
    again = pair(keepalive_s=25, endpoints=False).b
    assert again.public_key == both.b.public_key
    both.wire.engines[B] = again
    both.wire.run(5)
    to_a = again.peers[both.a.public_key]
    again.set_endpoint(to_a, A, both.wire.now_ns)
    both.wire.run(0.1)
    both.wire.send(A, both.to_b, [ipv4(INNER_A, INNER_B, b"again")])
    both.wire.run(0.1)
    assert both.wire.received[B][-1:] == [ipv4(INNER_A, INNER_B, b"again")]


def test_the_message_counter_forces_a_rekey_from_either_side() -> None:
    both = pair()
    both.connect()
    for peer, source, packet in (
        (both.to_b, A, ipv4(INNER_A, INNER_B)),
        (both.to_a, B, ipv4(INNER_B, INNER_A)),
    ):
        both.wire.run(6)
        assert peer.current is not None
        before = len(both.of_kind(1))
        peer.current.counter = 2**60 - 1
        both.wire.send(source, peer, [packet])
        assert len(both.of_kind(1)) == before
        both.wire.send(source, peer, [packet])
        assert len(both.of_kind(1)) == before + 1
        both.wire.run(0.2)
        assert peer.current.counter < 10


def test_the_last_counters_are_never_used() -> None:
    both = pair()
    both.connect()
    assert both.to_b.current is not None
    both.to_b.current.counter = 2**64 - 2**13 - 1 - 2
    both.to_b.last_initiation_ns = both.wire.now_ns  # no rekey for 5 s
    packet = ipv4(INNER_A, INNER_B)
    assert both.a.seal(both.to_b, [packet] * 3, both.wire.now_ns) == []
    assert len(both.a.seal(both.to_b, [packet] * 2, both.wire.now_ns)) == 2
    assert both.a.seal(both.to_b, [packet], both.wire.now_ns) == []


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["a", "b"]))
def test_a_bad_wire_loses_what_it_loses_and_nothing_more(seed: int, smaller: str) -> None:
    """Loss, copies and reordering for three lifetimes: no copy, no stall, nothing raised."""
    wire = Wire(seed=seed, jitter_ns=60 * MILLISECOND, loss=0.2, duplicates=0.2)
    both = pair(wire, keepalive_s=25, smaller=smaller)
    traffic = Traffic(both, every_ms=500, seconds=400)
    wire.run(430)
    for to in (A, B):
        arrived = wire.received[to]
        assert len(arrived) == len(set(arrived))
        assert set(arrived) <= set(traffic.sent[to])
        assert len(arrived) > 0.6 * len(traffic.sent[to])
    wire.loss = 0
    wire.received[A].clear()
    wire.received[B].clear()
    clean = Traffic(both, every_ms=100, seconds=5)
    wire.run(20)
    assert clean.all_arrived()
