"""A plain epoll loop: callbacks for readable descriptors, and one deadline. Idle, it sleeps.

No asyncio: per wake-up this costs one system call and a dictionary look-up, and wake-ups are what
game traffic is made of.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

EVENTS_MAX = 16  # a wake-up; the others are still ready at the next


def now_ns() -> int:
    """The clock of everything in the data plane. It counts while the computer sleeps, as the age
    of a session key must."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Loop:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, callback: Callable[[], None]) -> None:
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
        poll, callbacks = self._epoll.poll, self._callbacks
        while True:
            deadline_ns = timer()
            wait_s = -1.0
            if deadline_ns is not None:
                now = now_ns()
                wait_s = max(0, deadline_ns - now) / 1e9
                if not wait_s:
                    on_timer(now)
            for fd, _ in poll(wait_s, EVENTS_MAX):
                callback = callbacks.get(fd)
                if callback is not None:  # removed by another callback of this wake-up
                    callback()
