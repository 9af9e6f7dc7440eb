"""A wire with a virtual clock between engines: seeded delay, loss, duplicates, reordering.

`run` goes from event to event (deliveries, timers, scheduled calls), so hours pass in milliseconds
and a run repeats exactly from its seed.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from lanrage.protocols.wireguard.constants import MILLISECOND, SECOND
from lanrage.protocols.wireguard.engine import Engine, EngineNotice, Peer, Place

WALL_OFFSET_NS = 1_700_000_000 * SECOND
A: Place = ("192.0.2.1", 51820)
B: Place = ("192.0.2.2", 51820)
INNER_A, INNER_B = bytes((10, 66, 0, 1)), bytes((10, 66, 0, 2))


def ipv4(source: bytes, destination: bytes, payload: bytes = b"") -> bytes:
    total = 20 + len(payload)
    return b"\x45\x00" + total.to_bytes(2, "big") + bytes(8) + source + destination + payload


def ipv6(source: bytes, destination: bytes, payload: bytes = b"") -> bytes:
    return (
        b"\x60\x00\x00\x00"
        + len(payload).to_bytes(2, "big")
        + b"\x11\x40"
        + source
        + (destination + payload)
    )


def engine(seed: str, *, roaming: bool = False) -> Engine:
    source = random.Random(seed)
    return Engine(
        source.randbytes(32),
        random=source.randbytes,
        wall_offset_ns=WALL_OFFSET_NS,
        roaming=roaming,
    )


@dataclass
class Sent:
    at_ns: int
    source: Place
    to: Place
    datagram: bytes

    @property
    def kind(self) -> int:
        return self.datagram[0]


@dataclass
class Wire:
    """Engines by address. `sent` remembers every datagram that left one."""

    seed: int = 0
    delay_ns: int = 20 * MILLISECOND
    jitter_ns: int = 0
    loss: float = 0.0
    duplicates: float = 0.0
    now_ns: int = SECOND
    cut: bool = False
    engines: dict[Place, Engine] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    received: dict[Place, list[bytes]] = field(default_factory=dict)
    notices: dict[Place, list[EngineNotice]] = field(default_factory=dict)
    # Decides what is lost on the way; replaced by tests that lose something in particular.
    loses: Callable[[Sent], bool] = lambda sent: False

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def add(self, address: Place, engine: Engine) -> None:
        self.engines[address] = engine
        self.received[address] = []
        self.notices[address] = []

    def at(self, at_ns: int, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at_ns, self._count, call))

    def send(self, source: Place, peer: Peer, packets: list[bytes]) -> None:
        """Seal and send packets now, as a tunnel does."""
        for datagram in self.engines[source].seal(peer, packets, self.now_ns):
            assert peer.endpoint is not None
            self._put(Sent(self.now_ns, source, peer.endpoint, datagram))
        self.pump()

    def pump(self) -> None:
        """Take what the engines have to send and to say."""
        for address, core in self.engines.items():
            for to, datagram in core.take_outgoing():
                self._put(Sent(self.now_ns, address, to, datagram))
            self.notices[address] += core.take_notices()

    def run(self, seconds: float) -> None:
        """Let this much time pass."""
        until_ns = self.now_ns + round(seconds * SECOND)
        self.pump()
        while (at_ns := self._next_ns()) <= until_ns:
            self.now_ns = max(self.now_ns, at_ns)
            while self._heap and self._heap[0][0] <= self.now_ns:
                heapq.heappop(self._heap)[2]()
            for core in self.engines.values():
                core.handle_timer(self.now_ns)
            self.pump()
        self.now_ns = until_ns

    def _next_ns(self) -> int:
        """When something happens next; far away if nothing does."""
        timers = [at_ns for core in self.engines.values() if (at_ns := core.timer()) is not None]
        return min([*timers, self._heap[0][0] if self._heap else 2**64])

    def _put(self, sent: Sent) -> None:
        self.sent.append(sent)
        if self.cut or self.loses(sent) or self._random.random() < self.loss:
            return
        copies = 2 if self._random.random() < self.duplicates else 1
        for _ in range(copies):
            delay_ns = self.delay_ns + self._random.randrange(self.jitter_ns + 1)
            self.at(sent.at_ns + delay_ns, lambda: self._deliver(sent))

    def _deliver(self, sent: Sent) -> None:
        core = self.engines.get(sent.to)
        if core is None:
            return
        for _, packets in core.receive([sent.datagram], sent.source, self.now_ns):
            self.received[sent.to] += packets


@dataclass
class Pair:
    """Two engines that know each other: `a` at A has `b` as `to_b`, and so on."""

    wire: Wire
    a: Engine
    b: Engine
    to_b: Peer
    to_a: Peer

    def of_kind(self, kind: int, source: Place | None = None) -> list[Sent]:
        return [s for s in self.wire.sent if s.kind == kind and source in (None, s.source)]

    def connect(self) -> None:
        """Let A initiate, and wait until both have a session and all is silent."""
        self.wire.send(A, self.to_b, [ipv4(INNER_A, INNER_B, b"hello")])
        self.wire.run(0.2)
        assert self.to_b.has_session
        assert self.to_a.has_session
        self.wire.received[B].clear()


def pair(
    wire: Wire | None = None,
    *,
    keepalive_s: int = 0,
    psk_a: bytes = bytes(32),
    psk_b: bytes = bytes(32),
    roaming: bool = False,
    smaller: str = "a",
    endpoints: bool = True,
) -> Pair:
    """Two engines on a wire, not yet talking; `smaller` has the smaller public key."""
    wire = wire or Wire()
    first, second = engine("first", roaming=roaming), engine("second", roaming=roaming)
    if (first.public_key < second.public_key) != (smaller == "a"):
        first, second = second, first
    to_b = first.put_peer(
        second.public_key, allowed=["10.66.0.2/32"], preshared_key=psk_a, keepalive_s=keepalive_s
    )
    to_a = second.put_peer(
        first.public_key, allowed=["10.66.0.1/32"], preshared_key=psk_b, keepalive_s=keepalive_s
    )
    wire.add(A, first)
    wire.add(B, second)
    if endpoints:
        first.set_endpoint(to_b, B, wire.now_ns)
        second.set_endpoint(to_a, A, wire.now_ns)
    return Pair(wire, first, second, to_b, to_a)
