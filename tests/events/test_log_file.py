"""Whatever became of the file: a log that opens is right, one that cannot says why in a line."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events import export, log, store
from events.base import Stored
from events.log import FILE_NAME, Log, Reader, open_readonly
from events.peer import PeerOnline
from lanrage.refusal import Refusal
from tests.events.test_log import APPENDABLE, online, opened, seqs

WAL = FILE_NAME + "-wal"
SHM = FILE_NAME + "-shm"


async def _made(folder: Path, batches: int = 6) -> list[Stored]:
    """A closed log of some batches."""
    here = await opened(folder)
    for _ in range(batches):
        assert isinstance(await here.append(APPENDABLE, at=1), tuple)
    rows = await here.read()
    await here.close()
    return rows


async def _refused(folder: Path) -> Refusal:
    """The refusal of a node; a reader's is the same, and neither changes the file."""
    before = _contents(folder)
    refusal = await Log.open(folder / FILE_NAME, session="run-2")
    assert isinstance(refusal, Refusal)
    assert "\n" not in str(refusal)
    assert refusal.fix
    assert await open_readonly(folder / FILE_NAME) == refusal
    assert _contents(folder) == before
    return refusal


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.name.endswith((".sqlite", "-wal"))
    }


def _poke(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


async def test_a_log_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    await _made(tmp_path)
    _poke(tmp_path / FILE_NAME, 60, (store.FORMAT + 6).to_bytes(4, "big"))
    refusal = await _refused(tmp_path)
    assert refusal.code == "log_newer"
    assert str(refusal) == (
        f"Cannot open the event log: {tmp_path / FILE_NAME} has format 7 and this LANrage knows 1. "
        "Update LANrage."
    )


@pytest.mark.parametrize("content", [b"hello, I am a diary\n" * 99, b"x"])
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert (await _refused(tmp_path)).code == "log_foreign"


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / FILE_NAME)
    db.execute("CREATE TABLE diary(day)")
    db.close()
    assert (await _refused(tmp_path)).code == "log_foreign"


@pytest.mark.parametrize("left", [0, 1, 50, 99, 100, 4096, 40_000])
async def test_a_file_cut_short_is_refused(tmp_path: Path, left: int) -> None:
    await _made(tmp_path)
    os.truncate(tmp_path / FILE_NAME, left)
    refusal = await _refused(tmp_path)
    assert refusal.code == "log_cut"
    assert f"is cut short ({left} of" in refusal.why


async def test_a_wal_whose_log_is_gone_is_not_taken_for_a_new_log(tmp_path: Path) -> None:
    (tmp_path / WAL).write_bytes(b"something")
    refusal = await Log.open(tmp_path / FILE_NAME, session="run-1")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "log_damaged"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET data = replace(data, '41250', '41251')",
        "UPDATE events SET at = at + 1 WHERE seq = 9",
        "DELETE FROM events WHERE seq = 30",
        "DELETE FROM events WHERE seq > 100",
        "UPDATE head SET seq = seq - 1",
        "UPDATE head SET crc = crc + 1",
        "DELETE FROM head",
    ],
)
async def test_rows_changed_behind_our_back_are_found(tmp_path: Path, statement: str) -> None:
    await _made(tmp_path)
    db = sqlite3.connect(tmp_path / FILE_NAME)
    for trigger in ("events_fixed", "events_kept"):
        db.execute(f"DROP TRIGGER {trigger}")
    db.execute(statement)
    for trigger in ("events_fixed", "events_kept"):
        db.execute(store.SCHEMA[trigger])
    db.commit()
    db.close()
    assert (await _refused(tmp_path)).code == "log_damaged"


async def test_a_log_without_its_triggers_is_refused(tmp_path: Path) -> None:
    await _made(tmp_path)
    db = sqlite3.connect(tmp_path / FILE_NAME)
    db.execute("DROP TRIGGER events_kept")
    db.close()
    assert "events_kept is not as it was made" in (await _refused(tmp_path)).why


async def test_something_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    refusal = await _refused(tmp_path)
    assert refusal.code == "log_unreadable"
    assert "is a directory" in refusal.why


async def test_a_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    refusal = await Log.open(tmp_path / "state" / FILE_NAME, session="run-1")
    assert isinstance(refusal, Refusal)
    assert refusal.what == "Cannot use the state directory"


