"""A dashboard on a log instead of a node: what `lanrage replay --serve` shows, read-only.

The web room is handed the same shape (`web.port.Node`) as by a running node. Nothing is performed,
nothing can be changed, and the status is that of the point the replay stopped at.
"""

from __future__ import annotations

import asyncio
import fnmatch
import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Any

from events.base import Stored
from lanrage.commands import Asked
from lanrage.refusal import Refusal
from projections import lobby, mesh
from web.server import serve


class Replayed:
    def __init__(self, rows: Sequence[Stored]) -> None:
        self._rows = rows
        self._state = mesh.fold_all(mesh.EMPTY, rows)

    @property
    def head(self) -> int:
        return self._rows[-1].seq if self._rows else 0

    async def submit(self, _command: Asked) -> dict[str, Any] | Refusal:
        return Refusal("read_only", "Cannot do that", "this is a replay", "Use the running node.")

    def status(self) -> lobby.Status:
        return lobby.status(self._state)

    def state(self) -> bytes:
        return mesh.canonical(self._state)

    async def read(self, after: int, limit: int, type_glob: str | None = None) -> Sequence[Stored]:
        later = (row for row in self._rows if row.seq > after)
        found = [row for row in later if not type_glob or fnmatch.fnmatch(row.type, type_glob)]
        return found[:limit]

    async def subscribe(self, after: int) -> AsyncIterator[tuple[Stored, ...]]:
        rest = tuple(row for row in self._rows if row.seq > after)
        if rest:
            yield rest
        await asyncio.Event().wait()  # nothing will ever be added

    async def changed(self, seen: int) -> int:
        if seen == 1:
            await asyncio.Event().wait()
        return 1


async def show(rows: Sequence[Stored], host: str, port: int) -> Refusal | None:
    """Serve the dashboard of this log until SIGINT or SIGTERM."""
    token = secrets.token_urlsafe(24)
    server = await serve(Replayed(rows), token=token, host=host, port=port, read_only=True)
    if isinstance(server, Refusal):
        return server
    print(f"Replay of {len(rows)} events: http://127.0.0.1:{server.port}/#token={token}")
    print("Ctrl-C ends it.", flush=True)
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    await stop.wait()
    await server.close()
    return None
