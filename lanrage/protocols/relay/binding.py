"""A member's side of one relay: becoming bound, staying bound, noticing when that is over. Pure.

A relay forwards only for those who are bound to it (wire.py has the messages). One `Binding` is one
member at one relay over one carrier; where several addresses lead to the relay, all are asked, and
the first that answers is used.

    state     trigger   next      what happens
    RESTING   START     BINDING   Binds at 0/150/400/900/2000 ms, then after 2..15 s each
    BINDING   WELCOME   BOUND     Bound; beats begin
    BINDING   DOUBT     BINDING   the same from the start
    BOUND     WELCOME   BOUND     a late one: where the relay sees us may have changed
    BOUND     DOUBT     RENEWING  Binds again at once; what is sent meanwhile may still get through
    BOUND     SILENCE   BINDING   Unbound, Binds from the start
    RENEWING  WELCOME   BOUND     as if nothing had been; Bound only if the relay sees us elsewhere
    RENEWING  SILENCE   BINDING   Unbound, Binds go on
    any       REST      RESTING   Unbound, if it was bound

A beat each 15 to 20 s asks whether the relay still knows us. Unanswered for a second it is repeated
after 300 ms each, and three lost are SILENCE. DOUBT is a Stranger, a new boot of the relay, a new
ticket, or a change of our own network. A Stranger proves nothing, so it costs four Binds a second
at most. Round trips come from Bind and Challenge, Answer and Welcome, and the beats: each of our
messages has a nonce or a counter of its own, so a repeated one cannot be mistaken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import wire

MS = 1_000_000
BIND_STEPS_NS = tuple(ms * MS for ms in (0, 150, 400, 900, 2000))
BIND_AGAIN_NS = tuple(s * 1000 * MS for s in (2, 4, 8, 15))
RENEW_NS = 2500 * MS  # a renewal without an answer is given up after that
RENEW_SPACING_NS = 250 * MS
BEAT_NS = 15_000 * MS
BEAT_SPREAD_NS = 5_000 * MS
BEAT_WAIT_NS = 1000 * MS
BEAT_AGAIN_NS = 300 * MS
BEATS_LOST = 3
CHOSEN_NS = 1000 * MS  # how long another address of the relay is not answered
ASKED_MAX = 16  # Binds whose Challenge still counts
ADDRESSES_MAX = 4
TOLD_SHARE = 5  # a round trip is told again when it differs by a fifth


@dataclass(frozen=True, slots=True)
class Bound:
    """The relay forwards to us. `observed` is where it sees us."""

    observed: Address
    rtt_ns: int
    took_ns: int


@dataclass(frozen=True, slots=True)
class Unbound:
    reason: str


@dataclass(frozen=True, slots=True)
class Measured:
    rtt_ns: int


BindingNotice: TypeAlias = Bound | Unbound | Measured


class State(Enum):
    RESTING = auto()
    BINDING = auto()
    BOUND = auto()
    RENEWING = auto()


class Trigger(Enum):
    START = auto()
    WELCOME = auto()
    DOUBT = auto()
    SILENCE = auto()
    REST = auto()


@dataclass(slots=True)
class _Asked:
    """A Bind on its way, or its Answer once it was challenged."""

    address: Address
    sent_ns: int
    answered: bool = False


class Binding:
    """Starts RESTING. `random(n)` gives n unpredictable bytes. `drops` counts by reason."""

    def __init__(
        self,
        *,
        keys: wire.Keys,
        ticket: bytes,
        addresses: Sequence[Address],
        random: Callable[[int], bytes],
    ) -> None:
        assert 1 <= len(addresses) <= ADDRESSES_MAX
        self.drops: dict[str, int] = {}
        self.rtt_ns = 0  # smoothed; 0 while unknown
        self.address: Address | None = None  # the relay's, while bound
        self._keys = keys
        self._ticket = ticket
        self._addresses = tuple(addresses)
        self._random = random
        self._state = State.RESTING
        self._observed: Address | None = None
        self._boot = bytes(wire.BOOT_BYTES)
        self._began_ns = 0
        self._deadline_ns: int | None = None  # of a renewal
        self._bind_ns: int | None = None  # when the next Bind is due
        self._step = 0
        self._asked: dict[bytes, _Asked] = {}
        self._chosen: tuple[Address, int] | None = None  # answered, and when
        self._renewed_ns = -RENEW_SPACING_NS
        self._beat_ns: int | None = None
        self._counter = 0
        self._beats: dict[int, int] = {}  # unanswered: counter -> when it was sent
        self._told_rtt_ns = 0
        self._outgoing: list[tuple[Address, bytes]] = []
        self._notices: list[BindingNotice] = []

    @property
    def is_bound(self) -> bool:
        return self._state in (State.BOUND, State.RENEWING)

    @property
    def is_resting(self) -> bool:
        return self._state is State.RESTING

    def start(self, now_ns: int) -> None:
        self._fire(Trigger.START, now_ns)

    def rest(self, reason: str, now_ns: int) -> None:
        """Ask and answer nothing until `start`."""
        self._fire(Trigger.REST, now_ns, reason)

    def doubt(self, now_ns: int) -> None:
        """Bind again at once: our own network changed, say."""
        self._fire(Trigger.DOUBT, now_ns)

    def put_ticket(self, ticket: bytes, boot: bytes, now_ns: int) -> None:
        """What control says: the newest ticket, and which start of the relay is running."""
        if ticket == self._ticket and (boot == self._boot or not self.is_bound):
            return
        self._ticket = ticket
        self._fire(Trigger.DOUBT, now_ns)

    def take_outgoing(self) -> list[tuple[Address, bytes]]:
        taken, self._outgoing = self._outgoing, []
        return taken

    def take_notices(self) -> list[BindingNotice]:
        taken, self._notices = self._notices, []
        return taken

    # --- what arrives ---------------------------------------------------------------------------

    def receive(self, datagram: bytes, source: Address, now_ns: int) -> None:
        """A control message from one of the relay's addresses."""
        message = wire.read(datagram)
        if message is None or self._state is State.RESTING:
            return self._drop("relay_message")
        if isinstance(message, wire.Challenge):
            return self._challenged(message, source, now_ns)
        if isinstance(message, wire.Stranger):
            return self._estranged(source, now_ns)
        kind = wire.kind_of(datagram)
        if kind not in (wire.WELCOME, wire.BEATEN) or not wire.is_sealed(datagram, self._keys):
            return self._drop("relay_forged")
        if isinstance(message, wire.Welcome):
            return self._welcomed(message, source, now_ns)
        assert isinstance(message, wire.Beat)
        return self._beaten(message, source, now_ns)

    def _challenged(self, message: wire.Challenge, source: Address, now_ns: int) -> None:
        asked = self._asked.get(message.nonce)
        if asked is None or asked.answered or asked.address != source:
            return self._drop("relay_challenge")
        if self._chosen is not None and self._chosen[0] != source:
            return None  # the other address was faster
        self._measure(now_ns - asked.sent_ns)
        self._chosen = (source, now_ns)
        asked.answered, asked.sent_ns = True, now_ns
        answer = wire.Bind(message.nonce, self._ticket, message.boot, message.cookie)
        return self._put_out(source, wire.answer(answer, self._keys))

    def _welcomed(self, message: wire.Welcome, source: Address, now_ns: int) -> None:
        asked = self._asked.pop(message.nonce, None)
        if asked is None or not asked.answered or asked.address != source:
            return self._drop("relay_welcome")
        self._measure(now_ns - asked.sent_ns)
        self._boot = message.boot
        moved = (self.address, self._observed) != (source, message.observed)
        self.address, self._observed = source, message.observed
        if moved or not self.is_bound:
            took_ns = now_ns - self._began_ns
            self._told_rtt_ns = self.rtt_ns
            self._notices.append(Bound(message.observed, self.rtt_ns, took_ns))
        return self._fire(Trigger.WELCOME, now_ns)

    def _estranged(self, source: Address, now_ns: int) -> None:
        if self._state is not State.BOUND or source != self.address:
            return self._drop("relay_stranger")
        if now_ns - self._renewed_ns < RENEW_SPACING_NS:
            return None  # it will say so again
        return self._fire(Trigger.DOUBT, now_ns)

    def _beaten(self, message: wire.Beat, source: Address, now_ns: int) -> None:
        sent_ns = self._beats.get(message.counter)
        if sent_ns is None or source != self.address or self._state is not State.BOUND:
            return self._drop("relay_beaten")
        self._measure(now_ns - sent_ns)
        self._beats.clear()
        if message.boot != self._boot:
            return self._fire(Trigger.DOUBT, now_ns)
        return self._plan_beat(now_ns)

    def _measure(self, sample_ns: int) -> None:
        self.rtt_ns = sample_ns if not self.rtt_ns else (3 * self.rtt_ns + sample_ns) // 4
        told_ns = self._told_rtt_ns
        if self.is_bound and abs(self.rtt_ns - told_ns) * TOLD_SHARE >= told_ns:
            self._told_rtt_ns = self.rtt_ns
            self._notices.append(Measured(self.rtt_ns))

    # --- time -----------------------------------------------------------------------------------

    def timer(self) -> int | None:
        dues = (self._bind_ns, self._beat_ns, self._deadline_ns)
        return min((due for due in dues if due is not None), default=None)

    def handle_timer(self, now_ns: int) -> None:
        if self._deadline_ns is not None and now_ns >= self._deadline_ns:
            self._fire(Trigger.SILENCE, now_ns, "the relay does not know us any more")
        if self._bind_ns is not None and now_ns >= self._bind_ns:
            self._bind(now_ns)
        if self._beat_ns is not None and now_ns >= self._beat_ns:
            self._beat(now_ns)

    def _bind(self, now_ns: int) -> None:
        if self._chosen is not None and now_ns - self._chosen[1] >= CHOSEN_NS:
            self._chosen = None
        for address in self._addresses:
            nonce = self._random(wire.NONCE_BYTES)
            self._asked[nonce] = _Asked(address, now_ns)
            self._put_out(address, wire.bind(wire.Bind(nonce, self._ticket)))
        while len(self._asked) > ASKED_MAX:
            del self._asked[next(iter(self._asked))]
        self._step += 1
        if self._step < len(BIND_STEPS_NS):
            self._bind_ns = now_ns + BIND_STEPS_NS[self._step] - BIND_STEPS_NS[self._step - 1]
        else:
            again = min(self._step - len(BIND_STEPS_NS), len(BIND_AGAIN_NS) - 1)
            self._bind_ns = now_ns + BIND_AGAIN_NS[again]

    def _beat(self, now_ns: int) -> None:
        if len(self._beats) >= BEATS_LOST:
            return self._fire(Trigger.SILENCE, now_ns, f"{BEATS_LOST} beats without an answer")
        assert self.address is not None
        self._beat_ns = now_ns + (BEAT_AGAIN_NS if self._beats else BEAT_WAIT_NS)
        self._counter += 1
        self._beats[self._counter] = now_ns
        beat = wire.Beat(self._boot, self._counter)
        return self._put_out(self.address, wire.beat(beat, self._keys))

    def _plan_beat(self, now_ns: int) -> None:
        self._beat_ns = now_ns + BEAT_NS + BEAT_SPREAD_NS * self._random(1)[0] // 256

    # --- the table ------------------------------------------------------------------------------

    def _fire(self, trigger: Trigger, now_ns: int, reason: str = "") -> None:
        rule = _RULES.get((self._state, trigger))
        if rule is None:
            return
        self._state, act = rule
        act(self, now_ns, reason)

    def _begin(self, now_ns: int, reason: str) -> None:
        self._began_ns = now_ns
        self._chosen = None
        self._asked.clear()
        self._step = 0
        self._bind(now_ns)

    def _hold(self, now_ns: int, reason: str) -> None:
        self._bind_ns = self._deadline_ns = None
        self._beats.clear()
        self._plan_beat(now_ns)

    def _renew(self, now_ns: int, reason: str) -> None:
        self._renewed_ns = now_ns
        self._beat_ns = None
        self._beats.clear()
        self._deadline_ns = now_ns + RENEW_NS
        self._begin(now_ns, reason)

    def _lose(self, now_ns: int, reason: str) -> None:
        self._let_go(reason)
        self._begin(now_ns, reason)

    def _give_up(self, now_ns: int, reason: str) -> None:
        self._let_go(reason)
        self._asked.clear()
        self._bind_ns = None

    def _forget(self, now_ns: int, reason: str) -> None:
        self._asked.clear()
        self._bind_ns = None

    def _let_go(self, reason: str) -> None:
        self.address = self._observed = None
        self._beat_ns = self._deadline_ns = None
        self._beats.clear()
        self._notices.append(Unbound(reason))

    def _put_out(self, address: Address, datagram: bytes) -> None:
        self._outgoing.append((address, datagram))

    def _drop(self, reason: str) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1


_Act: TypeAlias = Callable[[Binding, int, str], None]

_RULES: dict[tuple[State, Trigger], tuple[State, _Act]] = {
    (State.RESTING, Trigger.START): (State.BINDING, Binding._begin),
    (State.BINDING, Trigger.WELCOME): (State.BOUND, Binding._hold),
    (State.BINDING, Trigger.DOUBT): (State.BINDING, Binding._begin),
    (State.BINDING, Trigger.REST): (State.RESTING, Binding._forget),
    (State.BOUND, Trigger.WELCOME): (State.BOUND, Binding._hold),
    (State.BOUND, Trigger.DOUBT): (State.RENEWING, Binding._renew),
    (State.BOUND, Trigger.SILENCE): (State.BINDING, Binding._lose),
    (State.BOUND, Trigger.REST): (State.RESTING, Binding._give_up),
    (State.RENEWING, Trigger.WELCOME): (State.BOUND, Binding._hold),
    (State.RENEWING, Trigger.SILENCE): (State.BINDING, Binding._lose),
    (State.RENEWING, Trigger.REST): (State.RESTING, Binding._give_up),
}
