"""RFC 5780's tests behind real routers, against control's real responder. All routers at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from lanrage.adapters.nat_behaviour import classify
from lanrage.lab.lab import Lab
from lanrage.lab.topology import Home, Router, Server, Topology, legs
from lanrage.protocols.behaviour import Behaviour
from tests.adapters.test_nat_label import Responder

PORT = 3478
RESPOND = f"""
import asyncio, socket
from lanrage.control.responder import Responder

async def main():
    Responder.start(socket.AF_INET, "0.0.0.0", {PORT})
    await asyncio.start_server(lambda _, writer: writer.close(), "0.0.0.0", {PORT})
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
CLASSIFY = """
import asyncio, sys
import msgspec
from lanrage.adapters.nat_behaviour import classify

print(msgspec.json.encode(asyncio.run(classify(sys.argv[1:]))).decode())
"""
# Servers with one address each cannot tell a full cone from an address-restricted router. The last
# two let nothing out, not even TCP to this port, or only that.
EXPECTED = {
    "port-restricted": ("independent", "port", "no"),
    "remapped": ("independent", "port", "no"),
    "address-restricted": ("independent", "address", "no"),
    "full-cone": ("independent", "address", "no"),
    "symmetric": ("port", "port", "no"),
    "hairpin": ("independent", "port", "yes"),
    "double": ("port", "port", "no"),
    "udp-blocked": ("blocked", "blocked", ""),
    "https-only": ("", "", ""),
    "none": ("none", "address", ""),
}


def homes() -> tuple[Home, ...]:
    """One computer each, called like its router without dashes."""
    routers = {
        kind: Router(kind=kind)  # type: ignore[arg-type]
        for kind in EXPECTED
        if kind not in ("hairpin", "double", "none")
    }
    routers["hairpin"] = Router(hairpin=True)
    single = tuple(
        Home(name=f"r{number}", computers=(kind.replace("-", "")[:12],), router=router)
        for number, (kind, router) in enumerate(routers.items())
    )
    carrier = Home(name="carrier", router=Router(kind="symmetric"), lan="100.64.0.0/24")
    return (*single, carrier, Home(name="inner", computers=("double",), uplink="carrier"))


@pytest.mark.root
def test_every_kind_of_router_is_told_apart() -> None:
    names = {kind: kind.replace("-", "")[:12] for kind in EXPECTED}
    servers = (Server(name="one"), Server(name="two"), Server(name="none"))
    with Lab(Topology(homes=homes(), servers=servers)) as lab:
        addresses = []
        for name in ("one", "two"):
            server = lab.computer(name)
            responder = server.popen([sys.executable, "-c", RESPOND], stdout=subprocess.PIPE)
            assert responder.stdout is not None
            assert responder.stdout.readline() == b"ready\n"
            addresses.append(f"{server.address}:{PORT}")
        command = [sys.executable, "-c", CLASSIFY, *addresses]
        asked = {
            kind: lab.computer(name).popen(command, stdout=subprocess.PIPE)
            for kind, name in names.items()
        }
        said = {
            kind: msgspec.json.decode(each.communicate(timeout=40)[0], type=Behaviour)
            for kind, each in asked.items()
        }
    got = {kind: (each.mapping, each.filtering, each.hairpin) for kind, each in said.items()}
    assert got == EXPECTED, "\n".join(str(each) for each in said.values())


@pytest.mark.root
def test_a_relay_with_two_addresses_shows_who_else_is_let_in(tmp_path: Path) -> None:
    expected = {
        "port-restricted": ("independent", "port"),
        "address-restricted": ("independent", "address"),
        "full-cone": ("independent", "independent"),
        "symmetric": ("port", "port"),
        "none": ("none", "none"),
    }
    names = {kind: kind.replace("-", "")[:12] for kind in expected}
    single = tuple(
        Home(name=f"r{number}", computers=(names[kind],), router=Router(kind=kind))  # type: ignore[arg-type]
        for number, kind in enumerate(expected)
        if kind != "none"
    )
    servers = (Server(name="full", alternate=True), Server(name="none"))
    description = Topology(homes=single, servers=servers)
    second = next(leg.alternate for leg in legs(description) if leg.node == "full")
    with Lab(description) as lab:
        server = lab.computer("full")
        command = [sys.executable, "-m", "lanrage", "relay", "--json", "--state", str(tmp_path)]
        command += ["--listen", f"{server.address}:{PORT}", "--alternate", second]
        relay = server.popen(command, stdout=subprocess.PIPE)
        assert relay.stdout is not None
        assert b"ready" in relay.stdout.readline()
        command = [sys.executable, "-c", CLASSIFY, f"{server.address}:{PORT}"]
        asked = {
            kind: lab.computer(name).popen(command, stdout=subprocess.PIPE)
            for kind, name in names.items()
        }
        said = {
            kind: msgspec.json.decode(each.communicate(timeout=40)[0], type=Behaviour)
            for kind, each in asked.items()
        }
    got = {kind: (each.mapping, each.filtering) for kind, each in said.items()}
    assert got == expected, "\n".join(str(each) for each in said.values())


async def test_on_loopback_there_is_no_nat() -> None:
    sockets: list[asyncio.DatagramTransport] = []
    loop = asyncio.get_running_loop()
    for _ in range(3):  # main, alternate and third
        await loop.create_datagram_endpoint(lambda: Responder(sockets), local_addr=("127.0.0.2", 0))
    port = sockets[0].get_extra_info("sockname")[1]
    said = await classify([f"127.0.0.2:{port}", f"127.0.0.1:{port}"])
    for each in sockets:
        each.close()
    await asyncio.sleep(0)  # transports close their sockets one turn later
    assert (said.mapping, said.filtering) == ("none", "address")
    assert said.server == f"127.0.0.2:{port}"


async def test_a_server_on_this_computer_says_nothing_of_the_router() -> None:
    assert (await classify(["127.0.0.1:9"])).evidence == ("no server to ask over IPv4",)


async def test_without_a_server_it_says_so_at_once_and_opens_nothing() -> None:
    assert (await classify([])).evidence == ("no server to ask over IPv4",)
    assert (await classify(["[2001:db8::1]:3478", "a name:1"])).mapping == ""


async def test_the_deadline_ends_it_with_what_is_known() -> None:
    began = time.monotonic()
    said = await classify(["127.0.0.2:9"], deadline_s=0.3)
    assert time.monotonic() - began < 2
    assert said.server == ""
