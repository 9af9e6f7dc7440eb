"""How one member is reached: candidate ways, what was measured on each, and which one is used.

A *way* is one place of the member: an address of its own, or a relay, a friend or TCP that passes
on (protocols/endpoint.Via). They are tried all at once, and data flows on the first that is proven,
usually a relay; a direct one takes over as soon as it is proven, too. Only a pong, made with the
pair's key, in answer to a ping we sent to that very place, proves a way. Pings that arrive prove
nothing but are worth an attempt:
their source becomes a way and is pinged back at once, which is how two routers that let in only
what was asked for get opened from both sides.

    state      trigger       next       what happens
    IDLE       LISTED        PROBING    all ways are pinged at 0/100/200/400 ms, then each 500 ms
    PROBING    LISTED        PROBING    the same from the start, with the new list
    PROBING    ANSWERED      OPEN       Opened; three more pings give the other side its turn
    PROBING    DEADLINE      SEARCHING  Unreachable, once, in words; rounds go on after 2..30 s
    PROBING    UNLISTED      IDLE       no way left to try
    SEARCHING  LISTED        PROBING    as from IDLE
    SEARCHING  ANSWERED      OPEN       Opened
    SEARCHING  UNLISTED      IDLE       no way left to try
    OPEN       LISTED        OPEN       the other ways are looked at, the used one is checked
    OPEN       BETTER        OPEN       Switched to a way that proved better
    OPEN       GONE          PROBING    Lost: the way itself is gone, and no other is known
    OPEN       SILENCE       SUSPECT    Doubted; all ways are pinged, data goes on a second one, too
    SUSPECT    RECOVERED     OPEN       the used way answered after all
    SUSPECT    ANSWERED      OPEN       Switched to the best other way that answers
    SUSPECT    BETTER        OPEN       the used way is gone; Switched to another proven one
    SUSPECT    LISTED        SUSPECT    new ways take part
    SUSPECT    DEADLINE      PROBING    Lost; everything from the start

The used way is pinged (a *beat*) ten times a second while data flows, each second a little longer,
else each 18 to 20 s to keep the routers' mappings. A beat that stays unanswered longer than round
trip and jitter explain is SILENCE: from then on data goes on the best other proven way, too (the
receiver's replay window drops what comes twice), and who answers decides. So a game feels a broken
path for a fifth of a second if a second one is known. To have one known, the best other way is
beaten, too, more slowly. A path is given up only after two seconds, since nothing is gained by it.

Direct is better than a relay, a relay better than a friend, that better than TCP; a direct way that
loses a quarter is not. Among equals a way in the private network wins at once, any other only if it
is 10 ms and a third better, jitter and loss included, and the used one had its time.

**Both ends agree.** The side with the lower public key leads: it chooses among equals, and its
pings say which way it uses. The other side takes that way as soon as it is proven here. Either
leaves at once a way that is silent or gone, and a follower comes back to the leader's only when it
has answered again.

A member might be hostile, and name other people's addresses. Pings to addresses that never
answered are therefore paid from a budget of the member's and a shared one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from ipaddress import ip_address, ip_network

from events.base import PeerId
from events.path import PathQuality
from events.peer import Candidate
from lanrage.protocols import endpoint, probe
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.tunnel import reasons
from lanrage.tunnel.mapping import Mapping
from lanrage.tunnel.messages import (
    Doubted,
    Lost,
    Opened,
    Probing,
    Switched,
    Trusted,
    Unreachable,
)
from lanrage.tunnel.outlet import Bucket, Outlet

MS = 1_000_000
PROBE_STEPS_NS = tuple(ms * MS for ms in (0, 100, 200, 400, *range(900, 5000, 500)))
LOOK_STEPS_NS = PROBE_STEPS_NS[:5]
GLANCE_STEPS_NS = (0,)
UNREACHABLE_NS = 5000 * MS
SEARCH_NS = tuple(s * 1000 * MS for s in (2, 4, 8, 16, 30))

FAST_BEAT_NS = 100 * MS  # while data flows
FLOWING_NS = 500 * MS  # that long after the last data it flows
BEAT_NS = 1000 * MS
IDLE_BEAT_NS = 18_000 * MS
IDLE_SPREAD_NS = 2_000 * MS
IDLE_SLACK_NS = 2_000 * MS  # what is not urgent may happen this early, to share a wake-up
ACTIVE_NS = 3000 * MS  # that long after the last data there is "traffic"
BURST = 3
BURST_NS = 100 * MS
DOUBT_MIN_NS = 60 * MS  # how late an answer may be at least, before anything is thought of it
DOUBT_SLACK_NS = 20 * MS
SUSPECT_STEPS_NS = tuple(range(0, 2300 * MS, 100 * MS))
UNPROVEN_SPACING_NS = 400 * MS  # pings to ways that never answered, while in doubt
SWITCH_NS = 500 * MS  # silence after which another way that answers takes over
LOST_NS = 2000 * MS  # silence after which a path is given up
TELL_DOUBT_NS = 200 * MS  # a doubt shorter than that is not worth a word
DOUBTS_SPACING_NS = 10_000 * MS  # between two notices of doubt
LOSSY_PERMILLE, LOSSY_COUNT = 250, 16  # losing so much of so many is worse than a worse tier
MEASURED_COUNT = 9  # round trips before jitter and loss mean anything
LOSS_NS_PER_PERMILLE = MS  # what a lost round trip is worth in a comparison: 1 % as 10 ms
SECOND_FRESH_NS = 3000 * MS  # a second way that answered so recently is known to work
SECOND_IDLE_NS = 45_000 * MS  # the same while nothing flows and beats are slow
LOOK_AROUND_NS = 30_000 * MS  # between looks at other ways, while there is traffic

BETTER_NS = 10 * MS
DWELL_NS = 5000 * MS
NEAR_SLACK_NS = 2 * MS
FRESH_NS = 3000 * MS  # an answer this recent needs no ping back
AGAIN_NS = 50 * MS  # least time between two pings on one way in a round

PROBE_BURST, PROBES_PER_S = 128, 8  # to one member's addresses that never answered
PONG_BURST, PONGS_PER_S = 128, 64
LISTED_MAX = 16
SEEN_MAX = 8
SEEN_NS = 300_000 * MS  # after that, an address only seen in a ping is forgotten
PENDING_MAX = 256
PENDING_NS = 3000 * MS  # an answer later than that counts as lost
OUTCOMES = 64  # the loss of a way is taken over its last 64 pings

PRIVATE = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7")
)


class State(Enum):
    IDLE = auto()
    PROBING = auto()
    SEARCHING = auto()
    OPEN = auto()
    SUSPECT = auto()


class Trigger(Enum):
    LISTED = auto()
    UNLISTED = auto()
    ANSWERED = auto()
    RECOVERED = auto()
    BETTER = auto()
    SILENCE = auto()
    GONE = auto()
    DEADLINE = auto()


TIERS = {"": 0, "port": 0, "relay": 1, "friend": 2, "tcp": 3}  # by carrier; less is better
KINDS = ("direct", "relay", "relay", "tcp")  # by tier


@dataclass(slots=True, eq=False)
class Way:
    """One place of the member and what is known of it. Times in ns; 0 means never."""

    place: Place
    kind: str  # "host", "mapped", ... as in Candidate; "seen" (a ping came from it), or the carrier
    near: bool
    tier: int = 0
    jitter_ns: int = 0
    demoted_ns: int = 0  # when it was last left because it was silent
    listed: bool = False
    heard_ns: int = 0
    sent_ns: int = 0
    asking_ns: int = 0  # when the first ping went out that was not answered since
    unanswered: int = 0  # pings since the last answer
    proven_ns: int = 0
    answered_ns: int = 0
    rtt_ns: int = 0
    outcomes: int = 0  # bit set: answered
    outcome_count: int = 0

    def note_outcome(self, answered: bool) -> None:
        self.outcomes = (self.outcomes << 1 | answered) & ((1 << OUTCOMES) - 1)
        self.outcome_count = min(self.outcome_count + 1, OUTCOMES)

    def note_answer(self, sent_ns: int, now_ns: int) -> None:
        sample_ns = now_ns - sent_ns
        if not self.proven_ns:
            self.proven_ns, self.rtt_ns, self.jitter_ns = now_ns, sample_ns, sample_ns // 4
        self.jitter_ns += (abs(sample_ns - self.rtt_ns) - self.jitter_ns) // 4
        self.rtt_ns += (sample_ns - self.rtt_ns) // 4
        self.answered_ns, self.unanswered = now_ns, 0
        self.note_outcome(True)

    def forget(self) -> None:
        """What was measured no longer holds; it has to be proven again."""
        self.proven_ns = self.answered_ns = self.rtt_ns = self.jitter_ns = 0
        self.outcomes = self.outcome_count = self.unanswered = 0

    @property
    def loss_permille(self) -> int:
        if not self.outcome_count:
            return 0
        lost = self.outcome_count - self.outcomes.bit_count()
        return 1000 * lost // self.outcome_count

    @property
    def rank(self) -> int:
        """Its tier, or a worse one if it loses too much. Less is better."""
        lossy = self.outcome_count >= LOSSY_COUNT and self.loss_permille >= LOSSY_PERMILLE
        return self.tier + len(KINDS) * lossy

    @property
    def cost_ns(self) -> int:
        """What decides within a tier: round trip, jitter, and loss as if it were delay."""
        if self.outcome_count < MEASURED_COUNT:
            return self.rtt_ns
        return self.rtt_ns + self.jitter_ns + self.loss_permille * LOSS_NS_PER_PERMILLE

    @property
    def quality(self) -> PathQuality:
        return PathQuality(
            kind=KINDS[self.tier],
            address=place_text(self.place),
            rtt_us=self.rtt_ns // 1000,
            loss_permille=self.loss_permille,
            jitter_us=self.jitter_ns // 1000,
            relay=self.place.name if isinstance(self.place, Via) and self.tier else "",
        )


def place_text(place: Place) -> str:
    """`ip:port`, or the name of who passes it on."""
    return place.name if isinstance(place, Via) else endpoint.text(place)


def is_private(host: str) -> bool:
    parsed = ip_address(host)
    return any(parsed.version == net.version and parsed in net for net in PRIVATE)


def _ms(ns: int) -> str:
    return f"{ns / MS:.1f} ms"


@dataclass(slots=True)
class Reach:
    """One member. Times come in as `now_ns`; datagrams and notices leave through `outlet`."""

    peer: PeerId
    public_key: bytes
    keys: probe.Keys
    epoch: bytes
    outlet: Outlet
    mapping: Mapping
    is_usable: Callable[[Address], bool]
    leads: bool = True
    state: State = State.IDLE
    best: Way | None = None
    candidates: frozenset[Candidate] = frozenset()
    ways: dict[Place, Way] = field(default_factory=dict)
    vias: tuple[Via, ...] = ()  # relays, friends and TCP that may pass on, best first
    led: Way | None = None  # of a follower: the way the leader says it uses
    doubted_ns: int = 0  # since when the used way is in doubt; 0: it is not
    doubt_told_ns: int = 0
    doubt_told: bool = False  # of the present doubt
    window: probe.Window = field(default_factory=probe.Window)
    probe_budget: Bucket = field(default_factory=lambda: Bucket(PROBE_BURST, PROBES_PER_S))
    pong_budget: Bucket = field(default_factory=lambda: Bucket(PONG_BURST, PONGS_PER_S))
    sequence: int = 0
    pending: dict[int, tuple[Way, int]] = field(default_factory=dict)  # sequence -> way, sent at
    began_ns: int = 0  # probing; `Opened.took_ms` counts from here
    chosen_ns: int = 0  # the used way
    opened_ns: int = 0
    data_ns: int = 0
    burst: int = 0
    searches: int = 0
    round_ns: int = 0
    steps_ns: tuple[int, ...] = ()
    step: int = 0
    looked_ns: int = 0
    deadline_ns: int | None = None
    beat_ns: int | None = None

    # --- from outside -------------------------------------------------------------------

    def put_candidates(self, candidates: Sequence[Candidate], now_ns: int) -> None:
        """Take the member's new list; the same list again changes nothing."""
        if frozenset(candidates) == self.candidates:
            return
        self.candidates = frozenset(candidates)
        listed = self._usable(candidates)
        for way in [way for way in self.ways.values() if not isinstance(way.place, Via)]:
            way.listed = way.place in listed
            if not way.listed and not way.heard_ns and way is not self.best:
                del self.ways[way.place]
        for address, kind in listed.items():
            way = self.ways.setdefault(address, Way(address, kind, is_private(address[0])))
            way.kind, way.listed = kind, True
        self._fire(Trigger.LISTED if self.ways else Trigger.UNLISTED, now_ns)

    def put_vias(self, vias: Sequence[Via], now_ns: int) -> None:
        """Who may pass on, from now on. The used way may be gone with it: that is no doubt, so
        whatever else is proven takes over at once."""
        if tuple(vias) == self.vias:
            return
        added = set(vias) - set(self.vias)
        self.vias = tuple(vias)
        for way in list(self.ways.values()):
            if isinstance(way.place, Via) and way.place not in self.vias:
                del self.ways[way.place]
                self.led = None if self.led is way else self.led
        for via in self.vias:
            if via not in self.ways:
                self.ways[via] = Way(via, via.carrier, False, TIERS[via.carrier], listed=True)
        if self.best is not None and self.best.place not in self.ways:
            return self._leave(now_ns, "the relay does not forward to us any more")
        if added:
            self._fire(Trigger.LISTED, now_ns)
        return None

    def _leave(self, now_ns: int, reason: str) -> None:
        """The used way does not exist any more."""
        other = self.second_way(now_ns)
        if other is None:
            return self._fire(Trigger.DEADLINE if self.doubted_ns else Trigger.GONE, now_ns)
        return self._fire(Trigger.BETTER, now_ns, other, reason)

    def check(self, now_ns: int) -> None:
        """Somebody doubts that this member is there: ask now."""
        if self.beat_ns is not None:
            self.beat_ns = now_ns

    def change_network(self, now_ns: int) -> None:
        """What was measured need not hold any more; the used way goes on until it is clear."""
        for way in self.ways.values():
            way.demoted_ns = now_ns
        if self.state is State.OPEN:
            self._fire(Trigger.SILENCE, now_ns)
        elif self.state in (State.PROBING, State.SEARCHING):
            self._begin(now_ns, None, "")
            self.state = State.PROBING

    @property
    def has_direct(self) -> bool:
        return self.best is not None and self.best.tier == 0

    def second_way(self, now_ns: int) -> Way | None:
        """The best other way that is known to work."""
        fresh_ns = SECOND_FRESH_NS if self._is_active(now_ns) else SECOND_IDLE_NS
        known = [
            way
            for way in self.ways.values()
            if way is not self.best and way.proven_ns and now_ns - way.answered_ns < fresh_ns
        ]
        return min(known, key=lambda way: (way.rank, way.cost_ns), default=None)

    def note_data(self, now_ns: int) -> int | None:
        """Data flowed: beats speed up. Returns the next beat if it came nearer."""
        self.data_ns = now_ns
        if self.beat_ns is None or self.best is None or self.beat_ns <= now_ns + FAST_BEAT_NS:
            return None
        self.beat_ns = max(now_ns, self.best.sent_ns + FAST_BEAT_NS)
        return self.beat_ns

    def receive(self, arrived: probe.Probe, source: Place, now_ns: int) -> None:
        if arrived.type == probe.PONG:
            self._receive_pong(arrived, source, now_ns)
        else:
            self._receive_ping(arrived, source, now_ns)

    def timer(self) -> int | None:
        dues = [
            due for due in (self._step_due(), self.deadline_ns, self.beat_ns) if due is not None
        ]
        return min(dues, default=None)

    def handle_timer(self, now_ns: int) -> None:
        self._expire(now_ns)
        if self.deadline_ns is not None and now_ns >= self.deadline_ns:
            self.deadline_ns = None
            other = self.second_way(now_ns) if self.state is State.SUSPECT else None
            self._fire(Trigger.ANSWERED if other else Trigger.DEADLINE, now_ns, other)
        if self.beat_ns is not None and now_ns >= self.beat_ns - IDLE_SLACK_NS * self._can_wait():
            self._beat(now_ns)
        step_due = self._step_due()
        if step_due is not None and now_ns >= step_due - self._step_slack():
            self._run_step(now_ns)

    # --- probes -------------------------------------------------------------------------

    def _receive_ping(self, arrived: probe.Probe, source: Place, now_ns: int) -> None:
        restarted = self.window.epoch not in (b"", arrived.epoch)
        if not self.window.admit(arrived):
            return self.outlet.drop("probe_replayed")
        way = self.ways.get(source) or self._add_seen(source)
        if way is None:
            return self.outlet.drop("probe_via_unknown")
        way.heard_ns = now_ns
        if arrived.used and not self.leads:
            self.led = way
        if not self.pong_budget.take(now_ns):
            return self.outlet.drop("pong_budget")
        seen: Address = ("0.0.0.0", 0) if isinstance(source, Via) else source
        self.outlet.outgoing.append((source, probe.pong(self.keys, arrived, seen)))
        if restarted and self.beat_ns is not None:
            self.beat_ns = now_ns  # the member's program started again: is its old address alive?
        if self.state is State.IDLE:
            self._fire(Trigger.LISTED, now_ns)
        fresh = way.answered_ns and now_ns - way.answered_ns < FRESH_NS
        if not fresh and now_ns - way.sent_ns >= AGAIN_NS:
            self._ping(way, now_ns)
        self._follow(way, now_ns)
        return None

    def _follow(self, way: Way, now_ns: int) -> None:
        """Take the leader's way, if it works from here."""
        if way is not self.led or way is self.best or self.state is not State.OPEN:
            return
        if way.proven_ns and way.answered_ns > max(way.demoted_ns, now_ns - FRESH_NS):
            self._fire(Trigger.BETTER, now_ns, way, "the other side uses it")

    def _receive_pong(self, arrived: probe.Probe, source: Place, now_ns: int) -> None:
        pinged = self.pending.get(arrived.sequence) if arrived.epoch == self.epoch else None
        if pinged is None:
            return self.outlet.drop("pong_unexpected")
        way, sent_ns = pinged
        if way.place != source:
            return self.outlet.drop("pong_source")  # its own ping will make that source a way
        del self.pending[arrived.sequence]
        if self.ways.get(source) is not way:
            return self.outlet.drop("pong_unexpected")  # that way was taken off the list
        way.note_answer(sent_ns, now_ns)
        if way is self.best:
            self._note_best_answer(way, now_ns)
        elif self.state is State.SUSPECT:
            self._answered_in_doubt(way, now_ns)
        elif self.state is not State.OPEN:
            self._fire(Trigger.ANSWERED, now_ns, way)
        elif reason := self._is_better(way, now_ns):
            self._fire(Trigger.BETTER, now_ns, way, reason)
        else:
            self._follow(way, now_ns)
        return None

    def _answered_in_doubt(self, way: Way, now_ns: int) -> None:
        """Data goes on two ways meanwhile, so there is time to see whether the used one is dead."""
        best = self.best
        assert best is not None
        if now_ns - max(best.answered_ns, self.opened_ns) < SWITCH_NS and best.unanswered < 4:
            return
        if now_ns - self.doubted_ns < SWITCH_NS:
            return
        best.demoted_ns = now_ns
        self._fire(Trigger.ANSWERED, now_ns, self.second_way(now_ns) or way)

    def _note_best_answer(self, best: Way, now_ns: int) -> None:
        if self.state is State.SUSPECT:
            self._fire(Trigger.RECOVERED, now_ns)
        if not self.burst:  # counted from the newest ping: several are under way on a long path
            self.beat_ns = max(now_ns, best.sent_ns + self._beat_interval(now_ns))

    def _ping(self, way: Way, now_ns: int) -> None:
        if not way.proven_ns and not self._may_try(now_ns):
            return self.outlet.drop("probe_budget")
        self.sequence += 1
        self.pending[self.sequence] = (way, now_ns)
        if len(self.pending) > PENDING_MAX:
            del self.pending[next(iter(self.pending))]
        if not way.unanswered:
            way.asking_ns = now_ns
        way.unanswered += 1
        way.sent_ns = now_ns
        datagram = probe.ping(self.keys, self.epoch, self.sequence, used=way is self.best)
        self.outlet.outgoing.append((way.place, datagram))
        return None

    def _may_try(self, now_ns: int) -> bool:
        return self.probe_budget.take(now_ns) and self.outlet.budget.take(now_ns)

    def _expire(self, now_ns: int) -> None:
        """Pings too old to be answered are lost ones, if the way was open when they left."""
        while self.pending:
            sequence = next(iter(self.pending))
            way, sent_ns = self.pending[sequence]
            if now_ns - sent_ns < PENDING_NS:
                return
            del self.pending[sequence]
            if way.proven_ns and sent_ns >= way.proven_ns:
                way.note_outcome(False)

    # --- ways ---------------------------------------------------------------------------

    def _usable(self, candidates: Sequence[Candidate]) -> dict[Place, str]:
        listed: dict[Place, str] = {}
        for candidate in candidates:
            address = endpoint.parse(candidate.address)
            if address is None or not self.is_usable(address) or len(listed) == LISTED_MAX:
                self.outlet.drop("candidate_refused")
                continue
            listed.setdefault(address, candidate.kind)
        return listed

    def _add_seen(self, source: Place) -> Way | None:
        if isinstance(source, Via) and TIERS[source.carrier]:
            return None  # we are not bound to that relay, or it is not for this member
        seen = [way for way in self.ways.values() if not way.listed and way is not self.best]
        if len(seen) >= SEEN_MAX:
            oldest = min(seen, key=lambda way: (way.answered_ns, way.heard_ns))
            del self.ways[oldest.place]
        near = not isinstance(source, Via) and is_private(source[0])
        way = Way(source, "seen", near)
        self.ways[source] = way
        return way

    def _forget_seen(self, now_ns: int) -> None:
        for way in list(self.ways.values()):
            old = not way.listed and now_ns - way.heard_ns > SEEN_NS
            if old and way is not self.best:
                del self.ways[way.place]

    def _is_better(self, way: Way, now_ns: int) -> str:
        """Why `way` should replace the used one, or nothing."""
        best = self.best
        assert best is not None
        if way.rank < best.rank:
            return f"{KINDS[way.tier]} works: {_ms(way.rtt_ns)}, was {_ms(best.rtt_ns)}"
        if way.rank > best.rank or not self.leads:
            return ""
        slack_ns = max(NEAR_SLACK_NS, best.rtt_ns // 8)
        if way.near and not best.near and way.rtt_ns <= best.rtt_ns + slack_ns:
            return f"same network: {_ms(way.rtt_ns)} there, {_ms(best.rtt_ns)} around"
        settled = now_ns - self.chosen_ns >= DWELL_NS or now_ns - self.opened_ns < BEAT_NS
        much = way.cost_ns + BETTER_NS <= best.cost_ns and 3 * way.cost_ns <= 2 * best.cost_ns
        if settled and much:
            return f"faster: {_ms(way.rtt_ns)} instead of {_ms(best.rtt_ns)}"
        return ""

    # --- time ---------------------------------------------------------------------------

    def _is_active(self, now_ns: int) -> bool:
        return bool(self.data_ns) and now_ns - self.data_ns < ACTIVE_NS

    def _beat_interval(self, now_ns: int) -> int:
        if self.data_ns and now_ns - self.data_ns < FLOWING_NS:
            return FAST_BEAT_NS
        if self._is_active(now_ns):
            return BEAT_NS
        return IDLE_BEAT_NS + IDLE_SPREAD_NS * self.outlet.random(1)[0] // 256

    def _can_wait(self) -> bool:
        """Whether the next beat only keeps mappings alive."""
        best = self.best
        if best is None or self.beat_ns is None:
            return False
        return not best.unanswered and self.beat_ns - best.sent_ns >= IDLE_BEAT_NS

    def _beat(self, now_ns: int) -> None:
        best = self.best
        assert best is not None
        late_ns = max(DOUBT_MIN_NS, best.rtt_ns + 4 * best.jitter_ns + DOUBT_SLACK_NS)
        if best.unanswered and now_ns >= best.asking_ns + late_ns:
            return self._fire(Trigger.SILENCE, now_ns)
        self._ping(best, now_ns)
        self.burst = max(0, self.burst - 1)
        self.beat_ns = min(now_ns + FAST_BEAT_NS, best.asking_ns + late_ns)
        self._beat_second(now_ns)
        if self._is_active(now_ns) and now_ns - self.looked_ns >= LOOK_AROUND_NS:
            self._start_round(GLANCE_STEPS_NS, now_ns)
        return None

    def _beat_second(self, now_ns: int) -> None:
        """Keep another way known to work, and its mapping in the routers."""
        others = [w for w in self.ways.values() if w is not self.best and w.proven_ns]
        other = min(others, key=lambda way: (way.rank, way.cost_ns), default=None)
        spacing_ns = BEAT_NS if self._is_active(now_ns) else IDLE_BEAT_NS - IDLE_SLACK_NS
        if other is not None and now_ns - other.sent_ns >= spacing_ns:
            self._ping(other, now_ns)

    def _start_round(self, steps_ns: tuple[int, ...], now_ns: int) -> None:
        self.round_ns, self.steps_ns, self.step = now_ns, steps_ns, 0
        self.looked_ns = now_ns
        self._forget_seen(now_ns)
        if steps_ns[0] == 0:
            self._run_step(now_ns)

    def _step_due(self) -> int | None:
        return self.round_ns + self.steps_ns[self.step] if self.step < len(self.steps_ns) else None

    def _step_slack(self) -> int:
        return self.steps_ns[0] // 16 if self.state is State.SEARCHING else 0

    def _run_step(self, now_ns: int) -> None:
        for way in list(self.ways.values()):
            skipped = self.state is State.OPEN and way is self.best
            doubting = self.state is State.SUSPECT and not way.proven_ns
            spacing_ns = UNPROVEN_SPACING_NS if doubting else AGAIN_NS
            if not skipped and now_ns - way.sent_ns >= spacing_ns:
                self._ping(way, now_ns)
        while (due := self._step_due()) is not None and due <= now_ns:
            self.step += 1
        if self.state is State.SUSPECT:
            self._wonder(now_ns)
        if self.state is State.SEARCHING:
            wait_ns = SEARCH_NS[min(self.searches, len(SEARCH_NS) - 1)]
            self.searches += 1
            self._start_round((wait_ns,), now_ns)

    # --- the table ----------------------------------------------------------------------

    def _fire(
        self, trigger: Trigger, now_ns: int, way: Way | None = None, reason: str = ""
    ) -> None:
        rule = RULES.get((self.state, trigger))
        if rule is None:
            return
        self.state, act = rule
        act(self, now_ns, way, reason)

    def _begin(self, now_ns: int, way: Way | None, reason: str) -> None:
        self.began_ns = now_ns
        self._restart(now_ns, way, reason)

    def _restart(self, now_ns: int, way: Way | None, reason: str) -> None:
        self.searches = 0
        self.deadline_ns = now_ns + UNREACHABLE_NS
        addresses = tuple(place_text(place) for place in self.ways)
        self.outlet.notices.append(Probing(peer=self.peer, addresses=addresses))
        self._start_round(PROBE_STEPS_NS, now_ns)

    def _rest(self, now_ns: int, way: Way | None, reason: str) -> None:
        self.steps_ns, self.deadline_ns = (), None

    def _open(self, now_ns: int, way: Way | None, reason: str) -> None:
        assert way is not None
        took_ms = (now_ns - self.began_ns) // MS
        self.opened_ns = now_ns
        self.outlet.notices.append(Opened(peer=self.peer, path=way.quality, took_ms=took_ms))
        self._choose(way, now_ns)
        self._start_round(PROBE_STEPS_NS if way.tier else LOOK_STEPS_NS, now_ns)

    def _switch(self, now_ns: int, way: Way | None, reason: str) -> None:
        assert way is not None
        assert self.best is not None
        if not reason:
            silent_s = (now_ns - self.best.answered_ns) / 1e9
            reason = f"the old address was silent for {silent_s:.1f} s, this one answers"
        notice = Switched(peer=self.peer, old=self.best.quality, new=way.quality, reason=reason)
        self.outlet.notices.append(notice)
        self._choose(way, now_ns)

    def _choose(self, way: Way, now_ns: int) -> None:
        self.best, self.chosen_ns = way, now_ns
        self.doubted_ns, self.doubt_told = 0, False
        self.burst, self.beat_ns, self.deadline_ns = BURST, now_ns + BURST_NS, None

    def _fail(self, now_ns: int, way: Way | None, reason: str) -> None:
        ways = self.ways.values()
        evidence = reasons.Evidence(
            heard=any(way.heard_ns >= self.began_ns for way in ways),
            ours_vary=self.mapping.varies,
            ours_silent=self.mapping.silent,
            theirs=[w.place for w in ways if w.kind == "mapped" and not isinstance(w.place, Via)],
            tried=len(ways),
        )
        self.outlet.notices.append(
            Unreachable(
                peer=self.peer,
                tried=tuple(place_text(place) for place in self.ways),
                after_ms=(now_ns - self.began_ns) // MS,
                reason=reasons.unreachable(evidence),
            )
        )
        self._start_round((SEARCH_NS[0],), now_ns)

    def _look(self, now_ns: int, way: Way | None, reason: str) -> None:
        self.beat_ns = now_ns
        self._start_round(LOOK_STEPS_NS, now_ns)

    def _suspect(self, now_ns: int, way: Way | None, reason: str) -> None:
        best = self.best
        assert best is not None
        self.beat_ns = None
        self.doubted_ns = now_ns
        asking_ns = best.asking_ns if best.unanswered else now_ns
        self.deadline_ns = max(asking_ns + LOST_NS, now_ns + SWITCH_NS)
        self._start_round(SUSPECT_STEPS_NS, now_ns)

    def _wonder(self, now_ns: int) -> None:
        """The doubt lasts: it is no single lost packet."""
        silent_ns = now_ns - self.doubted_ns
        if silent_ns >= TELL_DOUBT_NS and self.best is not None:
            self._tell_doubt(self.best, now_ns)
        if silent_ns >= SWITCH_NS:
            self.mapping.ask_again(now_ns)

    def _tell_doubt(self, best: Way, now_ns: int) -> None:
        if self.doubt_told:
            return
        if self.doubt_told_ns and now_ns - self.doubt_told_ns < DOUBTS_SPACING_NS:
            return
        self.doubt_told_ns, self.doubt_told = now_ns, True
        second = self.second_way(now_ns)
        self.outlet.notices.append(
            Doubted(
                peer=self.peer,
                path=best.quality,
                second=second.quality if second else None,
                silent_ms=(now_ns - best.asking_ns) // MS,
            )
        )

    def _widen(self, now_ns: int, way: Way | None, reason: str) -> None:
        self._start_round(SUSPECT_STEPS_NS, now_ns)

    def _recover(self, now_ns: int, way: Way | None, reason: str) -> None:
        assert self.best is not None
        self.steps_ns, self.deadline_ns, self.burst = (), None, 0
        if self.doubt_told:
            after_ms = (now_ns - self.doubted_ns) // MS
            self.outlet.notices.append(
                Trusted(peer=self.peer, path=self.best.quality, after_ms=after_ms)
            )
        self.doubted_ns, self.doubt_told = 0, False

    def _lose(self, now_ns: int, way: Way | None, reason: str) -> None:
        best = self.best
        assert best is not None
        silent_s = (now_ns - best.answered_ns) / 1e9
        others = "and no other address answers" if len(self.ways) > 1 else "and there is no other"
        reason = f"no answer for {silent_s:.1f} s, {others}"
        self.outlet.notices.append(Lost(peer=self.peer, old=best.quality, reason=reason))
        self.best = self.led = None
        self.doubted_ns, self.doubt_told = 0, False
        for way in self.ways.values():
            way.forget()
        self._begin(now_ns, None, "")


Act = Callable[[Reach, int, Way | None, str], None]

RULES: dict[tuple[State, Trigger], tuple[State, Act]] = {
    (State.IDLE, Trigger.LISTED): (State.PROBING, Reach._begin),
    (State.PROBING, Trigger.LISTED): (State.PROBING, Reach._restart),
    (State.PROBING, Trigger.ANSWERED): (State.OPEN, Reach._open),
    (State.PROBING, Trigger.DEADLINE): (State.SEARCHING, Reach._fail),
    (State.PROBING, Trigger.UNLISTED): (State.IDLE, Reach._rest),
    (State.SEARCHING, Trigger.LISTED): (State.PROBING, Reach._begin),
    (State.SEARCHING, Trigger.ANSWERED): (State.OPEN, Reach._open),
    (State.SEARCHING, Trigger.UNLISTED): (State.IDLE, Reach._rest),
    (State.OPEN, Trigger.LISTED): (State.OPEN, Reach._look),
    (State.OPEN, Trigger.BETTER): (State.OPEN, Reach._switch),
    (State.OPEN, Trigger.SILENCE): (State.SUSPECT, Reach._suspect),
    (State.OPEN, Trigger.GONE): (State.PROBING, Reach._lose),
    (State.SUSPECT, Trigger.BETTER): (State.OPEN, Reach._switch),
    (State.SUSPECT, Trigger.RECOVERED): (State.OPEN, Reach._recover),
    (State.SUSPECT, Trigger.ANSWERED): (State.OPEN, Reach._switch),
    (State.SUSPECT, Trigger.LISTED): (State.SUSPECT, Reach._widen),
    (State.SUSPECT, Trigger.DEADLINE): (State.PROBING, Reach._lose),
}