async def test_a_missing_state_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    here = await Log.open(tmp_path / "a" / "b" / FILE_NAME, session="run-1")
    assert isinstance(here, Log)
    await here.append(online("ann"), at=1)
    modes = {path.name: path.stat().st_mode & 0o77 for path in (tmp_path / "a" / "b").iterdir()}
    assert set(modes.values()) == {0}, modes
    await here.close()


async def test_what_was_left_of_making_a_log_does_not_hinder(tmp_path: Path) -> None:
    (tmp_path / (FILE_NAME + ".new")).write_bytes(b"half")
    (tmp_path / (FILE_NAME + ".new-wal")).write_bytes(b"half")
    here = await opened(tmp_path)
    assert seqs(await here.append(online("ann"), at=1)) == [1]
    await here.close()


async def test_a_shell_that_holds_the_file_refuses_an_append_and_no_more(tmp_path: Path) -> None:
    here = await opened(tmp_path)

    def impatient(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA busy_timeout = 20")

    await log.in_thread(here._connection, impatient)
    shell = sqlite3.connect(tmp_path / FILE_NAME)
    shell.execute("BEGIN IMMEDIATE")
    refusal = await here.append(online("ann"), at=1)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "log_busy"
    shell.rollback()
    shell.close()
    assert seqs(await here.append(online("ann"), at=1)) == [1]
    await here.close()


# --- damage at any place ------------------------------------------------------------------------


async def _opens_whole_or_not_at_all(folder: Path, rows: list[Stored], commits: set[int]) -> int:
    """A node on a damaged file holds the first of `rows` up to a commit and goes on from there, or
    is refused; then -1."""
    here = await Log.open(folder / FILE_NAME, session="after")
    if isinstance(here, Refusal):
        assert here.code in ("log_damaged", "log_cut", "log_foreign", "log_newer", "log_unreadable")
        return -1
    try:
        found = await here.read(limit=10_000)
        assert found == rows[: len(found)]
        assert len(found) in commits
        assert seqs(await here.append(online("next"), at=1)) == [len(found) + 1]
    finally:
        await here.close()
    return len(found)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Stored]]:
    """What a killed node leaves: the file, and most events only in the WAL. Never written to."""
    folder = tmp_path_factory.mktemp("killed")

    async def make() -> list[Stored]:
        live = folder / "live"
        here = await opened(live)
        for number in range(30):
            await here.append(online(*"abcde"[: number % 5 + 1]), at=number)
        rows = await here.read()
        shutil.copytree(live, folder / "left")
        await here.close()
        return rows

    return folder / "left", asyncio.run(make())


COMMITS = {0} | {sum(n % 5 + 1 for n in range(upto)) for upto in range(31)}


async def _after_damage(
    killed: tuple[Path, list[Stored]], folder: Path, cut: int | None, flips: list[tuple[int, int]]
) -> int:
    left, rows = killed
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(left, folder)
    wal = folder / WAL
    damaged = bytearray(wal.read_bytes()[:cut])
    for at, bit in flips:
        if damaged:
            damaged[at % len(damaged)] ^= 1 << bit
    wal.write_bytes(damaged)
    return await _opens_whole_or_not_at_all(folder, rows, COMMITS)


DAMAGE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@DAMAGE
@given(st.integers(0, 200_000))
async def test_a_wal_cut_anywhere_gives_a_prefix_that_ends_with_a_commit(
    killed: tuple[Path, list[Stored]], tmp_path: Path, cut: int
) -> None:
    found = await _after_damage(killed, tmp_path / "state", cut, [])
    assert found >= 0  # what a crash can do is never refused
    if cut >= (killed[0] / WAL).stat().st_size:
        assert found == len(killed[1])


@DAMAGE
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 7)), min_size=1, max_size=4))
async def test_a_wal_with_flipped_bits_gives_a_prefix_that_ends_with_a_commit(
    killed: tuple[Path, list[Stored]], tmp_path: Path, flips: list[tuple[int, int]]
) -> None:
    await _after_damage(killed, tmp_path / "state", None, flips)


async def test_damage_in_the_last_commit_of_a_wal_loses_that_alone(
    killed: tuple[Path, list[Stored]], tmp_path: Path
) -> None:
    size = (killed[0] / WAL).stat().st_size
    found = await _after_damage(killed, tmp_path / "state", None, [(size - 100, 3)])
    assert found == max(COMMITS - {len(killed[1])})


