"""Ports that the home router opens for us: asked for, renewed, given back.

Three languages do the same. PCP and NAT-PMP are one UDP packet each to the gateway, so both are
asked beside each other and PCP is preferred where both answer; only if neither does, UPnP is tried,
which finds its router by multicast and speaks XML (miniupnpc, in a child process: it blocks, and
its memory and threads go away with it). Whoever made the first mapping makes all.

A lease lasts two hours and is renewed at half; a crash therefore leaves nothing behind for longer,
and the next start takes the same mappings over (see protocols/portmap.py about the nonce). An
outside address that is itself private means a second router: said, not told to anybody.

Nobody waits for this: a join goes on meanwhile, and what is learnt later becomes a candidate.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from lanrage.adapters.network import gateway
from lanrage.protocols import endpoint, portmap

RENEW_S_MIN: Final = 60.0  # whatever short lease a router gives
RETRY_S: Final = 600.0  # where no router opens ports, now and then one does
PREFER_PCP_S: Final = 0.25  # how long NAT-PMP's answer waits for PCP's
UPNP_S: Final = 12.0
RELEASE_S: Final = 2.0  # how long giving back may delay the end
ANSWERS_MAX: Final = 64  # waiting to be read; the gateway is not trusted either
OUTPUT_MAX_BYTES: Final = 65_536

Port = tuple[str, int]  # "udp" or "tcp", and its number


class Mapped(msgspec.Struct, frozen=True):
    protocol: str
    port: int
    external: str  # ip:port
    method: str  # "pcp" | "nat-pmp" | "upnp"
    lifetime_s: int  # 0: until it is taken back
    gateway: str


class Failed(msgspec.Struct, frozen=True):
    protocol: str
    port: int
    reason: str


Report = Callable[[Mapped | Failed], None]


class PortMapping:
    """Level-triggered: `want` says which ports, and they are open wherever a router can be asked.

    `renew` begins anew, on another network say. `release` gives the ports back."""

    def __init__(self, secret: bytes, report: Report) -> None:
        self._ports: tuple[Port, ...] = ()
        self._secret = secret
        self._report = report
        self._anew = asyncio.Event()
        self._held: tuple[Mapped, ...] = ()
        self._upnp_url = ""  # of the router's description: spares the search when giving back

    def want(self, ports: Sequence[Port]) -> None:
        """The same again changes nothing. Ports no longer wanted close when their lease ends."""
        if tuple(ports) != self._ports:
            self._ports = tuple(ports)
            self.renew()

    def renew(self) -> None:
        self._anew.set()

    async def release(self) -> None:
        """Give the ports back, when `run` has ended. Delays the end by a second at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                await self._give_back()

    async def run(self) -> None:
        """For ever."""
        while True:
            self._anew.clear()
            wait_s = await self._map()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._anew.wait()

    async def _map(self) -> float:
        """Ask for everything once; the seconds until it is to be asked again."""
        if not self._ports:
            return RETRY_S
        try:
            at = gateway()
            found = await self._ask(at) if at else "there is no router on this network"
        except OSError as error:
            found = f"the router could not be asked: {error.strerror or error}"
        if isinstance(found, str):
            self._held = ()
            self._fail(self._ports, found)
            return RETRY_S
        self._held = tuple(found)
        self._tell(found)
        lifetimes = [each.lifetime_s for each in found if each.lifetime_s]
        return max(RENEW_S_MIN, min(lifetimes, default=portmap.LIFETIME_S) / 2)

    def _tell(self, found: Sequence[Mapped]) -> None:
        done = {(each.protocol, each.port) for each in found}
        for each in found:
            host = each.external.rpartition(":")[0]
            if portmap.is_reachable(host):
                self._report(each)
                continue
            why = f"another router stands before this one, whose outside address is {host}"
            self._fail([(each.protocol, each.port)], why)
        self._fail([port for port in self._ports if port not in done], "the router refused it")

    def _fail(self, ports: Sequence[Port], reason: str) -> None:
        for protocol, port in ports:
            self._report(Failed(protocol, port, reason))

    async def _ask(self, at: str) -> list[Mapped] | str:
        async with _Gateway(at, self._secret) as asked:
            found = await asked.map(self._ports)
        if not isinstance(found, str):
            return found
        upnp = _read_upnp(await _upnp("add", self._ports, ""), at)
        if isinstance(upnp, str):
            return f"{found}; {upnp}"
        mapped, self._upnp_url = upnp
        return mapped

    async def _give_back(self) -> None:
        held, self._held = self._held, ()
        if not held:
            return
        ports = [(each.protocol, each.port) for each in held]
        if held[0].method == "upnp":
            outside = [(each.protocol, _port_of(each.external)) for each in held]
            await _upnp("delete", outside, self._upnp_url)
            return
        with contextlib.suppress(OSError):
            async with _Gateway(held[0].gateway, self._secret) as asked:
                asked.release(ports, held[0].method)


