"""A party on a seeded network, with everything in it that decides about paths.

Each `Player` is what a tunnel process is without interface and cipher: the real path core, the real
relay bindings, friends and the one way out. Relays answer as protocols/relay/wire.py says. Packets
of a stream are told from probes by their shape, as in the tunnel, and go to the used place and,
while that is in doubt, to the second one.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from functools import partial
from typing import cast

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from events.peer import Candidate
from lanrage.effects import RelayGrant
from lanrage.protocols import endpoint, stun
from lanrage.protocols.endpoint import Address, Place
from lanrage.protocols.relay import wire
from lanrage.tunnel.arrivals import Arrivals
from lanrage.tunnel.friend import Friend
from lanrage.tunnel.messages import Mapped, Unmapped
from lanrage.tunnel.outlet import PathNotice
from lanrage.tunnel.outside import Outside
from lanrage.tunnel.paths import BoundRelay, Paths
from lanrage.tunnel.relays import Relays
from lanrage.tunnel.udp import UdpPort
from tests.sim.network import (
    MS,
    PORT,
    Computer,
    Network,
    Router,
)

S = 1000 * MS
RELAY_PORT = 3478
PACE_NS = 50 * MS  # of a stream
DATA_SIZE = 48


class RelayEnd:
    """A relay: knows who is bound where, forwards between bound addresses, answers STUN."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.host = f"9.9.9.{number}"
        self.name = f"{self.host}:{RELAY_PORT}"
        self.computer = Computer(self.host, None, self.take)
        self.alive = True
        self.private = world.random.randbytes(32)
        self.public = _public(self.private)
        self.boot = world.random.randbytes(wire.BOOT_BYTES)
        self.keys: dict[int, wire.Keys] = {}
        self.bound: dict[int, Address] = {}
        world.attach(self.computer)

    def grant(self, number: int) -> RelayGrant:
        return RelayGrant(
            relay=self.name,
            addresses=(self.name,),
            region="",
            tcp="",
            pin="",
            public_key=self.public,
            boot=self.boot,
            ticket=number.to_bytes(2, "big") + bytes(wire.TICKET_BYTES - 2),
        )

    def restart(self) -> None:
        self.alive = True
        self.boot = self.world.random.randbytes(wire.BOOT_BYTES)
        self.bound.clear()

    def take(self, datagram: bytes, source: Address, port: int) -> None:
        if not self.alive:
            return
        if stun.is_stun(datagram):
            reply = stun.respond(datagram, source, alternate=(self.host, RELAY_PORT))
            answer = reply.datagram if reply else None
        elif wire.is_relayed(datagram):
            return self._forward(datagram, source)
        else:
            answer = self._answer(datagram, source)
        if answer is not None:
            self.world.send(self.computer, RELAY_PORT, source, answer)
        return None

    def _forward(self, datagram: bytes, source: Address) -> None:
        sender, receiver = wire.ends(wire.number_of(datagram))
        if self.bound.get(sender) != source:
            answer = wire.stranger(wire.Stranger(self.boot))
            return self.world.send(self.computer, RELAY_PORT, source, answer)
        to = self.bound.get(receiver)
        if to is not None:
            self.world.send(self.computer, RELAY_PORT, to, datagram)
        return None

    def _answer(self, datagram: bytes, source: Address) -> bytes | None:
        message = wire.read(datagram)
        if isinstance(message, wire.Bind) and wire.kind_of(datagram) == wire.BIND:
            return wire.challenge(wire.Challenge(message.nonce, self.boot, bytes(16)))
        if isinstance(message, wire.Bind):
            if message.boot != self.boot:
                return None
            number = int.from_bytes(message.ticket[:2], "big")
            self.bound[number] = source
            welcome = wire.Welcome(message.nonce, self.boot, 60, source)
            return wire.welcome(welcome, self.keys[number])
        if isinstance(message, wire.Beat):
            number = next((n for n, at in self.bound.items() if at == source), 0)
            if not number:
                return wire.stranger(wire.Stranger(self.boot))
            return wire.beaten(wire.Beat(self.boot, message.counter), self.keys[number])
        return None


