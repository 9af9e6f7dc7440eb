"""What people see: the party, its members, how each is reached and, in words, why.

`status` is the document of `lanrage status` and `/api/status`. It is a view of the state plus the
live figures (`Live`) that are too many to be events; a replay passes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from events.base import PartyId, PeerId
from events.path import PathQuality
from lanrage.forecast import HARD, Forecast, Side, forecast, nature
from lanrage.protocols import endpoint
from lanrage.protocols.partylog import Member
from projections.mesh import Mesh, Peer, Relay, others


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
    kind: str  # "direct" | "relay" | "tcp"
    address: str
    via: str  # who passes it on: a relay with its region, or a member's name; empty if direct
    rtt_ms: float
    loss: float  # 0 to 1
    since: int  # Unix milliseconds


class ForecastView(msgspec.Struct, frozen=True, kw_only=True):
    """What may be expected of this pair, by what both routers do, whatever is in use now."""

    kind: str  # "direct" | "likely direct" | "relay" | "tcp"
    why: str


class PeerView(msgspec.Struct, frozen=True, kw_only=True):
    id: PeerId
    name: str
    address: str
    address6: str
    state: str  # "connected" | "connecting" | "offline"
    path: PathView | None
    why: str
    doubt: str  # the path does not answer at this moment, in words; empty: it does
    nat: str  # its router's class in a few words; empty: not known
    forecast: ForecastView
    relay: str  # the one that control picked for this pair; empty: none
    rx_bytes: int
    tx_bytes: int
    founder: bool


class PortView(msgspec.Struct, frozen=True, kw_only=True):
    """A port that the router opened for us."""

    inside: str  # "udp/26666"
    outside: str  # "ip:port"


class NatView(msgspec.Struct, frozen=True, kw_only=True):
    mapped: tuple[str, ...]
    label: str
    words: str
    candidates: tuple[str, ...]
    nature: str  # the router's class in a few words; empty: not known
    mapping: str  # these three in the words of `nat.classified`
    filtering: str
    hairpin: str
    ports: tuple[PortView, ...]
    ports_reason: str  # why the router opened none
    gateway: str


class RelayView(msgspec.Struct, frozen=True, kw_only=True):
    name: str  # its UDP address
    region: str
    tcp: str  # where it takes TCP; empty: nowhere
    carrier: str  # how we are bound to it: "relay" (UDP) | "tcp" | "" (not)
    rtt_ms: float  # 0 while not bound
    reason: str  # why not bound


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
    relays: tuple[RelayView, ...]


def status(mesh: Mesh, live: Mapping[PeerId, Live] | None = None) -> Status:
    figures = live or {}
    members = mesh.chain.members
    peers = tuple(_peer(mesh, members[who], figures.get(who)) for who in others(mesh))
    relays = tuple(_relay(name, each) for name, each in sorted(mesh.relays.items()))
    return Status(seq=mesh.seq, node=_node(mesh), party=_party(mesh), peers=peers, relays=relays)


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
        nat=_nat(mesh),
    )


def _nat(mesh: Mesh) -> NatView:
    nat = mesh.nat
    return NatView(
        mapped=tuple(sorted(set(nat.mapped.values()))),
        label=nat.label,
        words=nat_words(mesh),
        candidates=tuple(each.address for each in nat.candidates),
        nature=nature(nat.mapping, nat.filtering),
        mapping=nat.mapping,
        filtering=nat.filtering,
        hairpin=nat.hairpin,
        ports=tuple(PortView(inside=a, outside=b) for a, b in sorted(nat.ports.items())),
        ports_reason=nat.ports_reason,
        gateway=nat.gateway,
    )


def _relay(name: str, relay: Relay) -> RelayView:
    return RelayView(
        name=name,
        region=relay.region,
        tcp=relay.tcp,
        carrier=relay.carrier,
        rtt_ms=round(relay.rtt_us / 1000, 2),
        reason=relay.reason,
    )


def nat_words(mesh: Mesh) -> str:
    """What we know of our own router, for a person."""
    if not mesh.party:
        return "Not measured yet: it is when you are in a party."
    if mesh.control.embedded and not mesh.nat.mapped:
        return "This computer runs the party's control, so no other server can see its router."
    if not mesh.nat.mapped and not mesh.control.connected:
        return "Not measured: control, which would tell, is out of reach."
    if mesh.nat.mapping == "blocked":
        return "UDP is blocked on this network: everything goes through TCP, so expect delay."
    if not mesh.nat.mapped:
        return "No server has answered yet: UDP may be blocked on this network."
    seen = sorted(set(mesh.nat.mapped.values()))
    hosts = [each.rpartition(":")[0] for each in seen]
    if set(seen) & set(mesh.nat.hosts):
        return f"Reachable without a router in between, as {seen[0]}."
    if len(set(hosts)) < len(hosts) or mesh.nat.mapping in HARD:
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
    path = _path(mesh, peer.path, peer.path_at, figures) if peer.path else None
    expected = expect(mesh, member, peer)
    return PeerView(
        id=member.peer,
        name=member.name,
        address=member.address,
        address6=member.address6,
        state=peer_state(mesh, peer),
        path=path,
        why=why(mesh, member, peer),
        doubt=peer.doubt,
        nat=nature(*peer.nat[:2]),
        forecast=ForecastView(kind=expected.kind, why=expected.why),
        relay=peer.relay,
        rx_bytes=figures.rx_bytes,
        tx_bytes=figures.tx_bytes,
        founder=member.admin,
    )


def expect(mesh: Mesh, member: Member, peer: Peer) -> Forecast:
    """What the routers of both sides let us expect of each other."""
    me = mesh.chain.members.get(mesh.node.peer)
    mine = Side(
        me.name if me else mesh.node.name,
        *(mesh.nat.mapping, mesh.nat.filtering, mesh.nat.hairpin),
        forwarded=any(name.startswith("udp/") for name in mesh.nat.ports),
        ipv6=any(map(_is_global6, mesh.nat.hosts)),
        outside=_hosts4(mesh.nat.mapped.values()),
    )
    theirs = Side(
        member.name,
        *peer.nat,
        forwarded=any(each.kind == "forwarded" for each in peer.candidates),
        ipv6=any(_is_global6(each.address) for each in peer.candidates),
        outside=_hosts4(each.address for each in peer.candidates if each.kind == "mapped"),
    )
    return forecast(mine, theirs)


def _is_global6(written: str) -> bool:
    """Not unique-local (RFC 4193): those are routed at home at most."""
    parsed = endpoint.parse(written)
    return parsed is not None and ":" in parsed[0] and parsed[0][:2] not in ("fc", "fd")


def _hosts4(written: Iterable[str]) -> frozenset[str]:
    parsed = (endpoint.parse(each) for each in written)
    return frozenset(each[0] for each in parsed if each is not None and ":" not in each[0])


def _path(mesh: Mesh, path: PathQuality, since: int, figures: Live) -> PathView:
    return PathView(
        kind=path.kind,
        address=path.address,
        via=_via(mesh, path),
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
        return _why_path(mesh, member, peer, peer.path)
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


def _why_path(mesh: Mesh, member: Member, peer: Peer, path: PathQuality) -> str:
    if peer.doubt:
        return f"Not sure that it still works: {peer.doubt}."
    if path.kind == "tcp":
        return f"Through TCP by {_via(mesh, path)}. {_why_tcp(mesh, member, peer)}"
    if path.kind == "relay":
        return f"Through {_via(mesh, path)}. {_why_relayed(mesh, member, peer)}"
    kinds = {each.address: each.kind for each in peer.candidates}
    kind = kinds.get(path.address, "")
    if kind == "host" and path.address not in mesh.nat.mapped.values():
        return f"Direct, at the other computer's own address {path.address}."
    if kind == "mapped":
        return f"Direct, through both routers: theirs shows {path.address}."
    return f"Direct, at {path.address}, where its packets were seen to come from."


def _via(mesh: Mesh, path: PathQuality) -> str:
    if path.kind == "direct":
        return ""
    friend = mesh.chain.members.get(path.relay)
    if friend is not None:
        return friend.name
    name = path.relay or path.address
    region = mesh.relays[name].region if name in mesh.relays else ""
    return f"the relay {name}" + (f" ({region})" if region else "")


def _why_tcp(mesh: Mesh, member: Member, peer: Peer) -> str:
    expected = expect(mesh, member, peer)
    if expected.kind == "tcp":
        return f"{expected.why} Expect delay."
    return "UDP does not get through at this moment, so expect delay."


def _why_relayed(mesh: Mesh, member: Member, peer: Peer) -> str:
    expected = expect(mesh, member, peer)
    if expected.kind in ("relay", "tcp"):
        return expected.why
    return "No direct path has answered yet; it goes on being tried."
