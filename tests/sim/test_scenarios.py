"""Simulated evenings, each from a seed: things break, and every pair keeps a path.

`python -m tests.sim 10000` plays many more, `python -m tests.sim seed N` tells one.
"""

from __future__ import annotations

import pytest

from tests.sim.network import MS
from tests.sim.reference import Model, Watch
from tests.sim.scenario import play
from tests.sim.world import World

SEEDS = 40


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_every_pair_keeps_a_path_and_both_ends_agree(first: int) -> None:
    failed = [outcome for seed in range(first, first + 10) if (outcome := play(seed)).failures]
    assert not failed, "\n".join(map(str, failed))


def test_a_seed_plays_the_same_evening_again() -> None:
    assert (play(7), play(7).story) == (play(7), play(7).story)


def test_the_watch_sees_a_blackhole_a_disagreement_and_a_flood() -> None:
    """As if data were swallowed while a way is there, and one end stayed behind."""
    world = World(1)
    world.add_relay()
    one, other = world.add_player("full cone"), world.add_player("full cone")
    watch = Watch(Model(world))
    for player in (one, other):
        player.start()
    world.run_until_ns(world.now_ns + 4000 * MS)
    watch.look()
    watch.look_at_quiet()
    assert not watch.failures
    world.run_until_ns(world.now_ns + 4000 * MS)
    watch.look()
    assert len(watch.failures) == 2
    assert "nothing from p1 at p2" in watch.failures[0]
    other.paths.drop_peer("p1")
    one.sent = 100_000
    watch.look_at_quiet()
    watch.look_at_rates()
    assert "p1 uses relay 9.9.9.1:3478, p2 uses nothing" in watch.failures[2]
    assert "p1 sent 100000" in watch.failures[3]
