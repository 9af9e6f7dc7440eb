"""Rounds and their pauses."""

from __future__ import annotations

from lanrage.tunnel.rounds import LOOK_STEPS_NS, MS, PROBE_STEPS_NS, Rounds


def test_a_round_ends_after_its_steps_and_missed_ones_are_not_made_up_for() -> None:
    rounds = Rounds()
    assert rounds.is_over
    rounds.start(LOOK_STEPS_NS, 0)
    rounds.advance(0)
    assert rounds.due_ns() == 100 * MS
    assert not rounds.is_due(99 * MS)
    rounds.advance(450 * MS)
    assert rounds.due_ns() == 900 * MS
    rounds.advance(900 * MS)
    assert rounds.is_over
    assert rounds.due_ns() is None


def test_pauses_grow_to_30_s_and_may_end_a_sixteenth_early() -> None:
    rounds, pauses = Rounds(), []
    for _ in range(6):
        rounds.start_pause(0)
        pauses.append((rounds.due_ns() or 0) // (1000 * MS))
    assert pauses == [2, 4, 8, 16, 30, 30]
    assert rounds.is_pausing
    assert not rounds.is_due(28_000 * MS)
    assert rounds.is_due(28_200 * MS)
    rounds.start(PROBE_STEPS_NS, 0)
    assert rounds.is_probing
    assert not rounds.is_pausing
