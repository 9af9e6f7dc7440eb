"""Round trips to STUN servers, all at once, from one socket of its own. For people who ask why."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Sequence

from lanrage.protocols import endpoint, stun
from lanrage.protocols.endpoint import Address

WAIT_S = 2.0
TRIES_S = (0.0, 0.3, 0.8)
SERVERS_MAX = 16


class _Asking(asyncio.DatagramProtocol):
    def __init__(self, servers: Sequence[Address]) -> None:
        self.asked: dict[bytes, tuple[Address, int]] = {}  # transaction -> to whom, when
        self.rtts_us: dict[Address, int] = {}
        self.waiting = set(servers)
        self.all = asyncio.Event()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        message = stun.parse(data)
        if message is None or message.type != stun.BINDING_SUCCESS:
            return
        server, sent_ns = self.asked.get(message.transaction[4:], (None, 0))
        if server != addr[:2]:
            return
        self.rtts_us.setdefault(server, (time.monotonic_ns() - sent_ns) // 1000)
        self.waiting.discard(server)
        if not self.waiting:
            self.all.set()


async def round_trips(servers: Sequence[str], wait_s: float = WAIT_S) -> dict[str, int]:
    """Microseconds for each of these `ip:port` that answers in time. IPv4 and IPv6."""
    parsed = {each: address for each in servers if (address := endpoint.parse(each)) is not None}
    wanted = list(dict.fromkeys(parsed.values()))[:SERVERS_MAX]
    found: dict[Address, int] = {}
    for family, colon in ((socket.AF_INET, False), (socket.AF_INET6, True)):
        chosen = [each for each in wanted if (":" in each[0]) == colon]
        if chosen:
            with contextlib.suppress(OSError):  # no IPv6 here
                found |= await _ask(family, chosen, wait_s)
    return {written: found[address] for written, address in parsed.items() if address in found}


async def _ask(
    family: socket.AddressFamily, servers: Sequence[Address], wait_s: float
) -> dict[Address, int]:
    loop = asyncio.get_running_loop()
    transport, asking = await loop.create_datagram_endpoint(
        lambda: _Asking(servers), family=family, local_addr=("::" if family == 10 else "0.0.0.0", 0)
    )
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await _try(asking, transport)
    finally:
        transport.close()
    return asking.rtts_us


async def _try(asking: _Asking, transport: asyncio.DatagramTransport) -> None:
    for number, at_s in enumerate(TRIES_S):
        before_s = TRIES_S[number - 1] if number else 0.0
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asking.all.wait(), at_s - before_s)
        for server in asking.waiting:
            transaction = secrets.token_bytes(stun.TRANSACTION_BYTES)
            asking.asked[transaction] = (server, time.monotonic_ns())
            transport.sendto(stun.request(transaction), server)
    await asking.all.wait()
