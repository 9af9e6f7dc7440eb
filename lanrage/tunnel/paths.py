"""Ways to the other members: probed, measured, chosen, given up. Pure, on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from events.base import PeerId
from events.peer import Candidate
from lanrage.protocols import probe, stun
from lanrage.protocols.endpoint import Address
from lanrage.tunnel.messages import (
    Lost,
    Mapped,
    Opened,
    Probing,
    Switched,
    Unmapped,
    Unreachable,
)

PathNotice: TypeAlias = Probing | Opened | Switched | Lost | Unreachable | Mapped | Unmapped


class Paths:
    def __init__(self, *, private_key: bytes, random: Callable[[int], bytes]) -> None:
        self.drops: dict[str, int] = {}
        self._private_key = private_key
        self._random = random

    def put_own_networks(self, networks: Sequence[str]) -> None:
        """The tunnel's own prefixes: a path through the tunnel itself must never be tried."""

    def put_peer(self, peer: PeerId, public_key: bytes) -> None:
        raise NotImplementedError

    def drop_peer(self, peer: PeerId) -> None:
        raise NotImplementedError

    def put_candidates(self, peer: PeerId, candidates: Sequence[Candidate], now_ns: int) -> None:
        raise NotImplementedError

    def put_servers(self, servers: Sequence[str], now_ns: int) -> None:
        raise NotImplementedError

    def is_ours(self, datagram: bytes) -> bool:
        return probe.is_probe(datagram) or stun.is_stun(datagram)

    def receive(self, datagram: bytes, source: Address, now_ns: int) -> None:
        raise NotImplementedError

    def note_data(self, peer: PeerId, now_ns: int) -> None:
        raise NotImplementedError

    def best(self, peer: PeerId) -> Address | None:
        return None

    def take_outgoing(self) -> list[tuple[Address, bytes]]:
        return []

    def take_notices(self) -> list[PathNotice]:
        return []

    def quality(self, peer: PeerId) -> tuple[int, int]:
        return (0, 0)

    def timer(self) -> int | None:
        return None

    def handle_timer(self, now_ns: int) -> None:
        pass