class _Port:
    """What `Outside` knows of a UDP port."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def send(self, address: Address, datagrams: Sequence[bytes]) -> None:
        for datagram in datagrams:
            self._player.let_out(address, datagram)


class Player:
    def __init__(self, world: World, number: int, host: str, home: Router) -> None:
        self.world = world
        self.number = number
        self.name = f"p{number}"
        self.home = home
        self.computer = Computer(host, home, self.take)
        self.private = world.random.randbytes(32)
        self.public = _public(self.private)
        self.mapped: dict[str, str] = {}
        self.told: tuple[Candidate, ...] = ()
        self.generation = 0  # of what was told
        self.heard: dict[str, int] = {}
        self.notices: list[tuple[int, PathNotice]] = []
        self.sent = 0  # everything but data
        self.arrived_ns: dict[str, int] = {}  # by sender: the newest packet of its stream
        self.got: dict[str, set[int]] = {}
        world.attach(self.computer)

    @property
    def others(self) -> list[Player]:
        return [player for player in self.world.players if player is not self]

    def start(self) -> None:
        """The program starts, or starts again: everything learnt is forgotten."""
        now, randbytes = self.world.now_ns, self.world.random.randbytes
        self.mapped.clear()
        self.heard.clear()
        self.paths = Paths(private_key=self.private, random=randbytes)
        port = cast(UdpPort, _Port(self))
        self.outside = Outside(port, self.paths.direct_of)
        self.relays = Relays(
            self.private,
            self.outside,
            random=randbytes,
            dial=None,
            deliver=lambda datagrams, place, now: None,
            tell=lambda notice: None,
            usable=self._put_bound,
        )
        self.arrivals = Arrivals(self.paths, self.relays, Friend(port.send))
        self.arrivals.number = self.number
        self.paths.put_self(self.number, now)
        for other in self.others:
            self.arrivals.put_member(other.name, other.number)
            self.paths.put_peer(other.name, other.public, other.number)
        self.paths.put_servers(self.world.stun, now)
        self.relays.put([relay.grant(self.number) for relay in self.world.relays], now)
        self.tell()
        self.flush()

    def _put_bound(self, bound: Sequence[BoundRelay], now: int) -> None:
        self.paths.put_relays(bound, now)

    def tell(self) -> None:
        """Candidates travel to the others through control, and theirs to us."""
        own = Candidate("host", endpoint.text((self.computer.host, PORT)))
        mapped = [Candidate("mapped", each) for each in sorted(set(self.mapped.values()))]
        self.generation += 1
        self.told = (own, *mapped)
        for other in self.others:
            self._tell_to(other)
            other._tell_to(self)

    def _tell_to(self, other: Player) -> None:
        if self.generation:
            delay_ns = int(self.world.random.uniform(20, 120) * MS)
            hear = partial(other.hear, self, self.told, self.generation)
            self.world.at(self.world.now_ns + delay_ns, hear)

    def hear(self, other: Player, candidates: tuple[Candidate, ...], generation: int) -> None:
        if generation >= self.heard.get(other.name, 0):
            self.heard[other.name] = generation
            self.paths.put_candidates(other.name, candidates, self.world.now_ns)
            self.flush()

    # --- datagrams ------------------------------------------------------------------------------

    def let_out(self, address: Address, datagram: bytes) -> None:
        if datagram[0] != 4:
            self.sent += 1
        self.world.send(self.computer, PORT, address, datagram)

    def take(self, datagram: bytes, source: Address, port: int) -> None:
        now = self.world.now_ns
        if self.arrivals.is_ours(datagram):
            self.arrivals.receive(datagram, source, now)
        elif wire.is_relayed(datagram) and wire.number_of(datagram):
            for place, datagrams in self.arrivals.unwrap([datagram], source, now):
                for each in datagrams:
                    self._take_inner(each, place, now)
        else:
            self._take_inner(datagram, source, now)
        self.flush()

    def _take_inner(self, datagram: bytes, place: Place, now: int) -> None:
        if self.arrivals.is_ours(datagram):
            self.arrivals.receive(datagram, place, now)
        elif len(datagram) == DATA_SIZE:
            sender = f"p{int.from_bytes(datagram[4:6], 'big')}"
            self.arrived_ns[sender] = now
            self.got.setdefault(sender, set()).add(int.from_bytes(datagram[6:10], "big"))
            self.paths.note_data(sender, now, False)

    def stream(self, other: Player, sequence: int) -> None:
        """One packet of the stream to that player."""
        now = self.world.now_ns
        head = bytes((4, 0, 0, 0)) + self.number.to_bytes(2, "big") + sequence.to_bytes(4, "big")
        datagram = head.ljust(DATA_SIZE, b"\0")
        self.paths.note_data(other.name, now)
        for place in (self.paths.best(other.name), self.paths.second(other.name, now)):
            if place is not None:
                self.outside.send(place, [datagram])

    def timer(self) -> int | None:
        dues = [self.paths.timer(), self.relays.timer()]
        return min((due for due in dues if due is not None), default=None)

    def handle_timer(self, now: int) -> None:
        self.paths.handle_timer(now)
        self.relays.handle_timer(now)

    def flush(self) -> None:
        for place, datagram in self.paths.take_outgoing():
            self.outside.send(place, [datagram])
        changed = False
        for notice in self.paths.take_notices():
            self.notices.append((self.world.now_ns, notice))
            if isinstance(notice, Mapped):
                self.mapped[notice.server] = notice.address
                changed = True
            elif isinstance(notice, Unmapped):
                changed = self.mapped.pop(notice.server, None) is not None or changed
        if changed:
            self.tell()


class World(Network):
    def __init__(
        self, seed: int, *, delay_ms: float = 20, jitter_ms: float = 2, loss: float = 0
    ) -> None:
        super().__init__(seed, delay_ms=delay_ms, jitter_ms=jitter_ms, loss=loss)
        self.players: list[Player] = []
        self.relays: list[RelayEnd] = []
        self.stun: tuple[str, ...] = ()

    @property
    def pairs(self) -> list[tuple[Player, Player]]:
        return list(itertools.combinations(self.players, 2))

    def add_relay(self) -> RelayEnd:
        self.relays.append(RelayEnd(self, len(self.relays) + 1))
        return self.relays[-1]

    def add_player(self, kind: str, home: Router | None = None) -> Player:
        number = len(self.players) + 1
        home = home or self.router(kind, f"{number}.1.1.1")
        player = Player(self, number, f"192.168.{number}.10", home)
        for relay in self.relays:
            keys = wire.derive(relay.private, player.public, relay=True)
            assert keys is not None
            relay.keys[number] = keys
        self.players.append(player)
        return player

    def move(self, home: Router) -> None:
        """A new public address; the old one is nobody's."""
        del self.routers[home.public]
        first, second, *_ = home.public.split(".")
        home.public = f"{first}.{int(second) + 1}.1.1"
        self.routers[home.public] = home
        home.forget()

    def run_until_ns(self, end_ns: int) -> None:
        while True:
            dues = [due for player in self.players if (due := player.timer()) is not None]
            dues += [self._queue[0][0]] if self._queue else []
            if not dues or min(dues) > end_ns:
                self.now_ns = end_ns
                return
            self.now_ns = max(self.now_ns, min(dues))
            self._run_due()

    def _run_due(self) -> None:
        while self._queue and self._queue[0][0] <= self.now_ns:
            heapq.heappop(self._queue)[2]()
        for player in self.players:
            due = player.timer()
            if due is not None and due <= self.now_ns:
                player.handle_timer(self.now_ns)
                player.flush()


def _public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