class _Gateway(asyncio.DatagramProtocol):
    """One connected UDP socket to the gateway."""

    def __init__(self, host: str, secret: bytes) -> None:
        self._host = host
        self._secret = secret
        self._answers: asyncio.Queue[bytes] = asyncio.Queue(ANSWERS_MAX)
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> _Gateway:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, remote_addr=(self._host, portmap.PORT)
        )
        return self

    async def __aexit__(self, *_failure: object) -> None:
        assert self._transport is not None
        self._transport.close()

    def datagram_received(self, data: bytes, _source: object) -> None:
        if not self._answers.full():
            self._answers.put_nowait(data)

    def error_received(self, _error: Exception) -> None:
        """ICMP says that nobody listens there; the other language or UPnP may do better."""

    async def map(self, ports: Sequence[Port]) -> list[Mapped] | str:
        method, host = await self._method(ports[0])
        if not method:
            return host
        found: list[Mapped] = []
        for port in ports:
            given = await self._one(method, port)
            if isinstance(given, portmap.Given):
                outside = endpoint.text((given.external_host or host, given.external_port))
                lease = given.lifetime_s
                found.append(Mapped(*port, outside, method, lease, self._host))
        return found or f"the router speaks {method}, and opened no port"

    def release(self, ports: Sequence[Port], method: str) -> None:
        """Not waited for: what gets lost ends with its lease."""
        for port in ports:
            self._send(self._packet(method, port, 0))

    async def _method(self, port: Port) -> tuple[str, str]:
        """Which language the router speaks, and NAT-PMP's outside address; or "" and why none."""
        loop = asyncio.get_running_loop()
        external, denied = "", ""
        for wait_ms in portmap.RETRIES_MS:
            self._send(self._packet("pcp", port, portmap.LIFETIME_S))
            self._send(portmap.EXTERNAL_REQUEST)
            until_s = loop.time() + wait_ms / 1000
            while (answer := await self._next(port, until_s)) is not None:
                match answer:
                    case portmap.Given(method="pcp"):
                        return "pcp", ""
                    case portmap.External(host=host):
                        external = host
                        until_s = min(until_s, loop.time() + PREFER_PCP_S)
                    case portmap.Denied(method=method, reason=reason):
                        denied = f"the router refused by {method}: {reason}"
            if external:
                return "nat-pmp", external
            if denied:
                return "", denied
        return "", "the router speaks neither PCP nor NAT-PMP"

    async def _one(self, method: str, port: Port) -> portmap.Answer | None:
        loop = asyncio.get_running_loop()
        for wait_ms in portmap.RETRIES_MS:
            self._send(self._packet(method, port, portmap.LIFETIME_S))
            until_s = loop.time() + wait_ms / 1000
            while (answer := await self._next(port, until_s)) is not None:
                if isinstance(answer, portmap.Denied) and answer.method == method:
                    return answer
                if isinstance(answer, portmap.Given) and (answer.protocol, answer.port) == port:
                    return answer
        return None

    async def _next(self, port: Port, until_s: float) -> portmap.Answer | None:
        own = portmap.nonce(self._secret, *port)
        try:
            async with asyncio.timeout_at(until_s):
                while True:
                    answer = portmap.parse(await self._answers.get(), own)
                    if answer is not None:
                        return answer
        except TimeoutError:
            return None

    def _packet(self, method: str, port: Port, lifetime_s: int) -> bytes:
        wished = port[1] if lifetime_s else 0
        if method == "nat-pmp":
            return portmap.pmp_map(*port, wished, lifetime_s)
        assert self._transport is not None
        own_host = self._transport.get_extra_info("sockname")[0]
        own = portmap.nonce(self._secret, *port)
        return portmap.pcp_map(own_host, own, *port, wished, lifetime_s)

    def _send(self, packet: bytes) -> None:
        assert self._transport is not None
        self._transport.sendto(packet)


# --- UPnP, in a child process ---------------------------------------------------------------------

_CHILD = """
import json, signal, sys
signal.alarm(30)
import miniupnpc
action, lifetime, ports = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
router = miniupnpc.UPnP()
router.discoverdelay = 1500
try:
    known = sys.argv[4]
    found = router.selectigd(known) if known else router.discover() and router.selectigd()
except Exception:
    found = ""
if not found:
    print(json.dumps("no UPnP router answers"))
    sys.exit()
def opened(protocol, port):
    # 718: that port is somebody else's; 725 and 402: the router knows only leases without end.
    for outside in (port, port + 1000, port + 2000):
        for lease in (lifetime, 0):
            try:
                arguments = (outside, protocol.upper(), router.lanaddr, port, "LANrage", "", lease)
                if router.addportmapping(*arguments):
                    return [protocol, port, outside, lease]
            except Exception as error:
                if "Conflict" in str(error):
                    break
if action == "delete":
    for protocol, outside in ports:
        try:
            router.deleteportmapping(outside, protocol.upper())
        except Exception:
            pass
    print("[]")
    sys.exit()
try:
    host = router.externalipaddress()
except Exception:
    host = ""
done = [each for each in (opened(*port) for port in ports) if each]
print(json.dumps([host, done, found] if host and done else "the UPnP router opened no port"))
"""


async def _upnp(action: str, ports: Sequence[Port], url: str) -> bytes:
    """What the child said; nothing if it took too long."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", _CHILD, action, str(portmap.LIFETIME_S)),
        msgspec.json.encode(list(ports)).decode(),
        url,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(UPNP_S):
            said = await child.stdout.read(OUTPUT_MAX_BYTES)
            await child.wait()
    except TimeoutError:
        return b""
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return said


def _read_upnp(said: bytes, at: str) -> tuple[list[Mapped], str] | str:
    """What was opened, and the URL of the router's description; or why nothing was."""
    if not said:
        return "UPnP took too long"
    try:
        told = msgspec.json.decode(said)
        if isinstance(told, str):
            return told[:200]
        host, done, url = msgspec.convert(told, tuple[str, list[tuple[str, int, int, int]], str])
    except msgspec.MsgspecError:
        return "UPnP failed"
    if endpoint.parse(f"{host}:1") is None:
        return "the UPnP router knows no outside address"
    mapped = [
        Mapped(protocol, port, endpoint.text((host, outside)), "upnp", lease, at)
        for protocol, port, outside, lease in done
    ]
    return mapped, url


def _port_of(external: str) -> int:
    return int(external.rpartition(":")[2])
