"""The log against a list: whatever is done to it in whatever order, it holds what the list holds.

The machine appends, retries, races, cancels, closes, kills and subscribes. A kill is a copy of the
directory taken while the node runs, and a node that opens the copy: what a process that is gone
leaves on disk, without the price of a process.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from events import codec, export
from events.base import Event, Stored, stream_of
from events.log import FILE_NAME, Log
from events.peer import PeerOffline, PeerOnline
from events.store import Conflict, Outcome

T = TypeVar("T")

EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(PeerOnline, peer=st.sampled_from("abc")),
    st.builds(PeerOffline, peer=st.sampled_from("abc"), reason=st.text(max_size=8)),
)
BATCHES = st.lists(EVENTS, min_size=1, max_size=5)
NUMBERS = st.integers(0, 30)  # of ids: few, so that they meet again


class Batch:
    """One append: what is asked for, and what the model says to it."""

    def __init__(
        self, events: list[Event], ids: list[str] | None, expected: dict[str, int]
    ) -> None:
        self.events = events
        self.ids = ids
        self.expected = expected


def _batches() -> st.SearchStrategy[Batch]:
    expected = st.dictionaries(st.sampled_from(["peer/a", "peer/b"]), st.integers(0, 6), max_size=2)

    @st.composite
    def one(draw: st.DrawFn) -> Batch:
        events = draw(BATCHES)
        count = len(events)
        numbers = draw(st.none() | st.lists(NUMBERS, min_size=count, max_size=count))
        ids = None if numbers is None else [f"{number:032x}" for number in numbers]
        return Batch(events, ids, draw(st.one_of(st.just({}), expected)))

    return one()


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.home = Path(tempfile.mkdtemp(prefix="lanrage-machine-"))
        self.runs = 0
        self.model: list[tuple[str, str, bytes, str]] = []  # stream, id, payload, session
        self.subscribers: list[tuple[AsyncIterator[tuple[Stored, ...]], int]] = []
        self.clock = 1

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.open()

    def open(self) -> None:
        self.runs += 1
        opened = self.run(Log.open(self.home / FILE_NAME, session=f"run-{self.runs}"))
        assert isinstance(opened, Log), opened
        self.log = opened

    def versions(self) -> dict[str, int]:
        streams = [stream for stream, *_ in self.model]
        return {stream: streams.count(stream) for stream in streams}

    def expect(self, batch: Batch, outcome: Outcome) -> None:
        """Apply `batch` to the model and compare."""
        ids = batch.ids or []
        known = {id: seq for seq, (_, id, *_) in enumerate(self.model, start=1)}
        wrong = self.conflict(batch.expected)
        if wrong is not None and not (ids and all(id in known for id in ids)):
            assert outcome == wrong
            return
        assert isinstance(outcome, tuple)
        assert len(outcome) == len(batch.events)
        for row, event, id in zip(outcome, batch.events, ids or [""] * len(outcome), strict=False):
            if id in known:
                assert row.seq == known[id]
                continue
            assert not id or row.id == id
            session = self.log.session
            self.model.append((stream_of(event), row.id, codec.encode(event), session))
            known[row.id] = len(self.model)
            assert (row.seq, row.version) == (len(self.model), self.versions()[row.stream])

    def conflict(self, expected: dict[str, int]) -> Conflict | None:
        versions = self.versions()
        for stream, version in expected.items():
            if versions.get(stream, 0) != version:
                actual = versions.get(stream, 0)
                return Conflict(stream=stream, expected=version, actual=actual)
        return None

    async def append(self, batch: Batch) -> Outcome:
        self.clock += 1
        return await self.log.append(
            batch.events, at=self.clock, ids=batch.ids, expected=batch.expected
        )

    @rule(batch=_batches())
    def append_one(self, batch: Batch) -> None:
        self.expect(batch, self.run(self.append(batch)))

    @rule(batches=st.lists(_batches(), min_size=2, max_size=6))
    def append_several_at_once(self, batches: list[Batch]) -> None:
        async def race() -> list[Outcome]:
            return await asyncio.gather(*map(self.append, batches))

        for batch, outcome in zip(batches, self.run(race()), strict=True):
            self.expect(batch, outcome)

    @rule(batch=_batches())
    def append_where_it_was_expected(self, batch: Batch) -> None:
        right = {stream: version for stream, version in self.versions().items() if version}
        batch.expected = right
        self.expect(batch, self.run(self.append(batch)))

    @rule(events=BATCHES, number=st.integers(100, 140))
    def cancel_and_retry(self, events: list[Event], number: int) -> None:
        batch = Batch(events, [f"{number + n:032x}" for n in range(len(events))], {})

        async def cancelled() -> Outcome:
            task = asyncio.ensure_future(self.append(batch))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            return await self.append(batch)

        self.expect(batch, self.run(cancelled()))

    @rule()
    def close_and_open(self) -> None:
        self.run(self.log.close())
        self.subscribers.clear()
        self.open()

    @rule()
    def kill_and_open(self) -> None:
        left, gone = Path(tempfile.mkdtemp(prefix="lanrage-machine-")), self.home
        shutil.copytree(gone, left, dirs_exist_ok=True)
        self.run(self.log.close())
        self.subscribers.clear()
        shutil.rmtree(gone)
        self.home = left
        self.open()

    @precondition(lambda self: len(self.subscribers) < 4)
    @rule(back=st.integers(0, 20))
    def subscribe(self, back: int) -> None:
        after = max(0, len(self.model) - back)
        self.subscribers.append((self.log.subscribe(after), after))

    @precondition(lambda self: self.subscribers)
    @rule(which=st.integers(0, 3))
    def follow(self, which: int) -> None:
        which %= len(self.subscribers)
        stream, after = self.subscribers[which]
        if after == len(self.model):
            return

        async def next_batch() -> tuple[Stored, ...]:
            return await anext(stream)

        rows = self.run(next_batch())
        assert [row.seq for row in rows] == list(range(after + 1, after + 1 + len(rows)))
        self.compare(list(rows))
        self.subscribers[which] = (stream, rows[-1].seq)

    @rule(after=st.integers(0, 40), limit=st.integers(0, 9))
    def read_a_part(self, after: int, limit: int) -> None:
        rows = self.run(self.log.read(after, limit=limit))
        assert len(rows) == min(limit, max(0, len(self.model) - after))
        assert [row.seq for row in rows] == list(range(after + 1, after + 1 + len(rows)))
        self.compare(rows)

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        if self.runs == 0:
            return
        rows = self.run(self.log.read(limit=10_000))
        assert self.log.head == len(rows) == len(self.model)
        self.compare(rows)
        assert export.read_jsonl(export.export_jsonl(rows)) == rows

    def compare(self, rows: list[Stored]) -> None:
        for row in rows:
            found = (row.stream, row.id, bytes(row.data), row.session)
            assert found == self.model[row.seq - 1]

    def teardown(self) -> None:
        if self.runs:
            self.run(self.log.close())
        self.runner.close()
        shutil.rmtree(self.home)


TestLogAgainstAList = Machine.TestCase
TestLogAgainstAList.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, database=None
)
