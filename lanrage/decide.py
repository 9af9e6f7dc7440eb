"""The rules: what a command means for a node in a given state, as events or a refusal.

    decide(mesh, command, now_ms) -> tuple[Event, ...] | Refusal

Pure: the clock comes in, nothing goes out. A command that changes nothing yields no events, so the
shell may repeat itself freely. Two kinds arrive here. Reports of the world are never refused, only
found to be news or not; the exception is what claims to be signed (`Enter`, `AcceptRecords`),
which is verified record by record and refused whole at the first lie. Intents of a person that
end in a signed record (invite, kick, ...) are checked by `check` before anything is signed; their
events come back by way of control as `AcceptRecords`, like everybody else's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from events import nat, party, path, peer, profile, relay, session, tunnel
from events.base import Event, PeerId
from events.peer import Candidate
from lanrage import commands as c
from lanrage.protocols import partylog
from lanrage.protocols.partylog import Chain, Invalid, Member
from lanrage.recorded import event_of
from lanrage.refusal import Refusal
from projections.mesh import Mesh, others, port_name

Decision = tuple[Event, ...] | Refusal

LIFE_S_MIN = 60  # of an invite
LIFE_S_MAX = 366 * 86_400
OFFER_S_MAX = 3_600  # it keeps a router open that long
CANDIDATES_MAX = 16  # of our own, told to members
NOTHING: tuple[Event, ...] = ()


def decide(mesh: Mesh, command: c.Reported, now_ms: int) -> Decision:
    return _RULES[type(command)](mesh, command, now_ms)


# --- intents of a person ------------------------------------------------------------------------


def check(mesh: Mesh, command: c.Asked) -> Refusal | None:
    """Why this intent cannot be carried out in this state, before anything is signed or sent."""
    if isinstance(command, c.Create | c.Join):
        return _check_enter(mesh, command) or _check_invite(command)
    if isinstance(command, c.ChooseProfile):
        return None
    if not mesh.party:
        return Refusal(
            "no_party",
            f"Cannot {command.__struct_config__.tag}",
            "this computer is in no party",
            "Make one with `lanrage create NAME` or enter one with `lanrage join LINK`.",
        )
    if isinstance(command, c.Kick):
        found = find_member(mesh, command.peer)
        return found if isinstance(found, Refusal) else _check_kick(mesh, found)
    if isinstance(command, c.RevokeInvite):
        invite = find_invite(mesh, command.invite)
        return invite if isinstance(invite, Refusal) else None
    if isinstance(command, c.Offer) and not LIFE_S_MIN <= command.expires_s <= OFFER_S_MAX:
        return Refusal(
            "bad_offer",
            "Cannot offer",
            "an offer lives from a minute to an hour",
            "Try `lanrage offer --expires 20m`.",
        )
    return _check_invite(command)


def _check_invite(command: c.Asked) -> Refusal | None:
    if not isinstance(command, c.Create | c.Invite):
        return None
    life_s = command.expires_s if isinstance(command, c.Invite) else c.INVITE_LIFE_S
    if 1 <= command.uses <= partylog.USES_MAX and LIFE_S_MIN <= life_s <= LIFE_S_MAX:
        return None
    return Refusal(
        "bad_invite",
        "Cannot invite",
        f"an invite has 1 to {partylog.USES_MAX} uses, and lives from a minute to a year",
        "Try `lanrage invite --uses 4 --expires 1h`.",
    )


def _check_enter(mesh: Mesh, command: c.Create | c.Join) -> Refusal | None:
    if not mesh.party:
        return None
    doing = "create a party" if isinstance(command, c.Create) else "join"
    return Refusal(
        "in_party",
        f"Cannot {doing}",
        f"this computer is already in the party {mesh.chain.name!r}",
        "Leave it first: `lanrage leave`.",
    )


def _check_kick(mesh: Mesh, member: Member) -> Refusal | None:
    if member.peer == mesh.node.peer:
        return Refusal("kick_self", "Cannot kick", "that is this computer", "Use `lanrage leave`.")
    me = mesh.chain.members.get(mesh.node.peer)
    if me is None or not me.admin:
        return Refusal(
            "not_admin",
            f"Cannot kick {member.name}",
            "only the one who created the party may",
            "Ask the founder.",
        )
    return None


def find_member(mesh: Mesh, text: str) -> Member | Refusal:
    """A member by name, id, or an unambiguous prefix of the id."""
    members = mesh.chain.members.values()
    exact = [each for each in members if text in (each.name, each.peer)]
    found = exact or [each for each in members if text and each.peer.startswith(text.lower())]
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(each.name for each in members))
    why = f"{text!r} could be several members" if found else f"no member is called {text!r}"
    return Refusal("no_member", "Cannot do that", why, f"Members: {names}.")


def find_invite(mesh: Mesh, text: str) -> str | Refusal:
    found = [each for each in mesh.chain.invites if text and each.startswith(text.lower())]
    if len(found) == 1:
        return found[0]
    why = f"{text!r} could be several invites" if found else f"no invite is called {text!r}"
    known = ", ".join(sorted(each[:8] for each in mesh.chain.invites)) or "none"
    return Refusal("no_invite", "Cannot revoke", why, f"Invites: {known}.")


# --- session ------------------------------------------------------------------------------------


def _open_session(_mesh: Mesh, command: c.OpenSession, _now: int) -> Decision:
    return (
        session.SessionStarted(
            version=command.version,
            platform=command.platform,
            peer=command.peer,
            name=command.name,
            wireguard=command.wireguard,
        ),
    )


def _close_session(mesh: Mesh, command: c.CloseSession, _now: int) -> Decision:
    return (session.SessionEnded(reason=command.reason),) if mesh.node.running else NOTHING


# --- party and its signed chain -----------------------------------------------------------------


def _enter(mesh: Mesh, command: c.Enter, _now: int) -> Decision:
    if mesh.party:
        return Refusal("in_party", "Cannot enter", "already in a party", "Leave it first.")
    taken = _verify(partylog.EMPTY, command.records)
    if isinstance(taken, Refusal):
        return taken
    chain, events = taken
    if chain.party != command.party or mesh.node.peer not in chain.members:
        return Refusal(
            "not_member",
            "Cannot enter",
            "the records that control sent do not make this computer a member",
            "Ask the host for a new invite.",
        )
    entered = party.PartyEntered(
        party=command.party, control=command.control, embedded=command.embedded
    )
    return (entered, *events)


def _fail_join(_mesh: Mesh, command: c.FailJoin, _now: int) -> Decision:
    return (party.PartyJoinFailed(reason=command.reason),)


def _accept(mesh: Mesh, command: c.AcceptRecords, _now: int) -> Decision:
    """Records that extend our head are news; ones we hold are not; all else is a fork."""
    if command.party != mesh.party or not command.records:
        return NOTHING
    if command.after > mesh.chain.length:
        return Refusal("gap", "Refused records", "control skipped a part of the chain", "")
    fresh = command.records[mesh.chain.length - command.after :]
    taken = _verify(mesh.chain, fresh)
    if isinstance(taken, Refusal):
        return _forked(mesh, taken.why)
    chain, events = taken
    if mesh.node.peer in chain.members:
        return tuple(events)
    reason = chain.departed.get(mesh.node.peer, "left")
    return (*events, party.PartyExited(party=mesh.party, reason=reason))


def _offered(mesh: Mesh, command: c.NoteOffered, _now: int) -> Decision:
    if command.party != mesh.party:
        return NOTHING
    return (
        party.PactOffered(
            party=command.party, expires_at=command.expires_at, places=command.places
        ),
    )


def _answered(mesh: Mesh, command: c.NoteAnswered, _now: int) -> Decision:
    """A guest is in no party yet; a host is in that one."""
    if mesh.party != ("" if command.own_address else command.party):
        return NOTHING
    return (
        party.PactAnswered(
            party=command.party,
            wireguard=command.wireguard,
            address=command.address,
            own_address=command.own_address,
            places=command.places,
        ),
    )


def _end_pact(mesh: Mesh, command: c.EndPact, _now: int) -> Decision:
    if mesh.pact is None:
        return NOTHING
    return (party.PactEnded(party=mesh.pact.party, reason=command.reason),)


def _diverged(mesh: Mesh, command: c.NoteDiverged, _now: int) -> Decision:
    return _forked(mesh, command.reason) if command.party == mesh.party else NOTHING


def _forked(mesh: Mesh, reason: str) -> Decision:
    """Said once for each reason: a dishonest server can repeat itself as often as it likes."""
    if reason == mesh.control.forked:
        return NOTHING
    chain = mesh.chain
    return (
        party.PartyForked(party=mesh.party, reason=reason, length=chain.length, head=chain.head),
    )


def _verify(chain: Chain, records: tuple[bytes, ...]) -> tuple[Chain, list[Event]] | Refusal:
    events: list[Event] = []
    for record in records:
        after = partylog.verify(chain, record, now_ms=None)
        if isinstance(after, Invalid):
            return Refusal(
                after.code,
                "Refused the party's records",
                after.reason,
                "The control server is broken or dishonest; ask the host.",
            )
        chain = after
        events.append(event_of(chain, record))
    return chain, events


def _exit(mesh: Mesh, command: c.ExitParty, _now: int) -> Decision:
    if not mesh.party:
        return NOTHING
    return (party.PartyExited(party=mesh.party, reason=command.reason),)


def _control(mesh: Mesh, command: c.NoteControl, _now: int) -> Decision:
    if command.party != mesh.party:
        return NOTHING
    now = mesh.control
    if command.connected:
        if now.connected == command.url:
            return NOTHING
        return (party.ControlConnected(party=command.party, url=command.url),)
    if not now.connected and now.reason == command.reason:
        return NOTHING
    return (party.ControlLost(party=command.party, url=command.url, reason=command.reason),)


def _presence(mesh: Mesh, command: c.NotePresence, _now: int) -> Decision:
    if command.party != mesh.party:
        return NOTHING
    online = frozenset(command.online)
    events: list[Event] = []
    for who in others(mesh):
        was = mesh.peers[who].online
        if who in online and not was:
            events.append(peer.PeerOnline(peer=who))
        if who not in online and was:
            events.append(peer.PeerOffline(peer=who, reason=command.reason or "left control"))
    return tuple(events)


def _candidates(mesh: Mesh, command: c.NoteCandidates, _now: int) -> Decision:
    known = mesh.peers.get(command.peer)
    if known is None or command.generation <= known.generation:
        return NOTHING
    return (
        peer.PeerCandidates(
            peer=command.peer, generation=command.generation, candidates=command.candidates
        ),
    )


# --- our own way to the internet ----------------------------------------------------------------


def _addresses(mesh: Mesh, command: c.NoteAddresses, now: int) -> Decision:
    return _gather(mesh, command.addresses, mesh.nat.mapped, mesh.nat.ports, now)


def _mapping(mesh: Mesh, command: c.NoteMapping, now: int) -> Decision:
    known = mesh.nat.mapped.get(command.server)
    if not command.mapped:
        if not mesh.party and known is None:
            return NOTHING
        rest = {at: was for at, was in mesh.nat.mapped.items() if at != command.server}
        lost = nat.NatUnmapped(server=command.server, reason=command.reason)
        return (lost, *_gather(mesh, mesh.nat.hosts, rest, mesh.nat.ports, now))
    if known == command.mapped:
        return NOTHING
    mapped = {**mesh.nat.mapped, command.server: command.mapped}
    learnt = nat.NatMapped(server=command.server, mapped=command.mapped, rtt_ms=command.rtt_ms)
    return (learnt, *_gather(mesh, mesh.nat.hosts, mapped, mesh.nat.ports, now))


def _gather(
    mesh: Mesh,
    hosts: tuple[str, ...],
    mapped: dict[str, str],
    ports: dict[str, str],
    now: int,
) -> tuple[Event, ...]:
    """Our candidates, if they differ from what members were told. The generation is taken from
    the clock but never goes back, so that members can tell a newer list after our restart."""
    forwarded = ports.get(port_name("udp", mesh.tunnel.port), "")
    seen = sorted(set(mapped.values()) - {*hosts, forwarded})
    listed = [Candidate("forwarded", forwarded)] if forwarded and forwarded not in hosts else []
    listed += [Candidate("host", each) for each in hosts]
    listed += [Candidate("mapped", at) for at in seen]
    candidates = tuple(listed[:CANDIDATES_MAX])
    if candidates == mesh.nat.candidates:
        return NOTHING
    return (_gathered(mesh, candidates, now),)


def _gathered(mesh: Mesh, candidates: tuple[Candidate, ...], now: int) -> nat.NatGathered:
    generation = max(now, mesh.nat.generation + 1)
    return nat.NatGathered(generation=generation, candidates=candidates)


def _port_mapping(mesh: Mesh, command: c.NotePortMapping, now: int) -> Decision:
    name = port_name(command.protocol, command.port)
    known = mesh.nat.ports.get(name, "")
    if not command.external:
        if not known and command.reason == mesh.nat.ports_reason:
            return NOTHING
        left = {port: at for port, at in mesh.nat.ports.items() if port != name}
        closed = nat.NatPortUnmapped(
            protocol=command.protocol, port=command.port, reason=command.reason
        )
        return (closed, *_gather(mesh, mesh.nat.hosts, mesh.nat.mapped, left, now))
    if known == command.external:
        return NOTHING
    opened = nat.NatPortMapped(
        method=command.method,
        protocol=command.protocol,
        port=command.port,
        external=command.external,
        lifetime_s=command.lifetime_s,
        gateway=command.gateway,
    )
    ports = {**mesh.nat.ports, name: command.external}
    return (opened, *_gather(mesh, mesh.nat.hosts, mesh.nat.mapped, ports, now))


def _behaviour(mesh: Mesh, command: c.NoteBehaviour, now: int) -> Decision:
    """Members are told with our candidates, so these get a new generation."""
    known = (mesh.nat.mapping, mesh.nat.filtering, mesh.nat.hairpin)
    if known == (command.mapping, command.filtering, command.hairpin):
        return NOTHING
    classified = nat.NatClassified(
        mapping=command.mapping,
        filtering=command.filtering,
        hairpin=command.hairpin,
        server=command.server,
        evidence=command.evidence,
    )
    return (classified, _gathered(mesh, mesh.nat.candidates, now))


def _network(mesh: Mesh, command: c.NoteNetwork, _now: int) -> Decision:
    if (command.network, command.gateway) == (mesh.nat.network, mesh.nat.gateway):
        return NOTHING
    return (
        nat.NatNetwork(network=command.network, gateway=command.gateway, reason=command.reason),
    )


def _resumed(_mesh: Mesh, command: c.NoteResumed, _now: int) -> Decision:
    return (session.SessionResumed(asleep_ms=command.asleep_ms),)


def _label(mesh: Mesh, command: c.NoteLabel, _now: int) -> Decision:
    if command.label == mesh.nat.label:
        return NOTHING
    return (nat.NatLabelled(label=command.label, server=command.server),)


# --- relays -------------------------------------------------------------------------------------


def _relays(mesh: Mesh, command: c.NoteRelays, _now: int) -> Decision:
    if command.party != mesh.party:
        return NOTHING
    events: list[Event] = []
    for offer in command.relays:
        known = mesh.relays.get(offer.relay)
        now = (offer.region, offer.tcp, offer.boot)
        if known is None or (known.region, known.tcp, known.boot) != now:
            events.append(
                relay.RelayOffered(
                    relay=offer.relay, region=offer.region, tcp=offer.tcp, boot=offer.boot
                )
            )
    offered = {offer.relay for offer in command.relays}
    for name in mesh.relays:
        if name not in offered:
            gone = relay.RelayWithdrawn(relay=name, reason="control offers it no more")
            events.append(gone)
    return tuple(events)


def _relay_bound(mesh: Mesh, command: c.NoteRelayBound, _now: int) -> Decision:
    known = mesh.relays.get(command.relay)
    if known is None:
        return NOTHING
    if command.address:
        if (known.carrier, known.address) == (command.carrier, command.address):
            return NOTHING
        return (
            relay.RelayBound(
                relay=command.relay,
                carrier=command.carrier,
                address=command.address,
                rtt_us=command.rtt_us,
                took_ms=command.took_ms,
            ),
        )
    if command.carrier != known.carrier and (known.carrier or command.reason == known.reason):
        return NOTHING  # of the other carrier, or said before
    unbound = relay.RelayUnbound(
        relay=command.relay, carrier=command.carrier, reason=command.reason
    )
    return (unbound,)


def _picks(mesh: Mesh, command: c.NotePicks, _now: int) -> Decision:
    if command.party != mesh.party:
        return NOTHING
    picked = {pick.peer: pick for pick in command.picks}
    events: list[Event] = []
    for who, known in mesh.peers.items():
        pick = picked.get(who)
        if (pick.relay if pick else "") == known.relay:
            continue
        events.append(
            relay.RelayPicked(
                peer=who,
                relay=pick.relay if pick else "",
                sum_ms=pick.sum_ms if pick else 0,
                reason="the least sum of both round trips" if pick else "none is known to both",
            )
        )
    return tuple(events)


def _peer_nat(mesh: Mesh, command: c.NotePeerNat, _now: int) -> Decision:
    known = mesh.peers.get(command.peer)
    now = (command.mapping, command.filtering, command.hairpin)
    if known is None or known.nat == now:
        return NOTHING
    return (
        peer.PeerNat(
            peer=command.peer,
            mapping=command.mapping,
            filtering=command.filtering,
            hairpin=command.hairpin,
        ),
    )


# --- tunnel, paths, sessions --------------------------------------------------------------------


def _tunnel(_mesh: Mesh, command: c.NoteTunnel, _now: int) -> Decision:
    return (
        tunnel.TunnelStarted(
            interface=command.interface, port=command.port, backend=command.backend
        ),
    )


def _configured(mesh: Mesh, command: c.NoteConfigured, _now: int) -> Decision:
    now = mesh.tunnel
    if not mesh.party:
        return NOTHING  # said before the tunnel heard that we are out of the party
    if (now.address, now.address6, now.mtu) == (command.address, command.address6, command.mtu):
        return NOTHING
    return (
        tunnel.TunnelConfigured(
            address=command.address, address6=command.address6, mtu=command.mtu
        ),
    )


def _tunnel_stopped(_mesh: Mesh, command: c.NoteTunnelStopped, _now: int) -> Decision:
    return (tunnel.TunnelStopped(reason=command.reason),)


def _probing(mesh: Mesh, command: c.NoteProbing, _now: int) -> Decision:
    known = mesh.peers.get(command.peer)
    if known is None or known.probing == command.addresses:
        return NOTHING
    return (path.PathProbing(peer=command.peer, addresses=command.addresses),)


def _path(mesh: Mesh, command: c.NotePath, _now: int) -> Decision:
    who: PeerId = command.peer
    if who not in mesh.peers:
        return NOTHING
    if command.new and command.old:
        return (
            path.PathSwitched(peer=who, old=command.old, new=command.new, reason=command.reason),
        )
    if command.new:
        return (path.PathOpened(peer=who, path=command.new, took_ms=command.took_ms),)
    if command.old:
        return (path.PathLost(peer=who, old=command.old, reason=command.reason),)
    return NOTHING


def _doubt(mesh: Mesh, command: c.NoteDoubt, _now: int) -> Decision:
    known = mesh.peers.get(command.peer)
    if known is None:
        return NOTHING
    if command.trusted:
        if not known.doubt:
            return NOTHING
        return (path.PathTrusted(peer=command.peer, path=command.path, after_ms=command.ms),)
    return (
        path.PathDoubted(
            peer=command.peer, path=command.path, second=command.second, silent_ms=command.ms
        ),
    )


def _unreachable(mesh: Mesh, command: c.NoteUnreachable, _now: int) -> Decision:
    known = mesh.peers.get(command.peer)
    if known is None or known.path is not None:
        return NOTHING
    return (
        path.PathFailed(
            peer=command.peer,
            tried=command.tried,
            after_ms=command.after_ms,
            reason=command.reason,
        ),
    )


def _session(mesh: Mesh, command: c.NoteSession, _now: int) -> Decision:
    known = mesh.peers.get(command.peer)
    if known is None or known.established == command.established:
        return NOTHING
    if command.established:
        return (tunnel.TunnelEstablished(peer=command.peer, took_ms=command.took_ms),)
    return (tunnel.TunnelExpired(peer=command.peer, reason=command.reason),)


def _profile(mesh: Mesh, command: c.NoteProfile, _now: int) -> Decision:
    now = mesh.profile
    if (now.id, now.mtu, now.keepalive_s) == (command.profile, command.mtu, command.keepalive_s):
        return NOTHING
    return (
        profile.ProfileChosen(
            profile=command.profile,
            reason=command.reason,
            mtu=command.mtu,
            keepalive_s=command.keepalive_s,
        ),
    )


_RULES: dict[type[c.Command], Callable[[Mesh, Any, int], Decision]] = {
    c.OpenSession: _open_session,
    c.CloseSession: _close_session,
    c.Enter: _enter,
    c.ExitParty: _exit,
    c.FailJoin: _fail_join,
    c.AcceptRecords: _accept,
    c.NoteOffered: _offered,
    c.NoteAnswered: _answered,
    c.EndPact: _end_pact,
    c.NoteDiverged: _diverged,
    c.NoteControl: _control,
    c.NotePresence: _presence,
    c.NoteCandidates: _candidates,
    c.NoteAddresses: _addresses,
    c.NoteMapping: _mapping,
    c.NoteLabel: _label,
    c.NoteTunnel: _tunnel,
    c.NoteConfigured: _configured,
    c.NoteTunnelStopped: _tunnel_stopped,
    c.NoteProbing: _probing,
    c.NotePath: _path,
    c.NoteDoubt: _doubt,
    c.NoteRelays: _relays,
    c.NoteRelayBound: _relay_bound,
    c.NotePicks: _picks,
    c.NotePortMapping: _port_mapping,
    c.NoteBehaviour: _behaviour,
    c.NotePeerNat: _peer_nat,
    c.NoteNetwork: _network,
    c.NoteResumed: _resumed,
    c.NoteUnreachable: _unreachable,
    c.NoteSession: _session,
    c.NoteProfile: _profile,
}
