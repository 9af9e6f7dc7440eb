"""Control goes away, for a while or with all it knew: the party goes on, and kicks count."""

from __future__ import annotations

import shutil

import pytest

from lanrage.lab.player import Player
from tests.e2e.stage import homes, join, stage

pytestmark = pytest.mark.root

HEARD_S_MAX = 10.0
BACK_S_MAX = 30.0


def knows(player: Player, *names: str) -> bool:
    return {each.name for each in player.status().peers} == set(names)


def test_a_kick_counts_without_control_and_reaches_it_when_it_is_back_with_nothing() -> None:
    with stage(homes("port-restricted", "port-restricted")) as built:
        alice, bob, carol = (
            built.start("pa1", "alice"),
            built.start("pa2", "bob"),
            built.start("pb2", "carol"),
        )
        alice.create("Storm")
        join(alice, bob, carol)
        built.control.kill()
        for each in (alice, bob):
            each.wait_for_event("party.control_lost", HEARD_S_MAX)
        alice.must("kick", "carol")
        bob.wait(lambda player: knows(player, "alice"), HEARD_S_MAX, "rid of carol")
        shutil.rmtree(built.control.state, ignore_errors=True)
        behind = len(bob.events)
        built.control.start()
        bob.wait_for_event("party.control_connected", BACK_S_MAX, behind)
        bob.must("rename", "bobby")
        alice.wait(lambda player: knows(player, "bobby"), BACK_S_MAX, "told of bobby")
        party = alice.status().party
        assert party is not None
        assert party.warning == ""
