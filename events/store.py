"""The log's SQLite tables and every statement run on them.

All of this is synchronous and runs in the one thread of the one connection; `events.log` decides
when, `events.file` looks after the file. The format:

- `events` holds one row an event. `seq` is given out here, inside the transaction, from the stored
  `head`: a rolled back transaction leaves no hole, and a log that lost its last rows shows.
- `crc` is the CRC-32 of the row continued from the row before, so a changed, missing or exchanged
  row is found and named when the log is opened. SQLite alone does not notice a flipped bit in a
  payload. It guards against accidents, not against people: those the signed party chain stops.
- Triggers refuse UPDATE and DELETE, also to whoever opens the file with the `sqlite3` shell.
- `data` is JSON as text, so that the shell and Datasette can read it.

WAL with `synchronous=FULL`: COMMIT returns after fsync. What a crash leaves of the WAL SQLite takes
up to the last whole commit. SQLite 3.7.0 to 3.51.2 can corrupt a WAL when two connections write or
checkpoint at once, so exactly one connection ever does; others are `mode=ro`, which does neither.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from events import faults
from events.base import Stored
from lanrage.refusal import Refusal

APPLICATION_ID = 0x4C414E52  # "LANR", at offset 68 of the file
FORMAT = 1  # user_version; grows when the tables change
SESSIONS_MAX = 10_000
STREAMS_MAX = 10_000  # whose versions are remembered

SCHEMA = {
    "events": """CREATE TABLE events(
  seq INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL,
  id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, at INTEGER NOT NULL, session TEXT NOT NULL,
  data TEXT NOT NULL, crc INTEGER NOT NULL, UNIQUE(stream, version)) STRICT""",
    "events_session": "CREATE INDEX events_session ON events(session)",
    "head": """CREATE TABLE head(
  one INTEGER PRIMARY KEY CHECK(one = 1), seq INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT""",
    "events_fixed": """CREATE TRIGGER events_fixed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events never change'); END""",
    "events_kept": """CREATE TRIGGER events_kept BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END""",
}
_COLUMNS = "seq, stream, version, id, type, at, session, CAST(data AS BLOB)"
_INSERT = "INSERT INTO events VALUES(?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?)"

Row: TypeAlias = tuple[int, str, int, str, str, int, str, bytes]


class Draft(msgspec.Struct, frozen=True):
    """An event on its way into the log: all but its positions."""

    stream: str
    id: str
    type: str
    at: int
    data: bytes


class Batch(msgspec.Struct, frozen=True):
    """What one caller appends: all of it or nothing."""

    drafts: tuple[Draft, ...]
    expected: Mapping[str, int]
    retry: bool  # the ids are the caller's, so they may be in the log already


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing was appended: `stream` is not where its writer thought."""

    stream: str
    expected: int
    actual: int


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a node, by the events it left."""

    id: str
    first: int  # seq
    last: int
    began_at: int  # Unix milliseconds, of its first event
    last_at: int


Outcome: TypeAlias = tuple[Stored, ...] | Conflict | Refusal


# --- appending ----------------------------------------------------------------------------------


