"""The event log against the plain ways to do the same, on the same disk, rows and sync setting.

- `shared`: every event its own aiosqlite `execute` and `commit` on one connection. The tasks then
  commit each other's rows, which is quick, and wrong as soon as an append has two statements.
- `alone`: the same with a lock around the two, so that an append is a transaction.
- `raw`: rows made beforehand, one `executemany` in one transaction: what SQLite can do at all.
- `decode`: a loop that only decodes payloads already in memory.

Rounds alternate between the ways and the median counts, since other programs share the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite
import msgspec

from events import codec, file, store
from events.base import Event, Stored
from events.log import FILE_NAME, Log
from events.path import PathQuality, PathSwitched
from projections import mesh

WRITERS = 64
EVENTS = 6_400  # of 64 writers, one an append
MANY = 50_000  # to replay
STEP = 10_000  # in one append or read
ROUNDS = 5

OLD = PathQuality(kind="relay", address="203.0.113.5:3478", rtt_us=88_000)
NEW = PathQuality(kind="direct", address="198.51.100.7:26666", rtt_us=41_000)


def event(number: int) -> Event:
    return PathSwitched(peer=f"peer{number % WRITERS}", old=OLD, new=NEW, reason="lower rtt")


async def writers(folder: Path) -> float:
    """Durable appends a second, one event each, of 64 at once."""
    log = await opened(folder)

    async def write(first: int) -> None:
        for number in range(first, EVENTS, WRITERS):
            await log.append([event(number)], at=number)

    seconds = await timed(lambda: asyncio.gather(*map(write, range(WRITERS))))
    assert log.head == EVENTS
    await log.close()
    return EVENTS / seconds


async def shared(folder: Path) -> float:
    return await naive(folder, contextlib.nullcontext(), EVENTS)


async def alone(folder: Path) -> float:
    return await naive(folder, asyncio.Lock(), EVENTS // 4)


async def naive(
    folder: Path, turn: contextlib.AbstractAsyncContextManager[None], count: int
) -> float:
    """The same with a statement and a commit of its own for each event."""
    file._create(folder / FILE_NAME)
    db = await aiosqlite.connect(folder / FILE_NAME)
    await db.execute("PRAGMA synchronous = FULL")

    async def write(first: int) -> None:
        for number in range(first, count, WRITERS):
            row = rows(1, after=number)[0]
            async with turn:
                await db.execute(store._INSERT, row)
                await db.commit()

    seconds = await timed(lambda: asyncio.gather(*map(write, range(WRITERS))))
    await db.close()
    return count / seconds


async def bulk(folder: Path) -> float:
    """Events a second from structs to disk, in one append."""
    log = await opened(folder)
    events = [event(number) for number in range(STEP)]
    seconds = await timed(lambda: log.append(events, at=1))
    await log.close()
    return STEP / seconds


async def raw(folder: Path) -> float:
    """Finished rows a second into the same table."""
    file._create(folder / FILE_NAME)
    ready = rows(STEP)
    db = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
    db.execute("PRAGMA synchronous = FULL")

    async def write() -> None:
        db.execute("BEGIN")
        db.executemany(store._INSERT, ready)
        db.execute("COMMIT")

    seconds = await timed(write)
    db.close()
    return STEP / seconds


def rows(count: int, after: int = 0) -> list[tuple[Any, ...]]:
    made = []
    for number in range(after, after + count):
        data = codec.encode(event(number))
        id = f"{number:032x}"
        stream = f"path/peer{number % WRITERS}"
        version = number // WRITERS + 1
        made.append((number + 1, stream, version, id, "path.switched", number, "run", data, 0))
    return made


async def replay(folder: Path) -> dict[str, float]:
    """Events a second: read and decoded, the same and folded, and decoded alone."""
    log = await opened(folder)
    events = [event(number) for number in range(MANY)]
    for at in range(0, MANY, STEP):
        await log.append(events[at : at + STEP], at=at)

    async def read(each: Callable[[Stored], object]) -> None:
        after = 0
        while batch := await log.read(after, limit=STEP):
            for row in batch:
                each(row)
            after = batch[-1].seq

    state = [mesh.EMPTY]

    def fold(row: Stored) -> None:
        state[0] = mesh.fold(state[0], row)

    payloads = [codec.encode(each) for each in events]
    decoder = msgspec.json.Decoder(PathSwitched)

    async def bare() -> None:
        for payload in payloads:
            decoder.decode(payload)

    found = {
        "replay": MANY / await timed(lambda: read(codec.decode)),
        "replay_and_fold": MANY / await timed(lambda: read(fold)),
        "decode": MANY / await timed(bare),
    }
    await log.close()
    return found


async def opened(folder: Path) -> Log:
    log = await Log.open(folder / FILE_NAME, session="run")
    assert isinstance(log, Log), log
    return log


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def measure() -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for way in (writers, shared, alone, bulk, raw):
            with tempfile.TemporaryDirectory(prefix="lanrage-bench-") as folder:
                figures.setdefault(way.__name__, []).append(await way(Path(folder)))
        with tempfile.TemporaryDirectory(prefix="lanrage-bench-") as folder:
            for name, rate in (await replay(Path(folder))).items():
                figures.setdefault(name, []).append(rate)
    return figures


def main() -> dict[str, float]:
    rates = {name: statistics.median(each) for name, each in asyncio.run(measure()).items()}
    figures: dict[str, float] = {f"{name}_per_s": round(rate) for name, rate in rates.items()}
    figures["writers_to_shared_ratio"] = round(rates["writers"] / rates["shared"], 2)
    figures["writers_to_alone_ratio"] = round(rates["writers"] / rates["alone"], 2)
    figures["bulk_to_raw_ratio"] = round(rates["bulk"] / rates["raw"], 2)
    figures["replay_to_decode_ratio"] = round(rates["replay"] / rates["decode"], 2)
    for name, value in figures.items():
        print(f"{name:<34} {value:>12,}")
    return figures


if __name__ == "__main__":
    main()
