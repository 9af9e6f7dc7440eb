"""Every row of the timer table, to the 50 ms, under a virtual clock."""

from itertools import pairwise

import pytest

from lanrage.protocols.endpoint import Place
from lanrage.protocols.wireguard.constants import MILLISECOND, SECOND
from lanrage.protocols.wireguard.engine import SessionDown, SessionUp

from .wire import INNER_A, INNER_B, A, B, Pair, ipv4, pair

TO_B, TO_A = ipv4(INNER_A, INNER_B, b"x"), ipv4(INNER_B, INNER_A, b"x")
KEEPALIVE_BYTES = 32


def after(both: Pair, start_ns: int, kind: int, source: Place) -> list[float]:
    """Seconds from `start_ns` at which messages of this kind left."""
    return [(s.at_ns - start_ns) / SECOND for s in both.of_kind(kind, source) if s.at_ns > start_ns]


def keepalives(both: Pair, start_ns: int, source: Place) -> list[float]:
    return [
        (s.at_ns - start_ns) / SECOND
        for s in both.of_kind(4, source)
        if s.at_ns > start_ns and len(s.datagram) == KEEPALIVE_BYTES
    ]


def born_ns(both: Pair) -> int:
    assert both.to_b.current is not None
    return both.to_b.current.born_ns


def test_an_unanswered_initiation_is_repeated_after_5_s_and_some_jitter_for_90_s() -> None:
    both = pair()
    both.wire.cut = True
    start_ns = both.wire.now_ns
    both.wire.send(A, both.to_b, [TO_B])
    both.wire.run(300)
    times = [0.0, *after(both, start_ns, 1, A)]
    gaps = [b - a for a, b in pairwise(times)]
    assert all(5 <= gap <= 5.334 for gap in gaps)
    assert len(set(gaps)) > 10, "jitter"
    assert 90 - 5.334 <= times[-1] <= 90
    assert both.a.drops["unanswered"] == 1
    assert both.a.timer() is None
    assert both.wire.notices[A] == []


def test_each_initiation_is_new() -> None:
    both = pair()
    both.wire.cut = True
    both.wire.send(A, both.to_b, [TO_B])
    both.wire.run(30)
    datagrams = [s.datagram for s in both.of_kind(1)]
    assert len({d[4:8] for d in datagrams}) == len(datagrams), "index"
    assert len({d[8:40] for d in datagrams}) == len(datagrams), "ephemeral"


def test_new_packets_after_giving_up_start_again_but_not_within_5_s_of_the_last() -> None:
    both = pair()
    both.wire.cut = True
    start_ns = both.wire.now_ns
    both.wire.send(A, both.to_b, [TO_B])
    both.wire.run(90.01)
    last = after(both, start_ns, 1, A)[-1]
    both.wire.send(A, both.to_b, [TO_B])
    both.wire.run(6)
    assert after(both, start_ns, 1, A)[-1] == pytest.approx(max(last + 5, 90.01), abs=0.05)


def test_the_initiator_renews_on_the_first_packet_after_120_s() -> None:
    both = pair()
    both.connect()
    born = born_ns(both)
    both.wire.run(119.7)
    both.wire.send(A, both.to_b, [TO_B])
    assert after(both, born, 1, A) == []
    both.wire.run(born / SECOND + 120.0 - both.wire.now_ns / SECOND)
    both.wire.send(A, both.to_b, [TO_B])
    assert after(both, born, 1, A) == [pytest.approx(120, abs=0.05)]


def test_the_responder_does_not_renew_by_time() -> None:
    both = pair()
    both.connect()
    born = born_ns(both)
    for _ in range(17):
        both.wire.run(10)
        both.wire.send(B, both.to_a, [TO_A])
    assert both.of_kind(1, B) == []
    # The initiator did, with the first keepalive it owed after 120 s.
    assert after(both, born, 1, A) == [pytest.approx(125, abs=5.1)]


