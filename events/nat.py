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


class NatPortMapped(NatEvent, frozen=True, kw_only=True):
    """The router opened a port for us (PCP RFC 6887, NAT-PMP RFC 6886, or UPnP-IGD)."""

    TYPE: ClassVar[str] = "nat.port_mapped"
    method: str  # "pcp" | "nat-pmp" | "upnp"
    protocol: str  # "udp" | "tcp"
    port: int  # ours, inside
    external: str  # ip:port
    lifetime_s: int  # 0: until taken back
    gateway: str


class NatPortUnmapped(NatEvent, frozen=True, kw_only=True):
    """That port is closed again, or no router opens one."""

    TYPE: ClassVar[str] = "nat.port_unmapped"
    protocol: str
    port: int
    reason: str


class NatClassified(NatEvent, frozen=True, kw_only=True):
    """What our router does, by RFC 5780. For mapping and filtering each one of "independent",
    "address", "port" (on what it depends), "none" (no NAT, no filter), "blocked" (no UDP at all),
    "" (unknown)."""

    TYPE: ClassVar[str] = "nat.classified"
    mapping: str
    filtering: str
    hairpin: str  # "yes" | "no" | ""
    server: str
    evidence: tuple[str, ...]  # the tests, in words, in their order


class NatNetwork(NatEvent, frozen=True, kw_only=True):
    """This computer is on another network now, or on one again."""

    TYPE: ClassVar[str] = "nat.network"
    network: str  # an opaque name that is the same whenever we come back; empty: none
    gateway: str
    reason: str


EVENTS = (
    NatGathered,
    NatMapped,
    NatUnmapped,
    NatLabelled,
    NatPortMapped,
    NatPortUnmapped,
    NatClassified,
    NatNetwork,
)
