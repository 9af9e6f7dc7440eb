"""The party: its signed record chain as accepted by this node, and where its control is.

`record` is one chain record exactly as signed and received; the other fields make it readable.
`length` and `head` are the chain's after this record. Membership events of the same chain are in
`peer.py`.
"""

from __future__ import annotations

from typing import ClassVar

from events.base import Event, PartyId, PeerId


class PartyEvent(Event, frozen=True, kw_only=True):
    STREAM: ClassVar[str] = "party/{party}"
    party: PartyId


class Recorded(PartyEvent, frozen=True, kw_only=True):
    """What each event that stems from a chain record has in common."""

    length: int
    head: str  # hex SHA-256 of the newest record
    record: bytes
    author: PeerId


class PartyEntered(PartyEvent, frozen=True, kw_only=True):
    """This node set out to be in a party: by creating it, or by a join that control accepted."""

    TYPE: ClassVar[str] = "party.entered"
    control: tuple[str, ...]  # URLs of control servers, first choice first
    embedded: bool  # this node itself runs the party's control


class PartyExited(PartyEvent, frozen=True, kw_only=True):
    """This node is in no party any more."""

    TYPE: ClassVar[str] = "party.exited"
    reason: str  # "left", "kicked"


class PartyJoinFailed(Event, frozen=True, kw_only=True):
    """An attempt to join ended without effect."""

    TYPE: ClassVar[str] = "party.join_failed"
    STREAM: ClassVar[str] = "session"
    reason: str


class PartyCreated(Recorded, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "party.created"
    name: str
    founder: PeerId
    founder_name: str
    address: str
    address6: str


class PartyRenamed(Recorded, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "party.renamed"
    name: str


class InviteIssued(Recorded, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "party.invite_issued"
    invite: str  # the invite's public key, base32; its seed is a secret and never stored
    uses: int
    expires_at: int  # Unix milliseconds


class InviteRevoked(Recorded, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "party.invite_revoked"
    invite: str


class PartyForked(PartyEvent, frozen=True, kw_only=True):
    """Control showed a history that contradicts the one this node verified. It was refused."""

    TYPE: ClassVar[str] = "party.forked"
    reason: str
    length: int  # of our verified chain, kept
    head: str


class PactOffered(PartyEvent, frozen=True, kw_only=True):
    """A code was made with which one guest may come in without any server."""

    TYPE: ClassVar[str] = "party.offered"
    expires_at: int  # Unix milliseconds
    places: tuple[str, ...]  # where it says that we are


class PactAnswered(PartyEvent, frozen=True, kw_only=True):
    """Guest or host: the other side's code was pasted; until the guest is a member, both have each
    other as temporary peers. The codes' secret is never stored."""

    TYPE: ClassVar[str] = "party.answered"
    wireguard: bytes  # the other side's public key
    address: str  # its virtual address
    own_address: str  # ours for the time being, as a guest; empty: we are the host
    places: tuple[str, ...]


class PactEnded(PartyEvent, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "party.pact_ended"
    reason: str


class ControlConnected(PartyEvent, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "party.control_connected"
    url: str


class ControlLost(PartyEvent, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "party.control_lost"
    url: str
    reason: str


EVENTS = (
    PartyEntered,
    PartyExited,
    PartyJoinFailed,
    PartyCreated,
    PartyRenamed,
    InviteIssued,
    InviteRevoked,
    PartyForked,
    PactOffered,
    PactAnswered,
    PactEnded,
    ControlConnected,
    ControlLost,
)
