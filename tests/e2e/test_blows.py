"""Nodes killed at chosen moments, routers that forget, lines that break, garbage on every port."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest

from lanrage.lab.player import Player, ping_report
from tests.e2e.stage import API, CONNECT_S_MAX, Stage, homes, join, stage, wait_until_all_connected

pytestmark = pytest.mark.root

PING_INTERVAL_MS = 20.0
OUTAGE_MS_MAX = 6_000.0  # from the line being whole again to the first answer
GARBAGE_COUNT = 300


class Pair:
    """Alice, who created the party, and carol, far from each other."""

    def __init__(self, built: Stage) -> None:
        self.stage = built
        self.alice = built.start("pa1", "alice")
        self.carol = built.start("pa2", "carol")
        self.alice.create("Storm")
        join(self.alice, self.carol)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with stage(homes("port-restricted", "port-restricted")) as built:
        yield Pair(built)


def network_of(player: Player) -> list[str]:
    """Interfaces, routes and rules of that computer."""
    shown = [["-br", "link"], ["route", "show", "table", "all"], ["rule"], ["-6", "rule"]]
    return [player.computer.run(["ip", *words]).stdout for words in shown]


@pytest.mark.parametrize(
    "moment", ["session.started", "party.entered", "path.probing", "tunnel.established"]
)
def test_a_node_killed_at_any_moment_of_its_join_keeps_what_it_told(
    pair: Pair, moment: str
) -> None:
    guest = pair.stage.player("pb2", f"guest{moment.partition('.')[0]}")
    before = network_of(guest)
    link = pair.alice.invite()
    guest.start("--control", pair.stage.control.url, "--api", API)
    joining = guest.start_command("join", link)
    guest.wait_for_event(moment, CONNECT_S_MAX)
    guest.kill()
    joining.communicate(timeout=30)
    assert network_of(guest) == before
    told = [event.id for event in guest.events]
    guest.start("--control", pair.stage.control.url, "--api", API)
    assert [event.id for event in guest.events[: len(told)]] == told
    if guest.status().party is None:
        guest.must("join", link)
    wait_until_all_connected(pair.alice, pair.carol, guest)
    guest.must("leave")
    guest.stop()
    wait_until_all_connected(pair.alice, pair.carol)


def test_a_router_that_forgets_its_mappings_costs_little(pair: Pair) -> None:
    pinging = pair.alice.start_ping(pair.carol.address(), 200, PING_INTERVAL_MS)
    for _ in range(3):
        pair.stage.lab.forget_mappings("home1")
    report = ping_report(pinging)
    assert report.received > 150


def test_a_broken_line_is_noticed_and_the_pair_meets_again_when_it_is_whole(pair: Pair) -> None:
    alice, carol = pair.alice, pair.carol
    newest = len(alice.events)
    pair.stage.lab.cut("home2")
    try:
        alice.wait(lambda p: not p.sees("carol"), 30, "the loss")
        assert "path.lost" in alice.types()[newest:]
    finally:
        pair.stage.lab.mend("home2")
    pings = int(OUTAGE_MS_MAX / PING_INTERVAL_MS)
    report = ping_report(
        alice.start_ping(carol.address(), pings, PING_INTERVAL_MS, "--until-answer")
    )
    assert report.received == 1
    wait_until_all_connected(alice, carol)


def test_garbage_on_every_port_harms_nobody(pair: Pair) -> None:
    dice = random.Random(4)
    control = pair.stage.lab.computer("control")
    stranger = pair.stage.lab.computer("other")
    neighbour = pair.stage.lab.computer("pb2")
    with (
        stranger.socket(socket.SOCK_DGRAM) as far,
        neighbour.socket(socket.SOCK_DGRAM) as near,
    ):
        for _ in range(GARBAGE_COUNT):
            garbage = dice.randbytes(dice.randrange(0, 1400))
            wireguard = bytes([dice.randrange(1, 5), 0, 0, 0]) + garbage
            stun = garbage[:4] + bytes.fromhex("2112a442") + garbage[4:]
            for each in (garbage, wireguard, stun):
                near.sendto(each, (pair.carol.computer.address, 26666))
                far.sendto(each, (control.address, 8667))
                far.sendto(each, (control.address, 8668))
    with stranger.socket(socket.SOCK_STREAM) as stream:
        stream.connect((control.address, 8667))
        stream.sendall(dice.randbytes(5_000))
    pair.alice.must("rename", "alicia")
    pair.carol.wait(lambda p: p.peer("alicia") is not None, 10, "the new name")
    pair.alice.must("rename", "alice")
    assert pair.alice.ping(pair.carol.address()).received == 4
    wait_until_all_connected(pair.alice, pair.carol)
