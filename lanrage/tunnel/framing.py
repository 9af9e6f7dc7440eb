"""Messages on the socketpair between node and tunnel: 4-byte big-endian length, MessagePack."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from lanrage.tunnel.messages import FRAME_MAX

Message = TypeVar("Message")

_encode = msgspec.msgpack.Encoder().encode


def frame(message: msgspec.Struct) -> bytes:
    body = _encode(message)
    assert len(body) <= FRAME_MAX, type(message).__name__
    return len(body).to_bytes(4, "big") + body


class Unframer(Generic[Message]):
    """Collects bytes as they arrive and gives back whole messages of the decoder's type."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Message]) -> None:
        self._decode = decoder.decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message] | None:
        """The messages completed by `data`; None when this is not our stream, which ends it."""
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        while len(buffer) >= 4:
            size = int.from_bytes(buffer[:4], "big")
            if size > FRAME_MAX:
                return None
            if len(buffer) < 4 + size:
                break
            try:
                messages.append(self._decode(buffer[4 : 4 + size]))
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                return None
            del buffer[: 4 + size]
        return messages
