"""The loop's habit of looking before it sleeps: learnt from short sleeps, dropped at once."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

import pytest

from lanrage.tunnel.loop import SHORT_SLEEPS, Loop, now_ns

LATER_NS = 1_000_000_000_000  # far away


class Watched:
    """The loop's epoll, with every wait written down."""

    def __init__(self, real: select.epoll, before: Callable[[float], None]) -> None:
        self._real = real
        self._before = before
        self.waits: list[float] = []
        self.register = real.register

    def poll(self, wait_s: float, events_max: int) -> list[tuple[int, int]]:
        self.waits.append(wait_s)
        self._before(wait_s)
        return self._real.poll(wait_s, events_max)


def run(rounds: int) -> list[float]:
    """The waits of a loop whose pipe is readable at once `rounds` times, and then never again
    until it has gone to sleep."""
    reader, writer = os.pipe()
    loop = Loop()
    left = rounds

    def before(wait_s: float) -> None:
        nonlocal left
        if left:
            left -= 1
            os.write(writer, b"x")
        elif wait_s:  # it sleeps; now it may end
            os.write(writer, b"end")

    watched = Watched(loop._epoll, before)
    loop._epoll = watched  # type: ignore[assignment]

    def on_pipe(_now: int, _busy: bool) -> None:
        if os.read(reader, 3) == b"end":
            raise SystemExit

    loop.add(reader, on_pipe)
    try:
        with pytest.raises(SystemExit):
            loop.run(lambda: now_ns() + LATER_NS, lambda _now: None)
    finally:
        os.close(reader)
        os.close(writer)
    return watched.waits


def test_a_loop_that_just_began_sleeps_at_once() -> None:
    assert all(run(SHORT_SLEEPS - 1))


def test_after_short_sleeps_it_looks_first() -> None:
    # On a busy machine any one sleep may take long, so several runs are given a chance.
    runs = [run(SHORT_SLEEPS + 1) for _ in range(20)]
    assert all(all(waits[:SHORT_SLEEPS]) for waits in runs)
    assert any(waits[SHORT_SLEEPS] == 0 for waits in runs)


def test_a_look_in_vain_ends_in_sleep() -> None:
    runs = [run(SHORT_SLEEPS + 3) for _ in range(20)]
    assert any(0 in waits for waits in runs)
    assert all(waits[-1] > 0 for waits in runs)
