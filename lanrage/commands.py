"""Every intent that can reach the rules: what a person asked for, and what the world reported.

The first group is the API's vocabulary (`POST /api/<tag>` with the struct as JSON). The shell
turns them into signed chain records where that is what they mean, once `decide.check` has nothing
against it. The second group is made by the shell from notices; `decide.decide` answers each with
events, or a `Refusal`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from events.base import PartyId, PeerId
from events.path import PathQuality
from events.peer import Candidate

INVITE_LIFE_S = 86_400


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


# --- asked by a person -----------------------------------------------------------------------


class Create(Command, frozen=True, kw_only=True, tag="create"):
    """A party, with this node's embedded control or the one it was started with, and an invite."""

    name: str
    uses: int = 1


class Join(Command, frozen=True, kw_only=True, tag="join"):
    link: str  # an invite, or the code of an offer; holds a secret
    public: str = ""  # with a code: our address on the Internet, if nothing else tells it

    def __repr__(self) -> str:
        return "Join()"


class Invite(Command, frozen=True, kw_only=True, tag="invite"):
    uses: int = 1
    expires_s: int = INVITE_LIFE_S


class RevokeInvite(Command, frozen=True, kw_only=True, tag="revoke"):
    invite: str  # its id, or a unique prefix


class Offer(Command, frozen=True, kw_only=True, tag="offer"):
    """A code for one guest, for a party that no server can be reached for."""

    public: str = ""  # our address on the Internet, if nothing else tells it
    expires_s: int = 1200


class Accept(Command, frozen=True, kw_only=True, tag="accept"):
    """The guest's code in answer to our offer."""

    code: str

    def __repr__(self) -> str:
        return "Accept()"


class Leave(Command, frozen=True, kw_only=True, tag="leave"):
    pass


class Kick(Command, frozen=True, kw_only=True, tag="kick"):
    peer: str  # name, id, or a unique prefix of the id


class Rename(Command, frozen=True, kw_only=True, tag="rename"):
    """This member's own name."""

    name: str


class ChooseProfile(Command, frozen=True, kw_only=True, tag="profile"):
    profile: str


Asked: TypeAlias = (
    Create | Join | Invite | RevokeInvite | Offer | Accept | Leave | Kick | Rename | ChooseProfile
)


class RelayOffer(msgspec.Struct, frozen=True, kw_only=True):
    relay: str
    region: str
    tcp: str
    boot: str


class RelayPick(msgspec.Struct, frozen=True, kw_only=True):
    peer: PeerId
    relay: str
    sum_ms: int


# --- reported by the world -------------------------------------------------------------------


class OpenSession(Command, frozen=True, kw_only=True, tag="open_session"):
    version: str
    platform: str
    peer: PeerId
    name: str
    wireguard: bytes


class CloseSession(Command, frozen=True, kw_only=True, tag="close_session"):
    reason: str


class Enter(Command, frozen=True, kw_only=True, tag="enter"):
    """Control accepted our genesis or join: here is the chain, from genesis on."""

    party: PartyId
    control: tuple[str, ...]
    embedded: bool
    records: tuple[bytes, ...]


class ExitParty(Command, frozen=True, kw_only=True, tag="exit_party"):
    """This node goes on alone, whether or not control could be told."""

    reason: str


class FailJoin(Command, frozen=True, kw_only=True, tag="fail_join"):
    reason: str


class AcceptRecords(Command, frozen=True, kw_only=True, tag="accept_records"):
    """Control sent chain records that follow position `after`."""

    party: PartyId
    after: int
    records: tuple[bytes, ...]


class NoteOffered(Command, frozen=True, kw_only=True, tag="note_offered"):
    party: PartyId
    expires_at: int
    places: tuple[str, ...]


class NoteAnswered(Command, frozen=True, kw_only=True, tag="note_answered"):
    """The other side's code was pasted and believed. `own_address`: ours as a guest."""

    party: PartyId
    wireguard: bytes
    address: str
    own_address: str = ""
    places: tuple[str, ...]


class EndPact(Command, frozen=True, kw_only=True, tag="end_pact"):
    reason: str


class NoteDiverged(Command, frozen=True, kw_only=True, tag="note_diverged"):
    """Control showed a history that contradicts the one we verified; nothing of it was taken."""

    party: PartyId
    reason: str


class NoteControl(Command, frozen=True, kw_only=True, tag="note_control"):
    party: PartyId
    url: str
    connected: bool
    reason: str = ""


class NotePresence(Command, frozen=True, kw_only=True, tag="note_presence"):
    """The whole list of members connected to control."""

    party: PartyId
    online: tuple[PeerId, ...]
    reason: str = ""


class NoteCandidates(Command, frozen=True, kw_only=True, tag="note_candidates"):
    """From an opened, verified signal of that member."""

    peer: PeerId
    generation: int
    candidates: tuple[Candidate, ...]


