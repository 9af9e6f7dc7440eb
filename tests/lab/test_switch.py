"""The wire's decisions under a clock and dice of our own."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.lab.switch import BACKLOG_MS_MAX, FRAMES_MAX, Line, Switch

MS = 1_000_000
A, B, C = (bytes([2, 0, 0, 0, 0, n]) for n in range(3))
BROADCAST = b"\xff" * 6


def switch_of(*lines: Line, seed: int = 7) -> Switch:
    return Switch([(line, line) for line in lines], random.Random(seed).random)


def frame(to: bytes, sender: bytes, size: int = 60) -> bytes:
    return (to + sender).ljust(size, b"\0")


def drain(switch: Switch) -> list[tuple[int, int, bytes]]:
    """(due ms, port, frame) of all that is under way."""
    seen = []
    while (due_ns := switch.next_ns()) is not None:
        seen += [(due_ns // MS, port, carried) for port, carried in switch.due(due_ns)]
    return seen


def test_a_frame_takes_the_delay_of_both_lines_it_crosses() -> None:
    switch = switch_of(Line(delay_ms=10), Line(delay_ms=5))
    switch.accept(0, frame(B, A), 0)
    assert switch.due(15 * MS - 1) == []
    assert switch.due(15 * MS) == [(1, frame(B, A))]


def test_unknown_and_group_addresses_reach_everybody_but_the_sender() -> None:
    switch = switch_of(Line(), Line(), Line())
    switch.accept(0, frame(BROADCAST, A), 0)
    switch.accept(0, frame(B, A), 0)
    assert [port for _, port, _ in drain(switch)] == [1, 2, 1, 2]


def test_a_learned_address_reaches_only_its_port() -> None:
    switch = switch_of(Line(), Line(), Line())
    switch.accept(1, frame(A, B), 0)
    drain(switch)
    switch.accept(0, frame(B, A), 0)
    assert [port for _, port, _ in drain(switch)] == [1]


def test_a_blackhole_swallows_everything_until_it_is_mended() -> None:
    switch = switch_of(Line(), Line())
    switch.change(0, Line(loss=1.0), None)
    for _ in range(100):
        switch.accept(0, frame(B, A), 0)
    assert switch.next_ns() is None
    assert switch.counters(0)[0].lost == 100
    switch.change(0, Line(), None)
    switch.accept(0, frame(B, A), 0)
    assert len(drain(switch)) == 1


def test_loss_comes_close_to_what_was_asked_for() -> None:
    switch = switch_of(Line(loss=0.1), Line())
    for _ in range(5000):
        switch.accept(0, frame(B, A), 0)
    assert 400 < switch.counters(0)[0].lost < 600


def test_a_rate_spaces_frames_and_drops_what_would_wait_too_long() -> None:
    switch = switch_of(Line(rate_mbit=1.0), Line())
    for _ in range(1000):
        switch.accept(0, frame(B, A, 1250), 0)  # 10 ms each
    due_ms = [due for due, _, _ in drain(switch)]
    assert due_ms == [10 * (i + 1) for i in range(BACKLOG_MS_MAX // 10 + 1)]
    assert switch.counters(0)[0].overflowed == 1000 - len(due_ms)


def test_reordering_lets_some_frames_overtake() -> None:
    switch = switch_of(Line(delay_ms=10, reorder=0.5), Line())
    for number in range(20):
        switch.accept(0, frame(B, A, 60 + number), number * MS)
    arrived = [len(carried) for _, _, carried in drain(switch)]
    assert sorted(arrived) == list(range(60, 80))
    assert arrived != sorted(arrived)


def test_duplicates_arrive_twice() -> None:
    switch = switch_of(Line(duplicate=1.0), Line())
    switch.accept(0, frame(B, A), 0)
    assert len(drain(switch)) == 2


def test_frames_under_way_are_limited() -> None:
    switch = switch_of(Line(delay_ms=1000), Line())
    for _ in range(FRAMES_MAX + 5):
        switch.accept(0, frame(B, A), 0)
    assert switch.counters(0)[0].overflowed == 5


lines = st.builds(
    Line,
    delay_ms=st.floats(0, 50),
    jitter_ms=st.floats(0, 50),
    loss=st.floats(0, 0.5),
    duplicate=st.floats(0, 0.5),
    rate_mbit=st.sampled_from([0.0, 1.0, 50.0]),
)


@settings(max_examples=60, deadline=None)
@given(line=lines, gaps_ms=st.lists(st.integers(0, 20), max_size=40), seed=st.integers(0, 99))
def test_equal_seeds_give_equal_runs_and_jitter_never_reorders(
    line: Line, gaps_ms: list[int], seed: int
) -> None:
    runs = []
    for _ in range(2):
        switch = switch_of(line, Line(), seed=seed)
        now_ns = 0
        for number, gap_ms in enumerate(gaps_ms):
            now_ns += gap_ms * MS
            switch.accept(0, frame(B, A, 60 + number), now_ns)
        runs.append(drain(switch))
    assert runs[0] == runs[1]
    sizes = [len(carried) for _, _, carried in runs[0]]
    assert sizes == sorted(sizes)
