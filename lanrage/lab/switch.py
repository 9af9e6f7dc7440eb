"""What the lab's wire does to frames, without any device: a learning switch with bad lines.

Every port hangs on a line of its own, and a frame crosses two of them: the sender's upwards to
the switch, the receiver's downwards from it. So 10 ms on every line is 20 ms from home to home
and 40 ms there and back. Each crossing may lose, delay or duplicate the frame by the `Line` of
that direction. A heap holds what is under way, by due time.

Within one direction of one line frames stay in order, whatever jitter says, as in a real queue;
only `reorder` lets a frame overtake: it skips the line's delay.

Pure: time (integer ns) and randomness come from the caller.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

FRAMES_MAX = 20_000  # under way at once, all lines together; more are dropped and counted
STATIONS_MAX = 4_096  # learned MAC addresses
BACKLOG_MS_MAX = 200  # what a line with a rate lets wait before it drops, as a home router does


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One direction of one line. Probabilities are 0 to 1."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0  # added or taken away, uniformly
    loss: float = 0.0  # 1 is a blackhole
    duplicate: float = 0.0
    reorder: float = 0.0
    rate_mbit: float = 0.0  # megabits a second; 0 for no limit


class Counters(msgspec.Struct, kw_only=True):
    """Frames of one direction of one line."""

    carried: int = 0
    lost: int = 0
    overflowed: int = 0
    bytes_carried: int = 0


class _Flight(NamedTuple):
    due_ns: int
    order: int  # breaks ties, so that equal seeds give equal runs
    port: int
    upwards: bool
    frame: bytes


class _Crossing:
    """One direction of one line: its condition and when it is free again."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.free_ns = 0  # the last bit of the last frame has left by then
        self.newest_ns = 0  # due time of the newest frame kept in order
        self.counters = Counters()

    def due_ns(self, size_bytes: int, now_ns: int, random: Callable[[], float]) -> int | None:
        """When a frame entering now arrives; None if the line's queue is full."""
        line = self.line
        sent_ns = now_ns
        if line.rate_mbit:
            starts_ns = max(now_ns, self.free_ns)
            if starts_ns - now_ns > BACKLOG_MS_MAX * 1_000_000:
                return None
            sent_ns = starts_ns + int(size_bytes * 8_000 / line.rate_mbit)
            self.free_ns = sent_ns
        if line.reorder and random() < line.reorder:
            return sent_ns
        delay_ms = line.delay_ms
        if line.jitter_ms:
            delay_ms = max(0.0, delay_ms + line.jitter_ms * (2 * random() - 1))
        self.newest_ns = max(self.newest_ns, sent_ns + int(delay_ms * 1_000_000))
        return self.newest_ns


class Switch:
    """Ports are numbered from 0, in the order of `lines` (up, down)."""

    def __init__(self, lines: Sequence[tuple[Line, Line]], random: Callable[[], float]) -> None:
        self._up = [_Crossing(up) for up, _ in lines]
        self._down = [_Crossing(down) for _, down in lines]
        self._random = random
        self._flights: list[_Flight] = []
        self._order = 0
        self._station_ports: dict[bytes, int] = {}

    def change(self, port: int, up: Line | None, down: Line | None) -> None:
        """New conditions for frames from now on; None leaves a direction as it is."""
        if up is not None:
            self._up[port].line = up
        if down is not None:
            self._down[port].line = down

    def counters(self, port: int) -> tuple[Counters, Counters]:
        """(up, down) so far."""
        return self._up[port].counters, self._down[port].counters

    def accept(self, port: int, frame: bytes, now_ns: int) -> None:
        """A frame was sent by the station on `port`."""
        self._cross(self._up[port], port, True, frame, now_ns)

    def next_ns(self) -> int | None:
        """When `due` will have something, or None with nothing under way."""
        return self._flights[0].due_ns if self._flights else None

    def due(self, now_ns: int) -> list[tuple[int, bytes]]:
        """Every (port, frame) to be delivered by now, in order."""
        delivered: list[tuple[int, bytes]] = []
        while self._flights and self._flights[0].due_ns <= now_ns:
            flight = heapq.heappop(self._flights)
            if flight.upwards:
                self._forward(flight)
            else:
                delivered.append((flight.port, flight.frame))
        return delivered

    def _forward(self, flight: _Flight) -> None:
        """At the switch itself: learn the sender, choose the ports, send down their lines."""
        frame = flight.frame
        if len(self._station_ports) < STATIONS_MAX:
            self._station_ports[frame[6:12]] = flight.port
        known = None if frame[0] & 1 else self._station_ports.get(frame[0:6])
        ports = range(len(self._down)) if known is None else (known,)
        for port in ports:
            if port != flight.port:
                self._cross(self._down[port], port, False, frame, flight.due_ns)

    def _cross(self, crossing: _Crossing, port: int, up: bool, frame: bytes, now_ns: int) -> None:
        counters, line = crossing.counters, crossing.line
        copies = 2 if line.duplicate and self._random() < line.duplicate else 1
        for _ in range(copies):
            if line.loss and self._random() < line.loss:
                counters.lost += 1
                continue
            due_ns = crossing.due_ns(len(frame), now_ns, self._random)
            if due_ns is None or len(self._flights) >= FRAMES_MAX:
                counters.overflowed += 1
                continue
            counters.carried += 1
            counters.bytes_carried += len(frame)
            self._order += 1
            heapq.heappush(self._flights, _Flight(due_ns, self._order, port, up, frame))