class NoteAddresses(Command, frozen=True, kw_only=True, tag="note_addresses"):
    """This computer's own interface addresses, with the tunnel's port."""

    addresses: tuple[str, ...]


class NoteMapping(Command, frozen=True, kw_only=True, tag="note_mapping"):
    server: str
    mapped: str = ""  # empty: not mapped any more
    rtt_ms: int = 0
    reason: str = ""


class NoteLabel(Command, frozen=True, kw_only=True, tag="note_label"):
    label: str
    server: str


class NoteTunnel(Command, frozen=True, kw_only=True, tag="note_tunnel"):
    interface: str
    port: int
    backend: str


class NoteConfigured(Command, frozen=True, kw_only=True, tag="note_configured"):
    address: str
    address6: str
    mtu: int


class NoteTunnelStopped(Command, frozen=True, kw_only=True, tag="note_tunnel_stopped"):
    reason: str


class NoteProbing(Command, frozen=True, kw_only=True, tag="note_probing"):
    peer: PeerId
    addresses: tuple[str, ...]


class NotePath(Command, frozen=True, kw_only=True, tag="note_path"):
    """A path opened (no `old`), switched (both), or was lost (no `new`)."""

    peer: PeerId
    old: PathQuality | None = None
    new: PathQuality | None = None
    took_ms: int = 0
    reason: str = ""


class NoteDoubt(Command, frozen=True, kw_only=True, tag="note_doubt"):
    """The used path stopped answering, or (`trusted`) answered after all."""

    peer: PeerId
    path: PathQuality
    second: PathQuality | None = None
    ms: int = 0  # silent for, or doubted for
    trusted: bool = False


class NoteRelays(Command, frozen=True, kw_only=True, tag="note_relays"):
    """The whole list of relays that control offers."""

    party: PartyId
    relays: tuple[RelayOffer, ...]


class NoteRelayBound(Command, frozen=True, kw_only=True, tag="note_relay_bound"):
    relay: str
    carrier: str
    address: str = ""  # empty: unbound
    rtt_us: int = 0
    took_ms: int = 0
    reason: str = ""


class NotePicks(Command, frozen=True, kw_only=True, tag="note_picks"):
    """The whole list of control's choices for our pairs."""

    party: PartyId
    picks: tuple[RelayPick, ...]


class NotePortMapping(Command, frozen=True, kw_only=True, tag="note_port_mapping"):
    """The router opened a port, or (`external` empty) did not, or closed it."""

    protocol: str
    port: int
    external: str = ""
    method: str = ""
    lifetime_s: int = 0
    gateway: str = ""
    reason: str = ""


class NoteBehaviour(Command, frozen=True, kw_only=True, tag="note_behaviour"):
    """Our router by RFC 5780; the words are those of `nat.classified`."""

    mapping: str
    filtering: str
    hairpin: str
    server: str
    evidence: tuple[str, ...]


class NotePeerNat(Command, frozen=True, kw_only=True, tag="note_peer_nat"):
    peer: PeerId
    mapping: str
    filtering: str
    hairpin: str


class NoteNetwork(Command, frozen=True, kw_only=True, tag="note_network"):
    network: str
    gateway: str
    reason: str


class NoteResumed(Command, frozen=True, kw_only=True, tag="note_resumed"):
    asleep_ms: int


class NoteUnreachable(Command, frozen=True, kw_only=True, tag="note_unreachable"):
    peer: PeerId
    tried: tuple[str, ...]
    after_ms: int
    reason: str


class NoteSession(Command, frozen=True, kw_only=True, tag="note_session"):
    """A WireGuard session with a member came up or expired."""

    peer: PeerId
    established: bool
    took_ms: int = 0
    reason: str = ""


class NoteProfile(Command, frozen=True, kw_only=True, tag="note_profile"):
    """A profile was looked up in the catalogue and is to be applied."""

    profile: str
    reason: str
    mtu: int
    keepalive_s: int


Reported: TypeAlias = (
    OpenSession
    | CloseSession
    | Enter
    | ExitParty
    | FailJoin
    | AcceptRecords
    | NoteOffered
    | NoteAnswered
    | EndPact
    | NoteDiverged
    | NoteControl
    | NotePresence
    | NoteCandidates
    | NoteAddresses
    | NoteMapping
    | NoteLabel
    | NoteTunnel
    | NoteConfigured
    | NoteTunnelStopped
    | NoteProbing
    | NotePath
    | NoteDoubt
    | NoteRelays
    | NoteRelayBound
    | NotePicks
    | NotePortMapping
    | NoteBehaviour
    | NotePeerNat
    | NoteNetwork
    | NoteResumed
    | NoteUnreachable
    | NoteSession
    | NoteProfile
)
