"""Which relays a party is offered, and which of them each pair uses. Pure.

**Offered** are at most `OFFERED_MAX`, since each costs every member a binding. Nobody has measured
anything at first, so the first ones are of as many regions as there are, the least busy of each.
Once members have measured, the two nearest stay and those of other regions make room for more of
the nearest one's region. So a choice settles, and does not wander.

**Picked** for a pair is the relay with the least sum of both round trips, out of those that both
have measured. Another is picked only when it is better by 10 ms and by a third, or when the picked
one is gone: a switch costs more than a few milliseconds. Both ends get the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from lanrage.control.messages import Pick

OFFERED_MAX: Final = 4
KEPT: Final = 2  # nearest relays that stay, whatever their region
BETTER_MS: Final = 10
BETTER_SHARE: Final = 3  # better by a third

Rtts: TypeAlias = Mapping[str, int]  # relay -> milliseconds


class Candidate:
    """A relay as this choice sees it."""

    def __init__(self, relay: str, region: str, bytes_per_s: int) -> None:
        self.relay = relay
        self.region = region
        self.bytes_per_s = bytes_per_s


def offered(
    candidates: Iterable[Candidate], measured: Iterable[Rtts], before: tuple[str, ...]
) -> tuple[str, ...]:
    """Names of the relays for a party, nearest first. `before`: the answer up to now."""
    by_name = {each.relay: each for each in candidates}
    near = _near(by_name, list(measured))
    kept = sorted((name for name in before if name in by_name), key=lambda name: near[name])
    if kept and near[kept[0]] < _UNKNOWN:
        region = by_name[kept[0]].region
        kept = kept[:KEPT] + [name for name in kept[KEPT:] if by_name[name].region == region]
    else:
        region = None
    while len(kept) < min(OFFERED_MAX, len(by_name)):
        kept.append(_next(by_name, kept, region))
    return tuple(sorted(kept, key=lambda name: near[name]))


_UNKNOWN: Final = 1 << 30


def _near(by_name: Mapping[str, Candidate], measured: list[Rtts]) -> dict[str, int]:
    near = {}
    for name in by_name:
        known = [rtts[name] for rtts in measured if name in rtts]
        near[name] = sum(known) // len(known) if known else _UNKNOWN
    return near


def _next(by_name: Mapping[str, Candidate], kept: list[str], region: str | None) -> str:
    regions = [by_name[name].region for name in kept]

    def cost(name: str) -> tuple[bool, int, int, str]:
        each = by_name[name]
        return each.region != region, regions.count(each.region), each.bytes_per_s, name

    return min((name for name in by_name if name not in kept), key=cost)


class Picks:
    """The choices for one party. `version` grows with each change."""

    def __init__(self) -> None:
        self.version = 0
        self._offered: tuple[str, ...] = ()
        self._rtts: dict[str, Rtts] = {}  # of members that are here
        self._picked: dict[tuple[str, str], Pick] = {}  # by sorted pair; `peer` is unused
        self._last: dict[tuple[str, str], str] = {}  # of pairs that had one: a member comes back

    @property
    def measured(self) -> Iterable[Rtts]:
        return self._rtts.values()

    def rtts_of(self, peer: str) -> Rtts:
        return self._rtts.get(peer, {})

    def measure(self, peer: str, rtts: Rtts) -> None:
        self._rtts[peer] = rtts
        self._pick(peer)

    def forget(self, peer: str) -> None:
        if self._rtts.pop(peer, None) is None:
            return
        for pair in [pair for pair in self._picked if peer in pair]:
            self._drop(*pair)

    def offer(self, relays: tuple[str, ...]) -> None:
        if set(relays) == set(self._offered):
            return
        self._offered = relays
        for peer in self._rtts:
            self._pick(peer)

    def of(self, peer: str) -> tuple[Pick, ...]:
        """For each other member: the relay of the pair."""
        found = []
        for pair, pick in self._picked.items():
            if peer in pair:
                other = pair[0] if pair[1] == peer else pair[1]
                found.append(Pick(peer=other, relay=pick.relay, sum_ms=pick.sum_ms))
        return tuple(sorted(found, key=lambda pick: pick.peer))

    def _pick(self, peer: str) -> None:
        for other in self._rtts:
            if other != peer:
                self._pick_pair(min(peer, other), max(peer, other))

    def _pick_pair(self, one: str, two: str) -> None:
        sums = self._sums(self._rtts[one], self._rtts[two])
        now = self._picked.get((one, two))
        best = min(sums, key=lambda relay: (sums[relay], relay), default=None)
        if best is None:
            self._drop(one, two)
            return
        before = now.relay if now is not None else self._last.get((one, two), "")
        if before in sums and not _is_better(sums[best], sums[before]):
            best = before
        if now is None or now.relay != best:
            self._picked[one, two] = Pick(peer=two, relay=best, sum_ms=sums[best])
            self.version += 1

    def _drop(self, one: str, two: str) -> None:
        pick = self._picked.pop((one, two), None)
        if pick is not None:
            self._last[one, two] = pick.relay
            self.version += 1

    def _sums(self, one: Rtts, two: Rtts) -> dict[str, int]:
        return {
            relay: one[relay] + two[relay]
            for relay in self._offered
            if relay in one and relay in two
        }


def _is_better(new_ms: int, old_ms: int) -> bool:
    gain_ms = old_ms - new_ms
    return gain_ms >= BETTER_MS and gain_ms * BETTER_SHARE >= old_ms
