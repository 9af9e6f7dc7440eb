"""A lab with control and players in it, for the end-to-end tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from lanrage.lab import namespaces
from lanrage.lab.lab import Lab
from lanrage.lab.player import Control, Player, wait_until_connected
from lanrage.lab.switch import Line
from lanrage.lab.topology import Home, Kind, Router, Server, Topology

CONNECT_S_MAX = 20.0
API = "127.0.0.1:8666"


def homes(*kinds: Kind, one_way_ms: float = 20.0) -> Topology:
    """Home n has the players `pa<n>` and `pb<n>`, and a router of the n-th kind."""
    line = Line(delay_ms=one_way_ms / 2)
    return Topology(
        homes=tuple(
            Home(name=f"home{n}", computers=(f"pa{n}", f"pb{n}"), router=Router(kind=k), line=line)
            for n, k in enumerate(kinds, 1)
        ),
        servers=(Server(name="control", line=line), Server(name="other", line=line)),
    )


class Stage:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.control = Control(lab.computer("control"), lab.folder / "state-control")

    def restart_control(self, state: str) -> None:
        """kill -9, and start on that state directory."""
        self.control.kill()
        self.control.state = self.lab.folder / state
        self.control.start()

    def player(self, computer: str, name: str = "") -> Player:
        """Not started yet."""
        name = name or computer
        return Player(self.lab.computer(computer), self.lab.folder / f"state-{name}", name)

    def start(self, computer: str, name: str = "") -> Player:
        player = self.player(computer, name)
        player.start("--control", self.control.url, "--api", API)
        return player


@contextmanager
def stage(topology: Topology) -> Iterator[Stage]:
    """The lab with control running."""
    assert namespaces.missing() is None
    with Lab(topology) as lab:
        built = Stage(lab)
        built.control.start()
        yield built


def join(host: Player, *guests: Player) -> None:
    """One after another, each with an invite of its own, until they are the party."""
    for guest in guests:
        guest.must("join", host.invite())
    wait_until_all_connected(host, *guests)


def wait_until_all_connected(*players: Player) -> None:
    wait_until_connected(players, CONNECT_S_MAX)


def refusal_of(done: subprocess.CompletedProcess[str]) -> str:
    """What a refused command said: one line on stderr, nothing on stdout, exit status 1."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip()
