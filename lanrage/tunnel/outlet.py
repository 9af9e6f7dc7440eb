"""Where the parts of the path core leave what they want sent, told and counted, and what they may
spend on addresses that nobody vouches for.

The lists are emptied after every wake-up of the loop, so one turn's datagrams bound their length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from lanrage.protocols.endpoint import Place
from lanrage.tunnel.messages import (
    Doubted,
    Lost,
    Mapped,
    Opened,
    Probing,
    Switched,
    Trusted,
    Unmapped,
    Unreachable,
)

PathNotice: TypeAlias = (
    Probing | Opened | Switched | Lost | Doubted | Trusted | Unreachable | Mapped | Unmapped
)

BUDGET_BURST = 1024  # probes to addresses that never answered, over all members
BUDGET_PER_S = 128


@dataclass(slots=True)
class Bucket:
    """Tokens: `burst` at once, refilled at `per_s`."""

    burst: int
    per_s: int
    spent: float = 0.0
    at_ns: int = 0

    def take(self, now_ns: int) -> bool:
        self.spent = max(0.0, self.spent - (now_ns - self.at_ns) * self.per_s / 1e9)
        self.at_ns = now_ns
        if self.spent + 1 > self.burst:
            return False
        self.spent += 1
        return True


@dataclass(slots=True)
class Outlet:
    random: Callable[[int], bytes]
    outgoing: list[tuple[Place, bytes]] = field(default_factory=list)
    notices: list[PathNotice] = field(default_factory=list)
    drops: dict[str, int] = field(default_factory=dict)
    budget: Bucket = field(default_factory=lambda: Bucket(BUDGET_BURST, BUDGET_PER_S))

    def drop(self, reason: str) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1
