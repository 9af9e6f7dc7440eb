"""Why a member is not reached directly, or not at all, in words a player can act on, from the
evidence at hand.

    used       what is asked          answered by
    nothing    why not at all         `unreachable`
    relay      why not directly       `indirect`
    tcp        why not over UDP       `indirect`

A router that takes another port for every destination is known by two STUN servers that see us at
different ports, or by one host in the other's candidates that has several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lanrage.protocols.endpoint import Address


@dataclass(frozen=True, slots=True)
class Evidence:
    heard: bool  # their probes arrived here, directly
    ours_vary: bool  # STUN servers see us at different ports
    ours_silent: bool  # no STUN server answers us
    theirs: Sequence[Address]  # their mapped addresses
    tried: int  # addresses of theirs
    relays: int = 0  # ways through relays and friends that were tried, too

    @property
    def theirs_vary(self) -> bool:
        hosts = [host for host, _ in self.theirs]
        return len(set(hosts)) < len(hosts)


def unreachable(evidence: Evidence) -> str:
    """Why nothing works."""
    if evidence.relays:
        passing = "nobody who passes on reaches them"
        return f"{_direct(evidence)}; {passing}, so they are perhaps not running"
    needs = evidence.ours_vary or evidence.theirs_vary
    return _direct(evidence) + (": this pair needs a relay" if needs else "")


def indirect(kind: str, evidence: Evidence) -> str:
    """Why a path of this kind ("relay", "tcp") is used."""
    if kind == "tcp":
        return (
            "this network lets no UDP out, so everything goes over TCP: late packets hold up others"
        )
    return _direct(evidence)


def _direct(evidence: Evidence) -> str:
    if evidence.heard and not (evidence.ours_vary or evidence.theirs_vary):
        return (
            "their probes arrive here, but nothing we send them is answered: "
            "a firewall on the way to them drops it"
        )
    if evidence.ours_vary and evidence.theirs_vary:
        return (
            "both routers use another port for every destination (symmetric NAT), "
            "so neither side can know where to send"
        )
    if evidence.ours_vary or evidence.theirs_vary:
        hard, other = ("our", "theirs") if evidence.ours_vary else ("their", "ours")
        return (
            f"{hard} router uses another port for every destination (symmetric NAT) and {other} "
            "lets in only what it asked for"
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
