"""What the log promises to those who append, read and subscribe, one promise a test."""

from __future__ import annotations

import asyncio
import inspect
import resource
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
import pytest_asyncio

from events import codec, log, store
from events.base import Event, Stored
from events.log import FILE_NAME, LOCK_NAME, Log, open_readonly
from events.peer import PeerOffline, PeerOnline
from events.session import SessionCarried
from events.store import Conflict
from lanrage.refusal import Refusal
from tests.events.samples import SAMPLES

APPENDABLE = [event for event in SAMPLES if not isinstance(event, SessionCarried)]


def ids(*numbers: int) -> list[str]:
    return [f"{number:032x}" for number in numbers]


def online(*peers: str) -> list[Event]:
    return [PeerOnline(peer=peer) for peer in peers]


def seqs(rows: object) -> list[int]:
    assert isinstance(rows, (list, tuple)), rows
    return [row.seq for row in rows]


async def opened(folder: Path, session: str = "run-1") -> Log:
    here = await Log.open(folder / FILE_NAME, session=session)
    assert isinstance(here, Log), here
    return here


@pytest_asyncio.fixture
async def here(tmp_path: Path) -> AsyncIterator[Log]:
    opened_log = await opened(tmp_path)
    yield opened_log
    await opened_log.close()


async def _append(here: Log, *peers: str) -> tuple[Stored, ...]:
    rows = await here.append(online(*peers), at=1)
    assert isinstance(rows, tuple), rows
    return rows


async def test_positions_are_gapless_in_the_log_and_in_each_stream(here: Log) -> None:
    rows = await _append(here, "ann", "ben", "ann")
    rows += await _append(here, "ben")
    assert [(row.seq, row.stream, row.version) for row in rows] == [
        (1, "peer/ann", 1),
        (2, "peer/ben", 1),
        (3, "peer/ann", 2),
        (4, "peer/ben", 2),
    ]
    assert here.head == 4
    assert await here.read() == list(rows)


async def test_every_event_type_comes_back_as_it_was(here: Log) -> None:
    rows = await here.append(APPENDABLE, at=1_793_000_000_000)
    assert isinstance(rows, tuple)
    back = await here.read()
    assert [codec.decode(row) for row in back] == APPENDABLE
    assert [bytes(row.data) for row in back] == [codec.encode(event) for event in APPENDABLE]
    assert {(row.at, row.session) for row in back} == {(1_793_000_000_000, "run-1")}


async def test_a_closed_log_opens_again_where_it_was(tmp_path: Path) -> None:
    here = await opened(tmp_path)
    first = await _append(here, "ann")
    await here.close()
    here = await opened(tmp_path, "run-2")
    assert here.head == 1
    second = await _append(here, "ann")
    assert (second[0].seq, second[0].version, second[0].session) == (2, 2, "run-2")
    assert await here.read() == [*first, *second]
    await here.close()


async def test_a_retry_returns_the_first_positions_and_stores_nothing(here: Log) -> None:
    rows = await here.append(online("ann", "ben"), at=1, ids=ids(1, 2), expected={"peer/ann": 0})
    again = await here.append(online("ann", "ben"), at=9, ids=ids(1, 2), expected={"peer/ann": 0})
    assert again == rows
    assert here.head == 2


async def test_what_of_a_retry_is_new_is_stored_beside_what_is_known(here: Log) -> None:
    await here.append(online("ann"), at=1, ids=ids(1))
    mixed = await here.append(online("ben", "ann", "ben"), at=2, ids=ids(2, 1, 2))
    assert seqs(mixed) == [2, 1, 2]
    assert here.head == 2


async def test_a_retry_that_names_one_event_twice_is_still_a_retry(here: Log) -> None:
    rows = await here.append(online("ann", "ann"), at=1, ids=ids(1, 1), expected={"peer/ann": 0})
    again = await here.append(online("ann", "ann"), at=1, ids=ids(1, 1), expected={"peer/ann": 0})
    assert seqs(rows) == seqs(again) == [1, 1]


async def test_versions_are_looked_up_again_when_too_many_are_remembered(
    here: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "STREAMS_MAX", 2)
    for expected in (1, 2, 3):
        rows = await _append(here, *"abcd")
        assert [row.version for row in rows] == [expected] * 4


async def test_two_retries_at_once_store_one_event(here: Log) -> None:
    outcomes = await asyncio.gather(
        *(here.append(online("ann"), at=1, ids=ids(5)) for _ in range(20))
    )
    assert len({seqs(each)[0] for each in outcomes}) == 1
    assert here.head == 1


