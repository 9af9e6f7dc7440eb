"""Every kind of router against every other: does each pair connect, how, and how soon?

One lab with one home of each kind, 40 ms round trip between any two and to every server, control
and two relays. All nodes run; then one after the other joins the party, and at each join the
newcomer pings all who are there at once. So each pair is measured once: milliseconds from the click
on *Join* (a POST to the node's own API) to the first answered ping, and to the moment when both
ends use a direct path. `expected` says from what the two routers do which paths are possible.

    python -m bench.matrix
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from events.base import Stored
from lanrage.lab import namespaces
from lanrage.lab.lab import Lab
from lanrage.lab.player import Control, NodeFailed, Player, Relay
from lanrage.lab.switch import Line
from lanrage.lab.topology import Home, Kind, Router, Server, Topology

ONE_WAY_MS = 20.0
FIRST_S_MAX = 20.0  # a pair that has no answer by then has failed
SETTLE_S_MAX = 20.0
STARTS_AT_ONCE = 3
RESULT = Path(__file__).parent / "results" / "matrix.json"


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """A player and what the routers in front of it amount to, in the terms of RFC 4787."""

    name: str
    kind: str
    home: Home
    carrier: Home | None = None
    independent: bool = True  # one mapping for all destinations
    lets_in: str = "port"  # "all" | "address" | "port" that was asked
    udp: bool = True

    @property
    def outermost(self) -> Home:
        return self.carrier or self.home


def _seat(
    kind: str, router: Kind, carrier: Home | None = None, name: str = "", **facts: Any
) -> Seat:
    name = name or kind.replace("-", "")[:9]
    home = Home(
        name=f"{name}r",
        computers=(name,),
        router=Router(kind=router),
        line=LINE,
        uplink=carrier.name if carrier else "",
    )
    return Seat(name=name, kind=kind, home=home, carrier=carrier, **facts)


def _carrier(name: str, router: Router) -> Home:
    number = {"isp1": 0, "isp2": 1, "isp3": 2}[name]
    return Home(name=name, lan=f"100.64.{number}.0/24", router=router, line=LINE)


LINE = Line(delay_ms=ONE_WAY_MS / 2)
PLAIN_ISP = _carrier("isp1", Router())
SYMMETRIC_ISP = _carrier("isp2", Router(kind="symmetric"))
HAIRPIN_ISP = _carrier("isp3", Router(hairpin=True))
SEATS = (
    _seat("port-restricted", "port-restricted"),
    _seat("full-cone", "full-cone", lets_in="all"),
    _seat("address-restricted", "address-restricted", lets_in="address"),
    _seat("remapped", "remapped"),
    _seat("symmetric", "symmetric", independent=False),
    _seat("double NAT", "port-restricted", PLAIN_ISP, name="double"),
    _seat("carrier NAT", "port-restricted", SYMMETRIC_ISP, name="carried", independent=False),
    _seat("hairpin one", "port-restricted", HAIRPIN_ISP, name="hairpin1"),
    _seat("hairpin two", "port-restricted", HAIRPIN_ISP, name="hairpin2"),
    _seat("udp-blocked", "udp-blocked", udp=False),
    _seat("https-only", "https-only", udp=False),
)


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one pair. Milliseconds since the newcomer's click; None: not in time."""

    one: str  # names of seats; `one` was there first
    other: str
    expected: str
    kinds: tuple[str, str]  # of the path that `one`, `other` uses in the end; "" for none
    first_ms: float | None
    direct_ms: float | None  # both ends use a direct path


class Result(msgspec.Struct, frozen=True, kw_only=True):
    round_trip_ms: float
    pairs: tuple[Pair, ...]
    first_p95_ms: float  # pairs with UDP at both ends
    direct_p95_ms: float
    tcp_p95_ms: float  # first packet of the others
    unconnected: int
    not_direct: int


