"""What the doctor says of this machine, each finding with what to do about it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lanrage import commands as c
from lanrage.doctor import computer
from lanrage.doctor.computer import Place
from lanrage.doctor.finding import Finding
from projections.lobby import status
from tests.playbook import ALICE, Playbook


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A machine in order: a device, no interface, a free port, a folder that can be made."""
    (tmp_path / "tun").touch()
    (tmp_path / "net").mkdir()
    return Place(
        state=tmp_path / "state" / "lanrage",
        tun=tmp_path / "tun",
        interfaces=tmp_path / "net",
        port=free_port(),
    )


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        trial.bind(("0.0.0.0", 0))
        port: int = trial.getsockname()[1]
        return port


def other(place: Place, **changes: object) -> Place:
    fields = {name: getattr(place, name) for name in place.__struct_fields__}
    return Place(**(fields | changes))


def test_a_machine_in_order_has_nothing_to_fix(place: Place) -> None:
    said = [check(place) for check in computer.CHECKS if check is not computer.offloads]
    assert [
        each for each in said if each.status == "fail" or (each.fix and each.check != "root")
    ] == []


def test_every_failure_says_what_to_do(place: Place, tmp_path: Path) -> None:
    (tmp_path / "net" / "lanrage0").mkdir()
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        broken = other(
            place,
            tun=tmp_path / "none",
            port=taken.getsockname()[1],
            state=tmp_path / "file" / "state",
        )
        said: dict[str, Finding] = {
            check.__name__: check(broken)
            for check in (computer.tun, computer.interface, computer.port, computer.state)
        }
    assert {name: each.status for name, each in said.items()} == dict.fromkeys(said, "fail")
    assert "modprobe tun" in said["tun"].fix
    assert "--interface" in said["interface"].fix
    assert "--listen" in said["port"].fix
    assert "--state" in said["state"].fix


def test_what_the_running_node_uses_is_no_obstacle(place: Place, tmp_path: Path) -> None:
    book = Playbook(ALICE)
    book.tell(c.NoteTunnel(interface="lanrage0", port=place.port, backend="userspace"))
    (tmp_path / "net" / "lanrage0").mkdir()
    running = other(place, status=status(book.state))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", place.port))
        assert computer.port(running).status == "ok"
    assert computer.interface(running).status == "ok"


def test_the_folder_may_exist_already(place: Place, tmp_path: Path) -> None:
    assert computer.state(other(place, state=tmp_path)).found == str(tmp_path)
