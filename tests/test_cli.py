"""The command line: what is asked for, what is refused, and in which words."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.base import Stored
from events.export import export_jsonl
from lanrage import commands as c
from lanrage.cli import main
from lanrage.state_dir import ApiFile, write_api
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
        ["invite", "--uses", "0"],
        ["create", "party", "--uses", "-3"],
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


def test_what_an_argument_names_reaches_the_terminal_as_one_plain_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run("status", "--state", str(tmp_path / "a\n\x1b[31mb"), capsys=capsys)
    assert (status, err.count("\n")) == (1, 1)
    assert err[:-1].isprintable()


def test_what_a_profile_from_elsewhere_says_is_not_obeyed_by_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x9b31m\u202e"
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "evil.json").write_text(f'{{"id": "evil", "name": "{evil}"}}')
    (tmp_path / "profiles" / "worse.json").write_text(f'{{"id": "worse", "{evil}": 1}}')
    _, out, err = run("profiles", "--state", str(tmp_path), capsys=capsys)
    assert "evil" in out
    assert "worse.json" in err
    _, checked, _ = run("profiles", "check", str(tmp_path / "profiles"), capsys=capsys)
    assert "worse.json" in checked
    assert all(line.isprintable() for line in (out + err + checked).splitlines())


def lanrage(*arguments: str | bytes, state: Path, **how: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "LANRAGE_STATE": str(state), **how.pop("environment", {})}
    argv = [sys.executable, "-m", "lanrage", *arguments]
    return subprocess.run(argv, env=environment, timeout=30, stderr=subprocess.PIPE, **how)


def test_output_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = lanrage("profiles", state=tmp_path, stdout=full)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_failure(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as gone:
        done = lanrage("completion", "bash", state=tmp_path, stdout=gone)
    assert (done.returncode, done.stderr) == (0, b"")


class Answering:
    """A program on loopback that answers every connection with the same bytes, named by
    `api.json` as if it were the node; the lock is held as a running node holds it."""

    def __init__(self, state: Path, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = open(state / "node.lock", "w")  # noqa: SIM115
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        port = self._listener.getsockname()[1]
        write_api(state, ApiFile(f"http://127.0.0.1:{port}", "secret"))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(self._answer)

    def close(self) -> None:
        self._listener.close()
        self._lock.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"HTTP/1.1 404 Not \x1b[31m Found\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 500 No\r\nContent-Length: 500\r\n\r\nhello",
    ],
)
@pytest.mark.parametrize("words", [["status"], ["events", "--follow"], ["create", "party"]])
def test_a_stranger_in_the_nodes_place_is_told_in_one_line(
    answer: bytes, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = Answering(tmp_path, answer)
    try:
        status, out, err = run(*words, "--state", str(tmp_path), capsys=capsys)
    finally:
        stranger.close()
    if words[0] == "events" and b"200" in answer:
        assert (status, out, err) == (0, "", "")  # a stream without an event
        return
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err[:-1].isprintable()


def test_what_is_not_text_is_refused_before_it_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = Answering(tmp_path, b"")
    try:
        name = b"\xff\xfe".decode(errors="surrogateescape")
        status, out, err = run("create", name, "--state", str(tmp_path), capsys=capsys)
    finally:
        stranger.close()
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "UTF-8" in err


def test_the_token_is_not_shown_to_whoever_listens_after_the_node_was_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        write_api(tmp_path, ApiFile(f"http://127.0.0.1:{listener.getsockname()[1]}", "secret"))
        (tmp_path / "node.lock").touch()
        status, _, err = run("status", "--state", str(tmp_path), capsys=capsys)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert (status, err.count("\n")) == (1, 1)
    assert "not running" in err


@pytest.mark.parametrize("option", ["--control", "--advertise"])
def test_an_address_of_control_that_is_none_is_refused_before_anything_starts(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    status, out, err = run("up", option, "a b:80", "--state", str(state), capsys=capsys)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "host:port" in err
    assert not state.exists()
