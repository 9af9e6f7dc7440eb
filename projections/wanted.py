"""What ought to be, given the state: interface, peers, candidates, control, and who is told what.

`lanrage.plan` compares this with what is. Nothing here remembers anything, so a restart or a lost
notice needs no special case.
"""

from __future__ import annotations

import msgspec

from events.base import PartyId, PeerId
from events.peer import Candidate
from lanrage.protocols.partylog import text_of
from projections.mesh import Mesh, Pact, others

PREFIX = 16  # 10.66.0.0/16
PREFIX6 = 64
STUN = "stun:"  # before `ip:port` of a server that answers STUN and is no control


class WantedPeer(msgspec.Struct, frozen=True, kw_only=True):
    public_key: bytes
    allowed: tuple[str, ...]
    keepalive_s: int
    candidates: tuple[Candidate, ...]
    number: int = 0  # the member's, for relays
    since: int = 0  # who left and came back is another one: its old path and session mean nothing


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    address: str = ""  # empty: the interface is to be down
    address6: str = ""
    mtu: int = 0
    number: int = 0  # our own, for relays
    peers: dict[PeerId, WantedPeer] = msgspec.field(default_factory=dict)
    party: PartyId = ""
    control: tuple[str, ...] = ()
    serve: bool = False
    servers: tuple[str, ...] = ()
    picks: dict[PeerId, str] = msgspec.field(default_factory=dict)  # member -> relay to prefer
    # Online peer -> (our generation it is to know, its generation we know). The second makes us
    # tell a member again that has restarted and forgotten, even if control showed no gap.
    told: dict[PeerId, tuple[int, int]] = msgspec.field(default_factory=dict)


NOTHING = Wanted()


def wanted(mesh: Mesh) -> Wanted:
    me = mesh.chain.members.get(mesh.node.peer)
    if not mesh.party and mesh.pact is not None and mesh.node.running:
        return _as_guest(mesh, mesh.pact)
    if not mesh.party or me is None or not mesh.node.running:
        return NOTHING
    return Wanted(
        address=f"{me.address}/{PREFIX}",
        address6=f"{me.address6}/{PREFIX6}" if me.address6 else "",
        mtu=mesh.profile.mtu,
        number=me.number,
        peers={each: _peer(mesh, each) for each in others(mesh)} | _guest(mesh),
        party=mesh.party,
        control=mesh.control.urls,
        serve=mesh.control.embedded,
        servers=_servers(mesh),
        picks={who: peer.relay for who, peer in mesh.peers.items() if peer.relay},
        told=_told(mesh),
    )


def _servers(mesh: Mesh) -> tuple[str, ...]:
    """Who can tell how the world sees our socket. Our own embedded control cannot: it sees us on
    loopback. Relays can, and keep our mapping to them alive by it."""
    control = () if mesh.control.embedded else mesh.control.urls
    return (*control, *(f"{STUN}{name}" for name in mesh.relays))


def _peer(mesh: Mesh, who: PeerId) -> WantedPeer:
    member = mesh.chain.members[who]
    allowed = [f"{member.address}/32"]
    if member.address6:
        allowed.append(f"{member.address6}/128")
    if mesh.pact is not None and _is_guest(mesh.pact, member.wireguard):
        allowed.append(f"{mesh.pact.address}/32")  # from where it joined, until it has heard so
    return WantedPeer(
        public_key=member.wireguard,
        allowed=tuple(allowed),
        keepalive_s=mesh.profile.keepalive_s,
        candidates=_candidates(mesh, who),
        number=member.number,
        since=mesh.peers[who].since,
    )


def _as_guest(mesh: Mesh, pact: Pact) -> Wanted:
    """In no party yet: nothing but the way to the host's control."""
    return Wanted(
        address=f"{pact.own_address}/{PREFIX}",
        mtu=mesh.profile.mtu,
        peers={text_of(pact.wireguard): _temporary(mesh, pact)},
    )


def _guest(mesh: Mesh) -> dict[PeerId, WantedPeer]:
    """Who may come in by a pact and is no member yet."""
    pact = mesh.pact
    if pact is None or not _is_guest(pact, pact.wireguard):
        return {}
    if any(each.wireguard == pact.wireguard for each in mesh.chain.members.values()):
        return {}
    return {text_of(pact.wireguard): _temporary(mesh, pact)}


def _is_guest(pact: Pact, wireguard: bytes) -> bool:
    return not pact.own_address and pact.wireguard == wireguard


def _temporary(mesh: Mesh, pact: Pact) -> WantedPeer:
    return WantedPeer(
        public_key=pact.wireguard,
        allowed=(f"{pact.address}/32",),
        keepalive_s=mesh.profile.keepalive_s,
        candidates=_places(pact),
    )


def _places(pact: Pact) -> tuple[Candidate, ...]:
    return tuple(Candidate("mapped", each) for each in pact.places)


def _candidates(mesh: Mesh, who: PeerId) -> tuple[Candidate, ...]:
    """What the member told, and where it was reached from this network before: that is worth a
    try even before control has been found."""
    told = mesh.peers[who].candidates
    pact, member = mesh.pact, mesh.chain.members[who]
    if pact is not None and pact.wireguard == member.wireguard:
        listed = {each.address for each in told}
        told = (*told, *(each for each in _places(pact) if each.address not in listed))
    known = mesh.memory.get(mesh.nat.network, {}).get(who, "") if mesh.nat.network else ""
    if not known or any(each.address == known for each in told):
        return told
    return (*told, Candidate("remembered", known))


def _told(mesh: Mesh) -> dict[PeerId, tuple[int, int]]:
    if not mesh.nat.candidates:
        return {}
    ours = mesh.nat.generation
    if not mesh.control.connected:
        return _told_within(mesh, ours)
    online = [who for who in others(mesh) if mesh.peers[who].online]
    return {who: (ours, mesh.peers[who].generation) for who in online}


def _told_within(mesh: Mesh, ours: int) -> dict[PeerId, tuple[int, int]]:
    """While control is away: inside the tunnels, or through a third member whose tunnels work. That
    may get lost, so each time there is one more or less of those the others are told again, and
    (by the sign) everybody when control is back."""
    near = [who for who in others(mesh) if mesh.peers[who].established]
    if not near:
        return {}
    return {who: (ours, -1 if who in near else -1 - len(near)) for who in others(mesh)}
