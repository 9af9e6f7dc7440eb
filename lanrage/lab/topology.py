"""A lab as data: which homes with which routers, which servers, how far apart.

Every home has a router with one leg on the public segment (or in another home's LAN: carrier-grade
NAT) and a bridge inside, where its computers are. Servers sit on the public segment itself. The
public segment is the wire: each leg on it has a `Line` in each direction.

Addresses come from the documentation and private ranges (RFC 5737, RFC 1918, RFC 6598). They are
assigned in order, so a topology says the same on every machine.
"""

from __future__ import annotations

import ipaddress
from typing import Literal

import msgspec

from lanrage.lab.switch import Line

Kind = Literal[
    "port-restricted",  # endpoint-independent mapping, address and port-dependent filtering
    "remapped",  # the same, but the public port is never the private one
    "address-restricted",  # endpoint-independent mapping, address-dependent filtering
    "full-cone",  # endpoint-independent mapping and filtering
    "symmetric",  # a new random port towards every destination
    "udp-blocked",  # TCP only
    "https-only",  # TCP to port 443 only
]


class Router(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Kind = "port-restricted"
    udp_timeout_s: int = 30  # of a mapping that has seen no answer
    udp_stream_timeout_s: int = 120  # of one that has


class Home(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    computers: tuple[str, ...] = ()
    router: Router = Router()
    lan: str = ""  # "192.168.7.0/24"; by default 192.168.<n>.0/24 of the n-th home
    line: Line = Line()  # both directions
    uplink: str = ""  # the home (carrier) this one hangs on; empty for the public segment


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    line: Line = Line()


class Topology(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    homes: tuple[Home, ...] = ()
    servers: tuple[Server, ...] = ()
    public: str = "203.0.113.0/24"
    seed: int = 1


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One node's interface on the public segment."""

    node: str
    device: str
    address: str
    mac: str
    line: Line


def two_homes(one_way_ms: float = 20.0, kind: Kind = "port-restricted") -> Topology:
    """Alice and bob in one home, carol in another, a control server; the usual lab."""
    line = Line(delay_ms=one_way_ms / 2)
    router = Router(kind=kind)
    return Topology(
        homes=(
            Home(name="home1", computers=("alice", "bob"), router=router, line=line),
            Home(name="home2", computers=("carol",), router=router, line=line),
        ),
        servers=(Server(name="control", line=line),),
    )


def node_names(topology: Topology) -> list[str]:
    """Every namespace of this lab: routers carry their home's name."""
    names = [server.name for server in topology.servers]
    for home in topology.homes:
        names += [home.name, *home.computers]
    return names


def problem(topology: Topology) -> str | None:
    """What is wrong with this description, in words, or None."""
    names = node_names(topology)
    if len(set(names)) != len(names):
        return "two nodes have the same name"
    for name in names:
        if not name.isascii() or not name.isalnum() or not name.islower() or len(name) > 12:
            return f"a name must be 1 to 12 lower-case letters and digits, not {name!r}"
    homes = [home.name for home in topology.homes]
    for position, home in enumerate(topology.homes):
        if home.uplink and home.uplink not in homes[:position]:
            return f"{home.name} hangs on {home.uplink!r}, which is no earlier home"
    return None


def lan_of(topology: Topology, home: Home) -> ipaddress.IPv4Network:
    if home.lan:
        return ipaddress.IPv4Network(home.lan)
    return ipaddress.IPv4Network(f"192.168.{topology.homes.index(home) + 1}.0/24")


def legs(topology: Topology) -> list[Leg]:
    """The wire's ports, in order: servers from .2 on, homes from .10, .20, ... on."""
    network = ipaddress.IPv4Network(topology.public)
    placed = [(s.name, "eth0", 2 + i, s.line) for i, s in enumerate(topology.servers)]
    for i, home in enumerate(topology.homes):
        if not home.uplink:
            placed.append((home.name, "wan", 10 * (i + 1), home.line))
    return [
        Leg(
            node=node,
            device=device,
            address=str(network[host]),
            mac=f"02:00:cb:00:71:{host:02x}",
            line=line,
        )
        for node, device, host, line in placed
    ]


def address_of(topology: Topology, node: str) -> str:
    """The address a node is known by where it is: public ones of servers and routers, the LAN's
    of computers and of routers behind a carrier."""
    for leg in legs(topology):
        if leg.node == node:
            return leg.address
    for home in topology.homes:
        if node in home.computers:
            return str(lan_of(topology, home)[10 + home.computers.index(node)])
        if node == home.name:
            carrier = next(h for h in topology.homes if h.name == home.uplink)
            behind = [h.name for h in topology.homes if h.uplink == home.uplink]
            return str(lan_of(topology, carrier)[200 + behind.index(node)])
    raise KeyError(node)


def draw(topology: Topology) -> str:
    """The lab as text, a node a line."""
    rows = [f"public {topology.public}"]
    servers = legs(topology)[: len(topology.servers)]
    rows.extend(_row(1, leg.node, leg.address, _spoken(leg.line)) for leg in servers)
    for home in topology.homes:
        if not home.uplink:
            rows += _draw_home(topology, home, 1)
    return "\n".join(rows)


def _draw_home(topology: Topology, home: Home, depth: int) -> list[str]:
    spoken = home.router.kind if home.uplink else f"{home.router.kind}, {_spoken(home.line)}"
    rows = [_row(depth, home.name, address_of(topology, home.name), spoken)]
    rows.extend(
        _row(depth + 1, computer, address_of(topology, computer), "") for computer in home.computers
    )
    for inner in topology.homes:
        if inner.uplink == home.name:
            rows += _draw_home(topology, inner, depth + 1)
    return rows


def _row(depth: int, name: str, address: str, spoken: str) -> str:
    return f"{'   ' * (depth - 1)}|- {name:<{16 - 3 * depth}} {address:<15} {spoken}".rstrip()


def _spoken(line: Line) -> str:
    words = [f"{line.delay_ms:g} ms"]
    if line.jitter_ms:
        words.append(f"± {line.jitter_ms:g} ms")
    if line.loss:
        words.append(f"{line.loss:.1%} lost")
    if line.rate_mbit:
        words.append(f"{line.rate_mbit:g} Mbit/s")
    return "line " + ", ".join(words)
