"""What two members may expect of each other before they ever tried: direct, a relay, or TCP.

Both send first, to each other's public address as a server saw it. That works when that address is
the one used towards the other member (*mapping* independent of the destination), whatever either
router filters. It also works when only one side is like that and lets the other's unforeseen port
in. So for each pair of sides, rows from top to bottom, the first that fits:

    either has UDP blocked                        tcp
    either can be reached by anybody              direct          public, or a forwarded port
    one public IPv4 address for both              direct          both hairpin
                                                  likely direct   else: same LAN, or same carrier
    both map independently (or have no NAT)       direct
    one does not; the other filters no ports      direct
    both have IPv6                                likely direct   firewalls are not known
    something is not known                        likely direct   four of five home routers are easy
    one does not; the other filters ports         relay
    neither does                                  relay

Pure, and no import of ours: the page, the command line and the rules may all use it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

DIRECT, LIKELY, RELAY, TCP = "direct", "likely direct", "relay", "tcp"
EASY = ("none", "independent")
HARD = ("address", "port")


class Side(NamedTuple):
    """What is known of one member; the words are those of the event `nat.classified`."""

    name: str
    mapping: str = ""
    filtering: str = ""
    hairpin: str = ""
    forwarded: bool = False  # its router opened a port for it
    ipv6: bool = False  # it has a global IPv6 address
    outside: frozenset[str] = frozenset()  # its public IPv4 addresses, without ports

    @property
    def blocked(self) -> bool:
        return self.mapping == "blocked"

    @property
    def easy(self) -> bool:
        return self.mapping in EASY

    @property
    def hard(self) -> bool:
        return self.mapping in HARD

    @property
    def open(self) -> bool:
        """Anybody may send to it first."""
        return self.forwarded or (self.easy and self.filtering in EASY)


class Forecast(NamedTuple):
    kind: str  # "direct" | "likely direct" | "relay" | "tcp"
    why: str  # one sentence


def forecast(mine: Side, theirs: Side) -> Forecast:
    """The same kind from both sides."""
    return next(found for row in _ROWS if (found := row(mine, theirs)) is not None)


def _blocked(mine: Side, theirs: Side) -> Forecast | None:
    names = [each.name for each in (mine, theirs) if each.blocked]
    if not names:
        return None
    return Forecast(TCP, f"UDP is blocked at {_and(names)}, so everything goes through TCP.")


def _reachable(mine: Side, theirs: Side) -> Forecast | None:
    for each in (mine, theirs):
        if each.forwarded:
            return Forecast(DIRECT, f"The router of {each.name} opened a port for it.")
        if each.open:
            return Forecast(DIRECT, f"{each.name} can be reached by anybody.")
    return None


def _one_address(mine: Side, theirs: Side) -> Forecast | None:
    if not mine.outside & theirs.outside:
        return None
    if mine.hairpin == theirs.hairpin == "yes":
        return Forecast(DIRECT, "Both are behind one router, and it leads back in.")
    why = "Both show one public address: direct in one network, not behind one carrier."
    return Forecast(LIKELY, why)


def _both_easy(mine: Side, theirs: Side) -> Forecast | None:
    if not (mine.easy and theirs.easy):
        return None
    return Forecast(DIRECT, "Both routers keep one public port for all, so both can send first.")


def _one_hard(mine: Side, theirs: Side) -> Forecast | None:
    easy, hard = (mine, theirs) if theirs.hard else (theirs, mine)
    if not (easy.easy and hard.hard) or easy.filtering not in (*EASY, "address"):
        return None
    why = f"The router of {hard.name} changes ports, but that of {easy.name} lets any port in."
    return Forecast(DIRECT, why)


def _ipv6(mine: Side, theirs: Side) -> Forecast | None:
    if not (mine.ipv6 and theirs.ipv6):
        return None
    return Forecast(LIKELY, "Both have IPv6, where nothing is translated.")


def _unknown(mine: Side, theirs: Side) -> Forecast | None:
    unknown = [each.name for each in (mine, theirs) if not each.mapping]
    if not unknown:
        return None
    hard = [each.name for each in (mine, theirs) if each.hard]
    if hard:
        return Forecast(
            RELAY, f"The router of {hard[0]} changes ports; that of {unknown[0]} is not known."
        )
    why = f"Not known yet: what the router of {_and(unknown)} does. Most let both send first."
    return Forecast(LIKELY, why)


def _one_hard_one_strict(mine: Side, theirs: Side) -> Forecast | None:
    if mine.hard and theirs.hard:
        return None
    easy, hard = (mine, theirs) if theirs.hard else (theirs, mine)
    strict = "lets in only ports it knows" if easy.filtering else "may let in only ports it knows"
    why = f"The router of {hard.name} changes ports, and that of {easy.name} {strict}."
    return Forecast(RELAY, why)


def _both_hard(mine: Side, theirs: Side) -> Forecast:
    return Forecast(RELAY, "Both routers give every destination another port.")


_ROWS: tuple[Callable[[Side, Side], Forecast | None], ...] = (
    _blocked,
    _reachable,
    _one_address,
    _both_easy,
    _one_hard,
    _ipv6,
    _unknown,
    _one_hard_one_strict,
    _both_hard,
)


def _and(names: list[str]) -> str:
    return " and ".join(names)


def nature(mapping: str, filtering: str) -> str:
    """A router's class in a few words, for a person; empty where nothing is known."""
    if mapping == "blocked":
        return "UDP blocked"
    if mapping == "none":
        return "no NAT" if filtering in (*EASY, "") else "no NAT, firewall"
    if mapping in HARD:
        return "hard NAT"
    if not mapping:
        return ""
    kinds = {"independent": "open NAT", "address": "easy NAT", "port": "usual NAT"}
    return kinds.get(filtering, "easy NAT")
