"""Ports opened by a real miniupnpd in a router of the lab, and by gateways that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv6Address

import pytest

from lanrage.adapters import network, port_mapping
from lanrage.adapters.network import Network, NetworkWatch
from lanrage.adapters.port_mapping import Failed, Mapped, PortMapping
from lanrage.lab import namespaces
from lanrage.lab.lab import Computer, Lab
from lanrage.lab.topology import Home, Topology
from tests.adapters.test_addresses import inside

pytestmark = pytest.mark.root

SECRET = bytes(range(32))
PORTS = [("udp", 26666), ("tcp", 8667)]
Notice = Mapped | Failed
PUBLIC = "5.6.7.0/24"  # miniupnpd wants an outside address that is not one for documentation

_RULES = """
add table inet upnp
add chain inet upnp miniupnpd
add chain inet upnp forward { type filter hook forward priority 0; }
add rule inet upnp forward jump miniupnpd
add chain inet upnp prerouting_miniupnpd
add chain inet upnp prerouting { type nat hook prerouting priority dstnat; }
add rule inet upnp prerouting jump prerouting_miniupnpd
add chain inet upnp postrouting_miniupnpd
add chain inet upnp postrouting { type nat hook postrouting priority srcnat; }
insert rule ip lrflt c_fwd iifname "wan" ct status dnat accept
"""
_CONFIG = """
ext_ifname=wan
listening_ip=lan
http_port=5555
enable_natpmp={pcp}
enable_upnp={upnp}
min_lifetime=120
max_lifetime=86400
upnp_table_name=upnp
upnp_nat_table_name=upnp
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
uuid=1b5f3a52-0000-4000-8000-000000000001
allow 1024-65535 192.168.0.0/16 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


@contextlib.contextmanager
def home(public: str = PUBLIC) -> Iterator[Lab]:
    assert namespaces.missing() is None
    with Lab(Topology(homes=(Home(name="home", computers=("pc",)),), public=public)) as lab:
        yield lab


def start_router(lab: Lab, *, pcp: str = "yes", upnp: str = "no") -> Computer:
    router = lab.computer("home")
    assert router.run(["nft", _RULES]).returncode == 0
    config = lab.folder / "miniupnpd.conf"
    config.write_text(_CONFIG.format(pcp=pcp, upnp=upnp))
    router.popen(["miniupnpd", "-d", "-f", config, "-P", lab.folder / "miniupnpd.pid"])
    wanted = ":5351" if pcp == "yes" else ":5555"
    for _ in range(100):
        if wanted in router.run(["ss", "-Hlntu"]).stdout:
            return router
        router.run(["sleep", "0.05"])
    raise AssertionError(router.log_file("miniupnpd").read_text())


def asked(lab: Lab, after: Callable[[], None] = lambda: None) -> list[Notice]:
    """What a node in the home is told until each port has its word; then it ends."""

    async def ask() -> list[Notice]:
        told: list[Notice] = []
        done = asyncio.Event()

        def report(notice: Notice) -> None:
            told.append(notice)
            if len(told) >= len(PORTS):
                done.set()

        mapping = PortMapping(SECRET, report)
        mapping.want(PORTS)
        working = asyncio.create_task(mapping.run())
        await asyncio.wait_for(done.wait(), 20)
        await asyncio.to_thread(after)
        working.cancel()
        await asyncio.wait([working])
        await mapping.release()
        return told

    return run_inside(lab, ask)


def run_inside(lab: Lab, work: Callable[[], Awaitable[list[Notice]]]) -> list[Notice]:
    async def run() -> list[Notice]:
        return await asyncio.wait_for(work(), 25)

    def begin() -> list[Notice]:
        with asyncio.Runner() as runner:
            watcher = asyncio.PidfdChildWatcher()
            watcher.attach_loop(runner.get_loop())
            asyncio.set_child_watcher(watcher)
            try:
                return runner.run(run())
            finally:
                asyncio.set_child_watcher(asyncio.ThreadedChildWatcher())  # the usual one

    return inside(lab.computer("pc").namespace, begin)


def redirects(router: Computer) -> str:
    return router.run(["nft", "list", "chain", "inet", "upnp", "prerouting_miniupnpd"]).stdout


