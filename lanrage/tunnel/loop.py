"""A plain epoll loop: callbacks for readable descriptors, and one deadline. Idle, it sleeps.

No asyncio: per wake-up this costs one system call, two looks at the clock and a dictionary look-up,
and wake-ups are what game traffic is made of.

A callback is told whether the loop was `busy`: the wait ended before it began. Then more is
probably waiting than one read will give, and reading on pays. At the pace of a game it would find
nothing, and finding nothing costs a system call and an exception.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import TypeAlias

EVENTS_MAX = 16  # a wake-up; the others are still ready at the next
BUSY_NS = 15_000  # a wait that took less did not sleep

Callback: TypeAlias = Callable[[int, bool], None]  # now_ns, busy


def now_ns() -> int:
    """The clock of everything in the data plane. It counts while the computer sleeps, as the age
    of a session key must."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Loop:
    def __init__(self) -> None:
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
        while True:
            before = clock(boot)
            deadline_ns = timer()
            wait_s = -1.0
            if deadline_ns is not None:
                wait_s = max(0, deadline_ns - before) / 1e9
                if not wait_s:
                    on_timer(before)
            ready = poll(wait_s, EVENTS_MAX)
            now = clock(boot)
            for fd, _ in ready:
                callback = callbacks.get(fd)
                if callback is not None:  # removed by another callback of this wake-up
                    callback(now, now - before < BUSY_NS)
