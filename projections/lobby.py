"""What people see: the party, its members, how each is reached and, in words, why.

`status` is the document of `lanrage status` and `/api/status`. It is a view of the state plus the
live figures (`Live`) that are too many to be events; a replay passes none.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from events.base import PartyId, PeerId
from events.path import PathQuality
from lanrage.protocols.partylog import Member
from projections.mesh import Mesh, Peer, others


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of this second for one peer, from the tunnel's counters."""

    rtt_us: int = 0
    loss_permille: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0


class Head(msgspec.Struct, frozen=True, kw_only=True):
    length: int
    hash: str


class InviteView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    uses_left: int
    expires_at: int
    revoked: bool
    issuer: str


class PartyView(msgspec.Struct, frozen=True, kw_only=True):
    id: PartyId
    name: str
    head: Head
    founder: bool  # this node may kick and rename the party
    control: tuple[str, ...]
    control_connected: str
    control_embedded: bool
    control_reason: str
    warning: str  # control showed a history that contradicts ours; empty: it did not
    invites: tuple[InviteView, ...]


class PathView(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    address: str
    rtt_ms: float
    loss: float  # 0 to 1
    since: int  # Unix milliseconds


class PeerView(msgspec.Struct, frozen=True, kw_only=True):
    id: PeerId
    name: str
    address: str
    address6: str
    state: str  # "connected" | "connecting" | "offline"
    path: PathView | None
    why: str
    rx_bytes: int
    tx_bytes: int
    founder: bool


class NatView(msgspec.Struct, frozen=True, kw_only=True):
    mapped: tuple[str, ...]
    label: str
    words: str
    candidates: tuple[str, ...]


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    id: PeerId
    name: str
    version: str
    session: str
    interface: str
    port: int
    address: str
    address6: str
    profile: str
    nat: NatView


class Status(msgspec.Struct, frozen=True, kw_only=True):
    seq: int
    node: NodeView
    party: PartyView | None
    peers: tuple[PeerView, ...]


def status(mesh: Mesh, live: Mapping[PeerId, Live] | None = None) -> Status:
    figures = live or {}
    members = mesh.chain.members
    peers = tuple(_peer(mesh, members[who], figures.get(who)) for who in others(mesh))
    return Status(seq=mesh.seq, node=_node(mesh), party=_party(mesh), peers=peers)


def _node(mesh: Mesh) -> NodeView:
    me = mesh.chain.members.get(mesh.node.peer)
    return NodeView(
        id=mesh.node.peer,
        name=me.name if me else mesh.node.name,
        version=mesh.node.version,
        session=mesh.node.session,
        interface=mesh.tunnel.interface,
        port=mesh.tunnel.port,
        address=me.address if me else "",
        address6=me.address6 if me else "",
        profile=mesh.profile.id,
        nat=NatView(
            mapped=tuple(sorted(set(mesh.nat.mapped.values()))),
            label=mesh.nat.label,
            words=nat_words(mesh),
            candidates=tuple(each.address for each in mesh.nat.candidates),
        ),
    )


def nat_words(mesh: Mesh) -> str:
    """What we know of our own router, for a person."""
    if not mesh.party:
        return "Not measured yet: it is when you are in a party."
    if mesh.control.embedded and not mesh.nat.mapped:
        return "This computer runs the party's control, so no other server can see its router."
    if not mesh.nat.mapped and not mesh.control.connected:
        return "Not measured: control, which would tell, is out of reach."
    if not mesh.nat.mapped:
        return "No server has answered yet: UDP may be blocked on this network."
    seen = sorted(set(mesh.nat.mapped.values()))
    hosts = [each.rpartition(":")[0] for each in seen]
    if set(seen) & set(mesh.nat.hosts):
        return f"Reachable without a router in between, as {seen[0]}."
    if len(set(hosts)) < len(hosts):
        return "This router gives every destination another port: direct paths are hard from here."
    return f"Behind a router that shows this computer as {seen[0]}."


def _party(mesh: Mesh) -> PartyView | None:
    if not mesh.party:
        return None
    chain = mesh.chain
    me = chain.members.get(mesh.node.peer)
    invites = tuple(
        InviteView(
            id=each.invite,
            uses_left=each.uses_left,
            expires_at=each.expires_at,
            revoked=each.revoked,
            issuer=each.issuer,
        )
        for each in sorted(chain.invites.values(), key=lambda each: (each.expires_at, each.invite))
    )
    return PartyView(
        id=mesh.party,
        name=chain.name,
        head=Head(length=chain.length, hash=chain.head),
        founder=bool(me and me.admin),
        control=mesh.control.urls,
        control_connected=mesh.control.connected,
        control_embedded=mesh.control.embedded,
        control_reason=mesh.control.reason,
        warning=mesh.control.forked,
        invites=invites,
    )


def _peer(mesh: Mesh, member: Member, live: Live | None) -> PeerView:
    peer = mesh.peers[member.peer]
    figures = live or Live()
    path = _path(peer.path, peer.path_at, figures) if peer.path else None
    return PeerView(
        id=member.peer,
        name=member.name,
        address=member.address,
        address6=member.address6,
        state=peer_state(mesh, peer),
        path=path,
        why=why(mesh, member, peer),
        rx_bytes=figures.rx_bytes,
        tx_bytes=figures.tx_bytes,
        founder=member.admin,
    )


def _path(path: PathQuality, since: int, figures: Live) -> PathView:
    return PathView(
        kind=path.kind,
        address=path.address,
        rtt_ms=round((figures.rtt_us or path.rtt_us) / 1000, 2),
        loss=(figures.loss_permille if figures.rtt_us else path.loss_permille) / 1000,
        since=since,
    )


def peer_state(mesh: Mesh, peer: Peer) -> str:
    if peer.path and peer.established:
        return "connected"
    if peer.path or (peer.online and mesh.control.connected):
        return "connecting"
    return "offline"


def why(mesh: Mesh, member: Member, peer: Peer) -> str:
    """One sentence: how this member is reached, or what stands in the way."""
    if peer.path and peer.established:
        return _why_path(mesh, peer, peer.path)
    if peer.path:
        return f"A path over {peer.path.address} is open; the encrypted session is starting."
    if not mesh.control.connected:
        reason = mesh.control.reason or "it has not answered yet"
        return f"Control is out of reach ({reason}), and no path to {member.name} is known."
    if not peer.online:
        return f"{member.name} is not running LANrage, or cannot reach control."
    if peer.failure:
        return peer.failure
    if not peer.candidates:
        return f"Waiting for {member.name} to tell where it can be reached."
    return f"Trying {len(peer.candidates)} addresses of {member.name} at once."


def _why_path(mesh: Mesh, peer: Peer, path: PathQuality) -> str:
    if path.kind == "relay":
        return f"Through the relay {path.address}: no direct path answered."
    if path.kind == "tcp":
        return f"Through TCP at {path.address}: UDP does not get through, so expect delay."
    kinds = {each.address: each.kind for each in peer.candidates}
    kind = kinds.get(path.address, "")
    if kind == "host" and path.address not in mesh.nat.mapped.values():
        return f"Direct, at the other computer's own address {path.address}."
    if kind == "mapped":
        return f"Direct, through both routers: theirs shows {path.address}."
    return f"Direct, at {path.address}, where its packets were seen to come from."
