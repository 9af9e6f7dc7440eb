"""Ways into a party that are not the usual one: no server at all, hostile routers, bad control."""

from __future__ import annotations

import socket

import pytest

from lanrage.lab.player import Player
from lanrage.protocols import invite as invites
from tests.e2e.stage import API, homes, join, refusal_of, stage, wait_until_all_connected

pytestmark = pytest.mark.root

REASON_S_MAX = 30.0


def wait_until_explained(player: Player, name: str, word: str) -> None:
    """That there is no path to this member, and why."""

    def explained(player: Player) -> bool:
        peer = player.peer(name)
        return peer is not None and peer.state == "connecting" and word in peer.why.lower()

    player.wait(explained, REASON_S_MAX, f"{word!r} in why {name} is not connected")


def test_two_symmetric_homes_say_in_words_why_there_is_no_path() -> None:
    with stage(homes("symmetric", "symmetric")) as built:
        alice, carol = built.start("pa1", "alice"), built.start("pa2", "carol")
        alice.create("Unlucky")
        carol.must("join", alice.invite())
        for player, name in ((alice, "carol"), (carol, "alice")):
            wait_until_explained(player, name, "symmetric")
        assert "path.failed" in alice.types()
        assert alice.ping(carol.address(), count=2).received == 0


def test_a_symmetric_home_meets_one_that_filters_by_address_only() -> None:
    """Its packets come from a port that nobody was told; that must not matter here."""
    with stage(homes("symmetric", "full-cone")) as built:
        alice, carol = built.start("pa1", "alice"), built.start("pa2", "carol")
        alice.create("Lucky")
        join(alice, carol)
        assert alice.ping(carol.address()).received == 4


def test_where_udp_is_blocked_the_reason_is_told() -> None:
    with stage(homes("udp-blocked", "port-restricted")) as built:
        alice, carol = built.start("pa1", "alice"), built.start("pa2", "carol")
        alice.create("Office")
        carol.must("join", alice.invite())
        wait_until_explained(alice, "carol", "udp")


def test_a_party_on_one_lan_needs_no_server_at_all() -> None:
    with stage(homes("port-restricted")) as built:
        built.control.kill()
        alice, bob = built.player("pa1", "alice"), built.player("pb1", "bob")
        alice.start("--api", API)
        bob.start("--api", API)
        alice.create("Kitchen table")
        join(alice, bob)
        assert bob.ping(alice.address()).received == 4
        assert alice.stop() == 0
        alice.start("--api", API)
        wait_until_all_connected(alice, bob)


def test_a_host_with_a_public_address_needs_no_server_either() -> None:
    with stage(homes("port-restricted")) as built:
        built.control.kill()
        host, guest = built.player("other", "host"), built.player("pa1", "guest")
        # An advertised address comes first in the link; that nobody is there only costs a moment.
        host.start("--api", API, "--advertise", "203.0.113.99:8667")
        guest.start("--api", API)
        invite = invites.parse(host.create("Rented server"))
        assert isinstance(invite, invites.Invite)
        assert invite.control[0] == "203.0.113.99:8667"
        assert len(invite.control) > 1
        join(host, guest)
        assert guest.ping(host.address()).received == 4


def test_a_host_whose_router_forwards_the_control_port_needs_no_server() -> None:
    with stage(homes("port-restricted", "port-restricted")) as built:
        built.control.kill()
        built.lab.forward("home1", "8667-8668", "pa1")
        outside = built.lab.computer("home1").address
        host, guest = built.player("pa1", "host"), built.player("pa2", "guest")
        host.start("--api", API, "--advertise", f"{outside}:8667")
        guest.start("--api", API)
        host.create("Port forward")
        join(host, guest)
        assert guest.ping(host.address()).received == 4


def test_control_that_is_down_or_not_ours_is_told_in_one_line() -> None:
    with stage(homes("port-restricted")) as built:
        alice = built.start("pa1", "alice")
        built.control.kill()
        assert "control" in refusal_of(alice.command("create", "Nobody there")).lower()
        server = built.lab.computer("control")
        with server.socket(socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("0.0.0.0", 8667))
            listener.listen()
            listener.settimeout(10)
            creating = alice.start_command("create", "Something else there")
            accepted, _ = listener.accept()
            with accepted:
                accepted.recv(65_536)
                accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            _, said = creating.communicate(timeout=30)
        assert creating.returncode == 1
        assert said.count(b"\n") == 1
        assert alice.status().party is None


def test_a_computer_without_a_network_makes_no_party_that_nobody_could_enter() -> None:
    with stage(homes("port-restricted")) as built:
        alice = built.player("pa1", "alice")
        assert built.lab.computer("pa1").run(["ip", "link", "set", "eth0", "down"]).returncode == 0
        alice.start("--api", API)
        assert "no address" in refusal_of(alice.command("create", "Alone"))
        assert alice.status().party is None
