"""Ways to reach a member, and every change of them with its evidence."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from events.base import Event, PeerId


class PathQuality(msgspec.Struct, frozen=True, kw_only=True):
    """One way to a peer and what was measured on it."""

    kind: str  # "direct" | "relay" | "tcp"
    address: str
    rtt_us: int  # microseconds, smoothed
    loss_permille: int = 0
    jitter_us: int = 0  # mean deviation of the round trip
    relay: str = ""  # which relay, or the id of the member that forwards; empty if direct


class PathEvent(Event, frozen=True, kw_only=True):
    STREAM: ClassVar[str] = "path/{peer}"
    peer: PeerId


class PathProbing(PathEvent, frozen=True, kw_only=True):
    """Authenticated probes go out to all of these addresses at once."""

    TYPE: ClassVar[str] = "path.probing"
    addresses: tuple[str, ...]


class PathOpened(PathEvent, frozen=True, kw_only=True):
    """The first answered probe: packets can flow."""

    TYPE: ClassVar[str] = "path.opened"
    path: PathQuality
    took_ms: int  # since probing began


class PathSwitched(PathEvent, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "path.switched"
    old: PathQuality
    new: PathQuality
    reason: str


class PathLost(PathEvent, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "path.lost"
    old: PathQuality
    reason: str


class PathDoubted(PathEvent, frozen=True, kw_only=True):
    """The used path stopped answering. Until it is known which one works, everything is sent on
    `second`, too, where there is one."""

    TYPE: ClassVar[str] = "path.doubted"
    path: PathQuality
    second: PathQuality | None
    silent_ms: int


class PathTrusted(PathEvent, frozen=True, kw_only=True):
    """The doubted path answered after all."""

    TYPE: ClassVar[str] = "path.trusted"
    path: PathQuality
    after_ms: int


class PathFailed(PathEvent, frozen=True, kw_only=True):
    """No candidate answered in time. Probing goes on, more slowly."""

    TYPE: ClassVar[str] = "path.failed"
    tried: tuple[str, ...]
    after_ms: int
    reason: str  # in words


EVENTS = (
    PathProbing,
    PathOpened,
    PathSwitched,
    PathLost,
    PathDoubted,
    PathTrusted,
    PathFailed,
)