def topology(seats: Sequence[Seat] = SEATS) -> Topology:
    carriers = {seat.carrier.name: seat.carrier for seat in seats if seat.carrier}
    servers = tuple(Server(name=name, line=LINE) for name in ("control", "relay1", "relay2"))
    homes = (*carriers.values(), *(seat.home for seat in seats))
    return Topology(homes=homes, servers=servers)


def expected(one: Seat, other: Seat) -> str:
    """The best path that these two can have: "direct", "relay" or "tcp"."""
    if not (one.udp and other.udp):
        return "tcp"
    if one.outermost is other.outermost:
        return "direct" if one.outermost.router.hairpin else "relay"
    if one.independent and other.independent:
        return "direct"
    if not (one.independent or other.independent):
        return "relay"
    easy = one if one.independent else other
    return "relay" if easy.lets_in == "port" else "direct"


class Matrix:
    """The lab with all players up, nobody in a party."""

    def __init__(self, lab: Lab, seats: Sequence[Seat] = SEATS) -> None:
        self.seats = seats
        self.control = Control(lab.computer("control"), lab.folder / "state-control", 443)
        self.control.start()
        self.relays = [
            Relay(lab.computer(name), lab.folder / f"state-{name}", self.control)
            for name in ("relay1", "relay2")
        ]
        for relay in self.relays:
            relay.start()
        self.players = {
            seat.name: Player(lab.computer(seat.name), lab.folder / f"state-{seat.name}")
            for seat in seats
        }
        self.clicked_ms: dict[str, int] = {}
        self.first_ms: dict[tuple[str, str], float | None] = {}
        with ThreadPoolExecutor(STARTS_AT_ONCE) as starting:
            list(starting.map(self._start, self.players.values()))

    def _start(self, player: Player) -> None:
        player.start("--control", self.control.url)

    def gather(self) -> None:
        """All join, one after the other."""
        host, *guests = self.players.values()
        host.create("Matrix")
        present = [host]
        for guest in guests:
            self._join(host, guest, present)
            present.append(guest)

    def _join(self, host: Player, guest: Player, present: Sequence[Player]) -> None:
        link = host.invite()
        addresses = {player.address(): player.name for player in present}
        argv = [sys.executable, "-m", "lanrage.lab.first", *addresses]
        argv += ["--timeout-ms", str(int(FIRST_S_MAX * 1000))]
        asking = guest.computer.popen(argv, log="first", stdout=subprocess.PIPE)
        assert asking.stdout is not None
        asking.stdout.readline()
        began_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.clicked_ms[guest.name] = time.time_ns() // 1_000_000
        guest.post("/api/join", {"link": link})
        found, _ = asking.communicate(timeout=FIRST_S_MAX + 10)
        for address, at_ns in msgspec.json.decode(found, type=dict[str, int]).items():
            took_ms = round((at_ns - began_ns) / 1e6, 1) if at_ns else None
            self.first_ms[addresses[address], guest.name] = took_ms

    def settle(self) -> None:
        """Until every pair that can be direct is, or time is up."""
        deadline_s = time.monotonic() + SETTLE_S_MAX
        while time.monotonic() < deadline_s:
            if not any(self._is_waited_for(pair) for pair in self.pairs()):
                return
            time.sleep(0.5)  # ten views of as many nodes; there is no one event to wait for

    def _is_waited_for(self, pair: Pair) -> bool:
        return pair.expected == "direct" and pair.kinds != ("direct", "direct")

    def pairs(self) -> list[Pair]:
        """Everything known now."""
        kinds = {name: _kinds(player) for name, player in self.players.items()}
        return [
            Pair(
                one=one.name,
                other=other.name,
                expected=expected(one, other),
                kinds=(kinds[one.name].get(other.name, ""), kinds[other.name].get(one.name, "")),
                first_ms=self.first_ms[one.name, other.name],
                direct_ms=self._direct_ms(one.name, other.name),
            )
            for one, other in itertools.combinations(self.seats, 2)
        ]

    def _direct_ms(self, one: str, other: str) -> float | None:
        sides = [_direct_at(self.players[me], self.players[them]) for me, them in _both(one, other)]
        known = [at for at in sides if at is not None]
        return float(max(known) - self.clicked_ms[other]) if len(known) == 2 else None


