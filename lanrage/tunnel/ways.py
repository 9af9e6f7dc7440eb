"""Which ways to one member there are: its candidates, who passes on to it, and where it was heard.

    listed   addresses the member told of; gone when it tells another list without them
    vias     relays that forward to us, and members that reach both of us; gone when they do not
    seen     where a ping came from that is neither; the oldest make room, silence forgets them

The way in use stays when its address is taken off the list. When who passes on is gone, it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from events.peer import Candidate
from lanrage.protocols import endpoint
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.tunnel.outlet import Outlet
from lanrage.tunnel.way import Way

MS = 1_000_000
LISTED_MAX = 16
SEEN_MAX = 8
SEEN_NS = 300_000 * MS  # after that, an address only seen in a ping is forgotten


@dataclass(slots=True)
class Ways:
    outlet: Outlet
    is_usable: Callable[[Address], bool]
    of: dict[Place, Way] = field(default_factory=dict)
    candidates: frozenset[Candidate] = frozenset()

    def put_listed(self, candidates: Sequence[Candidate], best: Way | None) -> None:
        self.candidates = frozenset(candidates)
        listed = self._usable(candidates)
        for way in [way for way in self.of.values() if not isinstance(way.place, Via)]:
            way.listed = way.place in listed
            if not way.listed and not way.heard_ns and way is not best:
                del self.of[way.place]
        for address, kind in listed.items():
            way = self.of.setdefault(address, Way(address, kind))
            way.kind, way.listed = kind, True

    def put_vias(self, vias: Sequence[Via], pick: str) -> list[Way]:
        """Who may pass on, and which relay control picked. Returns the ways that are new."""
        for way in list(self.of.values()):
            if isinstance(way.place, Via) and way.listed and way.place not in vias:
                del self.of[way.place]
        added = [Way(via, via.carrier, listed=True) for via in vias if via not in self.of]
        self.of.update((way.place, way) for way in added)
        for via in vias:
            self.of[via].listed = True
            self.of[via].picked = via.carrier == "relay" and via.name == pick
        return added

    def drop_friend(self, friend: str) -> None:
        """That member cannot pass on any more."""
        for place in [place for place in self.of if isinstance(place, Via)]:
            if (place.carrier, place.name) == ("friend", friend):
                del self.of[place]

    def add_seen(self, source: Place, best: Way | None) -> Way | None:
        """A ping came from there. None if nothing could be sent back."""
        if isinstance(source, Via) and source.carrier in ("relay", "tcp"):
            return None  # we are not bound to that relay, or it is not for this member
        seen = [way for way in self.of.values() if not way.listed and way is not best]
        if len(seen) >= SEEN_MAX:
            oldest = min(seen, key=lambda way: (way.answered_ns, way.heard_ns))
            del self.of[oldest.place]
        self.of[source] = way = Way(source, "seen")
        return way

    def forget_seen(self, best: Way | None, now_ns: int) -> None:
        for way in list(self.of.values()):
            old = not way.listed and now_ns - way.heard_ns > SEEN_NS
            if old and way is not best:
                del self.of[way.place]

    def _usable(self, candidates: Sequence[Candidate]) -> dict[Address, str]:
        listed: dict[Address, str] = {}
        for candidate in candidates:
            address = endpoint.parse(candidate.address)
            if address is None or not self.is_usable(address) or len(listed) == LISTED_MAX:
                self.outlet.drop("candidate_refused")
                continue
            listed.setdefault(address, candidate.kind)
        return listed
