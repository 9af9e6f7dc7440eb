"""A real TCP front in a thread of its own, and a socket that stands for the relay behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from lanrage.protocols.relay import wire
from lanrage.relay import front
from lanrage.relay.visitor import Visitor
from lanrage.tunnel.udp import RECEIVE_BUFFER_BYTES, SO_RCVBUFFORCE

T = TypeVar("T")
PATIENCE_S = 10.0
WELCOME = (wire.HEADER + bytes((wire.WELCOME,))).ljust(wire.BIND_SIZE, b"\0")
BIND = (wire.HEADER + bytes((wire.BIND,))).ljust(wire.BIND_SIZE, b"\0")


def data(sequence: int, number: int = 0x1002, size: int = 100) -> bytes:
    """WireGuard's transport data, as a relay sees it."""
    return wire.stamp(b"\x04\0\0\0" + sequence.to_bytes(4, "big") + bytes(size - 8), number)


def sequence_of(datagram: bytes) -> int:
    return int.from_bytes(datagram[4:8], "big")


def probe(sequence: int, number: int = 0x1002) -> bytes:
    return wire.stamp(wire.PROBE_MAGIC + sequence.to_bytes(4, "big") + bytes(32), number)


def relay_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.setblocking(False)
    with contextlib.suppress(PermissionError):
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    return made


class Door:
    def __init__(self, loop: asyncio.AbstractEventLoop, served: front.Front) -> None:
        self._loop = loop
        self._front = served
        self.port = served.port
        self.pin = served.pin
        self.url = f"wss://127.0.0.1:{served.port}/"

    def do(self, act: Callable[[Visitor], T]) -> T:
        """In the front's thread, with its only visitor."""

        async def run() -> T:
            (visitor,) = self._front._visitors
            return act(visitor)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE_S)

    def pause(self) -> None:
        self.do(lambda visitor: visitor._slow_down(True))

    def resume(self) -> None:
        self.do(lambda visitor: visitor._slow_down(False))


@contextmanager
def door(relay_port: int, state: Path, port: int = 0) -> Iterator[Door]:
    opened: list[Door] = []
    ready, leave = threading.Event(), asyncio.Event()

    async def serve() -> None:
        served = await front.serve(("127.0.0.1", port), relay_port, state=state)
        assert isinstance(served, front.Front), served
        opened.append(Door(asyncio.get_running_loop(), served))
        ready.set()
        await leave.wait()
        await served.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(PATIENCE_S)
        yield opened[0]
    finally:
        opened[0]._loop.call_soon_threadsafe(leave.set)
        thread.join(PATIENCE_S)