def test_an_initiator_that_only_receives_renews_from_165_s_on() -> None:
    both = pair()
    both.connect()
    born = born_ns(both)
    # Less than 10 s from the first to the last: A has no keepalive to send, which would renew too.
    for at_s in (156, 164.9, 165.1):
        both.wire.run(born / SECOND + at_s - both.wire.now_ns / SECOND)
        datagrams = both.b.seal(both.to_a, [TO_A], both.wire.now_ns)
        both.a.receive(datagrams, B, both.wire.now_ns)
        both.wire.pump()
    assert after(both, born, 1, A) == [pytest.approx(165.1, abs=0.05)]


def test_after_180_s_nothing_is_sealed_or_opened_and_the_session_is_reported_down() -> None:
    both = pair()
    both.connect()
    born = born_ns(both)
    sealed = both.b.seal(both.to_a, [TO_A] * 2, both.wire.now_ns)
    both.wire.cut = True
    both.wire.run(born / SECOND + 179.95 - both.wire.now_ns / SECOND)
    assert both.a.receive(sealed[:1], B, both.wire.now_ns) == [(both.to_b, [TO_A])]
    assert both.to_b.has_session
    both.wire.run(0.1)
    assert both.a.receive(sealed[1:], B, both.wire.now_ns) == []
    assert both.a.drops["expired"] == 1
    assert not both.to_b.has_session
    assert both.wire.notices[A] == [
        SessionUp(both.to_b, 40 * MILLISECOND),
        SessionDown(both.to_b, "expired"),
    ]
    assert both.a.seal(both.to_b, [TO_B], both.wire.now_ns) == []


def test_data_received_is_answered_by_a_keepalive_after_10_silent_seconds() -> None:
    both = pair()
    both.connect()
    both.wire.run(30)
    start_ns = both.wire.now_ns
    both.wire.send(A, both.to_b, [TO_B])
    both.wire.run(60)
    assert keepalives(both, start_ns, B) == [pytest.approx(10.02, abs=0.05)]
    assert keepalives(both, start_ns, A) == [], "a keepalive is not answered"


def test_data_that_keeps_coming_is_answered_every_10_s() -> None:
    both = pair()
    both.connect()
    both.wire.run(30)
    start_ns = both.wire.now_ns
    for _ in range(8):
        both.wire.send(A, both.to_b, [TO_B])
        both.wire.run(4)
    both.wire.run(30)
    expected = [10.02, 20.02, 30.02]
    assert keepalives(both, start_ns, B)[:3] == [pytest.approx(t, abs=0.05) for t in expected]


def test_whoever_sent_something_owes_no_keepalive() -> None:
    both = pair()
    both.connect()
    both.wire.run(30)
    start_ns = both.wire.now_ns
    both.wire.send(A, both.to_b, [TO_B])
    both.wire.run(5)
    both.wire.send(B, both.to_a, [TO_A])
    both.wire.run(60)
    assert keepalives(both, start_ns, B) == []
    assert keepalives(both, start_ns, A) == [pytest.approx(15.02, abs=0.05)]


def test_data_without_any_answer_for_15_s_starts_a_handshake() -> None:
    both = pair()
    both.connect()
    both.wire.run(30)
    both.wire.cut = True
    start_ns = both.wire.now_ns
    both.wire.send(A, both.to_b, [TO_B])
    both.wire.run(4)
    both.wire.send(A, both.to_b, [TO_B])
    both.wire.run(14)
    assert after(both, start_ns, 1, A) == [pytest.approx(15, abs=0.05)]


def test_the_other_end_may_be_the_one_that_notices() -> None:
    both = pair()
    both.connect()
    both.wire.run(30)
    both.wire.cut = True
    start_ns = both.wire.now_ns
    both.wire.send(B, both.to_a, [TO_A])
    both.wire.run(16)
    assert after(both, start_ns, 1, B) == [pytest.approx(15, abs=0.05)]


@pytest.mark.parametrize("keepalive_s", [1, 25])
def test_a_persistent_keepalive_keeps_its_beat(keepalive_s: int) -> None:
    both = pair(keepalive_s=0)
    both.a.put_peer(both.b.public_key, allowed=["10.66.0.2"], keepalive_s=keepalive_s)
    both.wire.run(0.2)
    start_ns = both.wire.now_ns
    both.wire.run(100.5)
    first = keepalives(both, start_ns, A)[0]
    beats = [first + n * keepalive_s for n in range(int((100.5 - first) / keepalive_s) + 1)]
    assert keepalives(both, start_ns, A) == [pytest.approx(t, abs=0.05) for t in beats]
    assert keepalives(both, start_ns, B) == []


