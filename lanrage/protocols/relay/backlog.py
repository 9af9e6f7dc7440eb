"""What waits for a connection that cannot take it now: little, fresh, and fair. Pure.

TCP delivers everything in order, however late; a game wants the newest and forgets the rest. So
datagrams wait here and not in the socket, where they could be neither overtaken nor dropped:

- What keeps a path alive (probes, control messages, handshakes) goes before data.
- Data waits in one short queue for each session number, served in turn, so one busy member does
  not starve the others. A full queue drops its oldest.
- Nothing older than its limit is sent at all.
"""

from __future__ import annotations

from collections import deque

from lanrage.protocols.relay.wire import number_of

MS = 1_000_000
PER_NUMBER_MAX = 64  # one 64 KiB frame of the tunnel's interface, in packets
DATA_MAX = 256  # of all numbers together
URGENT_MAX = 64
DATA_AGE_NS = 150 * MS
URGENT_AGE_NS = 1000 * MS
TRANSPORT_DATA = 4  # WireGuard's message type; all other kinds are urgent

_Waiting = deque[tuple[int, bytes]]  # since, datagram


def is_urgent(datagram: bytes) -> bool:
    """Whether this is about the path itself, and not what a game sends over it."""
    return datagram[0] != TRANSPORT_DATA


class Backlog:
    def __init__(self) -> None:
        self._urgent: _Waiting = deque()
        self._data: dict[int, _Waiting] = {}  # by number, in the order of their turns; none empty
        self._count = 0
        self.dropped_full = 0
        self.dropped_old = 0

    def __bool__(self) -> bool:
        return self._count > 0 or bool(self._urgent)

    def put(self, datagram: bytes, now_ns: int, *, urgent: bool) -> None:
        """Something to send, and to forget if that takes too long."""
        if urgent:
            if len(self._urgent) == URGENT_MAX:
                self._urgent.popleft()
                self.dropped_full += 1
            self._urgent.append((now_ns, datagram))
            return
        queue = self._data.setdefault(number_of(datagram), deque())
        queue.append((now_ns, datagram))
        self._count += 1
        if len(queue) > PER_NUMBER_MAX:
            self._shorten(queue)
        elif self._count > DATA_MAX:
            self._shorten(max(self._data.values(), key=len))

    def take(self, now_ns: int) -> bytes | None:
        """The next to be sent; None if nothing is left that is worth it."""
        while self._urgent:
            since, datagram = self._urgent.popleft()
            if now_ns - since <= URGENT_AGE_NS:
                return datagram
            self.dropped_old += 1
        while self._data:
            since, datagram = self._next()
            if now_ns - since <= DATA_AGE_NS:
                return datagram
            self.dropped_old += 1
        return None

    def _next(self) -> tuple[int, bytes]:
        number = next(iter(self._data))
        queue = self._data.pop(number)
        waiting = queue.popleft()
        self._count -= 1
        if queue:
            self._data[number] = queue  # to the end: the others' turn
        return waiting

    def _shorten(self, queue: _Waiting) -> None:
        """Drop the oldest; the queue has another one left."""
        queue.popleft()
        self._count -= 1
        self.dropped_full += 1
