"""Dropping what one source sends before it is read: a packet filter on the relay's sockets.

A member beyond its budget is dropped by the forwarder, but each datagram still costs a read, and
all wait in one queue: a flood makes everybody late. So a source that keeps costing reads is handed
to the kernel for a while, which drops its datagrams where they arrive (classic BPF, socket(7)
SO_ATTACH_FILTER). To the filter a datagram begins with its UDP header; source port first, and the
address is read relative to the network header.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from ipaddress import ip_address

from lanrage.protocols.endpoint import Address

BLOCKED_NS = 5_000_000_000
SOURCES_MAX = 64

_ATTACH, _DETACH = 26, 27
_NETWORK = 0xFFF00000  # SKF_NET_OFF
_SOURCE4, _SOURCE6 = 12, 8  # where the address is in either header
_LOAD_HALF, _LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x28, 0x20, 0x15, 0x06
_ALL = 0x40000
_STEP = struct.Struct("=HBBI")


class Sieve:
    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets
        self._until_ns: dict[Address, int] = {}

    def __len__(self) -> int:
        return len(self._until_ns)

    def block(self, source: Address, now_ns: int) -> None:
        if len(self._until_ns) >= SOURCES_MAX:
            del self._until_ns[next(iter(self._until_ns))]
        self._until_ns[source] = now_ns + BLOCKED_NS
        self._attach()

    def expire(self, now_ns: int) -> None:
        over = [source for source, until_ns in self._until_ns.items() if until_ns <= now_ns]
        for source in over:
            del self._until_ns[source]
        if over:
            self._attach()

    def _attach(self) -> None:
        for each in self._sockets:
            six = each.family == socket.AF_INET6
            steps = program([source for source in self._until_ns if (":" in source[0]) == six])
            if not steps:
                _set(each, _DETACH, struct.pack("=i", 0))
                continue
            code = ctypes.create_string_buffer(b"".join(steps))
            _set(each, _ATTACH, struct.pack("@HP", len(steps), ctypes.addressof(code)))


def program(sources: Sequence[Address]) -> list[bytes]:
    """Drop these, of one family, and let all others pass; nothing at all for no sources."""
    if not sources:
        return []
    steps: list[bytes] = []
    for host, port in sources:
        packed = ip_address(host).packed
        at = _NETWORK + (_SOURCE4 if len(packed) == 4 else _SOURCE6)
        words = [
            int.from_bytes(packed[each : each + 4], "big") for each in range(0, len(packed), 4)
        ]
        left = 2 * len(words) + 1  # steps after the first comparison, up to the next source
        steps += [_STEP.pack(_LOAD_HALF, 0, 0, 0), _STEP.pack(_JUMP_EQUAL, 0, left, port)]
        for number, word in enumerate(words):
            left -= 2
            steps += [
                _STEP.pack(_LOAD_WORD, 0, 0, at + 4 * number),
                _STEP.pack(_JUMP_EQUAL, 0, left, word),
            ]
        steps.append(_STEP.pack(_RETURN, 0, 0, 0))
    return [*steps, _STEP.pack(_RETURN, 0, 0, _ALL)]


def _set(each: socket.socket, option: int, value: bytes) -> None:
    try:
        each.setsockopt(socket.SOL_SOCKET, option, value)
    except OSError:
        return  # no filter there to take off, or none allowed: then the forwarder alone drops
