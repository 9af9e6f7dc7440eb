"""Asking rtnetlink for whole tables, and word of every change (RFC 3549, rtnetlink(7)).

A dump is one question and many answers; one that a change cut across is asked for again. A
subscribed socket wakes us when something changes, so nothing is ever polled. Changes come in
bursts (a cable plugged in is a dozen messages), so a watch waits a moment, reads everything anew,
and tells only what differs.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

DEBOUNCE_S = 0.25
DUMP_TRIES = 5
RECEIVE_BYTES = 1 << 16
TIMEOUT_S = 2.0

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLM_F_DUMP_INTR = 0x10
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE = 0x40, 0x400

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port


def talker() -> socket.socket:
    """A socket for dumps. Raises OSError if the kernel has none to give."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    netlink.settimeout(TIMEOUT_S)
    netlink.bind((0, 0))
    return netlink


def dump(netlink: socket.socket, ask: int, answer: int, body: bytes) -> list[bytes]:
    """Bodies of all `answer` messages. A dump that a change cut across is asked for again."""
    for sequence in range(1, DUMP_TRIES + 1):
        header = _HEADER.pack(
            _HEADER.size + len(body), ask, NLM_F_REQUEST | NLM_F_DUMP, sequence, 0
        )
        netlink.send(header + body)
        bodies, interrupted = _collect(netlink, answer, sequence)
        if not interrupted:
            break
    return bodies


def _collect(netlink: socket.socket, answer: int, sequence: int) -> tuple[list[bytes], bool]:
    bodies: list[bytes] = []
    interrupted = False
    while True:
        for type_, flags, number, body in _messages(netlink.recv(RECEIVE_BYTES)):
            if number != sequence:
                continue
            interrupted |= bool(flags & NLM_F_DUMP_INTR)
            if type_ == NLMSG_DONE:
                return bodies, interrupted
            if type_ == NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", body)[0], "rtnetlink dump refused")
            if type_ == answer:
                bodies.append(body)


def _messages(received: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(received):
        length, type_, flags, sequence, _ = _HEADER.unpack_from(received, at)
        if length < _HEADER.size:
            return
        yield type_, flags, sequence, received[at + _HEADER.size : at + length]
        at += length + -length % 4


def attributes(packed: bytes) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(packed):
        length, number = struct.unpack_from("=HH", packed, at)
        if length < 4:
            break
        values[number & 0x3FFF] = packed[at + 4 : at + length]
        at += length + -length % 4
    return values


class Watch(Generic[T]):
    """`async for found in watch`: what `read` gives now, then each different one.

    Needs a running event loop. `close` ends it; an iteration under way then ends as well.
    """

    def __init__(self, groups: int, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._known: T | None = None
        self._closed = False
        self._changed = asyncio.Event()
        self._changed.set()
        self._loop = asyncio.get_running_loop()
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._netlink.setblocking(False)
        self._netlink.bind((0, groups))
        self._loop.add_reader(self._netlink, self._drain)

    def _drain(self) -> None:
        """What a message says does not matter: the lists are read again. Lost ones (ENOBUFS)
        are changes too."""
        try:
            self._netlink.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            pass
        self._changed.set()

    def poke(self) -> None:
        """Read again: something else says that things may have changed."""
        self._changed.set()

    def __aiter__(self) -> Watch[T]:
        return self

    async def __anext__(self) -> T:
        while True:
            await self._changed.wait()
            if self._known is not None and not self._closed:
                await asyncio.sleep(DEBOUNCE_S)
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            found = await self._read()
            if found != self._known:
                self._known = found
                return found

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._netlink)
            self._netlink.close()
            self._changed.set()
