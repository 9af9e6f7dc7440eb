"""A plain epoll loop: callbacks for readable descriptors, and one deadline. Idle, it sleeps.

No asyncio: per wake-up this costs one system call, two looks at the clock and a dictionary look-up,
and wake-ups are what game traffic is made of.

Falling asleep and being woken can cost more than a short wait itself, above all on a virtual
machine. So the loop learns, as KVM's halt polling does: after `SHORT_SLEEPS` in a row that each
took less than `SPIN_NS`, it looks again and again for that long before it sleeps; one look in vain
ends that. A packet bouncing to and fro keeps it looking (flood ping took about half the time); the
pace of a game, a packet in a millisecond, rarely starts it, and an idle loop always sleeps. What
serves many, whose packets come at any moment, does without (`spins`).

A callback is told whether the loop was `busy`: the wait ended before it began. Then more is
probably waiting than one read will give, and reading on pays. At the pace of a game it would find
nothing, and finding nothing costs a system call and an exception.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable
from typing import TypeAlias

EVENTS_MAX = 16  # a wake-up; the others are still ready at the next
BUSY_NS = 15_000  # a wait that took less did not sleep
SPIN_NS = 200_000  # about what one wake-up may cost at worst
SHORT_SLEEPS = 4

Callback: TypeAlias = Callable[[int, bool], None]  # now_ns, busy


def now_ns() -> int:
    """The clock of everything in the data plane. It counts while the computer sleeps, as the age
    of a session key must."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Loop:
    def __init__(self, *, spins: bool = True) -> None:
        self._short_sleeps = SHORT_SLEEPS if spins else sys.maxsize
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}

    def add(self, fd: int, callback: Callback) -> None:
        """Call `callback` whenever `fd` is readable or at its end."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def want_write(self, fd: int, wanted: bool) -> None:
        """Also call it when `fd` can be written to, or not any more."""
        self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._callbacks[fd]

    def run(self, timer: Callable[[], int | None], on_timer: Callable[[int], None]) -> None:
        """Until a callback raises SystemExit. `timer` gives the next deadline, or None."""
        poll, callbacks, clock, boot = (
            self._epoll.poll,
            self._callbacks,
            time.clock_gettime_ns,
            time.CLOCK_BOOTTIME,
        )
        short_sleeps, enough = 0, self._short_sleeps
        while True:
            before = clock(boot)
            deadline_ns = timer()
            wait_s = -1.0
            if deadline_ns is not None:
                wait_s = max(0, deadline_ns - before) / 1e9
                if not wait_s:
                    on_timer(before)
            ready = self._spin(before + SPIN_NS) if short_sleeps >= enough else []
            if ready:
                now = clock(boot)
            else:
                asleep = clock(boot)
                ready = poll(wait_s, EVENTS_MAX)
                now = clock(boot)
                was_short = now - asleep < SPIN_NS and short_sleeps < enough
                short_sleeps = short_sleeps + 1 if was_short else 0
            for fd, _ in ready:
                callback = callbacks.get(fd)
                if callback is not None:  # removed by another callback of this wake-up
                    callback(now, now - before < BUSY_NS)

    def _spin(self, until: int) -> list[tuple[int, int]]:
        while now_ns() < until:
            ready = self._epoll.poll(0, EVENTS_MAX)
            if ready:
                return ready
        return []
