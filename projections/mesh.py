"""The state of one node, folded from its log: what `decide` reads and what a replay shows.

`fold` is total: an event it cannot read (from a newer LANrage, say) changes nothing but a count in
`unread`, and the page says that this view is incomplete. `session.started` forgets all that a new
run cannot know: who is online, which path works, what a router mapped. The party, its members and
its control survive, because they are facts of the signed chain; so does the memory of which address
of a member worked on which network, because it is worth a try when we are there again.

No clock, no randomness, no I/O, no iteration over sets. `canonical` is the same bytes for the same
log on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from events import nat, party, path, peer, profile, relay, session, tunnel
from events.base import Event, PartyId, PeerId, Stored, stream_of
from events.codec import decode, encode
from events.path import PathQuality
from events.peer import Candidate
from lanrage.protocols import partylog
from lanrage.protocols.partylog import Chain

NETWORKS_MAX = 8  # whose working addresses are remembered; the longest unvisited is forgotten


class Node(msgspec.Struct, frozen=True, kw_only=True):
    peer: PeerId = ""
    name: str = ""
    wireguard: bytes = b""
    version: str = ""
    session: str = ""
    running: bool = False


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """Where the party's control is. `connected` is the URL in use, empty for none."""

    urls: tuple[str, ...] = ()
    embedded: bool = False
    connected: str = ""
    reason: str = ""  # why not connected
    forked: str = ""  # what was wrong with a history control showed us; empty: nothing


class Nat(msgspec.Struct, frozen=True, kw_only=True):
    generation: int = 0
    candidates: tuple[Candidate, ...] = ()
    hosts: tuple[str, ...] = ()
    mapped: dict[str, str] = msgspec.field(default_factory=dict)  # server -> our address
    label: str = ""
    # Mapping, filtering and hairpin in the words of `nat.classified`; empty: not known.
    mapping: str = ""
    filtering: str = ""
    hairpin: str = ""
    ports: dict[str, str] = msgspec.field(default_factory=dict)  # "udp/26666" -> outside ip:port
    ports_reason: str = ""  # why the router opens none
    network: str = ""
    gateway: str = ""


class Relay(msgspec.Struct, frozen=True, kw_only=True):
    """A relay that control offers. `carrier` says how we are bound to it; empty: we are not."""

    region: str = ""
    tcp: str = ""
    boot: str = ""
    carrier: str = ""  # "relay" (UDP) | "tcp"
    address: str = ""  # where it sees us
    rtt_us: int = 0
    reason: str = ""  # why we are not bound


class Tunnel(msgspec.Struct, frozen=True, kw_only=True):
    interface: str = ""
    port: int = 0
    backend: str = ""
    address: str = ""
    address6: str = ""
    mtu: int = 0
    reason: str = ""  # why it stopped


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of another member beyond its chain record."""

    since: int = 0  # the event that made it a member, this time
    online: bool = False
    generation: int = 0
    candidates: tuple[Candidate, ...] = ()
    probing: tuple[str, ...] = ()
    path: PathQuality | None = None
    path_at: int = 0  # when the present path began, Unix milliseconds
    established: bool = False
    failure: str = ""  # why there is no path, in words
    doubt: str = ""  # the used path does not answer at this moment, in words
    relay: str = ""  # which relay control picked for this pair
    nat: tuple[str, str, str] = ("", "", "")  # its mapping, filtering, hairpin, as it told us


class Pact(msgspec.Struct, frozen=True, kw_only=True):
    """With whom codes were exchanged to meet without a server; see `lanrage.pact`."""

    party: PartyId
    wireguard: bytes
    address: str  # theirs in the party's network
    own_address: str = ""  # ours for the time being, as a guest; empty: we are the host
    places: tuple[str, ...] = ()


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    id: str = "default"
    mtu: int = 1420
    keepalive_s: int = 25


class Mesh(msgspec.Struct, frozen=True, kw_only=True):
    seq: int = 0
    at: int = 0
    node: Node = Node()
    party: PartyId = ""  # empty: in no party
    chain: Chain = partylog.EMPTY
    control: Control = Control()
    pact: Pact | None = None
    peers: dict[PeerId, Peer] = msgspec.field(default_factory=dict)
    nat: Nat = Nat()
    relays: dict[str, Relay] = msgspec.field(default_factory=dict)  # by name, "ip:port"
    # network -> member -> the address at which it was reached directly from there
    memory: dict[str, dict[PeerId, str]] = msgspec.field(default_factory=dict)
    tunnel: Tunnel = Tunnel()
    profile: Profile = Profile()
    unread: int = 0  # events this version could not read


EMPTY = Mesh()


def fold(mesh: Mesh, stored: Stored) -> Mesh:
    """The state after one more stored event."""
    event = decode(stored)
    if isinstance(event, Event):
        return evolve(mesh, event, seq=stored.seq, at=stored.at, session_id=stored.session)
    return replace(mesh, seq=stored.seq, at=stored.at, unread=mesh.unread + 1)


def evolve(mesh: Mesh, event: Event, *, seq: int, at: int, session_id: str) -> Mesh:
    """The same for an event that is about to be stored: the live node folds each event once,
    before the commit, and keeps the result only if the commit succeeds."""
    if isinstance(event, session.SessionCarried):
        return from_canonical(bytes(event.state))
    mesh = replace(mesh, seq=seq, at=at)
    if isinstance(event, session.SessionStarted):
        return _started(mesh, event, session_id)
    step = _STEPS.get(type(event))
    return mesh if step is None else step(mesh, event)


def fold_all(mesh: Mesh, rows: Iterable[Stored]) -> Mesh:
    for stored in rows:
        mesh = fold(mesh, stored)
    return mesh


def canonical(mesh: Mesh) -> bytes:
    """The state as JSON, the same bytes everywhere: sorted keys, defaults written out."""
    return msgspec.json.encode(mesh, order="sorted")


def from_canonical(data: bytes) -> Mesh:
    return msgspec.json.decode(data, type=Mesh)


def carried(before: Iterable[Stored], first: Stored) -> tuple[Stored, ...]:
    """The pseudo event that heads an export of one session, so that it replays alone: the state
    folded from everything `before` the session's `first` event. Nothing if that was nothing."""
    state = fold_all(EMPTY, before)
    if state == EMPTY:
        return ()
    event = session.SessionCarried(state=msgspec.Raw(canonical(state)))
    return (
        Stored(
            seq=state.seq,
            stream=stream_of(event),
            version=0,
            id=f"{state.seq:032x}",
            type=event.TYPE,
            at=state.at,
            session=first.session,
            data=msgspec.Raw(encode(event)),
        ),
    )


