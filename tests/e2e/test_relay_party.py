"""A party that cannot do without others: hard routers, no UDP, and a friend when the relay dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lanrage.lab.lab import Lab
from lanrage.lab.player import Control, Player, Relay, send_over_tcp, wait_until_connected
from lanrage.lab.switch import Line
from lanrage.lab.topology import Home, Kind, Router, Server, Topology

pytestmark = pytest.mark.root

KINDS: dict[str, Kind] = {
    "anna": "symmetric",
    "ben": "symmetric",
    "cleo": "https-only",
    "dan": "full-cone",
}
CONNECT_S_MAX = 30.0
MEGABYTE = 1 << 20


class Party:
    def __init__(self, lab: Lab) -> None:
        self.control = Control(lab.computer("control"), lab.folder / "state-control", 443)
        self.control.start()
        self.relay = Relay(lab.computer("relay"), lab.folder / "state-relay", self.control)
        self.relay.start()
        self.players = {
            name: Player(lab.computer(name), lab.folder / f"state-{name}") for name in KINDS
        }
        for player in self.players.values():
            player.start("--control", self.control.url)
        host, *guests = self.players.values()
        link = host.create("Relayed")
        for guest in guests:
            guest.must("join", link)
            link = host.invite()
        wait_until_connected(list(self.players.values()), CONNECT_S_MAX)

    def path(self, one: str, other: str) -> tuple[str, str]:
        """Its kind and address."""
        peer = self.players[one].peer(other)
        assert peer is not None
        assert peer.path is not None
        return peer.path.kind, peer.path.address


@pytest.fixture(scope="module")
def party() -> Iterator[Party]:
    line = Line(delay_ms=10.0)
    homes = tuple(
        Home(name=f"{name}r", computers=(name,), router=Router(kind=kind), line=line)
        for name, kind in KINDS.items()
    )
    servers = tuple(Server(name=name, line=line) for name in ("control", "relay"))
    with Lab(Topology(homes=homes, servers=servers)) as lab:
        yield Party(lab)


def test_each_pair_uses_what_its_routers_allow_and_says_why(party: Party) -> None:
    relay = party.relay.name
    assert party.path("anna", "ben") == ("relay", relay)
    assert party.path("cleo", "anna") == ("tcp", relay)
    party.players["anna"].wait(
        lambda _: party.path("anna", "dan")[0] == "direct", CONNECT_S_MAX, "direct to dan"
    )
    cleo = party.players["cleo"].peer("anna")
    assert cleo is not None
    assert "TCP" in cleo.why


@pytest.mark.parametrize(("one", "other"), [("anna", "ben"), ("cleo", "ben"), ("anna", "cleo")])
def test_bulk_passes_through_the_relay_and_through_tcp(party: Party, one: str, other: str) -> None:
    sender, receiver = party.players[one], party.players[other]
    send_over_tcp(sender.computer, receiver.computer, receiver.address(), MEGABYTE)


def test_no_log_holds_a_secret_of_the_relay(party: Party) -> None:
    secret = party.control.secret.read_text().strip()
    assert len(secret) >= 32
    for name in ("anna", "cleo"):
        assert secret not in party.players[name].must("events", "--json")


def test_without_the_relay_a_friend_passes_on(party: Party) -> None:
    anna, ben = party.players["anna"], party.players["ben"]
    party.relay.kill()
    anna.wait(_goes_through("ben", "dan"), CONNECT_S_MAX, "a path to ben through dan")
    ben.wait(_goes_through("anna", "dan"), CONNECT_S_MAX, "a path to anna through dan")
    assert anna.ping(ben.address(), count=10).received >= 9


def _goes_through(other: str, friend: str) -> Callable[[Player], bool]:
    def met(player: Player) -> bool:
        peer = player.peer(other)
        return peer is not None and peer.path is not None and peer.path.via == friend

    return met
