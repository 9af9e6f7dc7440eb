"""`lanrage lab` from the outside: up in one process, looked at and ended from others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from lanrage.lab import command, namespaces
from lanrage.lab.topology import Topology, draw, two_homes
from lanrage.refusal import Refusal

RUN = [
    sys.executable,
    "-c",
    "import sys; from lanrage.lab.command import run; sys.exit(run(sys.argv[1:]))",
]


def lab(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *words], capture_output=True, text=True, timeout=60, check=False)


def test_without_a_verb_the_usual_lab_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run([]) == 0
    assert capsys.readouterr().out == draw(two_homes()) + "\n"
    assert command.run(["--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=Topology) == two_homes()


def test_without_root_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refused = command.run(["up"])
    assert isinstance(refused, Refusal)
    assert "needs root" in str(refused)
    assert "\n" not in str(refused)


def test_without_nft_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    refused = namespaces.missing()
    assert refused is not None
    assert "apt-get install iproute2" in refused.fix


@pytest.mark.root
def test_a_lab_is_shown_entered_and_ended_from_other_processes() -> None:
    holder = subprocess.Popen([*RUN, "up", "--json"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        shown = msgspec.json.decode(holder.stdout.readline())
        listed = [msgspec.json.decode(line) for line in lab("show", "--json").stdout.splitlines()]
        assert shown in listed
        entered = lab("exec", "--lab", shown["lab"], "carol", "--", "ip", "-4", "address")
        assert "192.168.2.10/24" in entered.stdout
        assert lab("exec", "--lab", shown["lab"], "dave", "true").returncode == 1
        assert f"ended {shown['lab']}" in lab("down", shown["lab"]).stdout
    finally:
        holder.terminate()
        holder.communicate(timeout=30)
    assert namespaces.of_lab(shown["lab"]) == []


@pytest.mark.root
@pytest.mark.parametrize("text", ["", "[]", '{"homes": [{"name": "no spaces"}]}', '{"x": 1}'])
def test_a_bad_topology_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "lab.json"
    file.write_text(text)
    refused = command.run(["up", str(file)])
    assert isinstance(refused, Refusal)
    assert "\n" not in str(refused)