def others(mesh: Mesh) -> tuple[PeerId, ...]:
    """The other members, in the order in which they joined."""
    members = sorted(mesh.chain.members.values(), key=lambda member: member.number)
    return tuple(member.peer for member in members if member.peer != mesh.node.peer)


# --- steps, one for each event type that changes the state -------------------------------------


def _started(mesh: Mesh, event: session.SessionStarted, session_id: str) -> Mesh:
    node = Node(
        peer=event.peer,
        name=event.name,
        wireguard=event.wireguard,
        version=event.version,
        session=session_id,
        running=True,
    )
    return replace(
        mesh,
        node=node,
        control=replace(mesh.control, connected="", reason=""),
        pact=None,
        peers={each: Peer(since=known.since) for each, known in mesh.peers.items()},
        nat=Nat(generation=mesh.nat.generation),
        relays={},
        tunnel=Tunnel(),
    )


def _ended(mesh: Mesh, _event: session.SessionEnded) -> Mesh:
    return replace(mesh, node=replace(mesh.node, running=False))


def _recorded(mesh: Mesh, event: party.Recorded) -> Mesh:
    """The chain's own reducer says who is a member; our peers follow it."""
    mesh = replace(mesh, chain=partylog.apply(mesh.chain, event.record))
    present = others(mesh)
    fresh = Peer(since=mesh.seq)
    return replace(mesh, peers={each: mesh.peers.get(each, fresh) for each in present})


def _entered(mesh: Mesh, event: party.PartyEntered) -> Mesh:
    return replace(
        mesh,
        party=event.party,
        chain=partylog.EMPTY,
        peers={},
        relays={},
        memory={},
        control=Control(urls=event.control, embedded=event.embedded),
    )


def _exited(mesh: Mesh, _event: party.PartyExited) -> Mesh:
    tunnel_now = replace(mesh.tunnel, address="", address6="", mtu=0)
    hosts = tuple(each for each in mesh.nat.candidates if each.kind == "host")
    nat_now = replace(mesh.nat, candidates=hosts, mapped={})
    return replace(
        mesh,
        party="",
        chain=partylog.EMPTY,
        peers={},
        relays={},
        memory={},
        control=Control(),
        pact=None,
        tunnel=tunnel_now,
        nat=nat_now,
    )


def _answered(mesh: Mesh, event: party.PactAnswered) -> Mesh:
    now = Pact(
        party=event.party,
        wireguard=event.wireguard,
        address=event.address,
        own_address=event.own_address,
        places=event.places,
    )
    return replace(mesh, pact=now)


def _pact_ended(mesh: Mesh, _event: party.PactEnded) -> Mesh:
    return replace(mesh, pact=None)


def _connected(mesh: Mesh, event: party.ControlConnected) -> Mesh:
    return replace(mesh, control=replace(mesh.control, connected=event.url, reason=""))


def _disconnected(mesh: Mesh, event: party.ControlLost) -> Mesh:
    return replace(mesh, control=replace(mesh.control, connected="", reason=event.reason))