async def test_an_outdated_version_appends_nothing(here: Log) -> None:
    await _append(here, "ann", "ben")
    outcome = await here.append(online("cyd", "ann"), at=1, expected={"peer/ben": 1, "peer/ann": 0})
    assert outcome == Conflict(stream="peer/ann", expected=0, actual=1)
    assert here.head == 2
    assert isinstance(await here.append(online("ann"), at=1, expected={"peer/ann": 1}), tuple)


async def test_of_writers_racing_for_one_version_exactly_one_wins(here: Log) -> None:
    outcomes = await asyncio.gather(
        *(here.append(online("ann"), at=1, expected={"peer/ann": 0}) for _ in range(50))
    )
    won = [each for each in outcomes if isinstance(each, tuple)]
    assert len(won) == 1
    lost = [each for each in outcomes if isinstance(each, Conflict)]
    assert {each.actual for each in lost} == {1}
    assert len(lost) == 49


async def test_nothing_appended_is_nothing(here: Log) -> None:
    assert await here.append([], at=1) == ()
    assert here.head == 0


async def test_appends_that_wait_for_the_disk_share_one_transaction(here: Log) -> None:
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    await log.in_thread(here._connection, lambda db: db.set_trace_callback(count))
    await asyncio.gather(*(_append(here, f"p{number}") for number in range(300)))
    assert here.head == 300
    assert commits <= 2


