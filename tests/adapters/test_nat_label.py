"""The pystun3 child: a label against our own responder on loopback, and an end in every case."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from lanrage.adapters.nat_label import WORDS, label
from lanrage.protocols import stun
from lanrage.protocols.endpoint import Address


class Responder(asyncio.DatagramProtocol):
    """The three sockets of a STUN server; `answers` may be turned off."""

    def __init__(self, sockets: list[asyncio.DatagramTransport]) -> None:
        self.sockets = sockets
        self.own: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.own = cast(asyncio.DatagramTransport, transport)
        self.sockets.append(self.own)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        alternate = self.sockets[1].get_extra_info("sockname")
        reply = stun.respond(data, addr, alternate=alternate)
        if reply is not None:
            sender = self.sockets[2] if reply.from_third_socket else self.own
            assert sender is not None
            sender.sendto(reply.datagram, addr)


@asynccontextmanager
async def listening(
    protocol: Callable[[], asyncio.DatagramProtocol], sockets: int = 1
) -> AsyncIterator[int]:
    """That many sockets on loopback; gives the port of the first."""
    loop = asyncio.get_running_loop()
    transports = [
        (await loop.create_datagram_endpoint(protocol, local_addr=("127.0.0.1", 0)))[0]
        for _ in range(sockets)
    ]
    try:
        yield transports[0].get_extra_info("sockname")[1]
    finally:
        for transport in transports:
            transport.close()
        await asyncio.sleep(0)  # transports close their sockets one turn later


async def test_without_a_router_the_label_says_no_nat() -> None:
    sockets: list[asyncio.DatagramTransport] = []
    async with listening(lambda: Responder(sockets), 3) as port:
        said = await label("127.0.0.1", port, deadline_s=20)
    assert said == WORDS["Symmetric UDP Firewall"]


async def test_a_server_that_breaks_pystun3_gives_no_label() -> None:
    class Rude(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: Address) -> None:
            self.transport.sendto(b"\xff\xff" + data[2:], addr)

    async with listening(Rude) as port:
        assert await label("127.0.0.1", port, deadline_s=10) is None


async def test_the_deadline_ends_a_child_that_hears_nothing() -> None:
    began = time.monotonic()
    async with listening(asyncio.DatagramProtocol) as port:
        assert await label("127.0.0.1", port, deadline_s=1) is None
    assert time.monotonic() - began < 4