def _forked(mesh: Mesh, event: party.PartyForked) -> Mesh:
    return replace(mesh, control=replace(mesh.control, forked=event.reason))


def _peer(mesh: Mesh, who: PeerId, **changes: Any) -> Mesh:
    known = mesh.peers.get(who)
    if known is None:
        return mesh
    return replace(mesh, peers={**mesh.peers, who: replace(known, **changes)})


def _online(mesh: Mesh, event: peer.PeerOnline) -> Mesh:
    return _peer(mesh, event.peer, online=True)


def _offline(mesh: Mesh, event: peer.PeerOffline) -> Mesh:
    return _peer(mesh, event.peer, online=False)


def _candidates(mesh: Mesh, event: peer.PeerCandidates) -> Mesh:
    return _peer(mesh, event.peer, generation=event.generation, candidates=event.candidates)


def _gathered(mesh: Mesh, event: nat.NatGathered) -> Mesh:
    hosts = tuple(each.address for each in event.candidates if each.kind == "host")
    now = replace(mesh.nat, generation=event.generation, candidates=event.candidates, hosts=hosts)
    return replace(mesh, nat=now)


def _mapped(mesh: Mesh, event: nat.NatMapped) -> Mesh:
    mapped = {**mesh.nat.mapped, event.server: event.mapped}
    return replace(mesh, nat=replace(mesh.nat, mapped=mapped))


def _unmapped(mesh: Mesh, event: nat.NatUnmapped) -> Mesh:
    mapped = {server: at for server, at in mesh.nat.mapped.items() if server != event.server}
    return replace(mesh, nat=replace(mesh.nat, mapped=mapped))


def _labelled(mesh: Mesh, event: nat.NatLabelled) -> Mesh:
    return replace(mesh, nat=replace(mesh.nat, label=event.label))


def _port_mapped(mesh: Mesh, event: nat.NatPortMapped) -> Mesh:
    ports = {**mesh.nat.ports, port_name(event.protocol, event.port): event.external}
    return replace(mesh, nat=replace(mesh.nat, ports=ports, ports_reason=""))


def _port_unmapped(mesh: Mesh, event: nat.NatPortUnmapped) -> Mesh:
    gone = port_name(event.protocol, event.port)
    ports = {name: at for name, at in mesh.nat.ports.items() if name != gone}
    return replace(mesh, nat=replace(mesh.nat, ports=ports, ports_reason=event.reason))


def port_name(protocol: str, port: int) -> str:
    return f"{protocol}/{port}"


def _classified(mesh: Mesh, event: nat.NatClassified) -> Mesh:
    now = replace(mesh.nat, mapping=event.mapping, filtering=event.filtering, hairpin=event.hairpin)
    return replace(mesh, nat=now)


def _network(mesh: Mesh, event: nat.NatNetwork) -> Mesh:
    now = replace(mesh.nat, network=event.network, gateway=event.gateway)
    return replace(mesh, nat=now)


def _peer_nat(mesh: Mesh, event: peer.PeerNat) -> Mesh:
    return _peer(mesh, event.peer, nat=(event.mapping, event.filtering, event.hairpin))


def _offered(mesh: Mesh, event: relay.RelayOffered) -> Mesh:
    known = mesh.relays.get(event.relay, Relay())
    if known.boot != event.boot:
        known = Relay()  # it was started again and does not know us
    now = replace(known, region=event.region, tcp=event.tcp, boot=event.boot)
    return replace(mesh, relays={**mesh.relays, event.relay: now})


def _withdrawn(mesh: Mesh, event: relay.RelayWithdrawn) -> Mesh:
    left = {name: each for name, each in mesh.relays.items() if name != event.relay}
    return replace(mesh, relays=left)


def _relay(mesh: Mesh, name: str, **changes: Any) -> Mesh:
    known = mesh.relays.get(name)
    if known is None:
        return mesh
    return replace(mesh, relays={**mesh.relays, name: replace(known, **changes)})


def _bound(mesh: Mesh, event: relay.RelayBound) -> Mesh:
    changes = {"carrier": event.carrier, "address": event.address, "rtt_us": event.rtt_us}
    return _relay(mesh, event.relay, **changes, reason="")


def _unbound(mesh: Mesh, event: relay.RelayUnbound) -> Mesh:
    return _relay(mesh, event.relay, carrier="", address="", rtt_us=0, reason=event.reason)


def _picked(mesh: Mesh, event: relay.RelayPicked) -> Mesh:
    return _peer(mesh, event.peer, relay=event.relay)


def _probing(mesh: Mesh, event: path.PathProbing) -> Mesh:
    return _peer(mesh, event.peer, probing=event.addresses, failure="")


