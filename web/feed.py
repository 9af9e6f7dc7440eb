"""The live stream: one subscription to the log, one encoding of each event, any number of readers.

Theory. The log is the only queue. The feed keeps the newest events as ready SSE frames in a ring;
a reader is nothing but a cursor. A reader within the ring takes the shared frames, one that is
behind it (late, resumed, or slow) reads the log until it has caught up. So a slow reader costs no
memory, and there is no seam between catching up and living: both are "what follows my cursor".

`id:` is `seq`. The status, whose figures are no events, travels as `event: status` without an id,
only if it differs, and for figures alone at most once a `STATUS_INTERVAL_S`. Everything stops with
the last reader.

WHATWG HTML 9.2 is the wire format.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import islice
from typing import NamedTuple

import msgspec

from events.base import Stored
from web.port import Node

RING_FRAMES_MAX = 1024
RING_BYTES_MAX = 1024 * 1024
CHUNK_BYTES_MAX = 64 * 1024
LOG_ROWS_MAX = 256
STATUS_INTERVAL_S = 1.0  # between changes that are only figures
EVENT_STATUS_INTERVAL_S = 0.05  # between changes that events made
RETRY_MS = 1000
READERS_MAX = 32


class Frame(NamedTuple):
    seq: int
    type: str
    data: bytes


def frame(stored: Stored) -> Frame:
    line = msgspec.json.encode(stored)
    if b"\n" in line or b"\r" in line:  # only ever between JSON tokens: `data` is as stored
        line = line.replace(b"\n", b" ").replace(b"\r", b" ")
    return Frame(stored.seq, stored.type, b"id: %d\ndata: %b\n\n" % (stored.seq, line))


class Feed:
    def __init__(self, node: Node, *, read_only: bool) -> None:
        self._node = node
        self._read_only = read_only
        self._ring: deque[Frame] = deque()
        self._ring_bytes = 0
        self._base = 0  # the ring holds every event after this one
        self._status = b""
        self._news = asyncio.Event()
        self._happened = asyncio.Event()  # an event came since the last look at the status
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._closed = asyncio.Event()
        self.readers = 0

    async def read(self, after: int, type_glob: str | None = None) -> AsyncIterator[bytes]:
        """SSE bytes for one reader: events with `seq > after`, and the status, for ever."""
        self._enter()
        try:
            head = self._node.head
            yield b"retry: %d\nevent: hello\ndata: %b\n\n" % (RETRY_MS, self._hello(head))
            if after > head:
                yield b"id: 0\nevent: reset\ndata: {}\n\n"  # the log is not the one it knew
                after = 0
            cursor, shown = after, b""
            while not self._closed.is_set():
                news = self._news
                chunk, cursor = await self._following(cursor, type_glob)
                if self._status != shown:
                    shown = self._status
                    chunk += b"event: status\ndata: %b\n\n" % shown
                if chunk:
                    yield chunk
                elif cursor >= self._tip():
                    await news.wait()
        finally:
            self._leave()

    def close(self) -> None:
        """Every reader ends now."""
        self._closed.set()
        self._tell()

    async def closed(self) -> None:
        await self._closed.wait()

    def _hello(self, head: int) -> bytes:
        return msgspec.json.encode({"head": head, "read_only": self._read_only})

    async def _following(self, cursor: int, type_glob: str | None) -> tuple[bytes, int]:
        """What comes after `cursor`, at most a chunk of it, and the new cursor."""
        if cursor >= self._base:
            return self._from_ring(cursor, type_glob)
        head = self._node.head
        rows = await self._node.read(cursor, LOG_ROWS_MAX, type_glob)
        at_end = len(rows) < LOG_ROWS_MAX
        last = rows[-1].seq if rows else cursor
        return b"".join(frame(row).data for row in rows), max(last, head) if at_end else last

    def _from_ring(self, cursor: int, type_glob: str | None) -> tuple[bytes, int]:
        chunk = bytearray()
        for each in islice(self._ring, cursor - self._base, None):
            cursor = each.seq
            if type_glob is None or fnmatchcase(each.type, type_glob):
                chunk += each.data
            if len(chunk) >= CHUNK_BYTES_MAX:
                break
        return bytes(chunk), cursor

    def _tip(self) -> int:
        return self._ring[-1].seq if self._ring else self._base

    def _enter(self) -> None:
        self.readers += 1
        if self._tasks or self._closed.is_set():
            return
        self._base = self._node.head
        follow, watch = self._follow_log(self._base), self._watch_status()
        self._tasks = (asyncio.create_task(follow), asyncio.create_task(watch))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _leave(self) -> None:
        self.readers -= 1
        if self.readers:
            return
        for task in self._tasks:
            task.cancel()
        self._tasks = ()
        self._ring.clear()
        self._ring_bytes = 0
        self._status = b""

    async def _follow_log(self, after: int) -> None:
        async for batch in self._node.subscribe(after):
            for stored in batch:
                self._push(frame(stored))
            self._tell()
            self._happened.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self.close()  # the log is closed, or a bug: readers shall not wait in vain

    def _push(self, new: Frame) -> None:
        assert new.seq == self._tip() + 1, "the log is gapless"
        self._ring.append(new)
        self._ring_bytes += len(new.data)
        while len(self._ring) > RING_FRAMES_MAX or self._ring_bytes > RING_BYTES_MAX:
            old = self._ring.popleft()
            self._ring_bytes -= len(old.data)
            self._base = old.seq

    async def _watch_status(self) -> None:
        seen = 0
        while True:
            seen = await self._node.changed(seen)
            status = msgspec.json.encode(self._node.status())
            if status != self._status:
                self._status = status
                self._tell()
            await asyncio.sleep(EVENT_STATUS_INTERVAL_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._happened.wait(), STATUS_INTERVAL_S)
            self._happened.clear()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
