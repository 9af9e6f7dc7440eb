"""What can go wrong with the log's file, each as one line that says what, why and what to do."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from lanrage.refusal import Refusal

_SET_ASIDE = "Set the file aside, with its -wal and -shm, and start again."


def refusal_of(fault: sqlite3.Error | OSError, path: Path, what: str) -> Refusal:
    """The reason for a failed read or write of the log at `path`."""
    code = _primary_code(fault, path)
    if code == sqlite3.SQLITE_FULL:
        return Refusal(
            "disk_full",
            what,
            f"the disk that holds {path} is full",
            "Free some space; nothing already stored is lost.",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Refusal(
            "log_busy",
            what,
            f"another program is writing to {path}",
            "Close it: a sqlite3 shell, perhaps.",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, str(fault), what)
    return unreadable(path, _reason(fault), what)


def damaged(path: Path, why: str, what: str = "Cannot open the event log") -> Refusal:
    return Refusal("log_damaged", what, f"{path} is damaged ({why})", _SET_ASIDE)


def cut_short(path: Path, size: int, whole: int) -> Refusal:
    return Refusal(
        "log_cut",
        "Cannot open the event log",
        f"{path} is cut short ({size} of {whole} bytes)",
        _SET_ASIDE,
    )


def foreign(path: Path) -> Refusal:
    return Refusal(
        "log_foreign",
        "Cannot open the event log",
        f"{path} is not an event log of LANrage",
        "Choose another state directory with --state.",
    )


def newer(path: Path, found: int, known: int) -> Refusal:
    return Refusal(
        "log_newer",
        "Cannot open the event log",
        f"{path} has format {found} and this LANrage knows {known}",
        "Update LANrage.",
    )


def missing(path: Path) -> Refusal:
    return Refusal(
        "log_missing",
        "Cannot open the event log",
        f"there is no {path}",
        "Choose a state directory with --state in which a node has run.",
    )


def unreadable(path: Path, why: str, what: str = "Cannot open the event log") -> Refusal:
    return Refusal("log_unreadable", what, f"{path}: {why}", "Check the file, its owner and disk.")


def in_use(path: Path) -> Refusal:
    return Refusal(
        "state_in_use",
        "Cannot start",
        f"another node uses the state directory {path}",
        "Stop it, or choose another directory with --state.",
    )


def _primary_code(fault: sqlite3.Error | OSError, path: Path) -> int:
    """SQLite's result code, also for what did not come from SQLite."""
    if isinstance(fault, OSError):
        full = fault.errno in (errno.ENOSPC, errno.EDQUOT)
        return sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_CANTOPEN
    code: int | None = getattr(fault, "sqlite_errorcode", None)
    if code is None:  # Python's own: it found text that is not UTF-8
        return sqlite3.SQLITE_CORRUPT
    code &= 0xFF
    # With no space for its shared memory file SQLite speaks of an I/O error.
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and _is_full(path.parent):
        return sqlite3.SQLITE_FULL
    return code


def _is_full(folder: Path) -> bool:
    try:
        return os.statvfs(folder).f_bavail == 0
    except OSError:
        return False


def _reason(fault: Exception) -> str:
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror.lower()
    return str(fault)
