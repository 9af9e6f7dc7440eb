"""Every event as one line for a person: what happened, to whom, with the figures that explain it.

`names` maps peer ids to names as far as they are known at that point; `remember` keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from events import nat, party, path, peer, profile, relay, session, tunnel
from events.base import Event, PeerId
from events.codec import Unknown
from events.path import PathQuality
from lanrage.forecast import nature

Names = dict[PeerId, str]


def remember(names: Names, event: Event | Unknown) -> None:
    if isinstance(event, peer.PeerJoined | peer.PeerRenamed):
        names[event.peer] = event.name
    if isinstance(event, party.PartyCreated):
        names[event.founder] = event.founder_name
    if isinstance(event, session.SessionStarted):
        names[event.peer] = event.name


def describe(event: Event | Unknown, names: Names) -> str:
    """One line, without its time."""
    if isinstance(event, Unknown):
        return "something this version cannot read"
    words = _WORDS.get(type(event))
    return words(event, names) if words else type(event).TYPE


def counted(number: int, noun: str) -> str:
    """`1 use`, `2 uses`, `2 addresses`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"


def _who(names: Names, who: PeerId) -> str:
    return names.get(who, who[:8])


def _ms(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f} ms"


def _path(path_: PathQuality) -> str:
    return f"{path_.kind} {path_.address} ({_ms(path_.rtt_us)})"


def _classified(event: nat.NatClassified) -> str:
    said = nature(event.mapping, event.filtering)
    if not said:
        return f"what our router does is not known: {'; '.join(event.evidence)}"
    hairpin = f", hairpin {event.hairpin}" if event.hairpin else ""
    kind = f"mapping {event.mapping}, filtering {event.filtering or 'unknown'}{hairpin}"
    return f"our router: {said} ({kind}), by {event.server or 'no server'}"


def _of_peer(event: peer.PeerNat) -> str:
    said = nature(event.mapping, event.filtering)
    return said or "no class that is known"


