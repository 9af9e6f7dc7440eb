"""What a tired person does wrong with a node, and what hits it: one line, and nothing half done."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lanrage.lab.player import Player
from tests.e2e.stage import API, Stage, homes, refusal_of, stage, wait_until_all_connected

pytestmark = pytest.mark.root

STOP_S_MAX = 3.0
NOTICE_S_MAX = 15.0
STATE_BYTES = 2 << 20
RENAMES_MAX = 50


@pytest.fixture(scope="module")
def built() -> Iterator[Stage]:
    with stage(homes("port-restricted")) as built:
        yield built


@contextmanager
def running(built: Stage, computer: str, name: str, *options: str) -> Iterator[Player]:
    player = built.player(computer, name)
    player.start("--api", API, *options)
    try:
        yield player
    finally:
        if player.process is not None and player.process.poll() is None:
            player.stop()


def said(player: Player) -> str:
    return player.computer.log_file(f"{player.name}-node").read_text(errors="replace")


def ended(player: Player) -> int:
    assert player.process is not None
    return player.process.wait(timeout=STOP_S_MAX)


def refused_start(player: Player, *options: str) -> str:
    """Its one line on stderr, with exit status 1 and no interface left behind."""
    had = player.has_interface()
    process = player.launch("--api", API, *options)
    assert process.wait(timeout=20) == 1
    assert player.has_interface() == had
    line = said(player).splitlines()[-1]
    assert "Traceback" not in said(player)
    return line


def test_a_second_node_on_the_same_state_directory_is_refused(built: Stage) -> None:
    with running(built, "pa1", "twin"):
        assert "another node uses" in refused_start(built.player("pa1", "twin"))


def test_taken_interface_port_and_api_address_are_each_named(built: Stage) -> None:
    with running(built, "pa1", "first"):
        second = built.player("pa1", "second")
        assert "lanrage0" in refused_start(second, "--listen", "0", "--api", "127.0.0.1:0")
        assert "26666" in refused_start(second, "--interface", "lr1", "--api", "127.0.0.1:0")
        assert "8666" in refused_start(second, "--interface", "lr1", "--listen", "0")


def test_a_node_whose_tunnel_process_is_killed_ends_with_one_line(built: Stage) -> None:
    with running(built, "pa1", "orphan") as player:
        assert player.process is not None
        children = Path(f"/proc/{player.process.pid}/task/{player.process.pid}/children")
        (tunnel,) = children.read_text().split()
        built.lab.computer("pa1").run(["kill", "-9", tunnel])
        assert ended(player) == 1
        assert said(player).count("\n") == 1
        assert "tunnel process ended" in said(player)
        assert not player.has_interface()


@contextmanager
def silence(built: Stage, port: int) -> Iterator[None]:
    """A port of the computer `other` that takes connections and never says a word."""
    with built.lab.computer("other").socket(socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
        listener.listen()
        yield


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_told_to_stop_in_the_middle_of_a_join_stops_at_once(
    built: Stage, number: signal.Signals
) -> None:
    with running(built, "other", f"host{number}", "--control-listen", "0.0.0.0:9000") as host:
        link = host.create("Gone")
    with silence(built, 9000), running(built, "pa1", f"guest{number}") as guest:
        joining = guest.start_command("join", link)
        guest.wait(lambda each: "nat.gathered" in each.types(), 10, "addresses")
        assert guest.process is not None
        with pytest.raises(subprocess.TimeoutExpired):
            joining.communicate(timeout=1.0)  # control does not answer: it waits
        guest.process.send_signal(number)
        assert ended(guest) == 0
        assert said(guest) == ""
        _, err = joining.communicate(timeout=STOP_S_MAX)
        assert joining.returncode == 1
        assert err.count(b"\n") == 1
        assert b"stopping" in err


def test_the_partys_own_control_is_served_from_the_start_or_the_node_does_not_start(
    built: Stage,
) -> None:
    with running(built, "other", "server", "--control-listen", "0.0.0.0:9100") as host:
        host.create("Table")
    with silence(built, 9100):
        line = refused_start(host, "--control-listen", "0.0.0.0:9100")
        assert "9100" in line
    host.start("--api", API, "--control-listen", "0.0.0.0:9200")
    host.wait(
        lambda each: bool((party := each.status().party) and party.control_connected),
        NOTICE_S_MAX,
        "its own control at another port",
    )
    host.stop()


def test_a_party_that_cannot_be_served_or_invited_to_is_not_made(built: Stage) -> None:
    with (
        silence(built, 9300),
        running(built, "other", "maker", "--control-listen", "0.0.0.0:9300") as maker,
    ):
        assert "9300" in refusal_of(maker.command("create", "Nowhere"))
        assert "uses" in refusal_of(maker.command("create", "Nobody", "--uses", "1000"))
        assert maker.status().party is None
        assert "party.entered" not in maker.types()


def test_two_joins_at_once_on_one_node_make_one_member(built: Stage) -> None:
    host = built.start("other", "founder")
    guest = built.start("pa1", "hasty")
    host.create("Once")
    link = host.invite()
    tries = [guest.start_command("join", link) for _ in range(3)]
    refusals = [done.communicate(timeout=30)[1] for done in tries]
    assert sorted(done.returncode for done in tries) == [0, 1, 1]
    assert all(err.count(b"\n") == 1 for err in refusals if err)
    wait_until_all_connected(host, guest)
    assert [peer.name for peer in host.status().peers] == ["hasty"]
    guest.stop()
    host.stop()


def test_on_a_full_disk_nothing_is_said_to_be_done_and_later_all_goes_on(built: Stage) -> None:
    player = built.player("pa1", "crammed")
    player.state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={STATE_BYTES}", "tmpfs", str(player.state)]
    subprocess.run(mount, check=True)
    try:
        player.start("--api", API, "--control", built.control.url)
        player.create("Full")
        filler = player.state / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}"], check=False, capture_output=True)
        for number in range(RENAMES_MAX):  # until what was set aside for the log is used up
            renamed = player.command("rename", f"{number:032d}")
            if renamed.returncode != 0:
                break
        assert "disk" in refusal_of(renamed)
        assert "full" in refusal_of(player.command("leave"))
        assert player.status().party is not None
        before = len(player.events)
        filler.unlink()
        # What control was told of meanwhile arrives by itself, in its order: name, then leave.
        player.wait_for_event("party.exited", NOTICE_S_MAX, after=before)
        told = [kind for kind in player.types()[before:] if kind.startswith("peer.")]
        assert told[:2] == ["peer.renamed", "peer.left"]
        assert player.stop() == 0
    finally:
        subprocess.run(["umount", "-l", str(player.state)], check=True)
