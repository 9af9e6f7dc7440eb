"""Logs of every release must be readable for ever, and nothing in one may be lost or raise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import codec, export
from events.base import Event, Stored
from events.codec import Payload, Unknown
from tests.events.samples import SAMPLES, stored

GOLDEN = sorted(
    (Path(__file__).parent.parent / "data" / "events").glob("v*.jsonl"),
    key=lambda path: int(path.stem[1:]),
)
"""A log of every release that changed an event. Never edit one; add the next."""


def _unreadable(type: str, data: bytes) -> Stored:
    row = stored(SAMPLES[0], 1)
    return msgspec.structs.replace(row, type=type, data=msgspec.Raw(data))


def _golden(path: Path) -> list[Stored]:
    rows = export.read_jsonl(path)
    assert isinstance(rows, list), rows
    return rows


def test_every_event_type_has_a_sample_and_a_line_in_the_newest_golden_log() -> None:
    assert {type(each) for each in SAMPLES} == set(codec.EVENTS.values())
    assert {row.type for row in _golden(GOLDEN[-1])} == set(codec.EVENTS)


def test_type_names_are_unique_and_start_with_their_topic() -> None:
    for topic in codec.TOPICS:
        name = topic.__name__.removeprefix("events.")
        assert all(event.TYPE.startswith(f"{name}.") for event in topic.EVENTS)
    assert len(codec.EVENTS) == sum(len(topic.EVENTS) for topic in codec.TOPICS)


def test_the_newest_golden_log_reads_and_writes_the_same_bytes() -> None:
    again = []
    for row in _golden(GOLDEN[-1]):
        event = codec.decode(row)
        assert isinstance(event, Event), row
        again.append(msgspec.structs.replace(row, data=msgspec.Raw(codec.encode(event))))
    assert export.export_jsonl(again) == GOLDEN[-1].read_bytes()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_golden_log_ever_is_understood_and_exported_as_it_was(path: Path) -> None:
    rows = _golden(path)
    assert export.export_jsonl(rows) == path.read_bytes()
    for row in rows:
        event = codec.decode(row)
        assert isinstance(event, Event), row
        now = msgspec.json.decode(codec.encode(event))
        was = msgspec.json.decode(row.data)
        assert row.type in codec.UPCASTS or _holds(now, was)


def _holds(now: object, was: object) -> bool:
    """Whether `now` says all that `was` did; fields with a default may have come, at any depth."""
    if isinstance(now, dict) and isinstance(was, dict):
        return all(key in now and _holds(now[key], value) for key, value in was.items())
    return now == was


def test_what_is_encoded_decodes_to_the_same_event() -> None:
    for seq, event in enumerate(SAMPLES, start=1):
        assert codec.decode(stored(event, seq)) == event


@pytest.mark.parametrize(
    "data",
    [
        b'{"peer": 7}',
        b"{}",
        b"[]",
        b"",
        b"{",
        b'{"peer":"\xff"}',
        b'{"peer":"a","x":' + b"[" * 50_000,
        b"\x00",
        b'{"peer":1e999}',
    ],
)
def test_a_payload_its_class_does_not_accept_is_kept_as_it_is(data: bytes) -> None:
    assert codec.decode(_unreadable("peer.online", data)) == Unknown(type="peer.online", raw=data)


@given(type=st.sampled_from([*codec.EVENTS, "moon.landed", ""]), data=st.binary(max_size=200))
def test_no_bytes_make_decoding_raise(type: str, data: bytes) -> None:
    event = codec.decode(_unreadable(type, data))
    assert isinstance(event, (Event, Unknown))
    assert not isinstance(event, Unknown) or event.raw == data


def test_an_unknown_type_is_kept_as_it_is() -> None:
    data = b'{ "far": [1,  2.50] , "\\u0041":null}'
    assert codec.decode(_unreadable("moon.landed", data)) == Unknown(type="moon.landed", raw=data)


def test_a_field_that_a_newer_version_added_does_not_hide_the_event() -> None:
    row = _unreadable("session.ended", b'{"reason":"SIGINT","uptime_s":9}')
    assert codec.decode(row) == codec.EVENTS["session.ended"](reason="SIGINT")


def _ended_0(old: Payload) -> tuple[str, Payload]:
    """How an upcast looks: `session.ended/0` had a number where today there is a reason."""
    return "session.ended", {"reason": {0: "quit", 15: "SIGTERM"}[old["signal"]]}


def test_an_old_event_is_read_as_what_it_means_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(codec.UPCASTS, "session.ended/0", _ended_0)
    monkeypatch.setitem(
        codec.UPCASTS, "session.over", lambda old: ("session.ended/0", {"signal": old["n"]})
    )
    ended = codec.EVENTS["session.ended"](reason="SIGTERM")
    assert codec.decode(_unreadable("session.ended/0", b'{"signal":15}')) == ended
    assert codec.decode(_unreadable("session.over", b'{"n":15}')) == ended


@pytest.mark.parametrize("data", [b'{"signal":9}', b"{}", b"[15]", b"{", b'{"signal":[]}'])
def test_an_old_event_that_cannot_be_read_is_kept_as_it_is(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(codec.UPCASTS, "session.ended/0", _ended_0)
    row = _unreadable("session.ended/0", data)
    assert codec.decode(row) == Unknown(type="session.ended/0", raw=data)


def test_a_loop_in_the_table_of_upcasts_ends() -> None:
    def again(old: Payload) -> tuple[str, Payload]:
        return "a", old

    assert codec.upcast("a", b"{}", {"a": again}) == Unknown(type="a", raw=b"{}")


def test_the_schema_describes_every_event_and_nothing_dangles() -> None:
    schema = codec.schema()
    types = [choice["properties"]["type"]["const"] for choice in schema["oneOf"]]
    assert types == list(codec.EVENTS)
    wanted = set(_references(schema))
    assert wanted <= {f"#/$defs/{name}" for name in schema["$defs"]}
    assert all(choice["properties"]["data"]["$ref"] in wanted for choice in schema["oneOf"])


def _references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["$ref"]] if "$ref" in schema else []
        return own + [each for value in schema.values() for each in _references(value)]
    if isinstance(schema, list):
        return [each for value in schema for each in _references(value)]
    return []


@settings(max_examples=30)
@given(st.sampled_from(SAMPLES))
def test_encoding_is_compact_json_on_one_line(event: Event) -> None:
    data = codec.encode(event)
    assert b"\n" not in data
    assert msgspec.json.format(data, indent=-1) == data
