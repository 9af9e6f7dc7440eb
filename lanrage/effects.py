"""Every instruction to the world, as data. One interpreter, `lanrage.node`, performs them.

The first group goes to the tunnel process as it is (`lanrage.tunnel.messages` frames it); the
second is for the control client. All are idempotent and level-triggered: performing the same one
again changes nothing. What holds a secret does not show it.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from events.base import PartyId, PeerId
from events.peer import Candidate


class Order(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Start(Order, frozen=True, kw_only=True):
    """First and once: bind the UDP socket, create the (downed, address-less) interface.
    Answered by `Started`, or by `Failed` and the end of the process."""

    private_key: bytes  # X25519, 32 bytes
    interface: str
    port: int  # UDP port on all addresses, IPv4 and IPv6; 0 lets the kernel choose

    def __repr__(self) -> str:
        return f"Start(interface={self.interface!r}, port={self.port})"


class Configure(Order, frozen=True, kw_only=True):
    """Give the interface its addresses and bring it up. Answered by `Configured` or `Failed`."""

    address: str  # "10.66.0.1/16"
    address6: str  # "fd12:3456:789a::1/64"; empty for none
    mtu: int
    number: int = 0  # our member number; relays know us by it


class Deconfigure(Order, frozen=True, kw_only=True):
    """Take the interface down, its addresses off, and forget every peer."""


class PutPeer(Order, frozen=True, kw_only=True):
    peer: PeerId
    public_key: bytes
    allowed: tuple[str, ...]  # "10.66.0.2/32", "fd12:.../128"
    keepalive_s: int  # persistent keepalive; 0 for none
    preshared_key: bytes = b""
    number: int = 0  # the member's; relays know it by it
    # A plain WireGuard program without our probes (a phone): it is reached where its authenticated
    # packets come from, through a relay perhaps.
    standard: bool = False

    def __repr__(self) -> str:
        return f"PutPeer(peer={self.peer!r}, allowed={self.allowed})"


class DropPeer(Order, frozen=True, kw_only=True):
    peer: PeerId


class PutCandidates(Order, frozen=True, kw_only=True):
    """Where this peer may be reached. A list not seen before starts probing at once."""

    peer: PeerId
    candidates: tuple[Candidate, ...]


class PutServers(Order, frozen=True, kw_only=True):
    """STUN servers (numeric "ip:port") to learn and keep our mapped addresses from."""

    servers: tuple[str, ...]


class RelayGrant(msgspec.Struct, frozen=True, kw_only=True):
    """One relay that we may use, with the ticket that says so."""

    relay: str  # its name: "ip:port" over UDP
    addresses: tuple[str, ...]  # UDP, "ip:port" and "[ip6]:port"
    region: str
    tcp: str  # "wss://host:port/"; empty: it speaks UDP only
    pin: str  # hex SHA-256 of the certificate's DER; empty: the system's authorities decide
    public_key: bytes  # X25519, 32 bytes
    boot: bytes  # 8 bytes
    ticket: bytes

    def __repr__(self) -> str:
        return f"RelayGrant(relay={self.relay!r}, region={self.region!r}, boot={self.boot.hex()})"


class PutRelays(Order, frozen=True, kw_only=True):
    """The relays to be bound to, nearest first; those not named are left."""

    relays: tuple[RelayGrant, ...]


class PutPicks(Order, frozen=True, kw_only=True):
    """Which relay to prefer for which member. Members not named may use any."""

    picks: dict[PeerId, str]


class PutPolicy(Order, frozen=True, kw_only=True):
    """What this computer consents to."""

    volunteer: bool = True  # forward for members of the party that cannot reach each other
    port_search: bool = False  # try many ports of a member's router that maps by destination


class CheckPeer(Order, frozen=True, kw_only=True):
    """Somebody doubts that this member is there: ask now, not at the next beat."""

    peer: PeerId


class ChangeNetwork(Order, frozen=True, kw_only=True):
    """Our own addresses changed, or the computer woke up: nothing measured holds any more."""

    reason: str


class Stop(Order, frozen=True, kw_only=True):
    """Undo everything and exit 0."""


AnyOrder: TypeAlias = (
    Start
    | Configure
    | Deconfigure
    | PutPeer
    | DropPeer
    | PutCandidates
    | PutServers
    | PutRelays
    | PutPicks
    | PutPolicy
    | CheckPeer
    | ChangeNetwork
    | Stop
)


# --- for the control client and the embedded control server ------------------------------------


class RunControl(msgspec.Struct, frozen=True, kw_only=True):
    """Serve the party's rendezvous from this node, or stop serving it."""

    serve: bool


class FollowControl(msgspec.Struct, frozen=True, kw_only=True):
    """Be connected to the party's control, from our place in the chain on."""

    party: PartyId
    urls: tuple[str, ...]


class LeaveControl(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Announce(msgspec.Struct, frozen=True, kw_only=True):
    """Seal our candidates for a member and send them through control."""

    peer: PeerId
    generation: int


class UseServers(msgspec.Struct, frozen=True, kw_only=True):
    """Learn our mapped addresses from these control servers; names are resolved on the way."""

    urls: tuple[str, ...]


Effect: TypeAlias = (
    Configure
    | Deconfigure
    | PutPeer
    | DropPeer
    | PutCandidates
    | PutPicks
    | RunControl
    | FollowControl
    | LeaveControl
    | Announce
    | UseServers
)
