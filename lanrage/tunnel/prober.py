"""Pings to one member and their answers: what is sent, what is waited for, what is believed.

A pong counts only for the very ping it answers, from the very place that was pinged, and once. A
member might be hostile and name other people's addresses, so pings to addresses that never answered
are paid from a budget of the member's and one shared by all; relays and friends are named by nobody
but us and cost nothing. Answers have a budget, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lanrage.protocols import probe
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.tunnel.outlet import Bucket, Outlet
from lanrage.tunnel.way import Way

MS = 1_000_000
PROBE_BURST, PROBES_PER_S = 128, 8  # to one member's addresses that never answered
PONG_BURST, PONGS_PER_S = 128, 64
PENDING_MAX = 256
PENDING_NS = 3000 * MS  # an answer later than that counts as lost
NOWHERE: Address = ("0.0.0.0", 0)  # what a pong through somebody says it saw


@dataclass(slots=True)
class Prober:
    keys: probe.Keys
    epoch: bytes
    outlet: Outlet
    searching: bool = False  # we consent to port search
    window: probe.Window = field(default_factory=probe.Window)
    probe_budget: Bucket = field(default_factory=lambda: Bucket(PROBE_BURST, PROBES_PER_S))
    pong_budget: Bucket = field(default_factory=lambda: Bucket(PONG_BURST, PONGS_PER_S))
    sequence: int = 0
    pending: dict[int, tuple[Way, int]] = field(default_factory=dict)  # sequence -> way, sent at

    def ping(self, way: Way, now_ns: int, *, used: bool) -> None:
        """`used`: we send data there."""
        free = way.proven_ns or used or isinstance(way.place, Via)
        if not free and not self._may_try(now_ns):
            return self.outlet.drop("probe_budget")
        self.sequence += 1
        self.pending[self.sequence] = (way, now_ns)
        if len(self.pending) > PENDING_MAX:
            del self.pending[next(iter(self.pending))]
        if not way.unanswered:
            way.asking_ns = now_ns
        way.unanswered += 1
        way.sent_ns = now_ns
        datagram = probe.ping(
            self.keys, self.epoch, self.sequence, used=used, searching=self.searching
        )
        self.outlet.outgoing.append((way.place, datagram))
        return None

    def call(self, place: Place) -> None:
        """A ping whose answer is not waited for: whoever gets it pings back."""
        self.sequence += 1
        datagram = probe.ping(self.keys, self.epoch, self.sequence, searching=self.searching)
        self.outlet.outgoing.append((place, datagram))

    def pong(self, arrived: probe.Probe, source: Place, now_ns: int) -> bool:
        """Answer a ping, if there is any budget left for it."""
        if not self.pong_budget.take(now_ns):
            self.outlet.drop("pong_budget")
            return False
        seen = NOWHERE if isinstance(source, Via) else source
        self.outlet.outgoing.append((source, probe.pong(self.keys, arrived, seen)))
        return True

    def answered(self, arrived: probe.Probe, source: Place) -> tuple[Way, int] | None:
        """The way that this pong proves, and when its ping was sent."""
        pinged = self.pending.get(arrived.sequence) if arrived.epoch == self.epoch else None
        if pinged is None:
            self.outlet.drop("pong_unexpected")
            return None
        if pinged[0].place != source:
            self.outlet.drop("pong_source")  # its own ping will make that source a way
            return None
        del self.pending[arrived.sequence]
        return pinged

    def expire(self, now_ns: int) -> None:
        """Pings too old to be answered are lost ones, if the way was open when they left."""
        while self.pending:
            sequence = next(iter(self.pending))
            way, sent_ns = self.pending[sequence]
            if now_ns - sent_ns < PENDING_NS:
                return
            del self.pending[sequence]
            if way.proven_ns and sent_ns >= way.proven_ns:
                way.note_outcome(False)

    def _may_try(self, now_ns: int) -> bool:
        return self.probe_budget.take(now_ns) and self.outlet.budget.take(now_ns)
