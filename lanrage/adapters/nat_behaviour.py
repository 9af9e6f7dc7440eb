"""RFC 5780's tests on real sockets: two fresh ones, never the tunnel's, for a few seconds.

The tests (`lanrage.protocols.behaviour`) need sockets that never sent anything before: on the
tunnel's own one every member's address would count as "sent to". Meanwhile TCP is tried to the same
places, since only with TCP working does silence mean that UDP is blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Sequence
from functools import partial

from lanrage.protocols import endpoint
from lanrage.protocols.behaviour import BASE, FRESH, Behaviour, Survey
from lanrage.protocols.endpoint import Address

DEADLINE_S = 6.0
TCP_TRIES_MAX = 8
DATAGRAM_MAX = 1_500
READ_MAX = 64  # datagrams in one go


async def classify(
    servers: Sequence[str], *, tcp: Sequence[str] = (), deadline_s: float = DEADLINE_S
) -> Behaviour:
    """What the NAT between us and these STUN servers (`ip:port`) does. IPv4 only: there is none
    in IPv6. Servers on this computer are left out: no NAT stands between. `tcp`: places (`ip:port`)
    that accept TCP; by default the servers themselves. Never raises for what the network does;
    takes 2.5 to 5 s, since silence is an answer, too."""
    addresses = [parsed for each in servers if (parsed := _ipv4(each)) is not None]
    sources = {each: _source(each) for each in addresses}
    elsewhere = [each for each in addresses if each[0] != sources[each]]
    own = [each for each in sources.values() if each]
    survey = Survey(elsewhere, own=own, draw=secrets.token_bytes)
    trying = asyncio.create_task(_tcp_works(tcp or [endpoint.text(each) for each in elsewhere]))
    try:
        async with asyncio.timeout(deadline_s):
            await _drive(survey)
    except TimeoutError:
        pass  # what is known by now counts
    finally:
        works = trying.result() if trying.done() else False
        trying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await trying
    return survey.behaviour(tcp_works=works)


def _ipv4(text: str) -> Address | None:
    parsed = endpoint.parse(text)
    return parsed if parsed is not None and ":" not in parsed[0] else None


def _source(server: Address) -> str:
    """The address of this computer that the kernel would send from to that one; empty: no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route, contextlib.suppress(OSError):
        route.connect(server)
        return str(route.getsockname()[0])
    return ""


async def _drive(survey: Survey) -> None:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_bound()) for _ in (BASE, FRESH)]
        for number, each in enumerate(sockets):
            loop.add_reader(each, partial(_read, survey, number, each, arrived))
            stack.callback(loop.remove_reader, each.fileno())
        while (wake_ns := survey.wake_ns()) is not None:
            now_ns = time.monotonic_ns()
            for send in survey.due(now_ns):
                with contextlib.suppress(OSError):  # no route, or its queue is full: again later
                    sockets[send.socket].sendto(send.datagram, send.to)
            wake_ns = survey.wake_ns() or now_ns
            arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(arrived.wait(), max(0, wake_ns - now_ns) / 1e9)


def _bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind(("0.0.0.0", 0))
    return made


def _read(survey: Survey, number: int, from_: socket.socket, arrived: asyncio.Event) -> None:
    for _ in range(READ_MAX):
        try:
            datagram, source = from_.recvfrom(DATAGRAM_MAX)
        except BlockingIOError:
            break
        except OSError:
            continue  # an ICMP error for something sent earlier
        survey.take(number, datagram, source, time.monotonic_ns())
    arrived.set()


async def _tcp_works(places: Sequence[str]) -> bool:
    """Whether any of these accepts a connection. Waits as long as it is let."""
    parsed = [address for each in places if (address := endpoint.parse(each)) is not None]
    tries = [asyncio.create_task(_connects(each)) for each in parsed[:TCP_TRIES_MAX]]
    try:
        for done in asyncio.as_completed(tries):
            if await done:
                return True
        return False
    finally:
        for each in tries:
            each.cancel()
        await asyncio.gather(*tries, return_exceptions=True)


async def _connects(address: Address) -> bool:
    try:
        _, writer = await asyncio.open_connection(*address)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
