"""Port search: a direct way between a router that takes another port for every destination (the
*hard* side) and one that does not, but lets in only what it asked for.

The hard side cannot know which port its router will take for us, and we cannot be let in anywhere
else. So it opens 256 sockets and pings the easy side's address from each: 256 ports of its router
now let that address in. The easy side pings random ports of that router, no port twice. One hit is
enough, for the ping shows where it came from. With 64,512 ports, 577 pings hit with 90 % and 1,715
with 99.9 % (the birthday problem: P = 1 - C(N-256, n) / C(N, n)).

    side   what it sends                                   when
    hard   a ping from each of 256 sockets, once           after 5 s without a direct way
    easy   2,048 pings at most, 500 a second               1.5 s later

To whoever owns the router it looks like a scan. So both members must have consented (it is off by
default, and every ping says whether), there is one search at a time, and a router is left alone
for ten minutes after. Whoever answers is proven as any other way is; here nothing is believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from events.base import PeerId
from lanrage.protocols import endpoint
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.tunnel.outlet import Outlet
from lanrage.tunnel.prober import Prober

MS = 1_000_000
AFTER_NS = 5000 * MS  # without a direct way
EASY_DELAY_NS = 1500 * MS
SOCKETS = 256
PINGS_MAX = 2048
STEP_NS, STEP_PINGS = 50 * MS, 25  # 500 a second
COOL_DOWN_NS = 600_000 * MS
ROUTERS_MAX = 64  # remembered; with all of them cooling down there is no other search
PORT_MIN = 1024


@dataclass(slots=True)
class _Run:
    peer: PeerId
    prober: Prober
    places: Iterator[Place]
    due_ns: int


class Search:
    """At most one run at a time."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._run: _Run | None = None
        self._searched_ns: dict[str, int] = {}  # by the other router's host

    def seek(self, peer: PeerId, prober: Prober, host: str, now_ns: int) -> None:
        """As the easy side: look for the port of that router that lets us in."""
        if self._may_begin(host, now_ns):
            self._run = _Run(peer, prober, self._ports(host), now_ns + EASY_DELAY_NS)

    def offer(self, peer: PeerId, prober: Prober, target: Address, now_ns: int) -> None:
        """As the hard side: have many ports that let that address in."""
        if self._may_begin(target[0], now_ns):
            written = endpoint.text(target)
            places = (Via("port", f"{number} {written}", 0) for number in range(SOCKETS))
            self._run = _Run(peer, prober, places, now_ns)

    def stop(self, peer: PeerId) -> None:
        """It was found, or the member left."""
        if self._run is not None and self._run.peer == peer:
            self._run = None

    def timer(self) -> int | None:
        return None if self._run is None else self._run.due_ns

    def handle_timer(self, now_ns: int) -> None:
        run = self._run
        if run is None or now_ns < run.due_ns:
            return
        run.due_ns = now_ns + STEP_NS
        for _ in range(STEP_PINGS):
            place = next(run.places, None)
            if place is None:
                self._run = None
                return
            run.prober.call(place)

    def _may_begin(self, host: str, now_ns: int) -> bool:
        recent = {
            router: at_ns
            for router, at_ns in self._searched_ns.items()
            if now_ns - at_ns < COOL_DOWN_NS
        }
        self._searched_ns = recent
        if self._run is not None or host in recent or len(recent) >= ROUTERS_MAX:
            return False
        recent[host] = now_ns
        return True

    def _ports(self, host: str) -> Iterator[Place]:
        tried: set[int] = set()
        while len(tried) < PINGS_MAX:
            port = int.from_bytes(self._outlet.random(2), "big")
            if port >= PORT_MIN and port not in tried:
                tried.add(port)
                yield host, port
