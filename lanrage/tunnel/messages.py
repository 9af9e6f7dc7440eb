"""The closed list of what node and tunnel process say to each other over their socketpair.

Framing: 4-byte big-endian length, then one MessagePack document (tagged union). A frame over
`FRAME_MAX`, or one that does not decode, ends the connection: the other side is us, so it is a
programming error. Losing the connection ends the tunnel process, and with it the interface.

The node gives orders; the tunnel reports notices: transitions at once, counters once a second at
most and only when they changed. All orders are idempotent and level-triggered: the same order
again changes nothing.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from events.base import PeerId
from events.path import PathQuality
from lanrage.effects import (
    AnyOrder,
    ChangeNetwork,
    CheckPeer,
    Configure,
    Deconfigure,
    DropPeer,
    Order,
    PutCandidates,
    PutPeer,
    PutPicks,
    PutPolicy,
    PutRelays,
    PutServers,
    RelayGrant,
    Start,
    Stop,
)
from lanrage.refusal import Refusal

__all__ = [
    "AnyNotice",
    "AnyOrder",
    "ChangeNetwork",
    "CheckPeer",
    "Configure",
    "Configured",
    "Counters",
    "Deconfigure",
    "Doubted",
    "DropPeer",
    "Established",
    "Expired",
    "Failed",
    "Lost",
    "Mapped",
    "Notice",
    "Opened",
    "Order",
    "PeerCounters",
    "Probing",
    "PutCandidates",
    "PutPeer",
    "PutPicks",
    "PutPolicy",
    "PutRelays",
    "PutServers",
    "RelayBound",
    "RelayGrant",
    "RelayMeasured",
    "RelayUnbound",
    "Start",
    "Started",
    "Stop",
    "Switched",
    "Trusted",
    "Unmapped",
    "Unreachable",
]

FRAME_MAX = 1 << 20


class Notice(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Started(Notice, frozen=True, kw_only=True):
    interface: str
    port: int


class Failed(Notice, frozen=True, kw_only=True):
    refusal: Refusal


class Configured(Notice, frozen=True, kw_only=True):
    address: str
    address6: str
    mtu: int


class Mapped(Notice, frozen=True, kw_only=True):
    """First answer of a server, and again whenever the mapped address differs."""

    server: str
    address: str
    rtt_us: int


class Unmapped(Notice, frozen=True, kw_only=True):
    server: str
    reason: str


class Probing(Notice, frozen=True, kw_only=True):
    peer: PeerId
    addresses: tuple[str, ...]


class Opened(Notice, frozen=True, kw_only=True):
    peer: PeerId
    path: PathQuality
    took_ms: int


class Switched(Notice, frozen=True, kw_only=True):
    peer: PeerId
    old: PathQuality
    new: PathQuality
    reason: str


class Lost(Notice, frozen=True, kw_only=True):
    peer: PeerId
    old: PathQuality
    reason: str


class Doubted(Notice, frozen=True, kw_only=True):
    """The used path stopped answering; everything goes on `second`, too, if there is one. Said at
    most once in ten seconds for each peer."""

    peer: PeerId
    path: PathQuality
    second: PathQuality | None
    silent_ms: int


class Trusted(Notice, frozen=True, kw_only=True):
    """The path that was `Doubted` (and said to be) answered after all."""

    peer: PeerId
    path: PathQuality
    after_ms: int


class RelayBound(Notice, frozen=True, kw_only=True):
    """A relay forwards to us now, over UDP ("relay") or WebSocket ("tcp")."""

    relay: str
    carrier: str
    address: str  # where it sees us
    rtt_us: int
    took_ms: int


class RelayUnbound(Notice, frozen=True, kw_only=True):
    relay: str
    carrier: str
    reason: str


class RelayMeasured(Notice, frozen=True, kw_only=True):
    """The round trip to a relay, when it differs by a fifth from what was said before."""

    relay: str
    rtt_us: int


class Unreachable(Notice, frozen=True, kw_only=True):
    """No candidate answered within the deadline; slower probing goes on."""

    peer: PeerId
    tried: tuple[str, ...]
    after_ms: int
    reason: str


class Established(Notice, frozen=True, kw_only=True):
    """A WireGuard session came up where there was none. Rekeys are not reported."""

    peer: PeerId
    took_ms: int


class Expired(Notice, frozen=True, kw_only=True):
    peer: PeerId
    reason: str


class PeerCounters(msgspec.Struct, frozen=True, kw_only=True):
    peer: PeerId
    rx_bytes: int
    tx_bytes: int
    rx_packets: int
    tx_packets: int
    rtt_us: int  # 0 while unknown
    loss_permille: int
    jitter_us: int = 0


class Counters(Notice, frozen=True, kw_only=True):
    """At most once a second, and only if something changed since the last one."""

    peers: tuple[PeerCounters, ...]
    drops: dict[str, int]  # reason -> packets, since start


AnyNotice: TypeAlias = (
    Started
    | Failed
    | Configured
    | Mapped
    | Unmapped
    | Probing
    | Opened
    | Switched
    | Lost
    | Doubted
    | Trusted
    | RelayBound
    | RelayUnbound
    | RelayMeasured
    | Unreachable
    | Established
    | Expired
    | Counters
)
