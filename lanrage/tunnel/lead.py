"""Who of two ends chooses the way, so that both use the same.

The side with the lower public key leads: it goes by what it measures, and every ping on the way it
uses says so. The other side follows to any way that is proven here, too. It goes to one that ranks
below its own only when the leader has stayed there for a second: right after the start, or when
something broke, the leader may merely be a little late.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lanrage.protocols.endpoint import Place
from lanrage.tunnel.way import Way

MS = 1_000_000
DOWN_NS = 1000 * MS
FRESH_NS = 3000 * MS  # an answer from there must be this recent
SAID_NS = 45_000 * MS  # what the leader said before that is forgotten


@dataclass(slots=True)
class Lead:
    ours: bool = True
    way: Way | None = None  # that the leader says it uses
    since_ns: int = 0
    said_ns: int = 0

    def note(self, way: Way, now_ns: int) -> None:
        """A ping of the leader came on the way it uses."""
        if self.ours:
            return
        if way is not self.way:
            self.way, self.since_ns = way, now_ns
        self.said_ns = now_ns

    def forget(self) -> None:
        self.way = None

    def known(self, ways: Mapping[Place, Way], now_ns: int) -> Way | None:
        """The leader's way, if it is known and works from here. None for a leader."""
        way = self.way
        if way is None or now_ns - self.said_ns > SAID_NS or ways.get(way.place) is not way:
            return None
        return way if way.proven_ns and now_ns >= way.held_ns else None

    def allows(self, best: Way, now_ns: int) -> bool:
        """Whether to leave `best` for the leader's way, which is `known`, now."""
        way = self.way
        assert way is not None
        lasting = way.rank <= best.rank or now_ns - self.since_ns >= DOWN_NS
        return lasting and way.answered_ns > now_ns - FRESH_NS
