"""A node killed at any moment starts again and has every event that anybody was told about."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from events import codec
from events.base import Event, Stored
from events.log import FILE_NAME, Log
from tests.events.test_log import opened

KILLS = 15
SEED = 20261123
LONGEST_S = 20.0
ROOT = Path(__file__).parent.parent.parent

WRITER = """
import asyncio, sys
from pathlib import Path
from events.log import Log
from events.peer import PeerOnline

async def write(log, name):
    number = 0
    while True:
        number += 1
        events = [PeerOnline(peer=name)] * (number % 3 + 1)
        rows = await log.append(events, at=number)
        print("".join(f"{row.seq} {row.id}\\n" for row in rows), end="", flush=True)

async def main():
    log = await Log.open(Path(sys.argv[1]), session=sys.argv[2])
    assert isinstance(log, Log), log
    await asyncio.gather(*(write(log, name) for name in "abcdef"))

asyncio.run(main())
"""


def _killed_after(file: Path, session: str, told: int, chance: random.Random) -> dict[int, str]:
    """Run a writer until it told of `told` events, kill it, and return all it told of."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(file), session],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert writer.stdout is not None
    try:
        lines = [writer.stdout.readline() for _ in range(told)]
        if not told:
            _wait_at_most(writer, chance.uniform(0.05, 0.4))
    finally:
        writer.kill()
        rest = writer.stdout.read()
        writer.stdout.close()
        assert writer.wait(LONGEST_S) == -9, "it ended by itself"
    whole = (b"".join(lines) + rest).rpartition(b"\n")[0].split(b"\n")
    return {int(line.split()[0]): line.split()[1].decode() for line in whole if line}


def _wait_at_most(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


async def _check(folder: Path, told: dict[int, str], run: int) -> None:
    here = await opened(folder, f"check-{run}")
    rows = await _all(here)
    assert [row.seq for row in rows] == list(range(1, here.head + 1))
    assert {seq: rows[seq - 1].id for seq in told} == told
    versions: dict[str, int] = {}
    for row in rows:
        versions[row.stream] = versions.get(row.stream, 0) + 1
        assert row.version == versions[row.stream]
        assert isinstance(codec.decode(row), Event)
    await here.close()


async def _all(here: Log) -> list[Stored]:
    rows: list[Stored] = []
    while more := await here.read(len(rows), limit=10_000):
        rows += more
    return rows


async def test_every_event_that_was_told_of_survives_kills_at_random_moments(
    tmp_path: Path,
) -> None:
    chance = random.Random(SEED)
    told: dict[int, str] = {}
    for run in range(KILLS):
        # Every fifth is killed while it starts or opens the log, the others while they write.
        lines = 0 if run % 5 == 4 else chance.randrange(1, 400)
        told |= _killed_after(tmp_path / FILE_NAME, f"run-{run}", lines, chance)
        await _check(tmp_path, told, run)
    assert len(told) > KILLS
    assert {name for name in os.listdir(tmp_path) if name.endswith(".new")} == set()


FAILING = """
import asyncio, sys
from pathlib import Path
from events.log import Log
from events.peer import PeerOnline

async def main():
    log = await Log.open(Path(sys.argv[1]), session="run-1")
    await log.append([PeerOnline(peer="ann")], at=1)
    await asyncio.gather(log.append([PeerOnline(peer="ben")], at=1), fail(log))

async def fail(log):
    globals()["kept"] = log
    raise LookupError("a mistake elsewhere")

asyncio.run(main())
"""


def _run(program: str, file: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", program, str(file)],
        cwd=ROOT,
        capture_output=True,
        timeout=LONGEST_S,
        check=False,
    )


async def test_a_process_that_fails_without_closing_the_log_ends(tmp_path: Path) -> None:
    failed = _run(FAILING, tmp_path / FILE_NAME)
    assert failed.returncode == 1
    assert b"LookupError: a mistake elsewhere" in failed.stderr
    here = await opened(tmp_path)
    assert here.head in (1, 2)
    await here.close()
