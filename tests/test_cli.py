"""The command line: what is asked for, what is refused, and in which words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from events.base import Stored
from events.export import export_jsonl
from lanrage import commands as c
from lanrage.cli import main
from projections import mesh
from tests.playbook import ALICE, BOB, NOW_MS, SESSION, Playbook


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(arguments)
    shown = capsys.readouterr()
    return status, shown.out, shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["up", "--listen", "70000"],
        ["up", "--api", "8666"],
        ["up", "--interface", "a name/with/slashes"],
        ["invite", "--expires", "soon"],
        ["invite", "--expires", "59s"],
        ["control", "--listen", "nowhere"],
        ["export"],
        ["join"],
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_right(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: lanrage" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["create", "x"], ["join", "y"], ["leave"], ["events", "--follow"]],
)
def test_without_a_running_node_one_line_says_how_to_start_it(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(*arguments, "--state", str(tmp_path), capsys=capsys)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert "lanrage up" in err


def test_events_of_a_folder_without_a_log_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run("events", "--state", str(tmp_path), capsys=capsys)
    assert (status, out, err.count("\n")) == (1, "", 1)


def test_replay_of_a_file_prints_the_canonical_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = Playbook.in_party(ALICE, BOB)
    book.tell(c.NotePresence(party=book.state.party, online=(BOB.peer,)))
    file = tmp_path / "session.jsonl"
    file.write_bytes(export_jsonl([carried(book.state)]))
    status, out, _ = run("replay", str(file), capsys=capsys)
    assert status == 0
    assert out.encode() == mesh.canonical(book.state) + b"\n"


def test_replay_of_a_damaged_file_names_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "session.jsonl"
    file.write_bytes(b'{"seq": 1, "stream": \n')
    status, out, err = run("replay", str(file), capsys=capsys)
    assert (status, out) == (1, "")
    assert "line 1" in err


def carried(state: mesh.Mesh) -> Stored:
    return Stored(
        seq=state.seq,
        stream="session",
        version=0,
        id="0" * 32,
        type="session.carried",
        at=NOW_MS,
        session=SESSION,
        data=msgspec.Raw(msgspec.json.encode({"state": msgspec.Raw(mesh.canonical(state))})),
    )


def test_profiles_are_listed_without_a_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run("profiles", "--json", "--state", str(tmp_path), capsys=capsys)
    assert status == 0
    assert {"default", "openttd"} <= {each["id"] for each in msgspec.json.decode(out)}


def test_completion_knows_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("completion", "bash", capsys=capsys)
    assert status == 0
    assert all(word in out for word in ("join", "replay", "sessions"))


def test_the_light_commands_do_not_load_the_web_framework() -> None:
    script = (
        "import sys, lanrage.cli; lanrage.cli.main(['status', '--state', '/nonexistent']);"
        "sys.exit(any(name in sys.modules for name in ('fastapi', 'asyncio', 'cryptography')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
