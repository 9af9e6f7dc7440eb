"""The parties a control server keeps: their chains in memory, their records in the log.

The server verifies what it stores, so that honest members never see a bad record, but nobody
relies on that. It adds the one thing that members cannot do for each other: it looks at a clock
when a join comes in, and turns expired invites away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from events.log import Log
from events.store import Conflict
from lanrage.control.limits import PARTIES_MAX, RECORDS_TOTAL_MAX
from lanrage.control.stored import recorded
from lanrage.protocols import partylog
from lanrage.protocols.partylog import Chain, Invalid
from lanrage.recorded import event_of
from lanrage.refusal import Refusal

T = TypeVar("T")


class Party:
    """One party's chain as stored here, and who waits for news of it."""

    def __init__(self) -> None:
        self.chain: Chain = partylog.EMPTY
        self.records: list[bytes] = []
        self.departed_at: dict[str, int] = {}  # peer -> length of the chain that ends with it
        self.lock = asyncio.Lock()

    def head_at(self, length: int) -> str | None:
        """The head the chain had at that length; None if it never had it."""
        if not 0 <= length <= len(self.records):
            return None
        return partylog.hash_of(self.records[length - 1]).hex() if length else ""

    def add(self, after: Chain, record: bytes) -> None:
        for peer in after.departed.keys() - self.chain.departed.keys():
            self.departed_at[peer] = after.length
        self.chain = after
        self.records.append(record)


class Parties:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._parties: dict[str, Party] = {}
        self._founding = asyncio.Lock()
        self._begun: set[asyncio.Task[Any]] = set()
        self._total = 0  # records of all parties

    async def load(self) -> None:
        """Fold the log. It was verified when it was written."""
        async for event in recorded(self._log):
            party = self._parties.setdefault(event.party, Party())
            after = partylog.apply(party.chain, event.record)
            if after is not party.chain:
                party.add(after, event.record)
                self._total += 1

    def get(self, party: str) -> Party | None:
        return self._parties.get(party)

    async def found(self, record: bytes, now_ms: int) -> Party | Invalid | Refusal:
        """A new party by its genesis; the same genesis again finds the same party."""
        return await self._whole(self._found(record, now_ms))

    async def _found(self, record: bytes, now_ms: int) -> Party | Invalid | Refusal:
        async with self._founding:
            known = self._parties.get(partylog.party_of(record))
            if known is not None:
                return known
            if len(self._parties) >= PARTIES_MAX:
                return Invalid("full", "this control server has no room for another party")
            party = Party()
            founded = await self._add(party, record, now_ms)
            if isinstance(founded, Chain):
                self._parties[founded.party] = party
                return party
            return founded

    async def append(self, party: Party, record: bytes, now_ms: int) -> Chain | Invalid | Refusal:
        """Compare-and-swap: a record that does not follow the head is Invalid("link")."""
        return await self._whole(self._append(party, record, now_ms))

    async def settled(self) -> None:
        """What was begun is finished; then the log may be closed."""
        await asyncio.gather(*self._begun, return_exceptions=True)

    async def _whole(self, change: Coroutine[Any, Any, T]) -> T:
        """A caller that goes away in the middle must not leave log and memory different."""
        task = asyncio.create_task(change)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return await asyncio.shield(task)

    async def _append(self, party: Party, record: bytes, now_ms: int) -> Chain | Invalid | Refusal:
        async with party.lock:
            return await self._add(party, record, now_ms)

    async def _add(self, party: Party, record: bytes, now_ms: int) -> Chain | Invalid | Refusal:
        after = partylog.verify(party.chain, record, now_ms=now_ms)
        if isinstance(after, Invalid):
            return after
        return await self._store(party, [(after, record)], now_ms)

    async def refill(
        self, party: Party, after: int, records: Sequence[bytes], now_ms: int
    ) -> Chain | Invalid | Refusal:
        """What this server missed, or lost, from somebody who kept it: many records, of the past,
        so no clock decides about them. Invalid("diverged") if they contradict what is here."""
        return await self._whole(self._refill(party, after, records, now_ms))

    async def _refill(
        self, party: Party, after: int, records: Sequence[bytes], now_ms: int
    ) -> Chain | Invalid | Refusal:
        async with party.lock:
            known = party.records[after : after + len(records)]
            if after > party.chain.length or list(records[: len(known)]) != known:
                return Invalid("diverged", "this control server has another history")
            chain = party.chain
            steps: list[tuple[Chain, bytes]] = []
            for record in records[len(known) :]:
                result = partylog.verify(chain, record)
                if isinstance(result, Invalid):
                    return result
                chain = result
                steps.append((chain, record))
            return await self._store(party, steps, now_ms) if steps else chain

    async def _store(
        self, party: Party, steps: Sequence[tuple[Chain, bytes]], now_ms: int
    ) -> Chain | Invalid | Refusal:
        if self._total + len(steps) > RECORDS_TOTAL_MAX:
            return Invalid("full", "this control server has no room for more")
        outcome = await self._log.append([event_of(*step) for step in steps], at=now_ms)
        assert not isinstance(outcome, Conflict), "nothing was expected of the streams"
        if isinstance(outcome, Refusal):
            return outcome
        for after, record in steps:
            party.add(after, record)
        self._total += len(steps)
        return party.chain
