"""How one member is reached: candidate ways, what was measured on each, and which one is used.

A *way* is one place of the member: an address of its own, or a relay, a friend or TCP that passes
on (protocols/endpoint.Via). All are tried at once, and data flows on the first that is proven,
usually a relay; a direct one takes over as soon as it is proven, too. Only a pong, made with the
pair's key, in answer to a ping we sent to that very place, proves a way. Pings that arrive prove
nothing but are worth an attempt: their source becomes a way and is pinged back at once, which is
how two routers that let in only what was asked for get opened from both sides.

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
    OPEN       OVERDUE       SUSPECT    both are asked at once, data goes on a second way, too
    OPEN       GONE          PROBING    Lost: who passed on is gone, and no other way is known
    SUSPECT    RECOVERED     OPEN       the used way answered after all
    SUSPECT    SILENCE       SUSPECT    no single lost packet: Doubted; all ways and STUN are asked
    SUSPECT    ANSWERED      OPEN       silent for 0.6 s, and another way is not: Switched to that
    SUSPECT    BETTER        OPEN       Switched to a way that proved better
    SUSPECT    LISTED        SUSPECT    new ways take part
    SUSPECT    GONE          PROBING    Lost, as above
    SUSPECT    DEADLINE      PROBING    Lost after 2 s; everything from the start

The used way is pinged (a *beat*) ten times a second while data flows, each second a little longer,
else each 18 to 20 s to keep the routers' mappings. An answer later than round trip and jitter
explain is OVERDUE: from then on data goes on the best other proven way, too (the receiver's replay
window drops what comes twice), and who answers decides. So a game feels a broken path for a fifth
of a second if a second one is known. To have one known, the best other way of another kind is
beaten, too, each second. Without one, the first that answers is used beside the silent one at once.

As long as the used way is not direct, the direct ones are tried again after 2..30 s. A way that was
left for its silence is not returned to for 1 s, twice as long each time. What ranks above what is
told in way.py; to go up in rank a proof is enough, within a rank it takes 10 ms and a third, and
the used way had its time.

**Both ends agree.** The side with the lower public key leads: it chooses, and its pings say which
way it uses. The other side takes that way as soon as it is proven here, and chooses by itself only
while it knows none. Either leaves at once a way that is silent or gone: both see that alike, since
every proof is a round trip.

When our own network changes nothing measured holds. The used way is then in doubt, all are proven
anew, and whichever answers carries data beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from events.base import PeerId
from events.peer import Candidate
from lanrage.protocols import probe
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.tunnel import reasons, search
from lanrage.tunnel.lead import Lead
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
from lanrage.tunnel.outlet import Outlet
from lanrage.tunnel.prober import Prober
from lanrage.tunnel.rounds import (
    DOUBT_STEPS_NS,
    GLANCE_STEPS_NS,
    LOOK_STEPS_NS,
    PROBE_STEPS_NS,
    Rounds,
)
from lanrage.tunnel.way import Way, place_text, second_of, standbys_of
from lanrage.tunnel.ways import Ways

MS = 1_000_000
UNREACHABLE_NS = 5000 * MS
FRIENDS_AFTER_NS = 1000 * MS  # how long a pair may try by itself first

FAST_BEAT_NS = 100 * MS  # while data flows
FLOWING_NS = 500 * MS  # that long after the last data it flows
BEAT_NS = 1000 * MS
IDLE_BEAT_NS = 18_000 * MS
IDLE_SPREAD_NS = 2_000 * MS
IDLE_SLACK_NS = 2_000 * MS  # what is not urgent may happen this early, to share a wake-up
ACTIVE_NS = 3000 * MS  # that long after the last data there is "traffic"
LOOK_AROUND_NS = 30_000 * MS  # between looks at other ways, while there is traffic
BURST = 3
BURST_NS = 100 * MS

DOUBT_BEAT_NS = 50 * MS
SILENCE_NS = 200 * MS  # a doubt shorter than that is not worth a word
SWITCH_NS = 600 * MS  # silence after which another way that answers takes over
LOST_NS = 2000 * MS  # silence after which a path is given up
DOUBTS_SPACING_NS = 10_000 * MS  # between two notices of doubt
STANDBY_PINGS = 4  # a standby that leaves so many unanswered is none

DWELL_NS = 5000 * MS
FRESH_NS = 3000 * MS  # an answer this recent needs no ping back
AGAIN_NS = 50 * MS  # least time between two pings on one way in a round


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
    BETTER = auto()
    OVERDUE = auto()
    RECOVERED = auto()
    SILENCE = auto()
    GONE = auto()
    DEADLINE = auto()


@dataclass(slots=True)
class Reach:
    """One member. Times come in as `now_ns`; datagrams and notices leave through `outlet`."""

    peer: PeerId
    public_key: bytes
    prober: Prober
    outlet: Outlet
    mapping: Mapping
    ways: Ways
    lead: Lead
    rounds: Rounds = field(default_factory=Rounds)
    state: State = State.IDLE
    best: Way | None = None
    consents: bool = False  # the member allows port search
    began_ns: int = 0  # probing; `Opened.took_ms` counts from here
    chosen_ns: int = 0  # the used way
    opened_ns: int = 0
    friends_ns: int = 0  # when members that reach both of us may be asked to pass on
    data_ns: int = 0
    burst: int = 0
    looked_ns: int = 0
    deadline_ns: int | None = None
    beat_ns: int | None = None
    doubted_ns: int = 0  # since when the used way is in doubt
    widened: bool = False  # all ways are asked in this doubt
    told: bool = False  # of this doubt
    told_ns: int = 0

    # --- from outside -------------------------------------------------------------------

    def put_candidates(self, candidates: Sequence[Candidate], now_ns: int) -> None:
        """Take the member's new list; the same list again changes nothing."""
        if frozenset(candidates) == self.ways.candidates:
            return
        self.ways.put_listed(candidates, self.best)
        direct = any(way.listed and not way.tier for way in self.ways.of.values())
        worth = direct or any(way.heard_ns for way in self.ways.of.values())
        self._fire(Trigger.LISTED if worth else Trigger.UNLISTED, now_ns)

    def put_vias(self, vias: Sequence[Via], pick: str, now_ns: int) -> None:
        """Who may pass on, from now on. If the used way is gone with it, that is no doubt: whatever
        else is proven takes over at once. Alone they are no reason to begin: without candidates
        nobody has heard of the member."""
        added = self.ways.put_vias(vias, pick)
        if self.best is not None and self.best.place not in self.ways.of:
            self._leave(now_ns)
        elif added and self.state is not State.IDLE:
            for way in added:
                self._ping(way, now_ns)
            if self.rounds.is_pausing:
                self._start_round(LOOK_STEPS_NS, now_ns)

    def drop_friend(self, friend: PeerId, now_ns: int) -> None:
        self.ways.drop_friend(friend)
        if self.best is not None and self.best.place not in self.ways.of:
            self._leave(now_ns)

    def check(self, now_ns: int) -> None:
        """Somebody doubts that this member is there: ask now."""
        if self.state is State.OPEN:
            self.beat_ns = now_ns
        elif self.state in (State.PROBING, State.SEARCHING):
            self.rounds.pauses = 0
            self._start_round(PROBE_STEPS_NS, now_ns)

    def change_network(self, now_ns: int) -> None:
        """Nothing that was measured holds; the used way goes on until another answers."""
        for way in self.ways.of.values():
            way.forget()
            way.held_ns = way.demotions = 0
        self.widened = False
        self._fire(Trigger.OVERDUE, now_ns)
        self._fire(Trigger.SILENCE, now_ns)
        self.check(now_ns)

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
            due for due in (self.rounds.due_ns(), self.deadline_ns, self.beat_ns) if due is not None
        ]
        return min(dues, default=None)

    def handle_timer(self, now_ns: int) -> None:
        self.prober.expire(now_ns)
        if self.deadline_ns is not None and now_ns >= self.deadline_ns:
            self.deadline_ns = None
            self._fire(Trigger.DEADLINE, now_ns)
        if self.beat_ns is not None and now_ns >= self.beat_ns - IDLE_SLACK_NS * self._can_wait():
            self._beat(now_ns)
        if self.rounds.is_due(now_ns):
            self._run_step(now_ns)

    @property
    def has_direct(self) -> bool:
        return self.best is not None and not self.best.tier

    def wants_friends(self, now_ns: int) -> bool:
        alone = self.state is not State.IDLE and not self.has_direct
        return alone and now_ns >= self.friends_ns

    def is_stuck(self, now_ns: int) -> bool:
        """Whether the member is there, but not directly, although it was tried long enough."""
        tried = now_ns - self.began_ns >= search.AFTER_NS
        return self.state is State.OPEN and not self.has_direct and tried

    @property
    def direct(self) -> Address | None:
        """Where data for the member goes, if that is an address of its own."""
        best = self.best
        return None if best is None or isinstance(best.place, Via) else best.place

    def second(self, now_ns: int) -> Way | None:
        """What is used beside the way in doubt."""
        if self.state is not State.SUSPECT:
            return None
        return second_of(self.ways.of.values(), self.best, now_ns, self._is_active(now_ns))

    # --- probes -------------------------------------------------------------------------

    def _receive_ping(self, arrived: probe.Probe, source: Place, now_ns: int) -> None:
        window = self.prober.window
        restarted = window.epoch not in (b"", arrived.epoch)
        if not window.admit(arrived):
            return self.outlet.drop("probe_replayed")
        way = self.ways.of.get(source) or self.ways.add_seen(source, self.best)
        if way is None:
            return self.outlet.drop("probe_via_unknown")
        way.heard_ns = now_ns
        self.consents = arrived.searching
        if restarted:
            self.lead.forget()
        if arrived.used and arrived.sequence == window.highest:
            self.lead.note(way, now_ns)
        if not self.prober.pong(arrived, source, now_ns):
            return None
        if restarted and self.beat_ns is not None:
            self.beat_ns = now_ns  # the member's program started again: is its old address alive?
        if self.state is State.IDLE:
            self._fire(Trigger.LISTED, now_ns)
        fresh = way.answered_ns and now_ns - way.answered_ns < FRESH_NS
        if not fresh and now_ns - way.sent_ns >= AGAIN_NS:
            self._ping(way, now_ns)
        if way is self.lead.way:
            self._weigh(way, now_ns)
        return None

    def _receive_pong(self, arrived: probe.Probe, source: Place, now_ns: int) -> None:
        pinged = self.prober.answered(arrived, source)
        if pinged is None:
            return None
        way, sent_ns = pinged
        if self.ways.of.get(source) is not way:
            return self.outlet.drop("pong_unexpected")  # that way was taken off the list
        way.note_answer(sent_ns, now_ns)
        if way is self.best:
            self._fire(Trigger.RECOVERED, now_ns)
            if not self.burst:  # counted from the newest ping: on a long way several are under way
                self.beat_ns = max(now_ns, way.sent_ns + self._beat_interval(now_ns))
        if self.best is None:
            return self._fire(Trigger.ANSWERED, now_ns, way)
        # When the used way got worse, its own answer is what shows that another is better.
        return self._weigh(way if way is not self.best else self._rival(now_ns), now_ns)

    def _rival(self, now_ns: int) -> Way | None:
        best = self.best
        if best is None or not best.shunned:
            return None
        return second_of(self.ways.of.values(), best, now_ns, self._is_active(now_ns))

    def _ping(self, way: Way, now_ns: int) -> None:
        self.prober.ping(way, now_ns, used=way is self.best)

    # --- choosing -----------------------------------------------------------------------

    def _weigh(self, way: Way | None, now_ns: int) -> None:
        """Whether `way` is to be used instead of the used one."""
        if way is None or self.best is None or way is self.best or not way.proven_ns:
            return
        reason = self._why_better(way, self.best, now_ns)
        if reason:
            self._fire(Trigger.BETTER, now_ns, way, reason)

    def _why_better(self, way: Way, best: Way, now_ns: int) -> str:
        led = self.lead.known(self.ways.of, now_ns)
        if led is not None:
            follows = way is led and self.lead.allows(best, now_ns)
            return "the other side uses it" if follows else ""
        if way.is_above(best, now_ns):
            return way.why_above(best)
        if way.rank != best.rank or self.state is State.SUSPECT or now_ns < way.held_ns:
            return ""
        settled = now_ns - self.chosen_ns >= DWELL_NS or now_ns - self.opened_ns < BEAT_NS
        return way.why_cheaper(best, settled)

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
        if self.state is State.SUSPECT:
            return self._wonder(best, now_ns)
        if best.is_overdue(now_ns):
            return self._fire(Trigger.OVERDUE, now_ns)
        self._ping(best, now_ns)
        self.burst = max(0, self.burst - 1)
        self.beat_ns = min(now_ns + FAST_BEAT_NS, best.asking_ns + best.late_ns)
        self._beat_standbys(best, now_ns)
        if self._is_active(now_ns) and now_ns - self.looked_ns >= LOOK_AROUND_NS:
            self._start_round(GLANCE_STEPS_NS, now_ns)
        return None

    def _beat_standbys(self, best: Way, now_ns: int) -> None:
        """Keep other ways known to work, and their mappings in the routers."""
        spacing_ns = BEAT_NS if self._is_active(now_ns) else IDLE_BEAT_NS - IDLE_SLACK_NS
        for way in standbys_of(self.ways.of.values(), best):
            if now_ns - way.sent_ns < spacing_ns:
                continue
            if way.unanswered >= STANDBY_PINGS:
                way.forget()
            self._ping(way, now_ns)

    def _wonder(self, best: Way, now_ns: int) -> None:
        """A beat in doubt: who answers?"""
        silent_ns = now_ns - best.asking_ns
        second = self.second(now_ns)
        answers = second is not None and second.answered_ns > self.doubted_ns
        if silent_ns >= SWITCH_NS and answers:
            return self._fire(Trigger.ANSWERED, now_ns, second)
        if silent_ns >= LOST_NS:
            return self._fire(Trigger.DEADLINE, now_ns)
        self._ping(best, now_ns)
        if second is not None:
            self._ping(second, now_ns)
        if silent_ns >= SILENCE_NS:
            self._fire(Trigger.SILENCE, now_ns)
        self.beat_ns = now_ns + DOUBT_BEAT_NS
        return None

    def _start_round(self, steps_ns: tuple[int, ...], now_ns: int) -> None:
        self.rounds.start(steps_ns, now_ns)
        self.looked_ns = now_ns
        self.ways.forget_seen(self.best, now_ns)
        self._run_step(now_ns)

    def _run_step(self, now_ns: int) -> None:
        for way in list(self.ways.of.values()):
            if way is not self.best and now_ns - way.sent_ns >= AGAIN_NS:
                self._ping(way, now_ns)
        if self.best is None:  # perhaps our router shows us elsewhere since
            self.mapping.ask_again(now_ns)
        self.rounds.advance(now_ns)
        self._pause(now_ns)

    def _pause(self, now_ns: int) -> None:
        """As long as the member is not reached directly, no round is the last."""
        tries_on = self.state is State.SEARCHING or self.state is State.OPEN
        if tries_on and not self.has_direct and self.rounds.is_over:
            self.ways.forget_seen(self.best, now_ns)
            self.rounds.start_pause(now_ns)

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
        self.began_ns, self.friends_ns = now_ns, now_ns + FRIENDS_AFTER_NS
        self._restart(now_ns, way, reason)

    def _restart(self, now_ns: int, way: Way | None, reason: str) -> None:
        self.rounds.pauses = 0
        self.deadline_ns = now_ns + UNREACHABLE_NS
        addresses = tuple(place_text(place) for place in self.ways.of)
        self.outlet.notices.append(Probing(peer=self.peer, addresses=addresses))
        self._start_round(PROBE_STEPS_NS, now_ns)

    def _rest(self, now_ns: int, way: Way | None, reason: str) -> None:
        self.rounds.stop()
        self.deadline_ns = None

    def _open(self, now_ns: int, way: Way | None, reason: str) -> None:
        assert way is not None
        took_ms = (now_ns - self.began_ns) // MS
        self.opened_ns = now_ns
        self.outlet.notices.append(Opened(peer=self.peer, path=way.quality, took_ms=took_ms))
        self._choose(way, now_ns)
        if not way.tier:
            self._start_round(LOOK_STEPS_NS, now_ns)
        elif not self.rounds.is_probing:
            self._start_round(PROBE_STEPS_NS, now_ns)

    def _switch(self, now_ns: int, way: Way | None, reason: str) -> None:
        old = self.best
        assert way is not None
        assert old is not None
        if not reason:
            silent_s = (now_ns - old.asking_ns) / 1e9
            reason = f"the old way was silent for {silent_s:.1f} s, this one answers"
        notice = Switched(peer=self.peer, old=old.quality, new=way.quality, reason=reason)
        self.outlet.notices.append(notice)
        if old.unanswered and now_ns - old.asking_ns >= SWITCH_NS:
            old.demote(now_ns, now_ns - self.chosen_ns)
        self._choose(way, now_ns)
        self.beat_ns = now_ns  # its first ping says at once what is used
        self._start_round(PROBE_STEPS_NS if way.tier > old.tier else LOOK_STEPS_NS, now_ns)

    def _choose(self, way: Way, now_ns: int) -> None:
        self.best, self.chosen_ns = way, now_ns
        self.widened = self.told = False
        self.rounds.pauses = 0
        self.burst, self.beat_ns, self.deadline_ns = BURST, now_ns + BURST_NS, None

    def _leave(self, now_ns: int) -> None:
        """Who passed on is gone, and the used way with it."""
        active = self._is_active(now_ns)
        other = second_of(self.ways.of.values(), self.best, now_ns, active)
        reason = "who passed on does not any more"
        if other is None:
            return self._fire(Trigger.GONE, now_ns, None, reason)
        return self._fire(Trigger.BETTER, now_ns, other, reason)

    def _fail(self, now_ns: int, way: Way | None, reason: str) -> None:
        self.outlet.notices.append(
            Unreachable(
                peer=self.peer,
                tried=tuple(place_text(place) for place in self.ways.of),
                after_ms=(now_ns - self.began_ns) // MS,
                reason=reasons.unreachable(self.evidence()),
            )
        )
        self.rounds.start_pause(now_ns)
        self.rounds.pauses = 0  # the first pause comes twice

    def evidence(self) -> reasons.Evidence:
        """What is known about why there is no direct way."""
        ways = self.ways.of.values()
        direct = [way for way in ways if not isinstance(way.place, Via)]
        return reasons.Evidence(
            heard=any(way.heard_ns >= self.began_ns for way in direct),
            ours_vary=self.mapping.varies,
            ours_silent=self.mapping.silent,
            theirs=[w.place for w in direct if w.kind == "mapped" and not isinstance(w.place, Via)],
            tried=len(direct),
            relays=len(ways) - len(direct),
        )

    def _look(self, now_ns: int, way: Way | None, reason: str) -> None:
        self.beat_ns = now_ns
        self._start_round(LOOK_STEPS_NS, now_ns)

    def _suspect(self, now_ns: int, way: Way | None, reason: str) -> None:
        best = self.best
        assert best is not None
        self.doubted_ns, self.widened, self.told = now_ns, False, False
        if not best.unanswered:
            best.asking_ns = now_ns
        self._wonder(best, now_ns)

    def _widen(self, now_ns: int, way: Way | None, reason: str) -> None:
        self._start_round(DOUBT_STEPS_NS, now_ns)

    def _ask_all(self, now_ns: int, way: Way | None, reason: str) -> None:
        best = self.best
        assert best is not None
        if not self.widened:
            self.widened = True
            self.mapping.ask_again(now_ns)
            self._start_round(DOUBT_STEPS_NS, now_ns)
        silent_ns = now_ns - best.asking_ns
        recently = self.told_ns and now_ns - self.told_ns < DOUBTS_SPACING_NS
        if self.told or recently or silent_ns < SILENCE_NS:
            return
        self.told, self.told_ns = True, now_ns
        second = self.second(now_ns)
        self.outlet.notices.append(
            Doubted(
                peer=self.peer,
                path=best.quality,
                second=second.quality if second else None,
                silent_ms=silent_ns // MS,
            )
        )

    def _recover(self, now_ns: int, way: Way | None, reason: str) -> None:
        best = self.best
        assert best is not None
        self.burst = 0
        if self.told:
            after_ms = (now_ns - self.doubted_ns) // MS
            trusted = Trusted(peer=self.peer, path=best.quality, after_ms=after_ms)
            self.outlet.notices.append(trusted)
        self.widened = self.told = False
        self._pause(now_ns)

    def _lose(self, now_ns: int, way: Way | None, reason: str) -> None:
        best = self.best
        assert best is not None
        if not reason:
            silent_s = (now_ns - best.asking_ns) / 1e9
            alone = len(self.ways.of) <= 1
            others = "and there is no other" if alone else "and no other address answers"
            reason = f"no answer for {silent_s:.1f} s, {others}"
        self.outlet.notices.append(Lost(peer=self.peer, old=best.quality, reason=reason))
        self.best = self.beat_ns = None
        self.lead.forget()
        self.widened = self.told = False
        for each in self.ways.of.values():
            each.forget()
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
    (State.OPEN, Trigger.OVERDUE): (State.SUSPECT, Reach._suspect),
    (State.OPEN, Trigger.GONE): (State.PROBING, Reach._lose),
    (State.SUSPECT, Trigger.RECOVERED): (State.OPEN, Reach._recover),
    (State.SUSPECT, Trigger.SILENCE): (State.SUSPECT, Reach._ask_all),
    (State.SUSPECT, Trigger.ANSWERED): (State.OPEN, Reach._switch),
    (State.SUSPECT, Trigger.BETTER): (State.OPEN, Reach._switch),
    (State.SUSPECT, Trigger.LISTED): (State.SUSPECT, Reach._widen),
    (State.SUSPECT, Trigger.GONE): (State.PROBING, Reach._lose),
    (State.SUSPECT, Trigger.DEADLINE): (State.PROBING, Reach._lose),
}
