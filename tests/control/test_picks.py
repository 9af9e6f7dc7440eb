"""Which relays a party is offered, and which each pair uses."""

from __future__ import annotations

from lanrage.control.messages import Pick
from lanrage.control.picks import OFFERED_MAX, Candidate, Picks, offered

EU = [Candidate(f"eu{n}", "eu", n) for n in range(5)]
US = [Candidate(f"us{n}", "us", n) for n in range(5)]
AS = [Candidate(f"as{n}", "as", n) for n in range(5)]


def test_at_first_a_party_gets_relays_of_every_region_the_least_busy_first() -> None:
    assert set(offered([*EU, *US, *AS], [], ())) == {"eu0", "us0", "as0", "as1"}


def test_few_relays_are_all_offered() -> None:
    assert set(offered([EU[0], US[0]], [], ())) == {"eu0", "us0"}
    assert offered([], [], ("eu0",)) == ()


def test_once_measured_the_nearest_region_fills_up_and_then_nothing_wanders() -> None:
    every = [*EU, *US, *AS]
    before = offered(every, [], ())
    rtts = {"eu0": 10, "us0": 90, "as0": 150, "as1": 160}
    second = offered(every, [rtts], before)
    assert len(second) == OFFERED_MAX
    assert second[:2] == ("eu0", "us0")
    assert set(second[2:]) == {"eu1", "eu2"}
    known = {**rtts, "eu1": 12, "eu2": 9}
    third = offered(every, [known], second)
    assert third[0] == "eu2"
    assert all(each.startswith("eu") for each in third)
    for eu3 in (1, 500):
        assert set(offered(every, [{**known, "eu3": eu3}], third)) == set(third)


def measured(**rtts: dict[str, int]) -> Picks:
    picks = Picks()
    picks.offer(("x", "y"))
    for peer, each in rtts.items():
        picks.measure(peer, each)
    return picks


def test_both_ends_get_the_relay_with_the_least_sum() -> None:
    picks = measured(ada={"x": 10, "y": 40}, bob={"x": 60, "y": 20})
    assert picks.of("ada") == (Pick(peer="bob", relay="y", sum_ms=60),)
    assert picks.of("bob") == (Pick(peer="ada", relay="y", sum_ms=60),)


def test_a_better_one_is_picked_only_when_it_is_better_by_10_ms_and_a_third() -> None:
    picks = measured(ada={"x": 30, "y": 35}, bob={"x": 30, "y": 35})
    for y, relay in ((21, "x"), (20, "y")):  # 42 of 60 is less than a third off, 40 is a third
        picks.measure("bob", {"x": 30, "y": y})
        picks.measure("ada", {"x": 30, "y": y})
        assert picks.of("ada")[0].relay == relay
    near = measured(ada={"x": 6, "y": 7}, bob={"x": 6, "y": 7})
    near.measure("ada", {"x": 6, "y": 0})
    near.measure("bob", {"x": 6, "y": 3})
    assert near.of("ada")[0].relay == "x", "3 of 12 ms is a third off and no gain"


def test_another_is_picked_at_once_when_the_picked_one_is_gone() -> None:
    picks = measured(ada={"x": 10, "y": 12}, bob={"x": 10, "y": 12})
    picks.offer(("y",))
    assert picks.of("ada")[0].relay == "y"
    picks.offer(("x", "y"))
    picks.measure("ada", {"x": 10})
    assert picks.of("bob")[0].relay == "x", "ada does not reach y any more"
    picks.measure("bob", {})
    assert picks.of("ada") == ()


def test_who_goes_takes_its_pairs_along() -> None:
    picks = measured(ada={"x": 1}, bob={"x": 1}, cat={"x": 1})
    version = picks.version
    picks.forget("bob")
    assert picks.version > version
    assert [each.peer for each in picks.of("ada")] == ["cat"]
    assert picks.of("bob") == ()


def test_who_comes_back_keeps_its_relay_unless_another_is_much_better() -> None:
    picks = measured(ada={"x": 10, "y": 12}, bob={"x": 10, "y": 12})
    picks.forget("bob")
    picks.measure("bob", {"x": 14, "y": 9})
    assert picks.of("ada") == (Pick(peer="bob", relay="x", sum_ms=24),)
    picks.forget("bob")
    picks.measure("bob", {"x": 60, "y": 9})
    assert picks.of("ada")[0].relay == "y"
