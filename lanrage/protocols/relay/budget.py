"""How much one sender may ask for: a token bucket as one number (GCRA, ITU-T I.371).

What is taken moves the time at which all would be paid back; a taker that is more than the burst
ahead of the clock is refused. So a full and an empty bucket need no refilling, and a bucket that
is full can be forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from lanrage.protocols.endpoint import Address

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    per_s: int
    burst: int


class Budget:
    __slots__ = ("_burst_ns", "_paid_ns", "_per_s")

    def __init__(self, rate: Rate, now_ns: int) -> None:
        self._per_s = rate.per_s
        self._burst_ns = rate.burst * SECOND // rate.per_s
        self._paid_ns = now_ns - self._burst_ns

    def take(self, units: int, now_ns: int) -> bool:
        """Take all of them, or none where there are not enough."""
        full_ns = now_ns - self._burst_ns
        since_ns = self._paid_ns if self._paid_ns > full_ns else full_ns
        paid_ns = since_ns + units * SECOND // self._per_s
        if paid_ns > now_ns:
            return False
        self._paid_ns = paid_ns
        return True

    def is_full(self, now_ns: int) -> bool:
        return self._paid_ns <= now_ns - self._burst_ns


class Budgets:
    """One budget a source. The source that came first is forgotten when there are too many: what
    all may take together is what bounds a sender that invents sources."""

    def __init__(self, each: Rate, together: Rate, sources_max: int, now_ns: int) -> None:
        self._each = each
        self._together = Budget(together, now_ns)
        self._sources_max = sources_max
        self._of: dict[str, Budget] = {}

    def take(self, source: Address, now_ns: int) -> bool:
        name = network(source)
        budget = self._of.get(name)
        if budget is None:
            if len(self._of) >= self._sources_max:
                del self._of[next(iter(self._of))]
            budget = self._of[name] = Budget(self._each, now_ns)
        return budget.take(1, now_ns) and self._together.take(1, now_ns)


def network(source: Address) -> str:
    """Who counts as one sender: an IPv4 address, an IPv6 /64, and each port of this computer, since
    behind those are members on other carriers."""
    host, port = source
    if host.startswith("127.") or host == "::1":
        return f"{host} {port}"
    if ":" not in host:
        return host
    return IPv6Address(host).packed[:8].hex()
