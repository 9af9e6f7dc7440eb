"""What has to be done so that the world becomes as it ought to be.

    plan(wanted, actual) -> effects

Level-triggered: it compares two descriptions and names the differences; it never asks what
happened, so a restart, a lost notice or a command given twice needs no case of its own. `actual` is
what the interpreter was last told to reach.
"""

from __future__ import annotations

from lanrage.effects import (
    Announce,
    Configure,
    Deconfigure,
    DropPeer,
    Effect,
    FollowControl,
    LeaveControl,
    PutCandidates,
    PutPeer,
    PutPicks,
    RunControl,
    UseServers,
)
from projections.wanted import Wanted, WantedPeer


def plan(wanted: Wanted, actual: Wanted) -> tuple[Effect, ...]:
    """The effects in the order in which they are to be performed."""
    return (
        *_control(wanted, actual),
        *_interface(wanted, actual),
        *_peers(wanted, actual),
        *_picks(wanted, actual),
        *_announcements(wanted, actual),
    )


def _control(wanted: Wanted, actual: Wanted) -> list[Effect]:
    effects: list[Effect] = []
    if wanted.serve and not actual.serve:
        effects.append(RunControl(serve=True))
    if wanted.servers != actual.servers:
        effects.append(UseServers(urls=wanted.servers))
    if (wanted.party, wanted.control) != (actual.party, actual.control):
        effects.append(
            FollowControl(party=wanted.party, urls=wanted.control)
            if wanted.party
            else LeaveControl()
        )
    if actual.serve and not wanted.serve:
        effects.append(RunControl(serve=False))
    return effects


def _interface(wanted: Wanted, actual: Wanted) -> list[Effect]:
    if not wanted.address:
        return [Deconfigure()] if actual.address else []
    now = (wanted.address, wanted.address6, wanted.mtu, wanted.number)
    if now == (actual.address, actual.address6, actual.mtu, actual.number):
        return []
    return [
        Configure(
            address=wanted.address,
            address6=wanted.address6,
            mtu=wanted.mtu,
            number=wanted.number,
        )
    ]


def _peers(wanted: Wanted, actual: Wanted) -> list[Effect]:
    # Deconfigure forgot every peer already.
    before = actual.peers if wanted.address else {}
    known = {who: was for who, was in before.items() if _is_same(wanted.peers.get(who), was)}
    effects: list[Effect] = [DropPeer(peer=who) for who in before if who not in known]
    for who, peer in wanted.peers.items():
        was = known.get(who)
        if was is None or (was.public_key, was.allowed, was.keepalive_s) != (
            peer.public_key,
            peer.allowed,
            peer.keepalive_s,
        ):
            effects.append(
                PutPeer(
                    peer=who,
                    public_key=peer.public_key,
                    allowed=peer.allowed,
                    keepalive_s=peer.keepalive_s,
                    number=peer.number,
                )
            )
        if peer.candidates and (was is None or was.candidates != peer.candidates):
            effects.append(PutCandidates(peer=who, candidates=peer.candidates))
    return effects


def _picks(wanted: Wanted, actual: Wanted) -> list[Effect]:
    return [PutPicks(picks=wanted.picks)] if wanted.picks != actual.picks else []


def _is_same(peer: WantedPeer | None, was: WantedPeer) -> bool:
    return peer is not None and peer.since == was.since


def _announcements(wanted: Wanted, actual: Wanted) -> list[Effect]:
    return [
        Announce(peer=who, generation=known[0])
        for who, known in wanted.told.items()
        if actual.told.get(who) != known
    ]
