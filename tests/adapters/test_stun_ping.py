"""Round trips to servers on loopback: those that answer, and only by who was asked."""

from __future__ import annotations

import asyncio
import time

from lanrage.adapters.stun_ping import round_trips
from lanrage.protocols.endpoint import Address
from tests.adapters.test_nat_label import Responder


class Impostor(asyncio.DatagramProtocol):
    """Hands each question on to another socket, which answers it."""

    def __init__(self, sockets: list[asyncio.DatagramTransport]) -> None:
        self.responder = Responder(sockets)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.responder.own = self.responder.sockets[0]
        self.responder.datagram_received(data, addr)


async def test_each_server_that_answers_is_timed_and_no_other() -> None:
    sockets: list[asyncio.DatagramTransport] = []
    loop = asyncio.get_running_loop()
    for _ in range(3):
        await loop.create_datagram_endpoint(lambda: Responder(sockets), local_addr=("127.0.0.1", 0))
    false, _ = await loop.create_datagram_endpoint(
        lambda: Impostor(sockets), local_addr=("127.0.0.1", 0)
    )
    ports = [each.get_extra_info("sockname")[1] for each in (*sockets, false)]
    servers = [f"127.0.0.1:{port}" for port in ports]
    found = await round_trips([*servers, "no address"], wait_s=0.5)
    for each in (*sockets, false):
        each.close()
    await asyncio.sleep(0)  # transports close their sockets one turn later
    assert set(found) == set(servers[:3])
    assert all(0 <= us < 500_000 for us in found.values())


async def test_all_answers_end_it_and_so_does_the_deadline() -> None:
    began = time.monotonic()
    assert await round_trips([]) == {}
    assert await round_trips(["127.0.0.2:9"], wait_s=0.2) == {}
    assert time.monotonic() - began < 1.5