@DAMAGE
@given(st.integers(0, 10**9), st.integers(0, 7))
async def test_a_flipped_bit_in_the_file_is_refused_or_harmless(
    closed: tuple[Path, list[Stored]], tmp_path: Path, at: int, bit: int
) -> None:
    left, rows = closed
    folder = tmp_path / "state"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(left, folder)
    content = (folder / FILE_NAME).read_bytes()
    at %= len(content)
    _poke(folder / FILE_NAME, at, bytes([content[at] ^ (1 << bit)]))
    await _opens_whole_or_not_at_all(folder, rows, {len(rows)})


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Stored]]:
    folder = tmp_path_factory.mktemp("closed")
    return folder, asyncio.run(_made(folder))


@pytest.mark.parametrize("shm", ["kept", "lost", "garbage"])
async def test_a_killed_nodes_log_is_read_with_its_wal_and_not_touched(
    killed: tuple[Path, list[Stored]], tmp_path: Path, shm: str
) -> None:
    left, rows = killed
    folder = tmp_path / "state"
    shutil.copytree(left, folder)
    if shm == "lost":
        (folder / SHM).unlink()
    if shm == "garbage":
        (folder / SHM).write_bytes(os.urandom(32_768))
    before, names = _contents(folder), sorted(os.listdir(folder))
    reader = await open_readonly(folder / FILE_NAME)
    assert isinstance(reader, Reader), reader
    found = await reader.read()
    await reader.close()
    assert found == rows
    assert export.export_jsonl(found) == export.export_jsonl(rows)
    assert (_contents(folder), sorted(os.listdir(folder))) == (before, names)


# --- a full disk --------------------------------------------------------------------------------


async def test_a_full_file_refuses_whole_appends_until_there_is_space(tmp_path: Path) -> None:
    here = await opened(tmp_path)
    await here.append(online("first"), at=1)

    def allow(db: sqlite3.Connection, pages: int) -> None:
        db.execute(f"PRAGMA max_page_count = {pages}")

    await log.in_thread(here._connection, allow, 1)  # SQLite takes it as: no more than now
    many = [PeerOnline(peer=f"p{number}") for number in range(2_000)]
    refusal = await here.append(many, at=1)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "disk_full"
    assert here.head == 1
    assert seqs(await here.read()) == [1]
    await log.in_thread(here._connection, allow, 100_000)
    rows = await here.append(many, at=1)
    assert seqs(rows) == list(range(2, 2_002))
    assert {row.version for row in await here.read(1, limit=2_000)} == {1}
    await here.close()
    here = await opened(tmp_path)
    assert here.head == 2_001
    await here.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "lanrage-test", str(disk)], check=True
    )
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.root
async def test_a_really_full_disk_loses_nothing_and_the_log_goes_on(small_disk: Path) -> None:
    here = await opened(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(200_000))
    stored, refusal = 0, None
    while refusal is None:
        outcome = await here.append(APPENDABLE, at=1)
        if isinstance(outcome, Refusal):
            refusal = outcome
        else:
            stored += len(seqs(outcome))
    assert refusal.code == "disk_full"
    assert str(refusal) == (
        f"Cannot store what happened: the disk that holds {small_disk / FILE_NAME} is full. "
        "Free some space; nothing already stored is lost."
    )
    assert len(await here.read(limit=10_000)) == here.head == stored
    ballast.unlink()
    assert seqs(await here.append(online("ann"), at=1)) == [stored + 1]
    await here.close()
    here = await opened(small_disk)
    assert here.head == stored + 1
    await here.close()


@pytest.mark.root
async def test_no_log_is_made_on_a_full_disk(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(bytes(600_000))
    refusal = await Log.open(small_disk / FILE_NAME, session="run-1")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "disk_full"
    assert not (small_disk / FILE_NAME).exists()
    (small_disk / "ballast").unlink()
    here = await opened(small_disk)
    await here.close()


@pytest.mark.root
async def test_a_log_on_a_disk_that_filled_up_says_so_or_opens(small_disk: Path) -> None:
    here = await opened(small_disk)
    await here.append(online("ann"), at=1)
    await here.close()
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(bytes(600_000))
    outcome = await Log.open(small_disk / FILE_NAME, session="run-2")
    if isinstance(outcome, Log):
        refusal = await outcome.append(online("ben"), at=1)
        await outcome.close()
    else:
        refusal = outcome
    assert isinstance(refusal, Refusal)
    assert refusal.code == "disk_full"
    reader = await open_readonly(small_disk / FILE_NAME)
    assert isinstance(reader, Reader)
    assert seqs(await reader.read()) == [1]
    await reader.close()
