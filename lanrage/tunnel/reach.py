"""How one member is reached: candidate ways, what was measured on each, and which one is used.

A *way* is one address of the member. Only a pong, made with the pair's key, in answer to a ping we
sent to that very address, proves a way. Pings that arrive prove nothing but are worth an attempt:
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
    OPEN       SILENCE       SUSPECT    all ways are pinged at once, STUN servers asked again
    SUSPECT    RECOVERED     OPEN       the used way answered after all
    SUSPECT    ANSWERED      OPEN       Switched to the first other way that answers
    SUSPECT    LISTED        SUSPECT    new ways take part
    SUSPECT    DEADLINE      PROBING    Lost; everything from the start

The used way is pinged (a *beat*) each second while there is data, else each 18 to 20 s to keep the
routers' mappings. A beat that is not answered in time is repeated soon, so two seconds of silence
are several lost pings and not one. A better way is switched to at proof: a way in the private
network at once, any other only if it is 10 ms and a third faster and the used one had its time.

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
from lanrage.protocols.endpoint import Address
from lanrage.tunnel import reasons
from lanrage.tunnel.mapping import Mapping
from lanrage.tunnel.messages import Lost, Opened, Probing, Switched, Unreachable
from lanrage.tunnel.outlet import Bucket, Outlet

MS = 1_000_000
PROBE_STEPS_NS = tuple(ms * MS for ms in (0, 100, 200, 400, *range(900, 5000, 500)))
LOOK_STEPS_NS = PROBE_STEPS_NS[:5]
GLANCE_STEPS_NS = (0,)
UNREACHABLE_NS = 5000 * MS
SEARCH_NS = tuple(s * 1000 * MS for s in (2, 4, 8, 16, 30))

BEAT_NS = 1000 * MS
IDLE_BEAT_NS = 18_000 * MS
IDLE_SPREAD_NS = 2_000 * MS
IDLE_SLACK_NS = 2_000 * MS  # what is not urgent may happen this early, to share a wake-up
ACTIVE_NS = 3000 * MS  # that long after the last data there is "traffic"
BURST = 3
BURST_NS = 100 * MS
RETRY_MIN_NS = 150 * MS
RETRY_MAX_NS = 400 * MS
SILENCE_NS = 2000 * MS  # without an answer
SILENCE_PINGS = 3
SILENCE_TRYING_NS = 1000 * MS  # for which we have been asking
SUSPECT_NS = 900 * MS
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
    DEADLINE = auto()


@dataclass(slots=True, eq=False)
class Way:
    """One address of the member and what is known of it. Times in ns; 0 means never."""

    address: Address
    kind: str  # "host", "mapped", or "seen" (a ping came from it)
    near: bool
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
            self.proven_ns, self.rtt_ns = now_ns, sample_ns
        self.rtt_ns += (sample_ns - self.rtt_ns) // 4
        self.answered_ns, self.unanswered = now_ns, 0
        self.note_outcome(True)

    def forget(self) -> None:
        """What was measured no longer holds; it has to be proven again."""
        self.proven_ns = self.answered_ns = self.rtt_ns = 0
        self.outcomes = self.outcome_count = self.unanswered = 0

    @property
    def loss_permille(self) -> int:
        if not self.outcome_count:
            return 0
        lost = self.outcome_count - self.outcomes.bit_count()
        return 1000 * lost // self.outcome_count

    @property
    def quality(self) -> PathQuality:
        return PathQuality(
            kind="direct",
            address=endpoint.text(self.address),
            rtt_us=self.rtt_ns // 1000,
            loss_permille=self.loss_permille,
        )


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
    state: State = State.IDLE
    best: Way | None = None
    candidates: frozenset[Candidate] = frozenset()
    ways: dict[Address, Way] = field(default_factory=dict)
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
        for way in list(self.ways.values()):
            way.listed = way.address in listed
            if not way.listed and not way.heard_ns and way is not self.best:
                del self.ways[way.address]
        for address, kind in listed.items():
            way = self.ways.setdefault(address, Way(address, kind, is_private(address[0])))
            way.kind, way.listed = kind, True
        self._fire(Trigger.LISTED if self.ways else Trigger.UNLISTED, now_ns)

    def note_data(self, now_ns: int) -> int | None:
        """Data flowed: idle beats speed up. Returns the next beat if it came nearer."""
        self.data_ns = now_ns
        if self.beat_ns is None or self.best is None or self.beat_ns <= now_ns + BEAT_NS:
            return None
        self.beat_ns = max(now_ns, self.best.sent_ns + BEAT_NS)
        return self.beat_ns

    def receive(self, arrived: probe.Probe, source: Address, now_ns: int) -> None:
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
            self._fire(Trigger.DEADLINE, now_ns)
        if self.beat_ns is not None and now_ns >= self.beat_ns - IDLE_SLACK_NS * self._can_wait():
            self._beat(now_ns)
        step_due = self._step_due()
        if step_due is not None and now_ns >= step_due - self._step_slack():
            self._run_step(now_ns)

    # --- probes -------------------------------------------------------------------------

    def _receive_ping(self, arrived: probe.Probe, source: Address, now_ns: int) -> None:
        restarted = self.window.epoch not in (b"", arrived.epoch)
        if not self.window.admit(arrived):
            return self.outlet.drop("probe_replayed")
        way = self.ways.get(source) or self._add_seen(source)
        way.heard_ns = now_ns
        if not self.pong_budget.take(now_ns):
            return self.outlet.drop("pong_budget")
        self.outlet.outgoing.append((source, probe.pong(self.keys, arrived, source)))
        if restarted and self.beat_ns is not None:
            self.beat_ns = now_ns  # the member's program started again: is its old address alive?
        if self.state is State.IDLE:
            self._fire(Trigger.LISTED, now_ns)
        fresh = way.answered_ns and now_ns - way.answered_ns < FRESH_NS
        if not fresh and now_ns - way.sent_ns >= AGAIN_NS:
            self._ping(way, now_ns)
        return None

    def _receive_pong(self, arrived: probe.Probe, source: Address, now_ns: int) -> None:
        pinged = self.pending.get(arrived.sequence) if arrived.epoch == self.epoch else None
        if pinged is None:
            return self.outlet.drop("pong_unexpected")
        way, sent_ns = pinged
        if way.address != source:
            return self.outlet.drop("pong_source")  # its own ping will make that source a way
        del self.pending[arrived.sequence]
        if self.ways.get(source) is not way:
            return self.outlet.drop("pong_unexpected")  # that way was taken off the list
        way.note_answer(sent_ns, now_ns)
        if way is self.best:
            self._note_best_answer(sent_ns, now_ns)
        elif self.state is not State.OPEN:
            self._fire(Trigger.ANSWERED, now_ns, way)
        elif reason := self._is_better(way, now_ns):
            self._fire(Trigger.BETTER, now_ns, way, reason)
        return None

    def _note_best_answer(self, sent_ns: int, now_ns: int) -> None:
        if self.state is State.SUSPECT:
            self._fire(Trigger.RECOVERED, now_ns)
        if not self.burst:
            self.beat_ns = max(now_ns, sent_ns + self._beat_interval(now_ns))

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
        datagram = probe.ping(self.keys, self.epoch, self.sequence)
        self.outlet.outgoing.append((way.address, datagram))
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

    def _usable(self, candidates: Sequence[Candidate]) -> dict[Address, str]:
        listed: dict[Address, str] = {}
        for candidate in candidates:
            address = endpoint.parse(candidate.address)
            if address is None or not self.is_usable(address) or len(listed) == LISTED_MAX:
                self.outlet.drop("candidate_refused")
                continue
            listed.setdefault(address, candidate.kind)
        return listed

    def _add_seen(self, source: Address) -> Way:
        seen = [way for way in self.ways.values() if not way.listed and way is not self.best]
        if len(seen) >= SEEN_MAX:
            oldest = min(seen, key=lambda way: (way.answered_ns, way.heard_ns))
            del self.ways[oldest.address]
        way = Way(source, "seen", is_private(source[0]))
        self.ways[source] = way
        return way

    def _forget_seen(self, now_ns: int) -> None:
        for way in list(self.ways.values()):
            old = not way.listed and now_ns - way.heard_ns > SEEN_NS
            if old and way is not self.best:
                del self.ways[way.address]

    def _is_better(self, way: Way, now_ns: int) -> str:
        """Why `way` should replace the used one, or nothing."""
        best = self.best
        assert best is not None
        slack_ns = max(NEAR_SLACK_NS, best.rtt_ns // 8)
        if way.near and not best.near and way.rtt_ns <= best.rtt_ns + slack_ns:
            return f"same network: {_ms(way.rtt_ns)} there, {_ms(best.rtt_ns)} around"
        settled = now_ns - self.chosen_ns >= DWELL_NS or now_ns - self.opened_ns < BEAT_NS
        much = way.rtt_ns + BETTER_NS <= best.rtt_ns and 3 * way.rtt_ns <= 2 * best.rtt_ns
        if settled and much:
            return f"faster: {_ms(way.rtt_ns)} instead of {_ms(best.rtt_ns)}"
        return ""

    # --- time ---------------------------------------------------------------------------

    def _is_active(self, now_ns: int) -> bool:
        return bool(self.data_ns) and now_ns - self.data_ns < ACTIVE_NS

    def _beat_interval(self, now_ns: int) -> int:
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
        suspect_ns = max(best.asking_ns + SILENCE_TRYING_NS, best.answered_ns + SILENCE_NS)
        if best.unanswered >= SILENCE_PINGS and now_ns >= suspect_ns:
            return self._fire(Trigger.SILENCE, now_ns)
        self._ping(best, now_ns)
        self.burst = max(0, self.burst - 1)
        retry_ns = min(max(RETRY_MIN_NS, 2 * best.rtt_ns + 50 * MS), RETRY_MAX_NS)
        self.beat_ns = now_ns + (BURST_NS if self.burst else retry_ns)
        if best.unanswered >= SILENCE_PINGS and suspect_ns > now_ns:
            self.beat_ns = min(self.beat_ns, suspect_ns)
        if self._is_active(now_ns) and now_ns - self.looked_ns >= LOOK_AROUND_NS:
            self._start_round(GLANCE_STEPS_NS, now_ns)
        return None

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
            if not skipped and now_ns - way.sent_ns >= AGAIN_NS:
                self._ping(way, now_ns)
        while (due := self._step_due()) is not None and due <= now_ns:
            self.step += 1
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
        addresses = tuple(endpoint.text(address) for address in self.ways)
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
        self._start_round(LOOK_STEPS_NS, now_ns)

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
        self.burst, self.beat_ns, self.deadline_ns = BURST, now_ns + BURST_NS, None

    def _fail(self, now_ns: int, way: Way | None, reason: str) -> None:
        ways = self.ways.values()
        evidence = reasons.Evidence(
            heard=any(way.heard_ns >= self.began_ns for way in ways),
            ours_vary=self.mapping.varies,
            ours_silent=self.mapping.silent,
            theirs=[way.address for way in ways if way.kind == "mapped"],
            tried=len(ways),
        )
        self.outlet.notices.append(
            Unreachable(
                peer=self.peer,
                tried=tuple(endpoint.text(address) for address in self.ways),
                after_ms=(now_ns - self.began_ns) // MS,
                reason=reasons.unreachable(evidence),
            )
        )
        self._start_round((SEARCH_NS[0],), now_ns)

    def _look(self, now_ns: int, way: Way | None, reason: str) -> None:
        self.beat_ns = now_ns
        self._start_round(LOOK_STEPS_NS, now_ns)

    def _suspect(self, now_ns: int, way: Way | None, reason: str) -> None:
        self.beat_ns = None
        self.deadline_ns = now_ns + SUSPECT_NS
        self.mapping.ask_again(now_ns)
        self._start_round(LOOK_STEPS_NS, now_ns)

    def _widen(self, now_ns: int, way: Way | None, reason: str) -> None:
        self._start_round(LOOK_STEPS_NS, now_ns)

    def _recover(self, now_ns: int, way: Way | None, reason: str) -> None:
        self.steps_ns, self.deadline_ns, self.burst = (), None, 0

    def _lose(self, now_ns: int, way: Way | None, reason: str) -> None:
        best = self.best
        assert best is not None
        silent_s = (now_ns - best.answered_ns) / 1e9
        others = "and no other address answers" if len(self.ways) > 1 else "and there is no other"
        reason = f"no answer for {silent_s:.1f} s, {others}"
        self.outlet.notices.append(Lost(peer=self.peer, old=best.quality, reason=reason))
        self.best = None
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
    (State.SUSPECT, Trigger.RECOVERED): (State.OPEN, Reach._recover),
    (State.SUSPECT, Trigger.ANSWERED): (State.OPEN, Reach._switch),
    (State.SUSPECT, Trigger.LISTED): (State.SUSPECT, Reach._widen),
    (State.SUSPECT, Trigger.DEADLINE): (State.PROBING, Reach._lose),
}
