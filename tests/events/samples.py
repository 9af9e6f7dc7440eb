"""One event of every type, with every field set: what the golden log is made of."""

from __future__ import annotations

from typing import Any

import msgspec

from events import nat, party, path, peer, profile, relay, session, tunnel
from events.base import Event, Stored, stream_of
from events.codec import encode

ANN = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"
BEN = "ceqtcqkrmfyydenbwha5dypsaaqskbyhaqeyb2kq6gysdfqvdybq"
PARTY = "mzxw6ytboi3tqmzugezdgmrtgiytembsgaytamjqgu2dcnjrge2q"
HEAD = "9f" * 32
CHAIN: dict[str, Any] = {
    "party": PARTY,
    "length": 3,
    "head": HEAD,
    "record": b"\x00\xff record",
    "author": ANN,
}
DIRECT = path.PathQuality(kind="direct", address="203.0.113.7:51820", rtt_us=41_250)
RELAY = path.PathQuality(
    kind="relay",
    address="[2001:db8::1]:3478",
    rtt_us=88_000,
    loss_permille=12,
    jitter_us=900,
    relay="[2001:db8::1]:3478",
)
AT = "[2001:db8::1]:3478"
HOST = peer.Candidate(kind="host", address="192.168.1.20:51820")
MAPPED = peer.Candidate(kind="mapped", address="198.51.100.4:40001")

SAMPLES: tuple[Event, ...] = (
    session.SessionStarted(
        version="0.1.0",
        platform="Linux 6.18 x86_64",
        peer=ANN,
        name='Änne "A" \u2028 🎮',
        wireguard=bytes(32),
    ),
    session.SessionEnded(reason="SIGTERM"),
    session.SessionResumed(asleep_ms=3_600_000),
    session.SessionCarried(state=msgspec.Raw(b'{"seq":0,"peers":{}}')),
    party.PartyEntered(party=PARTY, control=("ws://192.0.2.1:7777",), embedded=True),
    party.PartyExited(party=PARTY, reason="left"),
    party.PartyJoinFailed(reason="this invite was already used"),
    party.PartyCreated(
        **CHAIN,
        name="Friday",
        founder=ANN,
        founder_name="Ann",
        address="10.66.0.1",
        address6="fd12:3456:789a::1",
    ),
    party.PartyRenamed(**CHAIN, name="Saturday"),
    party.InviteIssued(**CHAIN, invite=BEN, uses=4, expires_at=1_795_000_000_000),
    party.InviteRevoked(**CHAIN, invite=BEN),
    party.PartyForked(party=PARTY, reason="record 3 differs", length=3, head=HEAD),
    party.PactOffered(party=PARTY, expires_at=1_795_000_000_000, places=("198.51.100.4:26666",)),
    party.PactAnswered(
        party=PARTY,
        wireguard=bytes(32),
        address="10.66.0.1",
        own_address="10.66.255.254",
        places=("198.51.100.4:26666", "[2001:db8::1]:26666"),
    ),
    party.PactEnded(party=PARTY, reason="its time is over"),
    party.ControlConnected(party=PARTY, url="wss://lan.example:443"),
    party.ControlLost(party=PARTY, url="wss://lan.example:443", reason="closed"),
    peer.PeerJoined(
        **CHAIN,
        peer=BEN,
        name="Ben",
        address="10.66.0.2",
        address6="fd12:3456:789a::2",
        invite=BEN,
    ),
    peer.PeerLeft(**CHAIN, peer=BEN),
    peer.PeerKicked(**CHAIN, peer=BEN),
    peer.PeerRenamed(**CHAIN, peer=BEN, name="Benjamin"),
    peer.PeerOnline(peer=BEN),
    peer.PeerOffline(peer=BEN, reason="left control"),
    peer.PeerCandidates(peer=BEN, generation=7, candidates=(HOST, MAPPED)),
    peer.PeerNat(peer=BEN, mapping="independent", filtering="port", hairpin="no"),
    nat.NatGathered(generation=1_794_000_000_000, candidates=(HOST,)),
    nat.NatMapped(server="192.0.2.1:7777", mapped="198.51.100.4:40001", rtt_ms=40),
    nat.NatUnmapped(server="192.0.2.1:7777", reason="no answer in 3 s"),
    nat.NatLabelled(label="Port Restricted", server="stun.example:3478"),
    nat.NatPortMapped(
        method="pcp",
        protocol="udp",
        port=26_666,
        external="198.51.100.4:26666",
        lifetime_s=7_200,
        gateway="192.168.1.1",
    ),
    nat.NatPortUnmapped(protocol="udp", port=26_666, reason="the router does not answer"),
    nat.NatClassified(
        mapping="independent",
        filtering="port",
        hairpin="no",
        server="192.0.2.1:3478",
        evidence=("two ports see the same address",),
    ),
    nat.NatNetwork(network="b5f1", gateway="192.168.1.1", reason="the default route changed"),
    relay.RelayOffered(relay=AT, region="eu", tcp="wss://192.0.2.1:443/", boot="00" * 8),
    relay.RelayWithdrawn(relay=AT, reason="control offers it no more"),
    relay.RelayBound(
        relay=AT, carrier="relay", address="198.51.100.4:40001", rtt_us=21_000, took_ms=43
    ),
    relay.RelayUnbound(relay=AT, carrier="relay", reason="it does not answer"),
    relay.RelayPicked(peer=BEN, relay=AT, sum_ms=61, reason="the least sum of both round trips"),
    path.PathProbing(peer=BEN, addresses=("198.51.100.4:40001", "192.168.1.20:51820")),
    path.PathOpened(peer=BEN, path=DIRECT, took_ms=120),
    path.PathSwitched(peer=BEN, old=RELAY, new=DIRECT, reason="10 ms and a third better"),
    path.PathLost(peer=BEN, old=DIRECT, reason="no answer for 10 s"),
    path.PathDoubted(peer=BEN, path=DIRECT, second=RELAY, silent_ms=140),
    path.PathTrusted(peer=BEN, path=DIRECT, after_ms=260),
    path.PathFailed(peer=BEN, tried=("198.51.100.4:40001",), after_ms=5_000, reason="no answer"),
    tunnel.TunnelStarted(interface="lanrage0", port=51_820, backend="userspace"),
    tunnel.TunnelConfigured(address="10.66.0.1/16", address6="fd12::1/64", mtu=1_420),
    tunnel.TunnelStopped(reason="stopped"),
    tunnel.TunnelEstablished(peer=BEN, took_ms=43),
    tunnel.TunnelExpired(peer=BEN, reason="keys expired"),
    profile.ProfileChosen(profile="openttd", reason="by the player", mtu=1_420, keepalive_s=25),
)


def stored(event: Event, seq: int, *, session: str = "run-1") -> Stored:
    return Stored(
        seq=seq,
        stream=stream_of(event),
        version=seq,
        id=f"{seq:032x}",
        type=event.TYPE,
        at=1_793_000_000_000 + seq,
        session=session,
        data=msgspec.Raw(encode(event)),
    )
