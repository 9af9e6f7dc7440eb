"""Why a member cannot be reached, in words a player can act on, from the evidence at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lanrage.protocols.endpoint import Address


@dataclass(frozen=True, slots=True)
class Evidence:
    heard: bool  # their probes arrived here
    ours_vary: bool  # STUN servers see us at different ports
    ours_silent: bool  # no STUN server answers us
    theirs: Sequence[Address]  # their mapped addresses
    tried: int


def unreachable(evidence: Evidence) -> str:
    hosts = [host for host, _ in evidence.theirs]
    theirs_vary = len(set(hosts)) < len(hosts)
    if evidence.heard:
        return (
            "their probes arrive here, but nothing we send them is answered: "
            "a firewall on the way to them drops it"
        )
    if evidence.ours_vary and theirs_vary:
        return (
            "both routers use another port for every destination (symmetric NAT), "
            "so neither side can know where to send: this pair needs a relay"
        )
    if evidence.ours_vary:
        return (
            "our router uses another port for every destination (symmetric NAT) and theirs "
            "lets in only what it asked for: this pair needs a relay"
        )
    if theirs_vary:
        return (
            "their router uses another port for every destination (symmetric NAT) and ours "
            "lets in only what it asked for: this pair needs a relay"
        )
    if evidence.ours_silent:
        return (
            "no STUN server answers us either: this network seems to block UDP, "
            "or the control server is down"
        )
    if not evidence.theirs:
        return (
            "they only know their address in their own network, and we are not in it: "
            "their STUN requests are not answered"
        )
    return (
        f"none of {evidence.tried} addresses answered: they are not running, "
        "or a firewall on one side drops UDP"
    )
