"""What ought to be, given the state: interface, peers, candidates, control, and who is told what.

`lanrage.plan` compares this with what is. Nothing here remembers anything, so a restart or a lost
notice needs no special case.
"""

from __future__ import annotations

import msgspec

from events.base import PartyId, PeerId
from events.peer import Candidate
from projections.mesh import Mesh, others

PREFIX = 16  # 10.66.0.0/16
PREFIX6 = 64


class WantedPeer(msgspec.Struct, frozen=True, kw_only=True):
    public_key: bytes
    allowed: tuple[str, ...]
    keepalive_s: int
    candidates: tuple[Candidate, ...]
    since: int = 0  # who left and came back is another one: its old path and session mean nothing


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    address: str = ""  # empty: the interface is to be down
    address6: str = ""
    mtu: int = 0
    peers: dict[PeerId, WantedPeer] = msgspec.field(default_factory=dict)
    party: PartyId = ""
    control: tuple[str, ...] = ()
    serve: bool = False
    servers: tuple[str, ...] = ()
    # Online peer -> (our generation it is to know, its generation we know). The second makes us
    # tell a member again that has restarted and forgotten, even if control showed no gap.
    told: dict[PeerId, tuple[int, int]] = msgspec.field(default_factory=dict)


NOTHING = Wanted()


def wanted(mesh: Mesh) -> Wanted:
    me = mesh.chain.members.get(mesh.node.peer)
    if not mesh.party or me is None or not mesh.node.running:
        return NOTHING
    return Wanted(
        address=f"{me.address}/{PREFIX}",
        address6=f"{me.address6}/{PREFIX6}" if me.address6 else "",
        mtu=mesh.profile.mtu,
        peers={each: _peer(mesh, each) for each in others(mesh)},
        party=mesh.party,
        control=mesh.control.urls,
        serve=mesh.control.embedded,
        # Our own embedded control sees us on loopback: it can tell us nothing about our router.
        servers=() if mesh.control.embedded else mesh.control.urls,
        told=_told(mesh),
    )


def _peer(mesh: Mesh, who: PeerId) -> WantedPeer:
    member = mesh.chain.members[who]
    allowed = [f"{member.address}/32"]
    if member.address6:
        allowed.append(f"{member.address6}/128")
    return WantedPeer(
        public_key=member.wireguard,
        allowed=tuple(allowed),
        keepalive_s=mesh.profile.keepalive_s,
        candidates=mesh.peers[who].candidates,
        since=mesh.peers[who].since,
    )


def _told(mesh: Mesh) -> dict[PeerId, tuple[int, int]]:
    if not mesh.control.connected or not mesh.nat.candidates:
        return {}
    ours = mesh.nat.generation
    online = [who for who in others(mesh) if mesh.peers[who].online]
    return {who: (ours, mesh.peers[who].generation) for who in online}
