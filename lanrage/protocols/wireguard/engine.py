"""One local key, many peers: the whole protocol behind a handful of calls, without I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Address: TypeAlias = tuple[str, int]


class Peer:
    """What is known of one peer. Read by callers, written only by the engine."""

    public_key: bytes
    preshared_key: bytes
    endpoint: Address | None
    allowed: tuple[str, ...]
    keepalive_s: int
    last_handshake_ns: int
    last_handshake_wall_ns: int
    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int

    @property
    def has_session(self) -> bool:
        """Whether packets can be sealed for this peer now."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class SessionUp:
    """A peer without a session has one now, `took_ns` after its handshake began."""

    peer: Peer
    took_ns: int


@dataclass(frozen=True, slots=True)
class SessionDown:
    """A peer has no session any more: `expired`, `gave up` or `dropped`."""

    peer: Peer
    reason: str


EngineNotice: TypeAlias = SessionUp | SessionDown


class Engine:
    public_key: bytes
    mtu: int
    peers: Mapping[bytes, Peer]
    drops: dict[str, int]

    def __init__(
        self,
        private_key: bytes,
        *,
        random: Callable[[int], bytes],
        wall_offset_ns: int,
        roaming: bool,
    ) -> None:
        raise NotImplementedError

    def put_peer(
        self,
        public_key: bytes,
        *,
        allowed: Sequence[str],
        preshared_key: bytes = bytes(32),
        keepalive_s: int = 0,
        endpoint: Address | None = None,
    ) -> Peer:
        raise NotImplementedError

    def drop_peer(self, public_key: bytes) -> None:
        raise NotImplementedError

    def set_endpoint(self, peer: Peer, endpoint: Address | None, now_ns: int) -> None:
        raise NotImplementedError

    def route(self, destination: bytes) -> Peer | None:
        raise NotImplementedError

    def seal(self, peer: Peer, packets: Sequence[bytes], now_ns: int) -> list[bytes]:
        raise NotImplementedError

    def receive(
        self, datagrams: Sequence[bytes | memoryview], source: Address, now_ns: int
    ) -> list[tuple[Peer, list[bytes]]]:
        raise NotImplementedError

    def take_outgoing(self) -> list[tuple[Address, bytes]]:
        raise NotImplementedError

    def take_notices(self) -> list[EngineNotice]:
        raise NotImplementedError

    def timer(self) -> int | None:
        raise NotImplementedError

    def handle_timer(self, now_ns: int) -> None:
        raise NotImplementedError