def test_a_persistent_keepalive_renews_the_session_without_any_data() -> None:
    both = pair(keepalive_s=25)
    both.wire.run(1000)
    assert both.to_b.has_session
    assert both.to_a.has_session
    assert len(both.wire.notices[A]) == len(both.wire.notices[B]) == 1


def test_keys_are_gone_540_s_after_the_last_handshake() -> None:
    both = pair()
    both.connect()
    born = born_ns(both)
    both.wire.cut = True
    both.wire.run(born / SECOND + 539.95 - both.wire.now_ns / SECOND)
    assert both.to_b.sessions()
    both.wire.run(0.1)
    assert both.to_b.sessions() == []
    assert both.to_b.pending is None
    sealed_long_ago = b"\x04\x00\x00\x00" + bytes(28)
    both.a.receive([sealed_long_ago], B, both.wire.now_ns)
    assert both.a.drops["unknown_index"] == 1


def test_handshake_secrets_are_gone_as_soon_as_the_session_is_there() -> None:
    both = pair()
    both.connect()
    assert both.to_b.pending is None
    assert both.to_a.pending is None


def test_the_responder_sends_nothing_before_it_has_heard_the_new_key() -> None:
    both = pair()
    both.wire.loses = lambda sent: sent.kind == 4
    both.wire.send(A, both.to_b, [TO_B])
    both.wire.run(0.1)
    assert both.to_b.has_session
    assert not both.to_a.has_session
    assert both.b.seal(both.to_a, [TO_A], both.wire.now_ns) == []
    both.wire.loses = lambda sent: False
    both.wire.send(A, both.to_b, [TO_B])
    both.wire.run(0.1)
    assert both.to_a.has_session
    assert both.wire.received[A] == [TO_A]


def test_an_initiation_unanswered_on_one_path_is_asked_again_on_the_next() -> None:
    both = pair(endpoints=False)
    nowhere = ("203.0.113.1", 1)
    both.a.put_peer(both.b.public_key, allowed=["10.66.0.2"], keepalive_s=25)
    both.a.set_endpoint(both.to_b, nowhere, both.wire.now_ns)
    both.wire.run(0.03)
    both.a.set_endpoint(both.to_b, B, both.wire.now_ns)
    both.wire.run(0.2)
    assert [s.to for s in both.of_kind(1)] == [nowhere, B]
    assert both.to_b.has_session
    # And however often the path changes, never more than one initiation each 100 ms.
    both.wire.cut = True
    both.a.set_endpoint(both.to_b, None, both.wire.now_ns)
    both.wire.run(200)
    before = len(both.of_kind(1))
    for number in range(100):
        both.a.set_endpoint(both.to_b, ("203.0.113.1", number + 2), both.wire.now_ns)
        both.wire.run(0.01)
    assert 9 <= len(both.of_kind(1)) - before <= 12


def test_waking_up_after_eight_hours_of_sleep_connects_at_once() -> None:
    both = pair(keepalive_s=25)
    both.wire.run(60)
    start_ns = both.wire.now_ns + 8 * 3600 * SECOND
    both.wire.now_ns = start_ns
    both.wire.run(0.2)
    assert [type(n) for n in both.wire.notices[A]] == [SessionUp, SessionDown, SessionUp]
    assert both.to_b.has_session
    assert both.to_a.has_session


def test_falling_asleep_during_a_handshake_does_not_delay_the_next() -> None:
    both = pair(keepalive_s=25)
    both.wire.cut = True
    both.wire.run(12)
    both.wire.cut = False
    both.wire.now_ns += 8 * 3600 * SECOND
    both.wire.run(0.2)
    assert both.to_b.has_session
    assert both.to_a.has_session


def test_an_idle_pair_without_keepalive_is_silent_and_asks_for_no_timer() -> None:
    both = pair()
    both.connect()
    both.wire.run(600)
    count = len(both.wire.sent)
    both.wire.run(3600)
    assert len(both.wire.sent) == count
    assert both.a.timer() is None
    assert both.b.timer() is None