@pytest.mark.parametrize("languages", ["pcp", "upnp"])
def test_a_real_router_opens_the_ports_and_closes_them_again(languages: str) -> None:
    with home() as lab:
        pcp = "yes" if languages == "pcp" else "no"
        router = start_router(lab, pcp=pcp, upnp="no" if languages == "pcp" else "yes")
        outside = router.address
        seen: list[str] = []
        told = asked(lab, lambda: seen.append(redirects(router)))
        assert told == [
            Mapped(protocol, port, f"{outside}:{port}", languages, 7200, "192.168.1.1")
            for protocol, port in PORTS
        ]
        assert "26666" in seen[0]
        assert "8667" in seen[0]
        for _ in range(40):
            if "dport" not in redirects(router):
                break
            router.run(["sleep", "0.05"])
        assert "dport" not in redirects(router)


def test_after_a_crash_the_same_mapping_is_taken_over() -> None:
    with home() as lab:
        start_router(lab)

        def crash() -> list[Notice]:
            async def ask() -> list[Notice]:
                told: list[Notice] = []
                mapping = PortMapping(SECRET, told.append)
                mapping.want(PORTS)
                await mapping._map()
                return told

            return asyncio.run(ask())

        first = inside(lab.computer("pc").namespace, crash)
        assert asked(lab) == first


# --- gateways that misbehave ----------------------------------------------------------------------


def fake(lab: Lab, answers: Callable[[bytes], bytes]) -> socket.socket:
    gateway = lab.computer("home").socket(socket.SOCK_DGRAM)
    gateway.bind(("192.168.1.1", 5351))
    gateway.settimeout(5)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                packet, source = gateway.recvfrom(1100)
                answer = answers(packet)
                if answer:
                    gateway.sendto(answer, source)

    threading.Thread(target=serve, daemon=True).start()
    return gateway


def test_a_second_router_behind_the_first_is_said_and_not_advertised() -> None:
    def answers(packet: bytes) -> bytes:
        if packet[0] != 2:
            return b""
        address = IPv6Address("::ffff:100.64.3.4").packed
        return bytes([2, 0x81, 0, 0]) + packet[4:8] + bytes(16) + packet[24:44] + address

    with home() as lab, fake(lab, answers):
        told = asked(lab)
    assert len(told) == 2
    assert all(isinstance(each, Failed) and "another router" in each.reason for each in told)


def test_a_router_that_refuses_is_quoted() -> None:
    def answers(packet: bytes) -> bytes:
        return bytes([0, 0x80, 0, 2]) + bytes(8) if packet[0] == 0 else b""

    with home() as lab, fake(lab, answers):
        told = asked(lab)
    assert all(isinstance(each, Failed) and "set to refuse" in each.reason for each in told)


def test_where_no_router_answers_that_is_said() -> None:
    with home() as lab:
        told = asked(lab)
    assert len(told) == 2
    reason = told[0].reason if isinstance(told[0], Failed) else ""
    assert "neither PCP nor NAT-PMP" in reason
    assert "UPnP" in reason


# --- the network ----------------------------------------------------------------------------------


def test_a_network_has_the_same_name_whenever_we_come_back_and_another_for_others() -> None:
    with home() as lab:
        pc = lab.computer("pc")

        def now(secret: bytes) -> Network:
            return inside(pc.namespace, lambda: asyncio.run(network.network(secret)))

        here = now(SECRET)
        assert here.gateway == "192.168.1.1"
        assert len(here.name) == 16
        assert now(SECRET) == here
        assert now(bytes(32)).name != here.name
        assert pc.run(["ip", "route", "del", "default"]).returncode == 0
        assert now(SECRET) == Network("", "")


def test_a_default_route_that_goes_and_comes_is_told() -> None:
    with home() as lab:
        pc = lab.computer("pc")

        def route(verb: str) -> None:
            assert pc.run(["ip", "route", verb, "default", "via", "192.168.1.1"]).returncode == 0

        async def watch() -> list[str]:
            seen: list[str] = []
            watching = NetworkWatch(SECRET)
            async for found in watching:
                seen.append(found.gateway)
                if len(seen) == 3:
                    watching.close()
                else:
                    await asyncio.to_thread(route, "del" if len(seen) == 1 else "add")
            return seen

        async def bounded() -> list[str]:
            return await asyncio.wait_for(watch(), 10)

        seen = inside(pc.namespace, lambda: asyncio.run(bounded()))
        assert seen == ["192.168.1.1", "", "192.168.1.1"]


def test_what_the_upnp_child_says_is_not_trusted() -> None:
    for said in (b"", b"[]", b'["x", [["udp", 1, 2, 3]]]', b'{"a": 1}', b"[[["):
        assert isinstance(port_mapping._read_upnp(said, "192.168.1.1"), str)
