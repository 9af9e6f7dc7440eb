"""An export is the log: what is read back is what was written, or the damaged line is named."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import export
from events.base import Stored
from lanrage.refusal import Refusal
from tests.events.samples import SAMPLES, stored

ROWS = [stored(event, seq) for seq, event in enumerate(SAMPLES, start=1)]
TEXT = export.export_jsonl(ROWS)


def _json_lines() -> st.SearchStrategy[bytes]:
    values = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
    return values.map(msgspec.json.encode)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30), _json_lines()), max_size=8))
def test_export_of_an_import_is_the_same_file_whatever_the_types(
    events: list[tuple[str, str, bytes]],
) -> None:
    rows = [
        Stored(
            seq=seq,
            stream=stream,
            version=seq,
            id=f"{seq:032x}",
            type=type,
            at=seq,
            session="é",
            data=msgspec.Raw(data),
        )
        for seq, (stream, type, data) in enumerate(events, start=40)
    ]
    text = export.export_jsonl(rows)
    assert text.count(b"\n") == len(rows)
    back = export.read_jsonl(text)
    assert back == rows
    assert export.export_jsonl(back) == text


def test_a_line_has_the_keys_that_scripts_rely_on_in_their_order() -> None:
    line = msgspec.json.decode(export.line_of(ROWS[0]))
    assert list(line) == ["seq", "stream", "version", "id", "type", "at", "session", "data"]


def test_spaces_and_number_formats_of_a_foreign_payload_stay() -> None:
    line = (
        b'{"seq":1,"stream":"s","version":1,"id":"i","type":"moon.landed","at":1,"session":"x",'
        b'"data":{ "a" : 1.50, "b":1E3, "\\u0041":"\\/" }}\n'
    )
    rows = export.read_jsonl(line)
    assert isinstance(rows, list)
    assert export.export_jsonl(rows) == line


@given(st.data())
def test_damage_is_refused_with_its_line_or_leaves_events(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(TEXT) - 1))
    byte = data.draw(st.integers(0, 255))
    damaged = TEXT[:at] + bytes([byte]) + TEXT[at + 1 :]
    rows = export.read_jsonl(damaged)
    if isinstance(rows, Refusal):
        line = TEXT[:at].count(b"\n") + 1  # a wrong number may show only by the line after it
        assert f"line {line} " in rows.why or f"line {line + 1} " in rows.why
    else:
        assert len(rows) == len(ROWS)


@given(st.integers(1, len(TEXT) - 1))
def test_a_file_cut_anywhere_is_a_prefix_or_refused_with_its_line(at: int) -> None:
    rows = export.read_jsonl(TEXT[:at])
    whole = TEXT[:at].count(b"\n")
    if TEXT[at - 1 : at] == b"\n":
        assert rows == ROWS[:whole]
    else:
        assert isinstance(rows, Refusal)
        assert rows.why == f"these lines: line {whole + 1} is cut short"


def test_a_missing_line_is_named() -> None:
    rows = export.read_jsonl(export.export_jsonl([*ROWS[:4], *ROWS[5:]]))
    assert isinstance(rows, Refusal)
    assert str(rows) == (
        "Cannot read the events: these lines: line 5 is event 6, after 4. Export again."
    )


def test_a_file_is_read_like_its_bytes_and_its_name_is_in_the_refusal(tmp_path: Path) -> None:
    file = tmp_path / "evening.jsonl"
    file.write_bytes(TEXT)
    assert export.read_jsonl(file) == ROWS
    file.write_bytes(TEXT + b"{}\n")
    refused = export.read_jsonl(file)
    assert isinstance(refused, Refusal)
    assert f"evening.jsonl: line {len(ROWS) + 1} is not an event" in refused.why


def test_no_file_is_refused(tmp_path: Path) -> None:
    refused = export.read_jsonl(tmp_path / "nothing")
    assert isinstance(refused, Refusal)
    assert "no such file" in refused.why


@pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"a":' * 100_000])
def test_a_line_nested_too_deeply_is_refused(nested: bytes) -> None:
    line = export.line_of(ROWS[0]).replace(b'"data":', b'"data":' + nested)
    assert isinstance(export.read_jsonl(line), Refusal)


def test_csv_holds_the_same_columns_and_the_whole_payload() -> None:
    table = list(csv.reader(io.StringIO(export.export_csv(ROWS).decode(), newline="")))
    assert table[0] == list(export.COLUMNS)
    assert [line[-1].encode() for line in table[1:]] == [bytes(row.data) for row in ROWS]
    assert [line[0] for line in table[1:]] == [str(row.seq) for row in ROWS]


def test_csv_can_go_on_without_a_second_header() -> None:
    parts = export.export_csv(ROWS[:3]) + export.export_csv(ROWS[3:], header=False)
    assert parts == export.export_csv(ROWS)
