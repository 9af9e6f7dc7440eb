"""What every event is: a frozen fact with a stable type name and the stream it belongs to.

`TYPE` is stored in the log and never changes meaning. A field may be added with a default; any
other change is a new class with a new type (`peer.joined/2`) and an upcast in `codec.py`.
`STREAM` names the stream; `{field}` is filled from the event itself.

Times are integers: `at` is Unix milliseconds, `*_ms` are milliseconds. Addresses are text,
`ip:port` or `[ip6]:port`. Identifiers (`PeerId`, `PartyId`) are lower-case base32 text.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

import msgspec

PeerId: TypeAlias = str  # base32 of the device's 32-byte Ed25519 public key (52 characters)
PartyId: TypeAlias = str  # base32 of the SHA-256 of the genesis record (52 characters)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    TYPE: ClassVar[str]
    STREAM: ClassVar[str]


def stream_of(event: Event) -> str:
    """The stream `event` is appended to, such as `peer/<id>`."""
    fields: dict[str, Any] = msgspec.structs.asdict(event)
    return type(event).STREAM.format_map(fields)


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it stands in the log: the envelope every outsider sees.

    `data` is the payload's JSON exactly as stored, so events of a newer LANrage survive a round
    trip through this one byte for byte.
    """

    seq: int  # gapless in a log, from 1
    stream: str
    version: int  # gapless in the stream, from 1
    id: str  # 32 hex digits; a retry with the same id is the same event
    type: str
    at: int  # Unix milliseconds
    session: str
    data: msgspec.Raw
