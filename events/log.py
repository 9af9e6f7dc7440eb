"""The log: one writer, everything acknowledged is on disk, everybody sees the same order.

Group commit: while one transaction is being synced to disk, further appends queue; all that queued
are the next transaction, done in one hop to aiosqlite's thread. Each caller is told its own outcome
after COMMIT, and only then do subscribers hear of the events: `append` resolves a future that the
event loop wakes before those it wakes for them. A caller that is cancelled stops waiting; what it
asked for is stored all the same, so whoever may be cancelled passes ids and retries.

A subscriber is a cursor, not a queue. It asks "what follows `after`?" and the answer comes from the
short memory of recent batches, or from the database when it is further behind than that. So there
is no seam between catching up and live, and a reader that never reads costs nothing.

One connection serves everything, also reads: a second one that may write is the hazard described
in `events.store`, and reads are cut into steps so short that no append waits for long.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import aiosqlite

from events import codec, file, store
from events.base import Event, Stored, stream_of
from events.session import SessionCarried
from events.store import Batch, Draft, Outcome, Session
from lanrage.refusal import Refusal

FILE_NAME = "events.sqlite"
LOCK_NAME = "node.lock"
BATCH_MAX = 10_000  # events in one append
GROUP_MAX = 10_000  # events in one transaction, unless one append alone has more
WAITING_MAX = 10_000  # appends not yet in a transaction
READ_MAX = 10_000  # events one read returns
RECENT_MAX = 4_096  # events kept in memory for subscribers
CATCH_UP = 1_000  # events a subscriber gets at once from the database
STEP_ROWS = 20_000  # rows looked at before another append may go first
GLOB_MAX = 100  # characters

P = ParamSpec("P")
T = TypeVar("T")
Waiting: TypeAlias = tuple[Batch, asyncio.Future[Outcome]]  # an append and who awaits it


class Reader:
    """A log that is only read: of a stopped node, or another's that runs."""

    def __init__(self, path: Path, connection: aiosqlite.Connection, head: int) -> None:
        self.path = path
        self._connection = connection
        self._head = head

    @property
    def head(self) -> int:
        """`seq` of the newest event; 0 in an empty log."""
        return self._head

    async def read(
        self,
        after: int = 0,
        *,
        until: int | None = None,
        limit: int = 1_000,
        type_glob: str | None = None,
        session: str | None = None,
    ) -> list[Stored]:
        """At most `limit` events with after < seq <= until, oldest first. `type_glob` is as in a
        shell: `peer.*`. Fewer than `limit` are returned only where there are no more."""
        limit = min(limit, READ_MAX)
        until = self._head if until is None else min(until, self._head)
        if type_glob is not None and len(type_glob) > GLOB_MAX:
            return []
        found: list[Stored] = []
        while after < until and len(found) < limit:
            upto = min(until, after + STEP_ROWS)
            wanted = limit - len(found)
            found += await in_thread(
                self._connection, store.select, after, upto, wanted, type_glob, session
            )
            after = upto
        return found

    async def sessions(self) -> list[Session]:
        """Every run that this log holds, oldest first."""
        return await in_thread(self._connection, store.sessions)

    async def close(self) -> None:
        await self._connection.close()


