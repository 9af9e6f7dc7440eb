"""The reference model: which ways physically work between two players, and what follows from that.

It knows nothing of states, probes and timers; routers, cuts and living relays are all it looks at.
`Watch` holds the real thing against it:

    no blackhole     a stream stands still for at most 2.5 s while there is a way that was there
    no disagreement  both ends use the same way when nothing has changed for a while
    bounded          probes and control messages stay below a rate

A way that was there all the time counts at once. One that came up, or has to be found anew because
an address changed, counts after `LEARN_NS`, and after an outage only when the pause before the next
attempt, which grows with the outage, may have passed.
"""

from __future__ import annotations

from typing import TypeAlias

from lanrage.protocols.endpoint import Place, Via
from tests.sim.network import ADDRESS_RESTRICTED, FULL_CONE, MS, SYMMETRIC, Router
from tests.sim.world import Player, World

S = 1000 * MS
BLACKHOLE_NS = 2500 * MS
LEARN_NS = 3 * S
BACKOFF_NS = 15 * S
RATE_PER_S = 60  # probes and control messages of one player, for each other player
BURST = 500

Way: TypeAlias = tuple[str, str, str]  # two players, and "direct" or a relay


def can_be_direct(one: Router, other: Router) -> bool:
    """In RFC 4787's terms: independent mappings always meet; a symmetric one meets whoever lets in
    any port of an address that was asked."""
    kinds = {one.kind, other.kind}
    if one is other or SYMMETRIC not in kinds:
        return True
    return bool(kinds & {FULL_CONE, ADDRESS_RESTRICTED})


class Model:
    def __init__(self, world: World) -> None:
        self.world = world
        self._counts_ns: dict[Way, int] = {}  # from when on a way counts
        self._down_ns: dict[Way, int] = {}
        for one, other in world.pairs:
            for way in self.ways(one, other):
                self._counts_ns[way] = world.now_ns + LEARN_NS

    def ways(self, one: Player, other: Player) -> dict[Way, bool]:
        """Every way there might be, and whether it works now."""
        homes = one.home, other.home
        cut = frozenset(home.public for home in homes) in self.world.cuts
        works = can_be_direct(*homes) and (one.home is other.home or not cut)
        found = {(one.name, other.name, "direct"): works}
        for relay in self.world.relays:
            found[one.name, other.name, relay.name] = relay.alive
        return found

    def note(self) -> None:
        """Something was cut, mended, killed or started."""
        now = self.world.now_ns
        for pair in self.world.pairs:
            for way, works in self.ways(*pair).items():
                if not works:
                    self._down_ns.setdefault(way, now)
                elif way in self._down_ns:
                    outage_ns = now - self._down_ns.pop(way)
                    self._counts_ns[way] = now + LEARN_NS + min(2 * outage_ns, BACKOFF_NS)

    def disturb(self, player: Player) -> None:
        """Its address changed, or it started anew: all its ways have to be found again."""
        for pair in self.world.pairs:
            if player in pair:
                for way in self.ways(*pair):
                    learnt_ns = self.world.now_ns + LEARN_NS
                    self._counts_ns[way] = max(self._counts_ns[way], learnt_ns)

    def counts_since_ns(self, one: Player, other: Player) -> int | None:
        """Since when there has been a way without a break; None if there is none now."""
        works = [way for way, works in self.ways(one, other).items() if works]
        return min((self._counts_ns[way] for way in works), default=None)


def used(player: Player, other: Player) -> str:
    """What both ends must agree on."""
    place: Place | None = player.paths.best(other.name)
    if place is None:
        return "nothing"
    return f"{place.carrier} {place.name}" if isinstance(place, Via) else "direct"


class Watch:
    """`failures` says what did not hold, in words."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.failures: list[str] = []
        self.gap_ns = 0  # the longest that a stream stood still while a way was there
        self._began_ns = model.world.now_ns
        self._mute: set[tuple[str, str]] = set()

    def look(self) -> None:
        """At the streams, often."""
        for pair in self.model.world.pairs:
            since_ns = self.model.counts_since_ns(*pair)
            for sender, receiver in (pair, pair[::-1]):
                self._look_at(sender, receiver, since_ns)

    def _look_at(self, sender: Player, receiver: Player, since_ns: int | None) -> None:
        if since_ns is None:
            return
        now = self.model.world.now_ns
        still_ns = now - max(since_ns, receiver.arrived_ns.get(sender.name, 0))
        self.gap_ns = max(self.gap_ns, still_ns)
        if still_ns <= BLACKHOLE_NS:
            self._mute.discard((sender.name, receiver.name))
        elif (sender.name, receiver.name) not in self._mute:
            self._mute.add((sender.name, receiver.name))
            uses = used(sender, receiver)
            self._fail(f"nothing from {sender.name} at {receiver.name}, which uses {uses}")

    def look_at_quiet(self) -> None:
        """When nothing has changed for a while: both ends must use the same."""
        for one, other in self.model.world.pairs:
            if self.model.counts_since_ns(one, other) is None:
                continue
            ends = used(one, other), used(other, one)
            if ends[0] != ends[1]:
                self._fail(f"{one.name} uses {ends[0]}, {other.name} uses {ends[1]}")

    def look_at_rates(self) -> None:
        seconds = (self.model.world.now_ns - self._began_ns) / S
        for player in self.model.world.players:
            bound = BURST + RATE_PER_S * seconds * len(player.others)
            if player.sent > bound:
                self._fail(f"{player.name} sent {player.sent} messages, more than {bound:.0f}")

    def _fail(self, what: str) -> None:
        at_s = (self.model.world.now_ns - self._began_ns) / S
        self.failures.append(f"at {at_s:.2f} s: {what}")