def _opened(mesh: Mesh, event: path.PathOpened) -> Mesh:
    mesh = _remember(mesh, event.peer, event.path)
    changes = {"path": event.path, "path_at": mesh.at, "failure": "", "doubt": ""}
    return _peer(mesh, event.peer, **changes, probing=())


def _switched(mesh: Mesh, event: path.PathSwitched) -> Mesh:
    mesh = _remember(mesh, event.peer, event.new)
    return _peer(mesh, event.peer, path=event.new, path_at=mesh.at, failure="", doubt="")


def _remember(mesh: Mesh, who: PeerId, path_: PathQuality) -> Mesh:
    network = mesh.nat.network
    if not network or path_.kind != "direct" or who not in mesh.peers:
        return mesh
    older = {name: known for name, known in mesh.memory.items() if name != network}
    kept = dict(list(older.items())[-(NETWORKS_MAX - 1) :])
    here = {**mesh.memory.get(network, {}), who: path_.address}
    return replace(mesh, memory={**kept, network: here})


def _lost(mesh: Mesh, event: path.PathLost) -> Mesh:
    return _peer(mesh, event.peer, path=None, path_at=0, failure=event.reason, doubt="")


def _doubted(mesh: Mesh, event: path.PathDoubted) -> Mesh:
    second = f", sending through {event.second.address}, too" if event.second else ""
    return _peer(mesh, event.peer, doubt=f"silent for {event.silent_ms} ms{second}")


def _trusted(mesh: Mesh, event: path.PathTrusted) -> Mesh:
    return _peer(mesh, event.peer, doubt="")


def _failed(mesh: Mesh, event: path.PathFailed) -> Mesh:
    return _peer(mesh, event.peer, failure=event.reason)


def _tunnel(mesh: Mesh, event: tunnel.TunnelStarted) -> Mesh:
    now = Tunnel(interface=event.interface, port=event.port, backend=event.backend)
    return replace(mesh, tunnel=now)


def _configured(mesh: Mesh, event: tunnel.TunnelConfigured) -> Mesh:
    now = replace(mesh.tunnel, address=event.address, address6=event.address6, mtu=event.mtu)
    return replace(mesh, tunnel=now)


def _stopped(mesh: Mesh, event: tunnel.TunnelStopped) -> Mesh:
    return replace(mesh, tunnel=Tunnel(reason=event.reason))


def _established(mesh: Mesh, event: tunnel.TunnelEstablished) -> Mesh:
    return _peer(mesh, event.peer, established=True)


def _expired(mesh: Mesh, event: tunnel.TunnelExpired) -> Mesh:
    return _peer(mesh, event.peer, established=False)


def _profile(mesh: Mesh, event: profile.ProfileChosen) -> Mesh:
    now = Profile(id=event.profile, mtu=event.mtu, keepalive_s=event.keepalive_s)
    return replace(mesh, profile=now)


_STEPS: dict[type[Event], Callable[[Mesh, Any], Mesh]] = {
    session.SessionEnded: _ended,
    party.PartyEntered: _entered,
    party.PartyExited: _exited,
    party.PartyCreated: _recorded,
    party.PartyRenamed: _recorded,
    party.InviteIssued: _recorded,
    party.InviteRevoked: _recorded,
    party.PartyForked: _forked,
    party.PactAnswered: _answered,
    party.PactEnded: _pact_ended,
    party.ControlConnected: _connected,
    party.ControlLost: _disconnected,
    peer.PeerJoined: _recorded,
    peer.PeerLeft: _recorded,
    peer.PeerKicked: _recorded,
    peer.PeerRenamed: _recorded,
    peer.PeerOnline: _online,
    peer.PeerOffline: _offline,
    peer.PeerCandidates: _candidates,
    nat.NatGathered: _gathered,
    nat.NatMapped: _mapped,
    nat.NatUnmapped: _unmapped,
    nat.NatLabelled: _labelled,
    nat.NatPortMapped: _port_mapped,
    nat.NatPortUnmapped: _port_unmapped,
    nat.NatClassified: _classified,
    nat.NatNetwork: _network,
    peer.PeerNat: _peer_nat,
    relay.RelayOffered: _offered,
    relay.RelayWithdrawn: _withdrawn,
    relay.RelayBound: _bound,
    relay.RelayUnbound: _unbound,
    relay.RelayPicked: _picked,
    path.PathProbing: _probing,
    path.PathOpened: _opened,
    path.PathSwitched: _switched,
    path.PathLost: _lost,
    path.PathDoubted: _doubted,
    path.PathTrusted: _trusted,
    path.PathFailed: _failed,
    tunnel.TunnelStarted: _tunnel,
    tunnel.TunnelConfigured: _configured,
    tunnel.TunnelStopped: _stopped,
    tunnel.TunnelEstablished: _established,
    tunnel.TunnelExpired: _expired,
    profile.ProfileChosen: _profile,
}