def _both(one: str, other: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (one, other), (other, one)


def _kinds(player: Player) -> dict[str, str]:
    return {peer.name: peer.path.kind for peer in player.status().peers if peer.path}


def _direct_at(me: Player, them: Player) -> int | None:
    """When `me` first used a direct path to `them`, in Unix milliseconds."""
    assert them.ready is not None
    for event in list(me.events):
        if event.type in ("path.opened", "path.switched"):
            document = _document(event)
            path = document["path" if event.type == "path.opened" else "new"]
            if document["peer"] == them.ready.peer and path["kind"] == "direct":
                return event.at
    return None


def _document(event: Stored) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(event.data)
    return document


def p95(values: Iterable[float | None]) -> float:
    """Of those that there are."""
    ordered = sorted(value for value in values if value is not None)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)] if ordered else float("nan")


def judge(pairs: Sequence[Pair]) -> Result:
    direct = [pair for pair in pairs if pair.expected == "direct"]
    return Result(
        round_trip_ms=2 * ONE_WAY_MS,
        pairs=tuple(pairs),
        first_p95_ms=p95(pair.first_ms for pair in pairs if pair.expected != "tcp"),
        direct_p95_ms=p95(pair.direct_ms for pair in direct),
        tcp_p95_ms=p95(pair.first_ms for pair in pairs if pair.expected == "tcp"),
        unconnected=sum(1 for pair in pairs if pair.first_ms is None or "" in pair.kinds),
        not_direct=sum(1 for pair in direct if pair.kinds != ("direct", "direct")),
    )


def table(pairs: Sequence[Pair], seats: Sequence[Seat] = SEATS) -> str:
    """Kinds by kinds: which path, first answer and direct after so many ms."""
    known = {(pair.one, pair.other): pair for pair in pairs}
    wide = 20
    lines = [" " * wide + "".join(f"{seat.kind:>{wide}}" for seat in seats[1:])]
    for n, one in enumerate(seats[:-1]):
        cells = [""] * n + [_cell(known[one.name, other.name]) for other in seats[n + 1 :]]
        lines.append(f"{one.kind:<{wide}}" + "".join(f"{cell:>{wide}}" for cell in cells))
    return "\n".join(lines)


def _cell(pair: Pair) -> str:
    worst = next((kind for kind in ("", "tcp", "relay", "direct") if kind in pair.kinds), "?")
    first = "-" if pair.first_ms is None else f"{pair.first_ms:.0f}"
    direct = "" if pair.direct_ms is None else f"/{pair.direct_ms:.0f}"
    return f"{worst or 'none'} {first}{direct}"


def measure(seats: Sequence[Seat] = SEATS) -> Result:
    with Lab(topology(seats)) as lab:
        matrix = Matrix(lab, seats)
        matrix.gather()
        matrix.settle()
        return judge(matrix.pairs())


def main() -> dict[str, Any]:
    refused = namespaces.missing()
    if refused is not None:
        raise SystemExit(str(refused))
    try:
        result = measure()
    except NodeFailed as failure:
        raise SystemExit(str(failure)) from failure
    print(table(result.pairs))
    print(
        f"\n{len(result.pairs)} pairs at {result.round_trip_ms:g} ms: first packet p95 "
        f"{result.first_p95_ms:.0f} ms (1000), direct p95 {result.direct_p95_ms:.0f} ms (2500), "
        f"by TCP p95 {result.tcp_p95_ms:.0f} ms (3000); {result.unconnected} unconnected, "
        f"{result.not_direct} not direct that could be"
    )
    figures: dict[str, Any] = msgspec.to_builtins(result)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")
    return {name: value for name, value in figures.items() if name != "pairs"}


if __name__ == "__main__":
    main()