class Writer:
    """What the one writer remembers between transactions: versions, so that most appends need no
    look-up. They are as in the file, or not remembered."""

    def __init__(self, path: Path, session: str) -> None:
        self._path = path
        self._session = session
        self._versions: dict[str, int] = {}

    def commit(
        self, db: sqlite3.Connection, batches: Sequence[Batch]
    ) -> tuple[list[Outcome], tuple[Stored, ...]]:
        """Append the batches in one transaction, in order. Returns the outcome of each, and all
        that is new. A disk that does not take the transaction refuses every batch: the log is as
        before."""
        if len(self._versions) > STREAMS_MAX:
            self._versions.clear()
        try:
            db.execute("BEGIN IMMEDIATE")
            transaction = _Transaction(db, self._session, self._versions)
            outcomes = [transaction.place(batch) for batch in batches]
            transaction.write()
            db.execute("COMMIT")
        except sqlite3.Error as fault:
            self._versions.clear()
            if db.in_transaction:  # SQLite itself ends some failed transactions
                db.execute("ROLLBACK")
            if isinstance(fault, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
                raise
            refusal = faults.refusal_of(fault, self._path, "Cannot store what happened")
            return [refusal] * len(batches), ()
        return outcomes, tuple(transaction.added.values())


class _Transaction:
    """What one transaction adds, gathered before it is written in one statement."""

    def __init__(self, db: sqlite3.Connection, session: str, versions: dict[str, int]) -> None:
        self._db = db
        self._session = session
        self._seq, self._crc = db.execute("SELECT seq, crc FROM head").fetchone()
        self._versions = versions
        self.added: dict[str, Stored] = {}  # by id, in order
        self._rows: list[tuple[int, str, int, str, str, int, str, bytes, int]] = []

    def place(self, batch: Batch) -> Outcome:
        """Give each new event its positions. Known ids come first: whoever retries an append has
        an outdated idea of versions, and is told what was stored the first time."""
        known = self._known(batch) if batch.retry else {}
        if any(each.id not in known for each in batch.drafts):
            conflict = self._conflict(batch.expected)
            if conflict is not None:
                return conflict
        return tuple(known.get(each.id) or self._add(each, known) for each in batch.drafts)

    def write(self) -> None:
        if not self._rows:
            return
        self._db.executemany(_INSERT, self._rows)
        self._db.execute("UPDATE head SET seq = ?, crc = ?", (self._seq, self._crc))

    def _known(self, batch: Batch) -> dict[str, Stored]:
        ids = [each.id for each in batch.drafts]
        found = self._db.execute(
            f"SELECT {_COLUMNS} FROM events WHERE id IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(ids).decode(),),
        )
        known = {row[3]: _stored(row) for row in found}
        return known | {each: self.added[each] for each in ids if each in self.added}

    def _conflict(self, expected: Mapping[str, int]) -> Conflict | None:
        for stream, version in expected.items():
            actual = self._version(stream)
            if actual != version:
                return Conflict(stream=stream, expected=version, actual=actual)
        return None

    def _version(self, stream: str) -> int:
        version = self._versions.get(stream)
        if version is None:
            [(version,)] = self._db.execute(
                "SELECT coalesce(max(version), 0) FROM events WHERE stream = ?", (stream,)
            )
            self._versions[stream] = version
        return version

    def _add(self, draft: Draft, known: dict[str, Stored]) -> Stored:
        version = self._version(draft.stream) + 1
        self._versions[draft.stream] = version
        self._seq += 1
        row: Row = (
            self._seq,
            draft.stream,
            version,
            draft.id,
            draft.type,
            draft.at,
            self._session,
            draft.data,
        )
        self._crc = crc_of(row, self._crc)
        self._rows.append((*row, self._crc))
        stored = _stored(row)
        known[draft.id] = self.added[draft.id] = stored
        return stored


def crc_of(row: Row, before: int) -> int:
    """CRC-32 of a row, continued from the row before."""
    seq, stream, version, id, type, at, session, data = row
    envelope = f"{seq} {version} {at}\n{stream}\n{id}\n{type}\n{session}\n"
    return zlib.crc32(data, zlib.crc32(envelope.encode(), before))


def first_bad_row(db: sqlite3.Connection, after: int) -> int:
    """The first `seq` beyond `after` that is missing or not as it was written; 0 if none is."""
    [(head, head_crc)] = db.execute("SELECT seq, crc FROM head")
    before = db.execute("SELECT seq, crc FROM events WHERE seq = ?", (after,)).fetchone()
    seq, crc = before or (0, 0)
    for *columns, stored in db.execute(
        f"SELECT {_COLUMNS}, crc FROM events WHERE seq > ? ORDER BY seq", (seq,)
    ):
        row: Row = tuple(columns)
        crc = crc_of(row, crc)
        if row[0] != seq + 1 or crc != stored:
            return int(seq) + 1
        seq = row[0]
    return 0 if (seq, crc) == (head, head_crc) else min(seq, head) + 1


# --- reading ------------------------------------------------------------------------------------


def select(
    db: sqlite3.Connection,
    after: int,
    until: int,
    limit: int,
    glob: str | None,
    session: str | None,
) -> list[Stored]:
    """Events with after < seq <= until, oldest first."""
    where = ["seq > ?", "seq <= ?"]
    parameters: list[object] = [after, until]
    if glob is not None:
        where.append("type GLOB ?")
        parameters.append(glob)
    if session is not None:
        where.append("session = ?")
        parameters.append(session)
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM events WHERE {' AND '.join(where)} ORDER BY seq LIMIT ?",
        (*parameters, limit),
    )
    return [_stored(row) for row in rows]


def head_of(db: sqlite3.Connection) -> int:
    head: list[tuple[int]] = db.execute("SELECT seq FROM head").fetchall()
    return head[0][0]


def sessions(db: sqlite3.Connection) -> list[Session]:
    """Every session in the order they began; hops along the index, never through the events."""
    rows = db.execute(
        """WITH RECURSIVE each(id) AS (
             SELECT min(session) FROM events
             UNION ALL
             SELECT (SELECT min(session) FROM events WHERE session > each.id)
             FROM each WHERE each.id IS NOT NULL LIMIT ?),
           run(id, first, last) AS (
             SELECT id, (SELECT min(seq) FROM events WHERE session = each.id),
                        (SELECT max(seq) FROM events WHERE session = each.id)
             FROM each WHERE id IS NOT NULL)
           SELECT run.id, run.first, run.last, began.at, ended.at FROM run
           JOIN events AS began ON began.seq = run.first
           JOIN events AS ended ON ended.seq = run.last ORDER BY run.first""",
        (SESSIONS_MAX + 1,),
    )
    return [
        Session(id=id, first=first, last=last, began_at=began_at, last_at=last_at)
        for id, first, last, began_at, last_at in rows
    ]


def _stored(row: Row) -> Stored:
    seq, stream, version, id, type, at, session, data = row
    return Stored(
        seq=seq,
        stream=stream,
        version=version,
        id=id,
        type=type,
        at=at,
        session=session,
        data=msgspec.Raw(data),
    )
