"""Members of the party: joins, leaves, kicks and names from the signed chain, and presence."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from events.base import Event, PeerId
from events.party import Recorded


class PeerRecorded(Recorded, frozen=True, kw_only=True):
    STREAM: ClassVar[str] = "peer/{peer}"
    peer: PeerId


class PeerJoined(PeerRecorded, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "peer.joined"
    name: str
    address: str  # in 10.66.0.0/16, assigned by the reducer
    address6: str
    invite: str  # public key of the invite it used


class PeerLeft(PeerRecorded, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "peer.left"


class PeerKicked(PeerRecorded, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "peer.kicked"


class PeerRenamed(PeerRecorded, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "peer.renamed"
    name: str


class PeerEvent(Event, frozen=True, kw_only=True):
    STREAM: ClassVar[str] = "peer/{peer}"
    peer: PeerId


class PeerOnline(PeerEvent, frozen=True, kw_only=True):
    """Control says that this member is connected to it: a hint, not a proof."""

    TYPE: ClassVar[str] = "peer.online"


class PeerOffline(PeerEvent, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "peer.offline"
    reason: str


class Candidate(msgspec.Struct, frozen=True, order=True):
    """One address at which a node may be reached."""

    # "host" (its own interface), "mapped" (seen by a STUN server), "forwarded" (the router opened
    # a port), "remembered" (it worked on this network before)
    kind: str
    address: str


class PeerCandidates(PeerEvent, frozen=True, kw_only=True):
    """A member's sealed and signed signal told where it may be reached."""

    TYPE: ClassVar[str] = "peer.candidates"
    generation: int  # of the sender; strictly growing, older ones are ignored
    candidates: tuple[Candidate, ...]


class PeerNat(PeerEvent, frozen=True, kw_only=True):
    """What that member's router does, as it told us; the words are those of `nat.classified`."""

    TYPE: ClassVar[str] = "peer.nat"
    mapping: str
    filtering: str
    hairpin: str


EVENTS = (
    PeerJoined,
    PeerLeft,
    PeerKicked,
    PeerRenamed,
    PeerOnline,
    PeerOffline,
    PeerCandidates,
    PeerNat,
)