_WORDS: dict[type[Event], Callable[[Any, Names], str]] = {
    session.SessionStarted: lambda e, _: f"LANrage {e.version} started as {e.name}",
    session.SessionEnded: lambda e, _: f"LANrage ended: {e.reason}",
    session.SessionResumed: lambda e, _: f"woke up after {e.asleep_ms / 1000:.0f} s",
    session.SessionCarried: lambda e, _: "the state this session began with",
    party.PartyEntered: lambda e, _: (
        "entering a party"
        + (", control runs here" if e.embedded else f", control at {e.control[0]}")
    ),
    party.PartyExited: lambda e, _: f"out of the party: {e.reason}",
    party.PartyJoinFailed: lambda e, _: f"could not join: {e.reason}",
    party.PartyCreated: lambda e, _: (
        f"{e.founder_name} created the party {e.name!r} and has {e.address}"
    ),
    party.PartyRenamed: lambda e, n: f"{_who(n, e.author)} named the party {e.name!r}",
    party.InviteIssued: lambda e, n: (
        f"{_who(n, e.author)} issued the invite {e.invite[:8]} for {counted(e.uses, 'use')}"
    ),
    party.InviteRevoked: lambda e, n: f"{_who(n, e.author)} revoked the invite {e.invite[:8]}",
    party.PartyForked: lambda e, _: (
        f"control showed a history that contradicts ours and was refused: {e.reason}"
    ),
    party.PactOffered: lambda e, _: (
        f"a code for one guest, no server needed: {', '.join(e.places) or 'no address'}"
    ),
    party.PactAnswered: lambda e, _: f"codes exchanged, trying {e.address} without a server",
    party.PactEnded: lambda e, _: f"the exchange of codes ended: {e.reason}",
    party.ControlConnected: lambda e, _: f"connected to control at {e.url}",
    party.ControlLost: lambda e, _: f"control is out of reach: {e.reason}",
    peer.PeerJoined: lambda e, _: f"{e.name} joined and has {e.address}",
    peer.PeerLeft: lambda e, n: f"{_who(n, e.peer)} left",
    peer.PeerKicked: lambda e, n: f"{_who(n, e.author)} kicked {_who(n, e.peer)}",
    peer.PeerRenamed: lambda e, _: f"a member is now called {e.name}",
    peer.PeerOnline: lambda e, n: f"{_who(n, e.peer)} is online",
    peer.PeerOffline: lambda e, n: f"{_who(n, e.peer)} is offline: {e.reason}",
    peer.PeerCandidates: lambda e, n: (
        f"{_who(n, e.peer)} may be reached at {', '.join(c.address for c in e.candidates)}"
    ),
    peer.PeerNat: lambda e, n: f"the router of {_who(n, e.peer)}: {_of_peer(e)}",
    nat.NatGathered: lambda e, _: (
        f"we may be reached at {', '.join(c.address for c in e.candidates) or 'no address'}"
    ),
    nat.NatMapped: lambda e, _: f"{e.server} sees us as {e.mapped} (round trip {e.rtt_ms} ms)",
    nat.NatUnmapped: lambda e, _: f"{e.server} does not tell where it sees us: {e.reason}",
    nat.NatLabelled: lambda e, _: f"classic NAT test: {e.label}",
    nat.NatPortMapped: lambda e, _: (
        f"the router {e.gateway} leads {e.external} to our {e.protocol} port {e.port} ({e.method})"
    ),
    nat.NatPortUnmapped: lambda e, _: (
        f"the router leads nothing to our {e.protocol} port {e.port}: {e.reason}"
    ),
    nat.NatClassified: lambda e, _: _classified(e),
    nat.NatNetwork: lambda e, _: (
        f"on the network {e.network[:8]} behind {e.gateway or 'no gateway'}: {e.reason}"
        if e.network
        else f"on no network: {e.reason}"
    ),
    relay.RelayOffered: lambda e, _: (
        f"control offers the relay {e.relay} ({e.region or 'no region'})"
        + (f", TCP at {e.tcp}" if e.tcp else "")
    ),
    relay.RelayWithdrawn: lambda e, _: f"the relay {e.relay} is withdrawn: {e.reason}",
    relay.RelayBound: lambda e, _: (
        f"the relay {e.relay} forwards to us over {'TCP' if e.carrier == 'tcp' else 'UDP'}"
        f" after {e.took_ms} ms (round trip {_ms(e.rtt_us)}), sees us as {e.address}"
    ),
    relay.RelayUnbound: lambda e, _: f"the relay {e.relay} forwards to us no more: {e.reason}",
    relay.RelayPicked: lambda e, n: (
        f"relay for {_who(n, e.peer)}: {e.relay} ({e.sum_ms} ms in all), {e.reason}"
        if e.relay
        else f"no relay for {_who(n, e.peer)}: {e.reason}"
    ),
    path.PathProbing: lambda e, n: (
        f"probing {counted(len(e.addresses), 'address')} of {_who(n, e.peer)} at once"
    ),
    path.PathOpened: lambda e, n: (
        f"path to {_who(n, e.peer)} open after {e.took_ms} ms: {_path(e.path)}"
    ),
    path.PathSwitched: lambda e, n: (
        f"path to {_who(n, e.peer)} switched from {_path(e.old)} to {_path(e.new)}: {e.reason}"
    ),
    path.PathLost: lambda e, n: f"path to {_who(n, e.peer)} lost, {_path(e.old)}: {e.reason}",
    path.PathDoubted: lambda e, n: (
        f"path to {_who(n, e.peer)} silent for {e.silent_ms} ms, {_path(e.path)}"
        + (f"; sending through {_path(e.second)}, too" if e.second else "; there is no other")
    ),
    path.PathTrusted: lambda e, n: (
        f"path to {_who(n, e.peer)} answers again after {e.after_ms} ms: {_path(e.path)}"
    ),
    path.PathFailed: lambda e, n: f"no path to {_who(n, e.peer)}: {e.reason}",
    tunnel.TunnelStarted: lambda e, _: f"{e.interface} made, UDP port {e.port} ({e.backend})",
    tunnel.TunnelConfigured: lambda e, _: f"this computer is {e.address} (MTU {e.mtu})",
    tunnel.TunnelStopped: lambda e, _: f"the tunnel stopped: {e.reason}",
    tunnel.TunnelEstablished: lambda e, n: (
        f"encrypted session with {_who(n, e.peer)} up after {e.took_ms} ms"
    ),
    tunnel.TunnelExpired: lambda e, n: (
        f"encrypted session with {_who(n, e.peer)} ended: {e.reason}"
    ),
    profile.ProfileChosen: lambda e, _: f"profile {e.profile} ({e.reason}), MTU {e.mtu}",
}
