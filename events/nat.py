"""What this node learnt about its own way to the internet."""

from __future__ import annotations

from typing import ClassVar

from events.base import Event
from events.peer import Candidate


class NatEvent(Event, frozen=True, kw_only=True):
    STREAM: ClassVar[str] = "nat"


class NatGathered(NatEvent, frozen=True, kw_only=True):
    """Our own candidates changed; members are told the new list."""

    TYPE: ClassVar[str] = "nat.gathered"
    generation: int
    candidates: tuple[Candidate, ...]


class NatMapped(NatEvent, frozen=True, kw_only=True):
    """A STUN server (RFC 8489) saw the tunnel's own socket at `mapped`."""

    TYPE: ClassVar[str] = "nat.mapped"
    server: str
    mapped: str
    rtt_ms: int


class NatUnmapped(NatEvent, frozen=True, kw_only=True):
    """A STUN server did not answer, or stopped answering."""

    TYPE: ClassVar[str] = "nat.unmapped"
    server: str
    reason: str


class NatLabelled(NatEvent, frozen=True, kw_only=True):
    """The classic RFC 3489 label, for diagnosis only; nothing is decided by it."""

    TYPE: ClassVar[str] = "nat.labelled"
    label: str
    server: str


EVENTS = (NatGathered, NatMapped, NatUnmapped, NatLabelled)
