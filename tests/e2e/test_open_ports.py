"""A host whose router opens ports by itself needs no server, no --advertise and no codes."""

from __future__ import annotations

import pytest

from lanrage.lab.lab import Lab
from lanrage.lab.player import Player
from lanrage.lab.topology import Home, Topology
from lanrage.protocols import invite as invites
from tests.adapters.test_port_mapping import PUBLIC, start_router
from tests.e2e.stage import API, join

pytestmark = pytest.mark.root

OPEN_S_MAX = 10.0


def test_a_guest_comes_in_through_the_ports_that_the_hosts_router_opened() -> None:
    homes = (Home(name="home", computers=("pa",)), Home(name="away", computers=("pb",)))
    with Lab(Topology(homes=homes, public=PUBLIC)) as lab:
        router = start_router(lab)
        alice = Player(lab.computer("pa"), lab.folder / "state-alice", "alice")
        bob = Player(lab.computer("pb"), lab.folder / "state-bob", "bob")
        alice.start("--api", API)
        bob.start("--api", API)
        alice.create("Open house")
        control = f"ws://{router.address}:8667"

        def opened(player: Player) -> bool:
            invite = invites.parse(player.invite())
            return isinstance(invite, invites.Invite) and control in invite.control

        alice.wait(opened, OPEN_S_MAX, "an invite with the router's address")
        assert f"{router.address}:26666" in alice.status().node.nat.candidates
        join(alice, bob)
        assert bob.ping(alice.address()).received == 4
