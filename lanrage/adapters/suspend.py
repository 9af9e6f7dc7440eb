"""Word of the computer having been asleep.

CLOCK_BOOTTIME goes on while the computer is suspended and CLOCK_MONOTONIC does not, so a growing
difference between them is the time asleep. When to look? Linux wakes who waits for a timer with
TFD_TIMER_CANCEL_ON_SET (timerfd_create(2)) when the clock of the day is set and on every resume:
nothing is polled, and idling costs nothing. Where there is no such timer we look every 20 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import time
from collections.abc import Callable
from typing import Final

NAP_MS: Final = 500  # less than that is not worth a word
LOOK_S: Final = 20.0
TFD_NONBLOCK, TFD_CLOEXEC = 0o4000, 0o2000000
TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET = 1, 2
FAR_S: Final = (1 << 62) // 1_000_000_000  # the timer itself never ends


class _Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


def asleep_total_ms() -> int:
    """How long this computer has been suspended since it was started."""
    boot, monotonic = time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC
    between_ns = time.clock_gettime_ns(boot) - time.clock_gettime_ns(monotonic)
    return max(0, between_ns // 1_000_000)  # negative if we were held up between the two


class SuspendWatch:
    """Calls `report` with the milliseconds of each sleep, right after it. Needs a running loop."""

    def __init__(
        self, report: Callable[[int], None], asleep_ms: Callable[[], int] = asleep_total_ms
    ) -> None:
        self._report = report
        self._asleep_ms = asleep_ms
        self._known_ms = asleep_ms()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.descriptor = _cancelled_on_resume()
        if self.descriptor is None:
            self._look_again()
        else:
            self._loop.add_reader(self.descriptor, self._woken)

    def look(self) -> None:
        """Compare the clocks now."""
        now_ms = self._asleep_ms()
        slept_ms, self._known_ms = now_ms - self._known_ms, now_ms
        if slept_ms >= NAP_MS:
            self._report(slept_ms)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.descriptor is not None:
            self._loop.remove_reader(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = None

    def _woken(self) -> None:
        assert self.descriptor is not None
        with contextlib.suppress(OSError):  # ECANCELED is the message
            os.read(self.descriptor, 8)
        if not _arm(self.descriptor):
            self._loop.remove_reader(self.descriptor)
            self._look_again()
        self.look()

    def _look_again(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._look_again)
        self.look()


def _cancelled_on_resume() -> int | None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "timerfd_create"):
        return None
    descriptor = int(libc.timerfd_create(time.CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC))
    if descriptor < 0:
        return None
    if not _arm(descriptor):
        os.close(descriptor)
        return None
    return descriptor


def _arm(descriptor: int) -> bool:
    spec = _Spec(at_s=FAR_S)
    flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET
    done = int(ctypes.CDLL(None).timerfd_settime(descriptor, flags, ctypes.byref(spec), None))
    return done == 0
