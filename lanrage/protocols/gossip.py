"""What members say to each other inside their tunnels, so that a party lives without control.

UDP datagrams between members' virtual addresses, port 26660 at both ends. Each is one MessagePack
map, a tagged union by "type", of at most `FRAME_MAX` bytes; unknown fields are ignored. Who says it
is known by the source address: WireGuard lets nobody else use it.

    Heads    how long my chain is, its newest hash, and whether I am connected to control
    Want     give me the records after this position
    Records  some of them
    Signal   a sealed signal (`seal`): from the sender itself (hops 0), or passed on once (hops 1)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, TypeAlias

import msgspec

from lanrage.protocols.partylog import RECORD_MAX

PORT: Final = 26_660
FRAME_MAX: Final = 8_192
PAGE: Final = 48  # records in one frame
PAGE_BYTES: Final = FRAME_MAX - 512  # of records in one frame
SIGNAL_MAX: Final = FRAME_MAX - 512  # bytes of a sealed signal
SIGNAL_ID: Final = 8

_Id = Annotated[str, msgspec.Meta(min_length=52, max_length=52)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 32)]
_Record = Annotated[bytes, msgspec.Meta(min_length=1, max_length=RECORD_MAX)]


class Heads(msgspec.Struct, frozen=True, tag="heads"):
    length: _Count
    head: Annotated[str, msgspec.Meta(max_length=64)]
    control: bool


class Want(msgspec.Struct, frozen=True, tag="want"):
    after: _Count


class Records(msgspec.Struct, frozen=True, tag="records"):
    after: _Count
    records: Annotated[tuple[_Record, ...], msgspec.Meta(min_length=1, max_length=PAGE)]


class Signal(msgspec.Struct, frozen=True, tag="signal"):
    id: Annotated[bytes, msgspec.Meta(min_length=SIGNAL_ID, max_length=SIGNAL_ID)]
    sender: _Id
    to: _Id
    hops: Annotated[int, msgspec.Meta(ge=0, le=1)]
    sealed: Annotated[bytes, msgspec.Meta(min_length=1, max_length=SIGNAL_MAX)]


Frame: TypeAlias = Heads | Want | Records | Signal

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    return _encoder.encode(frame)


def decode(datagram: bytes) -> Frame | None:
    if len(datagram) > FRAME_MAX:
        return None
    try:
        return _decoder.decode(datagram)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def page(records: Iterable[bytes]) -> tuple[bytes, ...]:
    """The first of them, as many as fit in one frame."""
    taken: list[bytes] = []
    size = 0
    for record in records:
        size += len(record)
        if len(taken) == PAGE or size > PAGE_BYTES:
            break
        taken.append(record)
    return tuple(taken)
