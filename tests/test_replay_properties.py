"""Whatever a node lived through, its log tells it again: every prefix, every session, any process.

Random lives go through the same `decide`, fold and log as the node's, with retries of appends,
closings and kills in between. What the live node saw after each event is written down, and must be
what a replay of the log up to there says, byte for byte.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from events import codec, export
from events.base import Stored
from events.codec import Unknown
from events.log import Reader, open_readonly
from projections import mesh
from tests.random_story import KINDS, RETRY, Life, Step, all_rows

ROOT = Path(__file__).parent.parent
SMALL = st.integers(0, 9)
STEPS = st.lists(st.tuples(st.integers(0, KINDS - 1), SMALL, SMALL), max_size=40)
ENTER: Step = (0, 2, 0)  # a party of three, so that most of what follows means something


async def _lived(folder: Path, steps: list[Step]) -> tuple[Life, list[Stored]]:
    life = Life(folder)
    await life.play(steps)
    reader = await open_readonly(life.path)
    assert isinstance(reader, Reader), reader
    rows = await all_rows(reader)
    await reader.close()
    return life, rows


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_every_prefix_of_a_log_replays_to_what_the_live_node_saw_there(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory(prefix="lanrage-life-") as folder:
        life, rows = asyncio.run(_lived(Path(folder), [ENTER, *steps]))
    state = mesh.EMPTY
    for row in rows:
        assert not isinstance(codec.decode(row), Unknown)
        state = mesh.fold(state, row)
        assert mesh.canonical(state) == life.seen[row.seq]
    assert len(rows) + 1 == len(life.seen)
    assert state == life.state


@settings(max_examples=15, deadline=None)
@given(STEPS)
def test_the_export_of_one_session_replays_alone(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory(prefix="lanrage-life-") as folder:
        life, rows = asyncio.run(_lived(Path(folder), [ENTER, *steps]))
    for run in range(1, life.runs + 1):
        mine = [row for row in rows if row.session == f"run-{run}"]
        before = rows[: mine[0].seq - 1]
        text = export.export_jsonl([*mesh.carried(before, mine[0]), *mine])
        back = export.read_jsonl(text)
        assert isinstance(back, list), back
        assert export.export_jsonl(back) == text
        state = mesh.EMPTY
        for row in back:
            state = mesh.fold(state, row)
            assert mesh.canonical(state) == life.seen[row.seq]


@settings(max_examples=15, deadline=None)
@given(STEPS, st.data())
def test_a_state_written_down_anywhere_and_folded_on_is_the_whole_story(
    steps: list[Step], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory(prefix="lanrage-life-") as folder:
        life, rows = asyncio.run(_lived(Path(folder), [ENTER, *steps]))
    cut = data.draw(st.integers(0, len(rows)))
    state = mesh.fold_all(mesh.from_canonical(life.seen[cut]), rows[cut:])
    assert mesh.canonical(state) == life.seen[len(rows)]


def _fixed_life() -> list[Step]:
    """Long, and the same in every process: generated without hashes."""
    chance = random.Random(6)
    records: list[Step] = [(1, 1, which) for which in (3, 4, 2, 0, 1, 5)]
    life = [ENTER, *records]
    for number in range(400):
        life.append((chance.randrange(KINDS), chance.randrange(10), chance.randrange(10)))
        if number % 10 == 0:
            life.append(ENTER)
    # In a party of three, everything that can happen to it, at least once in each variant.
    in_order = list(itertools.product(range(4, RETRY - 1), range(4), range(4)))
    return [*life, (RETRY - 1, 0, 1), ENTER, *in_order, *reversed(in_order)]


def test_a_long_life_has_every_type_of_event(tmp_path: Path) -> None:
    _, rows = asyncio.run(_lived(tmp_path, _fixed_life()))
    assert {row.type for row in rows} == set(codec.EVENTS) - {"session.carried"}


LIVE = """
import asyncio, sys
from pathlib import Path
from events import export
from events.log import Reader, open_readonly
from projections import mesh
from tests.random_story import Life, all_rows
from tests.test_replay_properties import _fixed_life, _lived

life, rows = asyncio.run(_lived(Path(sys.argv[1]), _fixed_life()))
sys.stdout.buffer.write(mesh.canonical(life.state) + b"\\n" + export.export_jsonl(rows))
"""
REPLAY = """
import sys
from pathlib import Path
from events import export
from projections import mesh

text = Path(sys.argv[1]).read_bytes()
state, lines = mesh.EMPTY, []
for row in export.read_jsonl(text):
    state = mesh.fold(state, row)
    lines.append(mesh.canonical(state))
sys.stdout.buffer.write(b"\\n".join(lines))
"""


def _run(program: str, argument: Path, seed: str) -> bytes:
    return subprocess.run(
        [sys.executable, "-c", program, str(argument)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout


def test_a_life_leaves_the_same_log_and_state_under_every_hash_seed(tmp_path: Path) -> None:
    lives = []
    for seed in ("0", "4242"):
        (tmp_path / seed).mkdir()
        lives.append(_run(LIVE, tmp_path / seed, seed))
    assert lives[0].count(b"\n") > 100
    assert len(set(lives)) == 1


def test_a_log_replays_to_the_same_bytes_under_every_hash_seed(tmp_path: Path) -> None:
    life, rows = asyncio.run(_lived(tmp_path, _fixed_life()))
    file = tmp_path / "log.jsonl"
    file.write_bytes(export.export_jsonl(rows))
    here = b"\n".join(life.seen[row.seq] for row in rows)
    assert [_run(REPLAY, file, seed) == here for seed in ("1", "777")] == [True, True]
