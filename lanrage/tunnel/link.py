"""The node's end of the tunnel process: started here, ordered by `send`, heard by `notices`.

The process must be started while the node is still privileged. Nothing is ever waited for without
a limit: orders that the process does not read, and notices that the node does not, end the link.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec

from lanrage.tunnel.framing import Unframer, frame
from lanrage.tunnel.messages import AnyNotice, AnyOrder, Stop

UNSENT_MAX = 8 << 20  # bytes of orders
UNREAD_MAX = 10_000  # notices
STOP_WITHIN_S = 2.0

_ROOT = Path(__file__).resolve().parents[2]  # where `lanrage` is importable, installed or not


class Link:
    """A running tunnel process. `closed` is its exit status once it ended; negative: a signal."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid = process.pid
        self.closed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._process = process
        self._reader = reader
        self._writer = writer
        self._unread: asyncio.Queue[AnyNotice | None] = asyncio.Queue(UNREAD_MAX)
        self._tasks = {asyncio.create_task(self._read()), asyncio.create_task(self._wait())}

    def send(self, order: AnyOrder) -> None:
        """In order, without waiting. After the end of the process it does nothing."""
        if self._writer.is_closing():
            return
        self._writer.write(frame(order))
        if self._writer.transport.get_write_buffer_size() > UNSENT_MAX:
            self._writer.transport.abort()

    async def notices(self) -> AsyncIterator[AnyNotice]:
        """What the process reports, in order, until it ends."""
        while (notice := await self._unread.get()) is not None:
            yield notice

    async def stop(self) -> int:
        """Ask it to end, insist if it does not, and return its exit status."""
        self.send(Stop())
        try:
            return await asyncio.wait_for(asyncio.shield(self.closed), STOP_WITHIN_S)
        except TimeoutError:
            with suppress(ProcessLookupError, PermissionError):
                self._process.kill()
            self._writer.transport.abort()  # which it takes for the node's end
            return await self.closed

    async def _read(self) -> None:
        unframer = Unframer(msgspec.msgpack.Decoder(AnyNotice))
        try:
            while data := await self._reader.read(65_536):
                notices = unframer.feed(data)
                if notices is None:
                    break
                for notice in notices:
                    self._unread.put_nowait(notice)
        except (ConnectionError, asyncio.QueueFull):
            pass
        self._writer.transport.abort()

    async def _wait(self) -> None:
        status = await self._process.wait()
        reading = [task for task in self._tasks if task is not asyncio.current_task()]
        await asyncio.wait(reading, timeout=STOP_WITHIN_S)  # what it said last
        while self._unread.full():
            self._unread.get_nowait()
        self._unread.put_nowait(None)
        self.closed.set_result(status)


async def start() -> Link:
    """Run `python -m lanrage.tunnel` on one end of a socketpair."""
    ours, theirs = socket.socketpair()
    with theirs:
        fd = theirs.fileno()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lanrage.tunnel", str(fd), pass_fds=[fd], cwd=_ROOT,
            stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    return Link(process, reader, writer)
