"""A sleep is told once, and being awake costs nothing. The clocks of the sleep are made up."""

from __future__ import annotations

import asyncio
import select

from lanrage.adapters import suspend
from lanrage.adapters.suspend import SuspendWatch


async def test_a_sleep_is_told_once_with_its_length() -> None:
    told: list[int] = []
    asleep = [1_000]
    watch = SuspendWatch(told.append, lambda: asleep[0])
    watch.look()
    asleep[0] += suspend.NAP_MS - 1
    watch.look()
    assert told == []
    asleep[0] += 3_600_000
    watch.look()
    watch.look()
    watch.close()
    assert told == [3_600_000]


async def test_while_awake_nothing_wakes_the_watch() -> None:
    watch = SuspendWatch(lambda _ms: None)
    assert watch.descriptor is not None
    await asyncio.sleep(0)
    ready, _, _ = select.select([watch.descriptor], [], [], 0.2)
    assert ready == []
    watch.close()
    assert watch.descriptor is None


def test_the_clocks_of_this_computer_can_be_compared() -> None:
    first = suspend.asleep_total_ms()
    assert first >= 0
    assert suspend.asleep_total_ms() - first < suspend.NAP_MS
