"""One way to a member: a place, and what was measured on it.

    tier  carrier       why it stands there
    0     none, port    direct: nobody else's line and computer in between
    1     relay         somebody's server, made for it
    2     friend        a member's home line, which that member plays on, too
    3     tcp           late packets hold up the others

A better tier wins whatever it measures, unless it loses a quarter of what is sent: then it is
*shunned*, and ranks behind the worst tier until it loses little again. Within a tier the relay
that control picked wins; then round trip, jitter and loss decide together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from events.path import PathQuality
from lanrage.protocols import endpoint
from lanrage.protocols.endpoint import Place, Via

MS = 1_000_000
TIERS = {"port": 0, "relay": 1, "friend": 2, "tcp": 3}  # by carrier; less is better
KINDS = ("direct", "relay", "relay", "tcp")  # by tier
TIER_WORDS = ("a direct way", "a relay", "a friend", "TCP")
OUTCOMES = 64  # the loss of a way is taken over its last 64 pings
LOSSY_PERMILLE, CLEAN_PERMILLE, LOSSY_COUNT = 250, 100, 16
LOSS_NS_PER_PERMILLE = MS // 5  # what a lost round trip is worth in a comparison: 1 % as 2 ms
MEASURED_COUNT = 8  # round trips before jitter and loss mean anything

LATE_MIN_NS = 60 * MS  # how late an answer may be at least, before anything is thought of it
LATE_SLACK_NS = 20 * MS
HOLD_NS = 1000 * MS  # a way that was left because of silence rests so long, twice as long next time
HOLD_MAX_NS = 32_000 * MS
SECOND_FRESH_NS = 3000 * MS  # another way that answered so recently is known to work
SECOND_IDLE_NS = 45_000 * MS  # the same while nothing flows and beats are slow
BETTER_NS = 10 * MS
NEAR_SLACK_NS = 2 * MS

PRIVATE = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7")
)


@dataclass(slots=True, eq=False)
class Way:
    """Times in ns; 0 means never."""

    place: Place
    kind: str  # "host", "mapped", ... as in Candidate; "seen" (a ping came from it), or the carrier
    listed: bool = False
    picked: bool = False  # by control, for this pair
    heard_ns: int = 0
    sent_ns: int = 0
    asking_ns: int = 0  # when the first ping went out that was not answered since
    unanswered: int = 0  # pings since the last answer
    proven_ns: int = 0
    answered_ns: int = 0
    rtt_ns: int = 0
    jitter_ns: int = 0
    outcomes: int = 0  # bit set: answered
    outcome_count: int = 0
    shunned: bool = False
    demotions: int = 0
    held_ns: int = 0  # not to be returned to before
    tier: int = field(init=False, default=0)
    near: bool = field(init=False, default=False)
    # Ways of one kin tend to break together: all direct ones, all through one relay.
    kin: str = field(init=False, default="")

    def __post_init__(self) -> None:
        place = self.place
        if isinstance(place, Via):
            self.tier = TIERS[place.carrier]
            self.kin = place.name if self.tier else ""
        else:
            self.near = is_private(place[0])

    # --- measuring ------------------------------------------------------------------------------

    def note_outcome(self, answered: bool) -> None:
        self.outcomes = (self.outcomes << 1 | answered) & ((1 << OUTCOMES) - 1)
        self.outcome_count = min(self.outcome_count + 1, OUTCOMES)
        if self.outcome_count >= LOSSY_COUNT:
            bound = CLEAN_PERMILLE if self.shunned else LOSSY_PERMILLE
            self.shunned = self.loss_permille >= bound

    def note_answer(self, sent_ns: int, now_ns: int) -> None:
        sample_ns = now_ns - sent_ns
        if not self.proven_ns:
            self.proven_ns, self.rtt_ns = now_ns, sample_ns
        self.jitter_ns += (abs(sample_ns - self.rtt_ns) - self.jitter_ns) // 4
        self.rtt_ns += (sample_ns - self.rtt_ns) // 4
        self.answered_ns, self.unanswered = now_ns, 0
        self.note_outcome(True)

    def forget(self) -> None:
        """What was measured no longer holds; it has to be proven again."""
        self.proven_ns = self.answered_ns = self.rtt_ns = self.jitter_ns = 0
        self.outcomes = self.outcome_count = self.unanswered = 0
        self.shunned = False

    def demote(self, now_ns: int, used_ns: int) -> None:
        """It was left for being silent, after it had been used for `used_ns`."""
        self.demotions = 1 if used_ns >= HOLD_MAX_NS else self.demotions + 1
        self.held_ns = now_ns + min(HOLD_NS << min(self.demotions - 1, 10), HOLD_MAX_NS)
        self.forget()

    @property
    def loss_permille(self) -> int:
        if not self.outcome_count:
            return 0
        lost = self.outcome_count - self.outcomes.bit_count()
        return 1000 * lost // self.outcome_count

    @property
    def late_ns(self) -> int:
        """How long after a ping its answer is overdue. The first few say little of jitter."""
        unsure_ns = self.rtt_ns >> min(self.outcome_count, 16)
        spread_ns = 4 * self.jitter_ns + unsure_ns
        return max(LATE_MIN_NS, self.rtt_ns + spread_ns + LATE_SLACK_NS)

    def is_overdue(self, now_ns: int) -> bool:
        return bool(self.unanswered) and now_ns >= self.asking_ns + self.late_ns

    # --- comparing ------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """Tier, pick and shun in one figure. Less is better."""
        return 2 * (self.tier + len(KINDS) * self.shunned) + (self.tier > 0 and not self.picked)

    @property
    def cost_ns(self) -> int:
        """What decides within a rank: round trip, jitter, and loss as if it were delay."""
        if self.outcome_count < MEASURED_COUNT:
            return self.rtt_ns
        return self.rtt_ns + self.jitter_ns + self.loss_permille * LOSS_NS_PER_PERMILLE

    def is_known(self, now_ns: int, active: bool) -> bool:
        """Whether it is known to work."""
        fresh_ns = SECOND_FRESH_NS if active else SECOND_IDLE_NS
        return bool(self.proven_ns) and now_ns - self.answered_ns < fresh_ns

    def is_above(self, other: Way, now_ns: int) -> bool:
        """Whether it stands above `other`, by rank alone, and may be used."""
        if not self.proven_ns or now_ns < self.held_ns or self.rank >= other.rank:
            return False
        measured = self.outcome_count >= MEASURED_COUNT and self.loss_permille < CLEAN_PERMILLE
        return measured or not other.shunned

    def why_cheaper(self, other: Way, settled: bool) -> str:
        """Why it should replace a used one of the same rank, or nothing."""
        slack_ns = max(NEAR_SLACK_NS, other.rtt_ns // 8)
        if self.near and not other.near and self.rtt_ns <= other.rtt_ns + slack_ns:
            return f"same network: {_ms(self.rtt_ns)} there, {_ms(other.rtt_ns)} around"
        much = self.cost_ns + BETTER_NS <= other.cost_ns and 3 * self.cost_ns <= 2 * other.cost_ns
        if not settled or not much:
            return ""
        if self.rtt_ns < other.rtt_ns:
            return f"faster: {_ms(self.rtt_ns)} instead of {_ms(other.rtt_ns)}"
        return f"steadier: {_loss(self)} instead of {_loss(other)}"

    def why_above(self, other: Way) -> str:
        if other.shunned:
            return f"{TIER_WORDS[other.tier]} loses too much: {_loss(other)}, {_loss(self)} here"
        if self.tier == other.tier:
            return f"the relay nearest to both: {_ms(self.rtt_ns)}, was {_ms(other.rtt_ns)}"
        return f"{TIER_WORDS[self.tier]} works: {_ms(self.rtt_ns)}, was {_ms(other.rtt_ns)}"

    @property
    def quality(self) -> PathQuality:
        return PathQuality(
            kind=KINDS[self.tier],
            address=place_text(self.place),
            rtt_us=self.rtt_ns // 1000,
            loss_permille=self.loss_permille,
            jitter_us=self.jitter_ns // 1000,
            relay=self.kin,
        )


def second_of(ways: Iterable[Way], best: Way | None, now_ns: int, active: bool) -> Way | None:
    """The best other way that is known to work; rather one that breaks for other reasons."""
    known = [way for way in ways if way is not best and way.is_known(now_ns, active)]
    kin = best.kin if best is not None else None
    return min(
        known,
        key=lambda way: (way.is_overdue(now_ns), way.kin == kin, way.rank, way.cost_ns),
        default=None,
    )


def standbys_of(ways: Iterable[Way], best: Way) -> list[Way]:
    """Up to two proven ways to keep warm: the best of another kin, the best of the same."""
    proven = [way for way in ways if way is not best and way.proven_ns]
    proven.sort(key=lambda way: (way.rank, way.cost_ns))
    other = next((way for way in proven if way.kin != best.kin), None)
    same = next((way for way in proven if way.kin == best.kin), None)
    return [way for way in (other, same) if way is not None]


def place_text(place: Place) -> str:
    """`ip:port`, or the name of who passes it on."""
    if not isinstance(place, Via):
        return endpoint.text(place)
    return place.name.partition(" ")[2] if place.carrier == "port" else place.name


def is_private(host: str) -> bool:
    parsed = ip_address(host)
    return any(parsed.version == net.version and parsed in net for net in PRIVATE)


def _ms(ns: int) -> str:
    return f"{ns / MS:.1f} ms"


def _loss(way: Way) -> str:
    return f"{way.loss_permille / 10:.0f} % lost, {_ms(way.rtt_ns)}"
