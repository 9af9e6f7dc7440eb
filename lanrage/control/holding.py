"""The chain that a member holds, and the part of its records that a server may have to be given.

A server that was away, or lost its data, holds less than its members. Whoever comes first with more
gives it the rest. Of records from before this session only the log knows (`records`); those that
came since are kept here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from lanrage.protocols import partylog
from lanrage.protocols.partylog import Chain, Invalid

Records: TypeAlias = Callable[[int], Awaitable[Sequence[bytes]]]  # those after that position


class Holding:
    def __init__(self, chain: Chain, records: Records | None) -> None:
        self.chain = chain
        self.heads: dict[str, int] = {}  # of records seen since, by hash
        self._records = records
        self._from = chain.length  # position before the first kept record
        self._kept: list[bytes] = []

    def take(self, after: int, records: Sequence[bytes]) -> Sequence[bytes] | str:
        """Those that are new, verified and now held; or what is wrong with them."""
        known = self.chain.length - after
        if known < 0:
            return "it left out a part of the party's history"
        if known and (after < self._from or self._contradicts(after, records)):
            return "it shows another history than the one that we hold"
        fresh = records[known:]
        chain = partylog.extend(self.chain, fresh)
        if isinstance(chain, Invalid):
            return f"it shows a false history: {chain.reason}"
        for number, record in enumerate(fresh, self.chain.length + 1):
            self.heads[partylog.hash_of(record).hex()] = number
        self.chain = chain
        self._kept += fresh
        return fresh

    def _contradicts(self, after: int, records: Sequence[bytes]) -> bool:
        held = self._kept[after - self._from :]
        return any(one != two for one, two in zip(held, records, strict=False))

    def since(self, length: int, limit: int) -> tuple[bytes, ...]:
        """Records after `length`, which must have been reached."""
        assert length >= self._from
        return tuple(self._kept[length - self._from : length - self._from + limit])

    async def continues(self, length: int, head: str) -> str:
        """Whether that is a beginning of our chain, and we can say how it goes on. Empty: yes."""
        if not await self._reach(length):
            return "it has lost a part of the party's history"
        if length == self.chain.length:
            return "" if head == self.chain.head else "it has another history of the party"
        body = partylog.body(self._kept[length - self._from])
        assert body is not None, "only verified records are held"
        return "" if body.prev.hex() == head else "it has another history of the party"

    async def genesis(self) -> bytes | None:
        return self._kept[0] if self.chain.length and await self._reach(0) else None

    async def _reach(self, length: int) -> bool:
        if self._records is None or length >= self._from:
            return self._from <= length <= self.chain.length
        older = await self._records(length)
        if self._from <= length:
            return True  # somebody else was faster
        older = list(older[: self._from - length])
        if len(older) < self._from - length:
            return False
        self._kept = older + self._kept
        self._from = length
        return True
