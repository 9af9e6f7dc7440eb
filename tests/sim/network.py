"""A seeded network in memory, on a virtual clock: homes behind routers, a wire that delays and
loses, STUN servers, and the real path core on every computer.

Addresses are plain text. A home is a subnet behind one router with one public address; a computer
without a router has a public address itself. Routers differ as RFC 4787 says: how they map (one
port for all destinations, or one for each) and whom they let in.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from events.peer import Candidate
from lanrage.protocols import endpoint, stun
from lanrage.protocols.endpoint import Address, Via
from lanrage.tunnel.messages import Mapped, Unmapped
from lanrage.tunnel.outlet import PathNotice
from lanrage.tunnel.paths import Paths

MS = 1_000_000
PORT = 51820
STUN_PORT = 3478

FULL_CONE = "full cone"
ADDRESS_RESTRICTED = "address-restricted"
PORT_RESTRICTED = "port-restricted"
SYMMETRIC = "symmetric"
KINDS = (FULL_CONE, ADDRESS_RESTRICTED, PORT_RESTRICTED, SYMMETRIC)


@dataclass(slots=True)
class Router:
    """`kind` is one of KINDS. Mappings never expire unless `forget` is called."""

    kind: str
    public: str
    random: random.Random
    mappings: dict[tuple[Address, Address | None], int] = field(default_factory=dict)
    asked: dict[int, set[Address]] = field(default_factory=dict)

    def outbound(self, source: Address, destination: Address) -> Address:
        key = (source, destination if self.kind == SYMMETRIC else None)
        if key not in self.mappings:
            taken = set(self.mappings.values())
            free = self.random.sample(range(20_000, 60_000), 8)
            self.mappings[key] = next(port for port in free if port not in taken)
        port = self.mappings[key]
        self.asked.setdefault(port, set()).add(destination)
        return self.public, port

    def inbound(self, source: Address, port: int) -> Address | None:
        inside = next((key[0] for key, mapped in self.mappings.items() if mapped == port), None)
        asked = self.asked.get(port, set())
        if inside is None or self.kind == FULL_CONE:
            return inside
        if self.kind == ADDRESS_RESTRICTED:
            return inside if source[0] in {host for host, _ in asked} else None
        return inside if source in asked else None

    def forget(self) -> None:
        self.mappings.clear()
        self.asked.clear()


@dataclass(slots=True)
class Computer:
    """`home` is the router in front, or None. `take` gets what arrives: datagram, from, at port."""

    host: str
    home: Router | None
    take: Callable[[bytes, Address, int], None]


class Network:
    def __init__(self, seed: int, *, delay_ms: float = 20, jitter_ms: float = 2, loss: float = 0):
        self.random = random.Random(seed)
        self.now_ns = 1_000 * MS
        self.delay_ms, self.jitter_ms, self.loss = delay_ms, jitter_ms, loss
        self.lan_cut = False
        self.wan_cut = False
        self.cuts: set[frozenset[str]] = set()  # public hosts between which nothing passes
        self.sent = 0
        self.computers: dict[tuple[int, str], Computer] = {}
        self.routers: dict[str, Router] = {}
        self.members: list[Member] = []
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0

    def at(self, when_ns: int, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (when_ns, self._order, action))

    def router(self, kind: str, public: str) -> Router:
        router = Router(kind, public, self.random)
        self.routers[public] = router
        return router

    def attach(self, computer: Computer) -> None:
        self.computers[id(computer.home), computer.host] = computer

    def send(self, sender: Computer, port: int, to: Address, datagram: bytes) -> None:
        self.sent += 1
        neighbour = self.computers.get((id(sender.home), to[0]))
        source = (sender.host, port)
        if neighbour is not None:
            local = sender.home is not None
            if not (self.lan_cut if local else self.wan_cut):
                self._deliver(neighbour, datagram, source, to[1], lan=local)
            return
        if sender.home is not None:
            source = sender.home.outbound(source, to)
        if self.wan_cut or frozenset((source[0], to[0])) in self.cuts:
            return
        router = self.routers.get(to[0])
        if router is None:
            outside = self.computers.get((id(None), to[0]))
            if outside is not None:
                self._deliver(outside, datagram, source, to[1], lan=False)
        elif router is not sender.home:  # no hairpin
            self._through(router, datagram, source, to[1])

    def _through(self, router: Router, datagram: bytes, source: Address, port: int) -> None:
        if self.random.random() < self.loss:
            return

        def arrive() -> None:
            inside = router.inbound(source, port)
            if inside is not None:
                self.computers[id(router), inside[0]].take(datagram, source, inside[1])

        self.at(self.now_ns + self._delay_ns(lan=False), arrive)

    def _deliver(
        self, to: Computer, datagram: bytes, source: Address, port: int, *, lan: bool
    ) -> None:
        if not lan and self.random.random() < self.loss:
            return
        self.at(self.now_ns + self._delay_ns(lan=lan), lambda: to.take(datagram, source, port))

    def _delay_ns(self, *, lan: bool) -> int:
        if lan:
            return int((0.2 + 0.3 * self.random.random()) * MS)
        return int((self.delay_ms + self.jitter_ms * self.random.random()) * MS)

    def run(self, seconds: float) -> None:
        self.run_until(lambda: False, seconds)

    def run_until(self, done: Callable[[], bool], seconds: float) -> bool:
        end_ns = self.now_ns + int(seconds * 1000 * MS)
        while not done():
            due_ns = min(
                [self._queue[0][0] if self._queue else end_ns + 1]
                + [due for m in self.members if (due := m.paths.timer()) is not None]
            )
            if due_ns > end_ns:
                self.now_ns = end_ns
                return done()
            self.now_ns = max(self.now_ns, due_ns)
            self._run_due()
        return True

    def _run_due(self) -> None:
        while self._queue and self._queue[0][0] <= self.now_ns:
            heapq.heappop(self._queue)[2]()
        for member in self.members:
            due = member.paths.timer()
            if due is not None and due <= self.now_ns:
                member.wakes += 1
                member.paths.handle_timer(self.now_ns)
            member.flush()


class StunServer:
    """Answers on two ports, as the control server does."""

    def __init__(self, network: Network, host: str) -> None:
        self.network = network
        self.host = host
        self.down = False
        self.computer = Computer(host, None, self.take)
        network.attach(self.computer)

    @property
    def names(self) -> tuple[str, str]:
        return f"{self.host}:{STUN_PORT}", f"{self.host}:{STUN_PORT + 1}"

    def take(self, datagram: bytes, source: Address, port: int) -> None:
        reply = stun.respond(datagram, source, alternate=(self.host, STUN_PORT + 1))
        if reply is not None and not self.down:
            self.network.send(self.computer, port, source, reply.datagram)


class Member:
    """One computer with the path core, and the tiny part of a node that spreads candidates."""

    def __init__(self, network: Network, name: str, host: str, home: Router | None) -> None:
        self.network = network
        self.name = name
        self.computer = Computer(host, home, self.take)
        network.attach(self.computer)
        network.members.append(self)
        self.private_key = network.random.randbytes(32)
        private = X25519PrivateKey.from_private_bytes(self.private_key)
        self.public_key = private.public_key().public_bytes_raw()
        self.mapped: dict[str, str] = {}
        self.others: list[Member] = []
        self.notices: list[tuple[int, PathNotice]] = []
        self.generation = 0
        self.heard: dict[str, int] = {}
        self.wakes = 0
        self.sent = 0
        self.start()

    def start(self) -> None:
        """The program starts, or starts again: everything learnt is forgotten."""
        self.paths = Paths(private_key=self.private_key, random=self.network.random.randbytes)
        self.mapped.clear()

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        own = Candidate("host", endpoint.text((self.computer.host, PORT)))
        return (own, *(Candidate("mapped", a) for a in sorted(set(self.mapped.values()))))

    def join(self, others: Sequence[Member], servers: Sequence[str]) -> None:
        self.others = [other for other in others if other is not self]
        for other in self.others:
            self.paths.put_peer(other.name, other.public_key)
        self.paths.put_servers(servers, self.network.now_ns)
        self.tell()
        self.flush()

    def tell(self) -> None:
        """Candidates travel to the others through control."""
        candidates = self.candidates
        self.generation += 1
        for other in self.others:
            delay_ns = int(self.network.random.uniform(20, 60) * MS)
            self.network.at(
                self.network.now_ns + delay_ns,
                partial(other.hear, self, candidates, self.generation),
            )

    def hear(self, other: Member, candidates: tuple[Candidate, ...], generation: int) -> None:
        if generation < self.heard.get(other.name, 0):
            return
        self.heard[other.name] = generation
        self.paths.put_candidates(other.name, candidates, self.network.now_ns)
        self.flush()

    def take(self, datagram: bytes, source: Address, port: int) -> None:
        if self.paths.is_ours(datagram):
            self.paths.receive(datagram, source, self.network.now_ns)
            self.flush()

    def flush(self) -> None:
        for to, datagram in self.paths.take_outgoing():
            assert not isinstance(to, Via), "there is no relay here"
            self.sent += 1
            self.network.send(self.computer, PORT, to, datagram)
        changed = False
        for notice in self.paths.take_notices():
            self.notices.append((self.network.now_ns, notice))
            if isinstance(notice, Mapped):
                self.mapped[notice.server] = notice.address
                changed = True
            elif isinstance(notice, Unmapped):
                changed = self.mapped.pop(notice.server, None) is not None or changed
        if changed:
            self.tell()

    def of(self, kind: type) -> list[tuple[int, PathNotice]]:
        return [(at, notice) for at, notice in self.notices if isinstance(notice, kind)]


def two_homes(network: Network, kind_a: str, kind_b: str) -> tuple[Member, Member, StunServer]:
    """Two members, each alone behind its router, both already told of each other."""
    server = StunServer(network, "8.8.8.8")
    a = Member(network, "a", "192.168.1.10", network.router(kind_a, "1.1.1.1"))
    b = Member(network, "b", "192.168.2.20", network.router(kind_b, "2.2.2.2"))
    return a, b, server


def one_home(network: Network, kind: str) -> tuple[Member, Member, StunServer]:
    server = StunServer(network, "8.8.8.8")
    home = network.router(kind, "1.1.1.1")
    a = Member(network, "a", "192.168.1.10", home)
    b = Member(network, "b", "192.168.1.11", home)
    return a, b, server


def start(members: Sequence[Member], server: StunServer) -> None:
    for member in members:
        member.join(members, server.names)
