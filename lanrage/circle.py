"""The rules of gossip among members whose tunnels are up. Pure; `gossip` is its shell.

**Heads** are told to a member when its tunnel comes up, to all whenever our chain or our connection
to control changes, and else now and then: more often while control is away, since then nothing else
would show that somebody has a longer chain.

**Records.** Who hears of a longer chain asks for the rest, page by page, and verifies it as if it
came from control. A chain of the same length with another head, or records that do not continue
ours, are a split history: told once for each member, and nothing of it is taken.

**Signals** go directly to a member with a tunnel. While control is away one without may be reached
through others: up to `PASSERS_MAX` get it, and each passes it on once, to the one it is for. What a
signal says is sealed and signed, so whoever passes it can only drop or repeat it; repetitions are
told by their id.

A member can make us answer only so often: every one has its own budgets.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

from lanrage.control.limits import Bucket
from lanrage.control.notices import Diverged, Records, SignalArrived
from lanrage.protocols import gossip, partylog
from lanrage.protocols.partylog import EMPTY, Chain, Invalid

S: Final = 1_000_000_000
ALONE_NS: Final = 20 * S  # between heads while control is away
USUAL_NS: Final = 120 * S
WANT_NS: Final = 1 * S  # until a Want is repeated
WANTS_MAX: Final = 4  # Wants without an answer; the next Heads begin anew
PASSERS_MAX: Final = 4
SEEN_MAX: Final = 1_024  # ids of signals
FRAMES_PER_S: Final = 20.0  # from one member
FRAMES_BURST: Final = 60.0
PASSED_PER_S: Final = 1.0  # signals passed on for one member
PASSED_BURST: Final = 20.0


class Asked(msgspec.Struct, frozen=True):
    """A member lacks the records after this position: answer with `give`."""

    peer: str
    after: int


Notice: TypeAlias = Records | Diverged | SignalArrived | Asked


class _Other:
    """A member with a tunnel to us."""

    def __init__(self, now_s: float) -> None:
        self.heads: gossip.Heads | None = None
        self.diverged: gossip.Heads | None = None  # told of these
        self.wants = 0  # asked without an answer
        self.want_ns: int | None = None  # when to ask again
        self.frames = Bucket(FRAMES_PER_S, FRAMES_BURST, now_s)
        self.passed = Bucket(PASSED_PER_S, PASSED_BURST, now_s)


class Circle:
    """`random(n)` gives n unpredictable bytes. `drops` counts by reason."""

    def __init__(self, own: str, random: Callable[[int], bytes]) -> None:
        self.drops: dict[str, int] = {}
        self._own = own
        self._random = random
        self._chain = EMPTY
        self._control = False
        self._others: dict[str, _Other] = {}
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._heads_ns: int | None = None
        self._outgoing: list[tuple[str, bytes]] = []
        self._notices: list[Notice] = []

    @property
    def control_elsewhere(self) -> bool:
        """Whether a member with a tunnel to us says that it is connected to control."""
        return any(each.heads and each.heads.control for each in self._others.values())

    def take_outgoing(self) -> list[tuple[str, bytes]]:
        taken, self._outgoing = self._outgoing, []
        return taken

    def take_notices(self) -> list[Notice]:
        taken, self._notices = self._notices, []
        return taken

    # --- what we know ---------------------------------------------------------------------------

    def know(self, chain: Chain, control: bool, now_ns: int) -> None:
        """Our chain, and whether we are connected to control. Call it as often as you like."""
        if chain.party == self._chain.party and chain.length < self._chain.length:
            chain = self._chain  # what was heard here is on its way into it
        if (chain.head, control) == (self._chain.head, self._control):
            return
        if chain.party != self._chain.party:
            self._others = {peer: _Other(now_ns / S) for peer in self._others}
        self._chain, self._control = chain, control
        self._tell_all(now_ns)

    def connect(self, peers: Iterable[str], now_ns: int) -> None:
        """These members have tunnels to us, and no others."""
        now = {peer for peer in peers if peer != self._own}
        for peer in [peer for peer in self._others if peer not in now]:
            del self._others[peer]
        for peer in sorted(now - self._others.keys()):
            self._others[peer] = _Other(now_ns / S)
            self._say(peer, self._heads())
        if self._heads_ns is None and self._others:
            self._heads_ns = now_ns + self._period_ns()

    def give(self, peer: str, after: int, records: Sequence[bytes]) -> None:
        """The answer to `Asked`."""
        page = gossip.page(records)
        if page and peer in self._others:
            self._say(peer, gossip.Records(after, page))

    def signal(self, to: str, sealed: bytes) -> bool:
        """Whether it was sent: directly, or to those who may pass it on."""
        if len(sealed) > gossip.SIGNAL_MAX:
            return False
        ways = [to] if to in self._others else []
        if not ways and not self._control:
            ways = sorted(self._others)[:PASSERS_MAX]
        frame = gossip.Signal(self._random(gossip.SIGNAL_ID), self._own, to, 0, sealed)
        for way in ways:
            self._say(way, frame)
        return bool(ways)

    # --- what arrives ---------------------------------------------------------------------------

    def receive(self, peer: str, datagram: bytes, now_ns: int) -> None:
        """From the member whose address it came from."""
        other = self._others.get(peer)
        if other is None or not self._chain.party:
            return self._drop("gossip_stranger")
        if not other.frames.take(now_ns / S):
            return self._drop("gossip_flood")
        match gossip.decode(datagram):
            case gossip.Heads() as heads:
                self._on_heads(peer, other, heads, now_ns)
            case gossip.Want(after=after):
                if after < self._chain.length:
                    self._notices.append(Asked(peer, after))
            case gossip.Records(after=after, records=records):
                self._on_records(peer, other, after, records, now_ns)
            case gossip.Signal() as signal:
                self._on_signal(peer, other, signal, now_ns)
            case None:
                self._drop("gossip_garbage")

    def _on_heads(self, peer: str, other: _Other, heads: gossip.Heads, now_ns: int) -> None:
        other.heads = heads
        if heads.length > self._chain.length:
            if other.want_ns is None:
                other.wants = 0
                self._want(peer, other, now_ns)
        elif heads.length < self._chain.length:
            self._say(peer, self._heads())  # it will ask
        elif heads.head != self._chain.head:
            self._diverged(peer, other)

    def _on_records(
        self, peer: str, other: _Other, after: int, records: tuple[bytes, ...], now_ns: int
    ) -> None:
        known = self._chain.length - after
        if other.want_ns is None or known < 0:
            return self._drop("gossip_unasked")
        fresh = records[known:]
        if not fresh:
            return None  # a page that came twice
        other.want_ns = None
        chain = partylog.extend(self._chain, fresh)
        if isinstance(chain, Invalid):
            return self._diverged(peer, other)
        self._notices.append(Records(self._chain.party, self._chain.length, fresh))
        self._chain = chain
        if other.heads is not None and other.heads.length > chain.length:
            other.wants = 0
            return self._want(peer, other, now_ns)
        return self._tell_all(now_ns)

    def _on_signal(self, peer: str, other: _Other, signal: gossip.Signal, now_ns: int) -> None:
        if signal.sender not in self._chain.members or (signal.hops == 0 and signal.sender != peer):
            return self._drop("gossip_sender")
        if signal.id in self._seen:
            return None
        self._seen[signal.id] = None
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        if signal.to == self._own:
            return self._notices.append(SignalArrived(signal.sender, signal.sealed))
        if signal.hops or signal.to not in self._others or not other.passed.take(now_ns / S):
            return self._drop("gossip_not_passed")
        return self._say(signal.to, msgspec.structs.replace(signal, hops=1))

    def _diverged(self, peer: str, other: _Other) -> None:
        other.want_ns = None
        if other.diverged == other.heads:
            return
        other.diverged = other.heads
        member = self._chain.members.get(peer)
        name = member.name if member is not None else peer[:8]
        self._notices.append(
            Diverged(peer, f"{name} holds another history of the party than this computer")
        )

    # --- time -----------------------------------------------------------------------------------

    def timer(self) -> int | None:
        dues = [self._heads_ns, *(each.want_ns for each in self._others.values())]
        return min((due for due in dues if due is not None), default=None)

    def handle_timer(self, now_ns: int) -> None:
        if self._heads_ns is not None and now_ns >= self._heads_ns:
            self._tell_all(now_ns)
        for peer, other in self._others.items():
            if other.want_ns is not None and now_ns >= other.want_ns:
                self._want(peer, other, now_ns)

    def _want(self, peer: str, other: _Other, now_ns: int) -> None:
        if other.wants >= WANTS_MAX:
            other.want_ns = None
            return
        other.wants += 1
        other.want_ns = now_ns + WANT_NS
        self._say(peer, gossip.Want(self._chain.length))

    def _tell_all(self, now_ns: int) -> None:
        for peer in self._others:
            self._say(peer, self._heads())
        self._heads_ns = now_ns + self._period_ns() if self._others else None

    def _period_ns(self) -> int:
        return USUAL_NS if self._control else ALONE_NS

    def _heads(self) -> gossip.Heads:
        return gossip.Heads(self._chain.length, self._chain.head, self._control)

    def _say(self, peer: str, frame: gossip.Frame) -> None:
        self._outgoing.append((peer, gossip.encode(frame)))

    def _drop(self, reason: str) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1
