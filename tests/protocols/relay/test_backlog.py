"""What waits for a slow connection: little, fresh, and fair."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lanrage.protocols.relay import wire
from lanrage.protocols.relay.backlog import (
    DATA_AGE_NS,
    DATA_MAX,
    PER_NUMBER_MAX,
    URGENT_AGE_NS,
    URGENT_MAX,
    Backlog,
    is_urgent,
)


def data(number: int, sequence: int) -> bytes:
    return wire.stamp(b"\x04\0\0\0" + sequence.to_bytes(4, "big") + bytes(24), number)


def all_of(backlog: Backlog, now_ns: int) -> list[bytes]:
    taken = []
    while (datagram := backlog.take(now_ns)) is not None:
        taken.append(datagram)
    return taken


def test_what_keeps_a_path_alive_is_urgent_and_a_games_packets_are_not() -> None:
    probe = wire.stamp(wire.PROBE_MAGIC + bytes(28), 1)
    handshake = wire.stamp(b"\x01\0\0\0" + bytes(144), 1)
    stranger = wire.stranger(wire.Stranger(bytes(8)))
    assert all(map(is_urgent, (probe, handshake, stranger)))
    assert not is_urgent(data(1, 1))


def test_urgent_goes_first_and_each_keeps_its_order() -> None:
    backlog = Backlog()
    for sequence in range(3):
        backlog.put(data(1, sequence), 0, urgent=False)
    backlog.put(b"one", 0, urgent=True)
    backlog.put(b"two", 0, urgent=True)
    assert all_of(backlog, 0) == [b"one", b"two", data(1, 0), data(1, 1), data(1, 2)]
    assert not backlog


def test_numbers_take_turns() -> None:
    backlog = Backlog()
    for sequence in range(3):
        backlog.put(data(1, sequence), 0, urgent=False)
    backlog.put(data(2, 0), 0, urgent=False)
    assert all_of(backlog, 0) == [data(1, 0), data(2, 0), data(1, 1), data(1, 2)]


def test_a_full_queue_drops_its_oldest_and_no_other_suffers() -> None:
    backlog = Backlog()
    backlog.put(data(2, 0), 0, urgent=False)
    for sequence in range(PER_NUMBER_MAX + 5):
        backlog.put(data(1, sequence), 0, urgent=False)
    kept = all_of(backlog, 0)
    assert data(2, 0) in kept
    kept.remove(data(2, 0))
    assert kept == [data(1, each) for each in range(5, PER_NUMBER_MAX + 5)]
    assert backlog.dropped_full == 5


def test_many_numbers_share_one_limit_and_the_longest_queue_pays() -> None:
    backlog = Backlog()
    for sequence in range(PER_NUMBER_MAX):
        backlog.put(data(1, sequence), 0, urgent=False)
    for number in range(2, DATA_MAX - PER_NUMBER_MAX + 3):
        backlog.put(data(number, 0), 0, urgent=False)
    kept = all_of(backlog, 0)
    assert len(kept) == DATA_MAX
    assert data(1, 0) not in kept
    assert backlog.dropped_full == 1


def test_more_urgent_ones_than_fit_drop_the_oldest() -> None:
    backlog = Backlog()
    for each in range(URGENT_MAX + 1):
        backlog.put(b"%d" % each, 0, urgent=True)
    assert all_of(backlog, 0)[0] == b"1"
    assert backlog.dropped_full == 1


def test_nothing_older_than_its_limit_is_sent() -> None:
    backlog = Backlog()
    backlog.put(data(1, 0), 0, urgent=False)
    backlog.put(data(1, 1), 1, urgent=False)
    assert all_of(backlog, DATA_AGE_NS + 1) == [data(1, 1)]
    backlog.put(b"old", 0, urgent=True)
    backlog.put(b"new", 1, urgent=True)
    assert all_of(backlog, URGENT_AGE_NS + 1) == [b"new"]
    assert backlog.dropped_old == 2
    assert not backlog


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.integers(0, 50)), max_size=600))
def test_whatever_comes_all_is_sent_or_counted_and_the_limits_hold(
    steps: list[tuple[int, bool, int]],
) -> None:
    backlog, now_ns, taken = Backlog(), 0, 0
    for sequence, (number, urgent, ms) in enumerate(steps):
        now_ns += ms * 1_000_000
        backlog.put(data(number, sequence), now_ns, urgent=urgent)
        if ms % 3 == 0 and backlog.take(now_ns) is not None:
            taken += 1
    left = len(all_of(backlog, now_ns))
    assert left <= DATA_MAX + URGENT_MAX
    assert taken + left + backlog.dropped_full + backlog.dropped_old == len(steps)
    assert not backlog
