"""Checks of the network: addresses, router, what it does to UDP, control and relays.

They wait for answers, so all run at once and each has a deadline; none sends more than a few small
datagrams to the router and to the servers named. Nothing is asked of servers on this computer, for
no router stands between.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from lanrage.adapters import addresses as own_addresses
from lanrage.adapters import nat_behaviour, port_probe, stun_ping
from lanrage.adapters.network import gateway
from lanrage.control.urls import websocket_url
from lanrage.doctor.finding import Finding, fail, ok, warn
from lanrage.forecast import HARD, nature
from lanrage.protocols import endpoint, portmap
from lanrage.refusal import Refusal
from projections.lobby import RelayView

RESOLVE_S = 2.0
CONNECT_S = 3.0
CLASSIFY_S = 6.0
WEB_PORT = 443
SKEW_S_MAX = 120.0  # invites expire by the clock
CLOCK_MIN_S = 1_767_225_600  # the year 2026: before that there was no LANrage
HEAD_MAX = 4_096


def addresses() -> Finding:
    try:
        found = own_addresses.addresses("lanrage0")
    except OSError as error:
        fix = "Look at `ip address`."
        return warn("addresses", f"the kernel does not tell them: {error.strerror}", fix)
    if not found:
        return fail("addresses", "none but its own", "Connect this computer to a network.")
    six = [each for each in map(ipaddress.ip_address, found) if each.version == 6]
    public6 = [each for each in six if not str(each).startswith(("fc", "fd"))]
    kind = "with public IPv6" if public6 else "no public IPv6: direct paths depend on the router"
    return ok("addresses", f"{', '.join(found[:3])} ({kind})", found[3:])


def default_gateway() -> tuple[Finding, str]:
    try:
        found = gateway()
    except OSError:
        found = ""
    if found:
        return ok("gateway", found), found
    fix = "Without one only this network is in reach; look at `ip route`."
    return warn("gateway", "no default route over IPv4", fix), ""


async def port_opening(at: str) -> Finding:
    """PCP, NAT-PMP, UPnP: whether the router would open a port."""
    name = "port opening"
    if not at:
        return ok(name, "no router to ask")
    try:
        spoken = await port_probe.spoken(at)
    except OSError as error:
        return warn(name, f"the router cannot be asked: {error.strerror}", "Look at `ip route`.")
    methods = ", ".join(spoken.methods)
    fix = "Turn on UPnP, NAT-PMP or PCP in the router, or forward UDP port 26666 by hand."
    if not methods:
        refused = f" ({spoken.refused})" if spoken.refused else ""
        return warn(name, f"the router offers none of PCP, NAT-PMP, UPnP{refused}", fix)
    if spoken.outside and not portmap.is_reachable(spoken.outside):
        found = f"{methods}, but its outside address {spoken.outside} is behind another router"
        return warn(name, found, "The outer router (the carrier's, often) decides.")
    return ok(name, f"the router speaks {methods}")


def tcp_places(servers: list[str], urls: list[str]) -> list[str]:
    """Where TCP may get through if UDP does not: at port 443, and where relays say."""
    parsed = [each for each in map(endpoint.parse, servers) if each is not None]
    said = [endpoint.parse(urlsplit(url).netloc) for url in urls if url]
    web = [*(each for each in said if each), *((host, WEB_PORT) for host, _ in parsed)]
    return [endpoint.text(each) for each in dict.fromkeys(web)]


async def udp(servers: list[str], tcp: list[str]) -> Finding:
    """Whether UDP gets out and back, and how far the servers are."""
    if not servers:
        return _nothing_to_ask("UDP")
    rtts = await stun_ping.round_trips(servers)
    if rtts:
        answers = ", ".join(f"{each} in {us / 1000:.1f} ms" for each, us in rtts.items())
        return ok("UDP", f"answered by {answers}")
    if await _any_connects([*servers, *tcp]):
        fix = "Allow UDP here, or use another network. Until then all goes through TCP, slowly."
        return warn("UDP", "blocked: no answer, while TCP works", fix)
    fix = "Are they up, is this network connected, does a firewall stop everything?"
    return fail("UDP", f"no answer from {', '.join(servers)}, nor over TCP", fix)


async def web(places: list[str]) -> list[Finding]:
    """Whether TCP gets out as web traffic does. A refusal is an answer, too: it got there."""
    parsed = [each for each in map(endpoint.parse, places) if each is not None]
    answered = await asyncio.gather(*(_answers(*each) for each in parsed))
    if not answered:
        return []
    at = next((place for place, each in zip(places, answered, strict=True) if each), "")
    if at:
        return [ok("TCP 443", f"gets through to {at}")]
    fix = "Without it there is no way out of networks that block UDP; here it may not matter."
    return [warn("TCP 443", f"no answer from {', '.join(places)}", fix)]


async def router(servers: list[str], tcp: list[str]) -> Finding:
    """What the router does, by RFC 5780."""
    if not servers:
        return _nothing_to_ask("router")
    said = await nat_behaviour.classify(servers, tcp=[*tcp, *servers], deadline_s=CLASSIFY_S)
    kind = nature(said.mapping, said.filtering)
    if not kind:
        fix = "It is told by what servers answer; see UDP above."
        return warn("router", "its kind could not be told", fix, said.evidence)
    detail = f"mapping {said.mapping}, filtering {said.filtering or 'unknown'}"
    hairpin = f", hairpin {said.hairpin}" if said.hairpin else ""
    found = f"{kind} ({detail}{hairpin})"
    if said.mapping in HARD:
        fix = "Forward UDP port 26666 in the router, or turn on UPnP; else relays help out."
        return warn("router", f"{found}: another port for each destination", fix, said.evidence)
    if said.mapping == "blocked":
        return warn("router", kind, "See UDP above.", said.evidence)
    return ok("router", found, said.evidence)


def _nothing_to_ask(check: str) -> Finding:
    fix = "Name a STUN server, such as your party's control: --server HOST:PORT."
    return warn(check, "not tested: no server on another computer is known", fix)


async def control(url: str) -> list[Finding]:
    """Whether control answers and how far it is, where one is known; and our clock beside its."""
    if not url:
        return [clock(None)]
    finding, ahead_s = await _control(url)
    return [finding, clock(ahead_s)]


async def _control(url: str) -> tuple[Finding, float | None]:
    full = websocket_url(url)
    if isinstance(full, Refusal):
        return fail("control", full.why, full.fix), None
    fix = "Is it running, is the address right, does its router forward the port?"
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(CONNECT_S):
            head = await _head_of(full)
    except TimeoutError:
        return fail("control", f"{url} does not answer within {CONNECT_S:.0f} s", fix), None
    except ssl.SSLCertVerificationError as error:
        return warn("control", f"{url}: {error.verify_message}", "Check its certificate."), None
    except OSError as error:
        return fail("control", f"{url}: {error.strerror or error}", fix), None
    took_ms = (time.monotonic() - began_s) * 1000
    if not head.startswith(b"HTTP/"):
        return fail("control", f"what answers at {url} is no control server", fix), None
    return ok("control", f"{url} answers in {took_ms:.0f} ms"), _ahead_s(head)


async def _head_of(url: str) -> bytes:
    parts = urlsplit(url)
    assert parts.hostname is not None
    context = ssl.create_default_context() if parts.scheme == "wss" else None
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    try:
        host = parts.netloc.rpartition("@")[2]
        writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return await reader.read(HEAD_MAX)
    finally:
        writer.close()


def _ahead_s(head: bytes) -> float | None:
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "date":
            with contextlib.suppress(ValueError):
                return parsedate_to_datetime(value.strip()).timestamp() - time.time()
    return None


def clock(ahead_s: float | None) -> Finding:
    fix = "Set it, best by NTP: timedatectl set-ntp true."
    if time.time() < CLOCK_MIN_S:
        return fail("clock", f"it says {time.strftime('%Y-%m-%d')}", fix)
    if ahead_s is not None and abs(ahead_s) > SKEW_S_MAX:
        words = "behind" if ahead_s > 0 else "ahead of"
        return warn("clock", f"{abs(ahead_s):.0f} s {words} control's", fix)
    compared = "agrees with control's" if ahead_s is not None else "plausible"
    return ok("clock", f"{time.strftime('%Y-%m-%d %H:%M:%S')}, {compared}")


async def relays(known: tuple[RelayView, ...]) -> list[Finding]:
    """Each relay over UDP, and over TCP where it takes it."""
    rtts, tcp = await asyncio.gather(
        stun_ping.round_trips([each.name for each in known]),
        asyncio.gather(*(_connect_ms(each.tcp) for each in known)),
    )
    return [_relay(each, rtts.get(each.name), ms) for each, ms in zip(known, tcp, strict=True)]


def _relay(relay: RelayView, rtt_us: int | None, tcp_ms: float | None) -> Finding:
    name = f"relay {relay.region}".rstrip()
    over_tcp = f", TCP in {tcp_ms:.0f} ms" if tcp_ms is not None else ""
    if relay.tcp and tcp_ms is None:
        over_tcp = f", but not over TCP at {urlsplit(relay.tcp).netloc}"
    if rtt_us is not None:
        return ok(name, f"{relay.name} in {rtt_us / 1000:.1f} ms{over_tcp}")
    fix = "Others or TCP are used instead; see UDP above, or tell who runs it."
    return warn(name, f"{relay.name} does not answer over UDP{over_tcp}", fix)


async def _connect_ms(url: str) -> float | None:
    parts = urlsplit(url)
    if not parts.hostname:
        return None
    began_s = time.monotonic()
    port = parts.port or (443 if parts.scheme in ("wss", "https") else 80)
    if not await _connects(parts.hostname, port):
        return None
    return (time.monotonic() - began_s) * 1000


async def _any_connects(servers: list[str]) -> bool:
    parsed = [each for each in map(endpoint.parse, servers) if each is not None]
    return any(await asyncio.gather(*(_connects(*each) for each in parsed)))


async def _answers(host: str, port: int) -> bool:
    try:
        return await _opens(host, port)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


async def _connects(host: str, port: int) -> bool:
    try:
        return await _opens(host, port)
    except OSError:
        return False


async def _opens(host: str, port: int) -> bool:
    async with asyncio.timeout(CONNECT_S):
        _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return True


async def resolve(written: str) -> list[str]:
    """`HOST:PORT` as numeric endpoints; empty if its name is not known."""
    if endpoint.parse(written) is not None:
        return [written]
    host, _, port = written.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            rows = await loop.getaddrinfo(host.strip("[]"), int(port), type=2)
    except OSError:
        return []
    return list(dict.fromkeys(endpoint.text((str(row[4][0]), int(row[4][1]))) for row in rows))


def is_own(server: str) -> bool:
    """Whether that endpoint is this computer itself."""
    parsed = endpoint.parse(server)
    if parsed is None:
        return False
    with contextlib.suppress(OSError):
        if parsed[0] in own_addresses.addresses(""):
            return True
    return ipaddress.ip_address(parsed[0]).is_loopback