class Log(Reader):
    """The log of the node that runs. Make one with `Log.open`."""

    def __init__(
        self, path: Path, connection: aiosqlite.Connection, head: int, session: str, lock: file.Lock
    ) -> None:
        super().__init__(path, connection, head)
        self.session = session
        self._lock = lock
        self._commit = store.Writer(path, session).commit
        self._waiting: deque[Waiting] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._recent: deque[tuple[Stored, ...]] = deque()
        self._recent_events = 0
        self._grown = asyncio.Event()  # replaced at every growth
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, session: str, lock: str = LOCK_NAME) -> Log | Refusal:
        """Open or make the log at `path`, as its only writer: `lock` is the file beside it that
        says so. Checks all of it, which takes about a second for a million events."""
        held = file.Lock.take(path.with_name(lock))
        if isinstance(held, Refusal):
            return held
        try:
            db = await asyncio.to_thread(file.open_writer, path)
            if isinstance(db, Refusal):
                held.release()
                return db
            connection = await _adopt(db)
            head = await in_thread(connection, store.head_of)
        except BaseException:
            held.release()
            raise
        return cls(path, connection, head, session, held)

    async def append(
        self,
        events: Sequence[Event],
        *,
        at: int,
        ids: Sequence[str] | None = None,
        expected: Mapping[str, int] | None = None,
    ) -> Outcome:
        """Store the events, all or none, and return them with their positions once they are on
        disk. `at` is Unix milliseconds.

        `ids` (32 hex digits each) make a retry harmless: an event whose id is stored already is
        not stored again, its first position is returned. `expected` names versions that streams
        must have, 0 for a stream that must not exist; otherwise nothing is stored and the answer
        is a `Conflict`. A disk that does not take the events gives a `Refusal`; nothing is half
        stored, and the next append may succeed.
        """
        assert not self._closed, "the log is closed"
        assert len(events) <= BATCH_MAX
        if not events:
            return ()
        if len(self._waiting) >= WAITING_MAX:
            return Refusal(
                "log_overloaded",
                "Cannot store what happened",
                f"{WAITING_MAX} appends wait for the disk already",
                "Check the disk.",
            )
        batch = _batch(events, at, ids, expected or {})
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((batch, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="log writer")
        return await done

    async def subscribe(self, after: int) -> AsyncIterator[tuple[Stored, ...]]:
        """Every event after `after`, each exactly once, in order, in batches, until the log is
        closed. Subscribers that keep up share the same tuples."""
        while not self._closed:
            grown = self._grown
            batch = self._remembered(after) or tuple(await self.read(after, limit=CATCH_UP))
            if batch:
                after = batch[-1].seq
                yield batch
            else:
                await grown.wait()

    async def close(self) -> None:
        """Store what was asked for, then let go of the file. Subscriptions end."""
        self._closed = True
        if self._writer is not None:
            await asyncio.wait({self._writer})  # unlike await, it does not pass on a cancellation
        self._grown.set()
        try:
            await self._connection.close()
        finally:
            self._lock.release()

    async def _write(self) -> None:
        while self._waiting:
            group = self._take()
            batches = [batch for batch, _ in group]
            try:
                outcomes, added = await in_thread(self._connection, self._commit, batches)
            except Exception as fault:  # ours: it belongs to those who wait, not to this task
                for _, done in group:
                    if not done.done():
                        done.set_exception(fault)
                continue
            self._publish(group, outcomes, added)
        self._writer = None

    def _take(self) -> list[Waiting]:
        group = [self._waiting.popleft()]
        events = len(group[0][0].drafts)
        while self._waiting and events + len(self._waiting[0][0].drafts) <= GROUP_MAX:
            group.append(self._waiting.popleft())
            events += len(group[-1][0].drafts)
        return group

    def _publish(
        self, group: list[Waiting], outcomes: list[Outcome], added: tuple[Stored, ...]
    ) -> None:
        for (_, done), outcome in zip(group, outcomes, strict=True):
            if not done.done():
                done.set_result(outcome)
        if not added:
            return
        self._head = added[-1].seq
        self._remember(added)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _remember(self, batch: tuple[Stored, ...]) -> None:
        self._recent.append(batch)
        self._recent_events += len(batch)
        while self._recent_events > RECENT_MAX:
            self._recent_events -= len(self._recent.popleft())

    def _remembered(self, after: int) -> tuple[Stored, ...]:
        for batch in reversed(self._recent):
            first = batch[0].seq
            if first <= after + 1 <= batch[-1].seq:
                return batch if first == after + 1 else batch[after + 1 - first :]
        return ()


async def open_readonly(path: Path) -> Reader | Refusal:
    """The log at `path` as it is now. Makes and changes no file."""
    db = await asyncio.to_thread(file.open_reader, path)
    if isinstance(db, Refusal):
        return db
    connection = await _adopt(db)
    return Reader(path, connection, await in_thread(connection, store.head_of))


async def in_thread(
    connection: aiosqlite.Connection,
    work: Callable[Concatenate[sqlite3.Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run `work` in the connection's thread: a whole transaction for the price of one hop (about
    0.1 ms), where aiosqlite's public calls cost one for every statement. `_execute` and `_conn`
    are private to aiosqlite, and used only here; a test pins how they behave."""
    execute: Any = connection._execute
    result: T = await execute(work, connection._conn, *args, **kwargs)
    return result


async def _adopt(db: sqlite3.Connection) -> aiosqlite.Connection:
    """A process that fails before it closes the log must still end: what is acknowledged is on
    disk, so the thread, private too, need not be waited for."""
    connection = aiosqlite.Connection(lambda: db, iter_chunk_size=64)
    connection._thread.daemon = True
    return await connection


def _batch(
    events: Sequence[Event], at: int, ids: Sequence[str] | None, expected: Mapping[str, int]
) -> Batch:
    assert ids is None or len(ids) == len(events)
    drafts = []
    for event, id in zip(events, ids or _new_ids(at, len(events)), strict=True):
        assert not isinstance(event, SessionCarried), "it exists only in exports"
        assert len(id) == 32
        drafts.append(Draft(stream_of(event), id, event.TYPE, at, codec.encode(event)))
    return Batch(tuple(drafts), dict(expected), ids is not None)


def _new_ids(at: int, count: int) -> list[str]:
    """Random, but growing with time, so that the index on ids grows at its end."""
    began, random = f"{at:012x}", os.urandom(10 * count).hex()
    return [began + random[20 * number : 20 * number + 20] for number in range(count)]
