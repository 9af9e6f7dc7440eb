"""The log's file on disk: made whole, checked whole, locked for one writer.

Nothing is trusted at opening. First the lock, so that nobody writes while we look. Then the header:
length, whose file, which format. Then SQLite's own check of its pages, which also takes what a
crash left in the WAL up to the last whole commit. Then our tables, as we made them. Then the newest
rows, by their CRC. Each failure is a `Refusal` with its own line, and the file stays as it was.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from events import faults, store
from lanrage.refusal import Refusal

BUSY_MS = 5_000  # how long to wait for somebody with a shell in the file
WAL_LIMIT_BYTES = 4 << 20  # what is kept of the WAL file after a checkpoint
COMPARED_BYTES_MAX = 16 << 20  # up to here indexes are compared with the table; 0.2 s
CHECKED_MAX = 100_000  # newest events whose CRC is looked at; 0.3 s
SHM_BYTES = 32_768  # SQLite's shared memory file, at least; smaller means that making it failed
_PRAGMAS = (
    f"busy_timeout = {BUSY_MS}",
    "synchronous = FULL",
    "fullfsync = ON",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "mmap_size = 0",
    f"journal_size_limit = {WAL_LIMIT_BYTES}",
)
_MAGIC = b"SQLite format 3\0"


class Lock:
    """The right to be the one node of a state directory: `flock`, so it ends with the process
    however that ends. The file stays; only the lock on it means anything."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> Lock | Refusal:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            return faults.refusal_of(fault, path, "Cannot use the state directory")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return faults.in_use(path.parent)
        return cls(descriptor)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_writer(path: Path) -> sqlite3.Connection | Refusal:
    """The one connection that writes. Makes the file where there is none."""
    try:
        if not path.exists():
            if _beside(path, "-wal").exists():
                return faults.damaged(path, "only its -wal is left")
            _create(path)
        wrong = _header(path) or _wrong(path, lambda: _connect_reader(path))
        return wrong or _connect(path, "mode=rw")
    except (OSError, sqlite3.Error) as fault:
        return faults.refusal_of(fault, path, "Cannot open the event log")


def open_reader(path: Path) -> sqlite3.Connection | Refusal:
    """A connection that can only read, of a node that runs or stopped or was killed. It makes no
    file: where SQLite would have to, in order to read a WAL, it reads a copy instead."""
    if not path.exists():
        return faults.missing(path)
    try:
        wal_alone = _size(path, "-wal") > 0 and _size(path, "-shm") < SHM_BYTES
        connect = _copy if wal_alone else _connect_reader
        return _header(path) or _wrong(path, lambda: connect(path)) or connect(path)
    except (OSError, sqlite3.Error) as fault:
        return faults.refusal_of(fault, path, "Cannot open the event log")


def _connect_reader(path: Path) -> sqlite3.Connection:
    """`mode=ro` cannot read a file in WAL mode that has no WAL; then nobody writes it either."""
    alone = _size(path, "-wal") == 0 and _size(path, "-shm") < SHM_BYTES
    return _connect(path, "immutable=1" if alone else "mode=ro")


def _copy(path: Path) -> sqlite3.Connection:
    with tempfile.TemporaryDirectory(prefix="lanrage-") as name:
        copy = Path(name) / path.name
        shutil.copyfile(path, copy)
        shutil.copyfile(_beside(path, "-wal"), _beside(copy, "-wal"))
        source = _connect(copy, "mode=rw")
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            source.backup(memory)
        finally:
            source.close()
        return memory


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _size(path: Path, suffix: str) -> int:
    """Bytes of a file beside the log's; 0 where it is missing."""
    beside = _beside(path, suffix)
    return beside.stat().st_size if beside.exists() else 0


def _connect(path: Path, how: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        isolation_level=None,  # transactions are ours to begin and end
        check_same_thread=False,  # opened, used and closed by aiosqlite's one thread
    )
    try:
        for pragma in _PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
    except BaseException:
        db.close()
        raise
    return db


def _create(path: Path) -> None:
    """Under another name first: a file with the right name is always a whole one."""
    unborn = _beside(path, ".new")
    for leftover in (unborn, _beside(unborn, "-wal"), _beside(unborn, "-shm")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(unborn, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    db = _connect(unborn, "mode=rw")
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        for statement in store.SCHEMA.values():
            db.execute(statement)
        db.execute("INSERT INTO head VALUES(1, 0, 0)")
        db.execute(f"PRAGMA application_id = {store.APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {store.FORMAT}")
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # here, since closing hides a full disk
    finally:
        db.close()  # checkpoints, and removes the WAL
    unborn.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _header(path: Path) -> Refusal | None:
    """What the first 100 bytes say: whose file this is, which format, and how long it ought to be.
    With a WAL beside it the length says nothing: a crash may have interrupted a checkpoint."""
    with path.open("rb") as file:
        header = file.read(100)
        size = file.seek(0, os.SEEK_END)
    if not header.startswith(_MAGIC[: len(header)]):
        return faults.foreign(path)
    if len(header) < 100:
        return faults.cut_short(path, size, 100)
    page_size, version, pages = (_field(header, at) for at in (16, 60, 28))
    page_size = page_size >> 16  # two bytes only
    if _field(header, 68) != store.APPLICATION_ID:
        return faults.foreign(path)
    if version > store.FORMAT:
        return faults.newer(path, version, store.FORMAT)
    if size < page_size * pages and not _beside(path, "-wal").exists():
        return faults.cut_short(path, size, page_size * pages)
    return None


def _field(header: bytes, at: int) -> int:
    return int.from_bytes(header[at : at + 4], "big")


def _wrong(path: Path, connect: Callable[[], sqlite3.Connection]) -> Refusal | None:
    """Look at everything through a connection that can only read, so that whatever is found wrong
    stays as it is: closing a writing one would copy the WAL over the evidence."""
    try:
        db = connect()
    except (sqlite3.Error, OSError) as fault:
        return faults.refusal_of(fault, path, "Cannot open the event log")
    try:
        return _pages(db, path) or _rows(db, path)
    except sqlite3.Error as fault:
        return faults.refusal_of(fault, path, "Cannot open the event log")
    finally:
        db.close()


def _pages(db: sqlite3.Connection, path: Path) -> Refusal | None:
    small = path.stat().st_size <= COMPARED_BYTES_MAX
    [(verdict,)] = db.execute(f"PRAGMA {'integrity_check' if small else 'quick_check'}(1)")
    if verdict != "ok":
        return faults.damaged(path, " ".join(str(verdict).replace("*", "").split()))
    tables = dict(db.execute("SELECT name, sql FROM sqlite_schema"))
    for name, sql in store.SCHEMA.items():
        if tables.get(name) != sql:
            return faults.damaged(path, f"its {name} is not as it was made")
    return None


def _rows(db: sqlite3.Connection, path: Path) -> Refusal | None:
    [(count, head)] = db.execute("SELECT (SELECT count(*) FROM events), (SELECT seq FROM head)")
    if count != head:
        return faults.damaged(path, f"it holds {count} of {head} events")
    bad = store.first_bad_row(db, max(0, head - CHECKED_MAX))
    if bad:
        return faults.damaged(path, f"event {bad} is missing or was changed")
    return None
