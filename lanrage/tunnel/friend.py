"""We as a relay for our own party: members that cannot reach each other meet through us.

No ticket and no registration is needed. A datagram with the number (a, b) is passed on, as it is,
if it came from the address at which *a* has proven to be reached directly, to the one at which *b*
has. So it makes one hop and never two, and nobody who is no member gets anything forwarded. Both
ends find out by probing whether it works, and prefer any other way that is better.

What friends may use of our line is limited for all of them together. A part of that is kept for
probes and handshakes: bulk that meets its limit must not look like a way that is dying.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lanrage.protocols.endpoint import Address

SECOND = 1_000_000_000
PACKETS_PER_S, PACKETS_BURST = 4_000, 1_000
BYTES_PER_S, BYTES_BURST = 2_500_000, 500_000  # 20 Mbit/s
DATA_SHARE = 0.9  # of a burst; the rest is for what is about the path itself
TRANSPORT = 4


@dataclass(slots=True)
class Budget:
    """Tokens: `burst` at once, refilled at `per_s`. A batch is let through while any are left, so
    that large ones are not starved; what it takes beyond must be refilled first."""

    per_s: int
    burst: int
    spent: float = 0.0
    at_ns: int = 0

    def has_left(self, share: float, now_ns: int) -> bool:
        self.spent = max(0.0, self.spent - (now_ns - self.at_ns) * self.per_s / SECOND)
        self.at_ns = now_ns
        return self.spent < share * self.burst


class Friend:
    """`forwarded_packets` counts what was passed on, `drops` what was not, by reason."""

    def __init__(self, send: Callable[[Address, Sequence[bytes]], None]) -> None:
        self.volunteers = True
        self.forwarded_packets = 0
        self.drops: dict[str, int] = {}
        self._send = send
        self._packets = Budget(PACKETS_PER_S, PACKETS_BURST)
        self._bytes = Budget(BYTES_PER_S, BYTES_BURST)

    def forward(self, datagrams: Sequence[bytes], to: Address | None, now_ns: int) -> None:
        """From a member at its proven address, to the proven address of another, if it has one."""
        count = len(datagrams)
        if not self.volunteers:
            return self._drop("friend_unwilling", count)
        if to is None:
            return self._drop("friend_unreached", count)
        share = DATA_SHARE if datagrams[0][0] == TRANSPORT else 1.0
        if not (self._packets.has_left(share, now_ns) and self._bytes.has_left(share, now_ns)):
            return self._drop("friend_budget", count)
        self._packets.spent += count
        self._bytes.spent += sum(map(len, datagrams))
        self.forwarded_packets += count
        return self._send(to, datagrams)

    def _drop(self, reason: str, count: int) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + count
