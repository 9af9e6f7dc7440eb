"""Events as files for people and other programs: JSON lines and CSV.

A JSON line is one `Stored`, keys in the order of that class, the payload as it is in the log byte
for byte. So an export of an import is the same file, also where it holds events from a newer
LANrage. An import is checked as strictly as the log itself: a file with a damaged, missing or cut
line would replay to a state that never was.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import msgspec

from events import faults
from events.base import Stored
from lanrage.refusal import Refusal

FILE_BYTES_MAX = 1 << 30  # what one import reads
COLUMNS = tuple(Stored.__struct_fields__)

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Stored)


def export_jsonl(rows: Iterable[Stored]) -> bytes:
    """One event a line, each line ended by a newline."""
    return b"".join(line_of(row) for row in rows)


def line_of(row: Stored) -> bytes:
    return _ENCODER.encode(row) + b"\n"


def export_csv(rows: Iterable[Stored], *, header: bool = True) -> bytes:
    """RFC 4180 with CRLF; the payload is one column of JSON."""
    text = io.StringIO()
    writer = csv.writer(text)
    if header:
        writer.writerow(COLUMNS)
    for row in rows:
        fields = [getattr(row, name) for name in COLUMNS[:-1]]
        writer.writerow([*fields, bytes(row.data).decode(errors="replace")])
    return text.getvalue().encode()


def read_jsonl(source: bytes | Path) -> list[Stored] | Refusal:
    """The events of an export, or a refusal that names the first damaged line."""
    if isinstance(source, bytes):
        return _rows(source, "these lines")
    try:
        if source.stat().st_size > FILE_BYTES_MAX:
            return _refusal(str(source), f"it is larger than {FILE_BYTES_MAX >> 20} MiB")
        return _rows(source.read_bytes(), str(source))
    except OSError as fault:
        return faults.refusal_of(fault, source, "Cannot read the events")


def _rows(text: bytes, name: str) -> list[Stored] | Refusal:
    lines = text.split(b"\n")
    if lines.pop() != b"":
        return _refusal(name, f"line {len(lines) + 1} is cut short")
    rows: list[Stored] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = _DECODER.decode(line)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return _refusal(name, f"line {number} is not an event")
        if rows and row.seq != rows[-1].seq + 1:
            return _refusal(name, f"line {number} is event {row.seq}, after {rows[-1].seq}")
        rows.append(row)
    return rows


def _refusal(name: str, why: str) -> Refusal:
    return Refusal("export_damaged", "Cannot read the events", f"{name}: {why}", "Export again.")
