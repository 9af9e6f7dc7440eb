"""A port of this computer's loopback that leads to the same port inside a namespace.

The dashboard of a node in the lab listens on that namespace's 127.0.0.1, where no browser of the
host can go, and its guard takes only requests addressed to exactly that host and port. So the
number is chosen here, on the host, before the node starts, and connections are carried over byte
by byte, each by a socket made inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

from lanrage.lab.lab import Computer

CHUNK_BYTES = 65_536
CONNECTIONS_MAX = 64


class Doorway:
    """Reserves a free port at once; carries connections while `open_to` is in force."""

    def __init__(self) -> None:
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._open = asyncio.Semaphore(CONNECTIONS_MAX)

    def open_to(self, computer: Computer) -> None:
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, args=(computer,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._listener.close()
        self._loop.close()

    def _serve(self, computer: Computer) -> None:
        async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async with self._open:
                with contextlib.suppress(OSError):
                    await self._carry(computer, reader, writer)
                writer.close()

        self._loop.run_until_complete(asyncio.start_server(enter, sock=self._listener))
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _carry(
        self, computer: Computer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        inner = computer.socket(socket.SOCK_STREAM)
        inner.setblocking(False)
        await self._loop.sock_connect(inner, ("127.0.0.1", self.port))
        inner_reader, inner_writer = await asyncio.open_connection(sock=inner)
        try:
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        finally:
            inner_writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(CHUNK_BYTES):
        sink.write(chunk)
        await sink.drain()
    with contextlib.suppress(OSError):
        sink.write_eof()
