"""Events to bytes and back, for as long as logs exist.

Reading has two stages. The envelope (`Stored`) is always understood and its payload kept raw; only
then is the payload read by the class that its type names. A type this version does not know, or a
payload that its class does not accept, becomes `Unknown` with the bytes as they were: a log of a
newer LANrage can be shown, exported and replayed here, and nothing of it is lost.

A field added to a class has a default. Any other change is a new class with a new type, and an
entry in `UPCASTS` that turns the old payload into the new one while reading; stored bytes are never
rewritten. The old class can then go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from events import nat, party, path, peer, profile, relay, session, tunnel
from events.base import Event, Stored

TOPICS = (session, party, peer, nat, relay, path, tunnel, profile)
EVENTS: dict[str, type[Event]] = {
    event.TYPE: event for topic in TOPICS for event in topic.EVENTS
}  # in the order in which people read about them

Payload: TypeAlias = dict[str, Any]
Upcast: TypeAlias = Callable[[Payload], tuple[str, Payload]]  # old payload -> newer type, payload

UPCASTS: dict[str, Upcast] = {}  # old type -> what it means today; one step at a time
UPCASTS_MAX = 100  # steps for one event; a longer way is a loop in the table


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """An event that this version cannot read. `raw` is its payload exactly as stored."""

    type: str
    raw: bytes


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODERS = {name: msgspec.json.Decoder(event) for name, event in EVENTS.items()}
# A payload from outside may also be nested too deeply or hold text that is not UTF-8.
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


def encode(event: Event) -> bytes:
    """The payload's JSON. Equal events give equal bytes, in every process."""
    return _ENCODER.encode(event)


def decode(stored: Stored) -> Event | Unknown:
    """What happened, or `Unknown`. Never raises, whatever the payload is."""
    if stored.type in UPCASTS:
        return upcast(stored.type, bytes(stored.data), UPCASTS)
    decoder = _DECODERS.get(stored.type)
    if decoder is None:
        return Unknown(type=stored.type, raw=bytes(stored.data))
    try:
        return decoder.decode(stored.data)
    except _UNREADABLE:
        return Unknown(type=stored.type, raw=bytes(stored.data))


def upcast(name: str, raw: bytes, table: Mapping[str, Upcast]) -> Event | Unknown:
    """Read a payload of the old type `name`, step by step through `table`."""
    unknown = Unknown(type=name, raw=raw)
    try:
        payload = msgspec.json.decode(raw, type=Payload)
        for _ in range(UPCASTS_MAX):
            if name not in table:
                break
            name, payload = table[name](payload)
        if name not in EVENTS:
            return unknown
        return _DECODERS[name].decode(msgspec.json.encode(payload))
    except (*_UNREADABLE, LookupError, TypeError, ValueError):
        return unknown  # the old payload lacks what the step needs


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of every event as `{"type", "data"}`, for documents and TypeScript."""
    kinds = tuple(EVENTS.values())
    references, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    choices = [
        {
            "type": "object",
            "properties": {"type": {"const": kind.TYPE}, "data": reference},
            "required": ["type", "data"],
        }
        for kind, reference in zip(kinds, references, strict=True)
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Event",
        "oneOf": choices,
        "$defs": components,
    }