async def test_a_cancelled_append_is_stored_all_the_same(here: Log) -> None:
    task = asyncio.create_task(here.append(online("ann"), at=1, ids=ids(1)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seqs(await here.append(online("ann"), at=1, ids=ids(1))) == [1]
    assert here.head == 1


async def test_closing_stores_what_was_asked_for_before(tmp_path: Path) -> None:
    here = await opened(tmp_path)
    tasks = [asyncio.create_task(_append(here, f"p{number}")) for number in range(40)]
    await asyncio.sleep(0)
    await here.close()
    rows = [row for rows in await asyncio.gather(*tasks) for row in rows]
    assert sorted(seqs(rows)) == list(range(1, 41))
    here = await opened(tmp_path)
    assert here.head == 40
    await here.close()


async def test_a_mistake_of_one_caller_does_not_reach_the_others(here: Log) -> None:
    with pytest.raises(AssertionError):
        await here.append([each for each in SAMPLES if isinstance(each, SessionCarried)], at=1)
    with pytest.raises(AssertionError):
        await here.append(online("ann"), at=1, ids=["short"])
    assert seqs(await _append(here, "ann")) == [1]


async def test_too_many_waiting_appends_are_refused(
    here: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "WAITING_MAX", 3)
    outcomes = await asyncio.gather(*(here.append(online("a"), at=1) for _ in range(5)))
    refused = [each.code for each in outcomes if isinstance(each, Refusal)]
    assert refused == ["log_overloaded"] * 2
    assert here.head == 3


async def test_a_transaction_takes_no_more_than_its_limit(
    here: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "GROUP_MAX", 4)
    seen: list[int] = []
    commit = here._commit

    def counted(
        db: sqlite3.Connection, batches: Sequence[store.Batch]
    ) -> tuple[list[store.Outcome], tuple[Stored, ...]]:
        seen.append(sum(len(batch.drafts) for batch in batches))
        return commit(db, batches)

    monkeypatch.setattr(here, "_commit", counted)
    await asyncio.gather(*(_append(here, "a", "b", "c") for _ in range(3)), _append(here, *"abcde"))
    assert max(seen) == 5
    assert seen.count(3) == 3


# --- reading ------------------------------------------------------------------------------------


async def test_reads_are_bounded_and_can_be_narrowed(here: Log) -> None:
    await here.append(APPENDABLE, at=1)
    await here.append([PeerOnline(peer="a"), PeerOffline(peer="a", reason="gone")], at=1)
    last = len(APPENDABLE) + 2
    assert seqs(await here.read(limit=3)) == [1, 2, 3]
    assert seqs(await here.read(2, until=5)) == [3, 4, 5]
    assert seqs(await here.read(last)) == []
    assert seqs(await here.read(0, until=10**9, limit=10**9)) == list(range(1, last + 1))
    peers = await here.read(type_glob="peer.*")
    assert {row.type.split(".")[0] for row in peers} == {"peer"}
    assert len(peers) == sum(event.TYPE.startswith("peer.") for event in APPENDABLE) + 2
    assert seqs(await here.read(type_glob="peer.o*", limit=1, after=last - 2)) == [last - 1]
    assert await here.read(session="another") == []
    assert len(await here.read(session="run-1")) == last


async def test_a_read_larger_than_the_limit_is_cut(
    here: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "READ_MAX", 5)
    await _append(here, *"abcdefgh")
    assert seqs(await here.read(limit=1_000)) == [1, 2, 3, 4, 5]


async def test_a_rare_type_is_found_however_far_it_is(
    here: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []
    select = store.select

    def watched(db: sqlite3.Connection, after: int, until: int, *rest: Any) -> list[Stored]:
        looked_at.append(until - after)
        return select(db, after, until, *rest)

    monkeypatch.setattr(log, "STEP_ROWS", 7)
    monkeypatch.setattr(store, "select", watched)
    await _append(here, *map(str, range(50)))
    await here.append([PeerOffline(peer="a", reason="")], at=1)
    assert seqs(await here.read(type_glob="*.offline")) == [51]
    assert seqs(await here.read(40, limit=9)) == list(range(41, 50))
    assert max(looked_at) == 7  # so that an append need not wait for the whole search


@pytest.mark.parametrize("glob", ["*" * 99 + "x", "[", "[a-", "[^", "' OR 1", "*" * 10_000 + "q"])
async def test_no_glob_does_harm(here: Log, glob: str) -> None:
    await here.append(APPENDABLE, at=1)
    assert await here.read(type_glob=glob) == []


async def test_sessions_are_listed_in_the_order_they_began(tmp_path: Path) -> None:
    for number, name in enumerate(("zeta", "alpha", "zeta"), start=1):
        here = await opened(tmp_path, name)
        await here.append(online("a", "b"), at=number)
        await here.close()
    here = await opened(tmp_path, "new")
    zeta, alpha = await here.sessions()
    assert (zeta.id, zeta.first, zeta.last, zeta.began_at, zeta.last_at) == ("zeta", 1, 6, 1, 3)
    assert (alpha.id, alpha.first, alpha.last) == ("alpha", 3, 4)
    assert seqs(await here.read(session="zeta")) == [1, 2, 5, 6]
    await here.close()


# --- subscribing --------------------------------------------------------------------------------


async def _take(here: Log, after: int, until: int) -> list[int]:
    found: list[int] = []
    async for batch in here.subscribe(after):
        found += seqs(batch)
        if found[-1] >= until:
            break
    return found


async def test_a_subscriber_sees_what_was_and_what_comes_once(here: Log) -> None:
    await _append(here, *"abc")
    early = asyncio.create_task(_take(here, 0, 60))
    middle = asyncio.create_task(_take(here, 2, 60))
    ahead = asyncio.create_task(_take(here, 20, 60))
    for _ in range(57):
        await _append(here, "x")
    assert await early == list(range(1, 61))
    assert await middle == list(range(3, 61))
    assert await ahead == list(range(21, 61))


async def test_subscribers_that_keep_up_share_one_batch(here: Log) -> None:
    streams = [here.subscribe(0) for _ in range(3)]
    firsts = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await asyncio.sleep(0)
    await _append(here, "a", "b")
    one, two, three = [await first for first in firsts]
    assert one is two is three


async def test_a_laggard_costs_no_memory_and_reads_the_database(
    here: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "RECENT_MAX", 16)
    monkeypatch.setattr(log, "CATCH_UP", 10)
    late = here.subscribe(0)
    await _append(here, "first")
    assert seqs(await anext(late)) == [1]
    for _ in range(100):
        await _append(here, "x")
        assert sum(map(len, here._recent)) <= 16
    await _append(here, *map(str, range(30)))
    assert not here._recent  # one batch alone was too much to remember
    found: list[int] = []
    while not found or found[-1] < 131:
        batch = await anext(late)
        assert len(batch) <= 10
        found += seqs(batch)
    assert found == list(range(2, 132))


async def test_whoever_appends_hears_of_it_before_subscribers_do(here: Log) -> None:
    order: list[str] = []

    async def listen() -> None:
        await anext(here.subscribe(0))
        order.append("subscriber")

    async def write() -> None:
        await _append(here, "a")
        order.append("writer")

    await asyncio.gather(listen(), write())
    assert order == ["writer", "subscriber"]


async def test_subscriptions_end_when_the_log_is_closed(tmp_path: Path) -> None:
    here = await opened(tmp_path)
    await _append(here, "a")

    async def all_of_it() -> list[int]:
        return [seq async for batch in here.subscribe(0) for seq in seqs(batch)]

    live = asyncio.create_task(all_of_it())
    await _append(here, "b")
    assert await _take(here, 1, 2) == [2]
    reading = asyncio.create_task(all_of_it())  # in the middle of its first read
    await asyncio.sleep(0)
    await here.close()
    assert await live == [1, 2]
    assert await reading == [1, 2]


async def test_a_subscriber_that_goes_away_disturbs_nobody(here: Log) -> None:
    gone = asyncio.create_task(_take(here, 0, 1))
    stays = asyncio.create_task(_take(here, 0, 1))
    await asyncio.sleep(0)
    gone.cancel()
    await _append(here, "a")
    assert await stays == [1]


# --- one node a directory, and readers beside it -------------------------------------------------


async def test_a_second_node_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    here = await opened(tmp_path)
    second = await Log.open(tmp_path / FILE_NAME, session="run-2")
    assert isinstance(second, Refusal)
    assert second.code == "state_in_use"
    assert str(second) == (
        f"Cannot start: another node uses the state directory {tmp_path}. "
        "Stop it, or choose another directory with --state."
    )
    await here.close()
    third = await opened(tmp_path, "run-3")
    await third.close()


async def test_two_logs_in_one_directory_take_two_locks(tmp_path: Path) -> None:
    here = await opened(tmp_path)
    control = await Log.open(tmp_path / "control.sqlite", session="c", lock="control.lock")
    assert isinstance(control, Log)
    await control.close()
    await here.close()


async def test_a_reader_sees_a_running_node_and_leaves_no_trace(tmp_path: Path) -> None:
    here = await opened(tmp_path)
    rows = await _append(here, "a", "b")
    before = _files(tmp_path)
    reader = await open_readonly(tmp_path / FILE_NAME)
    assert isinstance(reader, log.Reader)
    assert reader.head == 2
    assert await reader.read() == list(rows)
    await _append(here, "c")
    assert seqs(await reader.read()) == [1, 2]  # a picture of when it was opened
    await reader.close()
    assert _files(tmp_path) == before
    await here.close()


async def test_a_reader_of_a_stopped_node_makes_no_file(tmp_path: Path) -> None:
    here = await opened(tmp_path)
    await _append(here, "a", "b")
    await here.close()
    assert _files(tmp_path) == {FILE_NAME, LOCK_NAME}
    before = (tmp_path / FILE_NAME).read_bytes()
    reader = await open_readonly(tmp_path / FILE_NAME)
    assert isinstance(reader, log.Reader)
    assert seqs(await reader.read()) == [1, 2]
    assert [each.id for each in await reader.sessions()] == ["run-1"]
    await reader.close()
    assert _files(tmp_path) == {FILE_NAME, LOCK_NAME}
    assert (tmp_path / FILE_NAME).read_bytes() == before


async def test_where_there_is_no_log_a_reader_says_so(tmp_path: Path) -> None:
    refused = await open_readonly(tmp_path / "none" / FILE_NAME)
    assert isinstance(refused, Refusal)
    assert refused.code == "log_missing"
    assert not _files(tmp_path)


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- what it leans on ---------------------------------------------------------------------------


async def test_nobody_changes_or_deletes_events_not_even_in_a_shell(here: Log) -> None:
    await _append(here, "a")
    shell = sqlite3.connect(here.path)
    for statement in ("UPDATE events SET type = 'x'", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match=r"events (never change|are never)"):
            shell.execute(statement)
        shell.rollback()
    with pytest.raises(sqlite3.IntegrityError):
        shell.execute("INSERT INTO head VALUES(2, 0, 0)")
    shell.close()


async def test_the_payload_reads_as_json_in_a_shell(here: Log) -> None:
    await here.append([PeerOffline(peer="a", reason='"ü')], at=1)
    shell = sqlite3.connect(here.path)
    query = "SELECT typeof(data), json_extract(data, '$.reason') FROM events"
    assert shell.execute(query).fetchall() == [("text", '"ü')]
    shell.close()


async def test_every_commit_is_synced_to_disk(here: Log) -> None:
    def pragmas(db: sqlite3.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "user_version", "application_id")
        return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    full = 2
    found = await log.in_thread(here._connection, pragmas)
    assert found == ["wal", full, store.FORMAT, store.APPLICATION_ID]


async def test_the_private_part_of_aiosqlite_is_as_we_know_it(here: Log) -> None:
    assert list(inspect.signature(aiosqlite.Connection._execute).parameters) == [
        "self",
        "fn",
        "args",
        "kwargs",
    ]

    def work(db: sqlite3.Connection, number: int, *, word: str) -> tuple[object, ...]:
        return type(db), number, word, threading.current_thread()

    kind, number, word, thread = await log.in_thread(here._connection, work, 7, word="x")
    assert (kind, number, word) == (sqlite3.Connection, 7, "x")
    assert thread is not threading.current_thread()


async def test_an_idle_log_uses_no_processor_time(here: Log) -> None:
    listening = asyncio.create_task(_take(here, 0, 1))
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    before = resource.getrusage(resource.RUSAGE_SELF)
    quiet = loop.create_future()
    loop.call_later(0.5, quiet.set_result, None)
    await quiet
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.05
    await _append(here, "a")
    await listening
