"""A lab as data: which homes with which routers, which servers, how far apart.

Every home has a router with one leg on the public segment (or in another home's LAN: carrier-grade
NAT) and a bridge inside, where its computers are. Servers sit on the public segment itself. The
public segment is the wire: each leg on it has a `Line` in each direction.

Addresses come from the documentation and private ranges (RFC 5737, RFC 1918, RFC 6598). They are
assigned in order, so a topology says the same on every machine.

With `ipv6` the public segment and every home on it also have a /64 of the documentation prefix
(RFC 3849), routed without translation; what hangs on a carrier has IPv4 alone, as so often.
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


HAIRPIN_KINDS: tuple[Kind, ...] = (
    "port-restricted",
    "remapped",
    "address-restricted",
    "full-cone",
)
SERVERS_MAX = 8  # .2 to .9 of the public segment
HOMES_MAX = 24  # .10 to .240; each moves within its own ten
MOVES_MAX = 9
ALTERNATE = 240  # a server's second address is so much higher than its first
PUBLIC6 = ipaddress.IPv6Network("2001:db8::/48")


class Router(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Kind = "port-restricted"
    hairpin: bool = False  # from inside, its own public mapped address leads back in
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
    alternate: bool = False  # has a second address, as RFC 5780 wants it


class Topology(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    homes: tuple[Home, ...] = ()
    servers: tuple[Server, ...] = ()
    public: str = "203.0.113.0/24"
    ipv6: bool = False
    seed: int = 1


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One node's interface on the public segment."""

    node: str
    device: str
    address: str
    alternate: str  # a second address; empty for most
    mac: str
    line: Line

    @property
    def address6(self) -> str:
        return str(PUBLIC6[int(self.address.rpartition(".")[2])])


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
    if len(topology.servers) > SERVERS_MAX or len(topology.homes) > HOMES_MAX:
        return f"there is room for {SERVERS_MAX} servers and {HOMES_MAX} homes"
    homes = [home.name for home in topology.homes]
    for position, home in enumerate(topology.homes):
        if home.router.hairpin and home.router.kind not in HAIRPIN_KINDS:
            return f"{home.name} cannot be {home.router.kind} and hairpin"
        if home.uplink and home.uplink not in homes[:position]:
            return f"{home.name} hangs on {home.uplink!r}, which is no earlier home"
    return None


def lan_of(topology: Topology, home: Home) -> ipaddress.IPv4Network:
    if home.lan:
        return ipaddress.IPv4Network(home.lan)
    return ipaddress.IPv4Network(f"192.168.{topology.homes.index(home) + 1}.0/24")


def lan6_of(topology: Topology, home: Home) -> ipaddress.IPv6Network | None:
    """The home's own /64, or None without IPv6 and behind a carrier."""
    if not topology.ipv6 or home.uplink:
        return None
    number = topology.homes.index(home) + 1
    return ipaddress.IPv6Network((int(PUBLIC6[0]) + (number << 64), 64))


def legs(topology: Topology) -> list[Leg]:
    """The wire's ports, in order: servers from .2 on, homes from .10, .20, ... on."""
    network = ipaddress.IPv4Network(topology.public)
    placed = [
        (s.name, "eth0", 2 + i, s.line, ALTERNATE if s.alternate else 0)
        for i, s in enumerate(topology.servers)
    ]
    for i, home in enumerate(topology.homes):
        if not home.uplink:
            placed.append((home.name, "wan", 10 * (i + 1), home.line, 0))
    return [
        Leg(
            node=node,
            device=device,
            address=str(network[host]),
            alternate=str(network[host + further]) if further else "",
            mac=f"02:00:cb:00:71:{host:02x}",
            line=line,
        )
        for node, device, host, line, further in placed
    ]


def moved(leg: Leg, times: int) -> str:
    """The leg's address after so many moves."""
    assert times <= MOVES_MAX
    return str(ipaddress.IPv4Address(leg.address) + times)


def home_of(topology: Topology, node: str) -> Home:
    """Where this computer stands, or the home of that name."""
    return next(h for h in topology.homes if node == h.name or node in h.computers)


def leg_of(topology: Topology, node: str) -> Leg:
    """Where this node's packets enter the public segment."""
    at = node
    if at not in [server.name for server in topology.servers]:
        home = home_of(topology, node)
        while home.uplink:
            home = home_of(topology, home.uplink)
        at = home.name
    return next(leg for leg in legs(topology) if leg.node == at)


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


def address6_of(topology: Topology, node: str) -> str:
    """As `address_of`, of the IPv6 address; empty where there is none."""
    for leg in legs(topology):
        if leg.node == node:
            return leg.address6 if topology.ipv6 else ""
    home = home_of(topology, node)
    network = lan6_of(topology, home)
    if network is None or node == home.name:
        return ""
    return str(network[16 + home.computers.index(node)])


def draw(topology: Topology) -> str:
    """The lab as text, a node a line."""
    rows = [f"public {topology.public}" + (f" {PUBLIC6}" if topology.ipv6 else "")]
    for leg in legs(topology)[: len(topology.servers)]:
        also = [f"also {leg.alternate}"] if leg.alternate else []
        rows.append(_row(1, leg.node, leg.address, ", ".join([_spoken(leg.line), *also])))
    for home in topology.homes:
        if not home.uplink:
            rows += _draw_home(topology, home, 1)
    return "\n".join(rows)


def _draw_home(topology: Topology, home: Home, depth: int) -> list[str]:
    words: list[str] = [home.router.kind]
    words += ["hairpin"] if home.router.hairpin else []
    words += [] if home.uplink else [_spoken(home.line)]
    rows = [_row(depth, home.name, address_of(topology, home.name), ", ".join(words))]
    rows.extend(
        _row(depth + 1, name, address_of(topology, name), address6_of(topology, name))
        for name in home.computers
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
