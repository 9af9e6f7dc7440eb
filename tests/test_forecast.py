"""The table of what may be expected, row by row, and that both sides expect the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanrage.forecast import DIRECT, LIKELY, RELAY, TCP, Side, forecast, nature

ME, YOU = "ada", "bob"
EASY = Side(ME, "independent", "port", "no")
CONE = Side(ME, "independent", "independent", "no")
ADDRESS = Side(ME, "independent", "address", "no")
HARD = Side(ME, "port", "port", "no")
PUBLIC = Side(ME, "none", "none")
FIREWALLED = Side(ME, "none", "port")
BLOCKED = Side(ME, "blocked", "blocked")
UNKNOWN = Side(ME)
HOME = frozenset({"198.51.100.7"})


@pytest.mark.parametrize(
    ("mine", "theirs", "kind"),
    [
        (EASY, EASY, DIRECT),
        (EASY, CONE, DIRECT),
        (EASY, FIREWALLED, DIRECT),
        (HARD, CONE, DIRECT),
        (HARD, ADDRESS, DIRECT),
        (HARD, PUBLIC, DIRECT),
        (HARD, EASY, RELAY),
        (HARD, FIREWALLED, RELAY),
        (HARD, HARD, RELAY),
        (HARD, HARD._replace(forwarded=True), DIRECT),
        (HARD._replace(ipv6=True), HARD._replace(ipv6=True), LIKELY),
        (HARD._replace(ipv6=True), HARD, RELAY),
        (EASY._replace(outside=HOME), EASY._replace(outside=HOME), LIKELY),
        (HARD._replace(outside=HOME), HARD._replace(outside=HOME), LIKELY),
        (
            EASY._replace(outside=HOME, hairpin="yes"),
            EASY._replace(outside=HOME, hairpin="yes"),
            DIRECT,
        ),
        (BLOCKED, PUBLIC, TCP),
        (BLOCKED, BLOCKED, TCP),
        (UNKNOWN, EASY, LIKELY),
        (UNKNOWN, UNKNOWN, LIKELY),
        (UNKNOWN, HARD, RELAY),
        (Side(ME, "independent"), HARD, RELAY),
    ],
)
def test_every_row_of_the_table(mine: Side, theirs: Side, kind: str) -> None:
    assert forecast(mine, theirs._replace(name=YOU)).kind == kind
    assert forecast(theirs, mine._replace(name=YOU)).kind == kind


def test_the_reason_names_whose_router_it_is() -> None:
    assert "UDP is blocked at bob" in forecast(EASY, BLOCKED._replace(name=YOU)).why
    assert "The router of bob changes ports" in forecast(EASY, HARD._replace(name=YOU)).why
    assert "bob can be reached by anybody" in forecast(HARD, CONE._replace(name=YOU)).why
    assert "opened a port" in forecast(HARD._replace(forwarded=True), EASY).why


BEHAVIOURS = ["", "none", "independent", "address", "port", "blocked"]
SIDES = st.builds(
    Side,
    name=st.sampled_from([ME, YOU]),
    mapping=st.sampled_from(BEHAVIOURS),
    filtering=st.sampled_from(BEHAVIOURS),
    hairpin=st.sampled_from(["", "yes", "no"]),
    forwarded=st.booleans(),
    ipv6=st.booleans(),
    outside=st.sampled_from([frozenset[str](), HOME, frozenset({"203.0.113.1"})]),
)


@given(SIDES, SIDES)
def test_both_sides_expect_the_same_and_can_say_why(mine: Side, theirs: Side) -> None:
    said = forecast(mine, theirs)
    assert said.kind == forecast(theirs, mine).kind
    assert said.kind in (DIRECT, LIKELY, RELAY, TCP)
    assert said.why.endswith(".")


@given(SIDES, SIDES)
def test_knowing_that_a_port_is_open_never_makes_it_worse(mine: Side, theirs: Side) -> None:
    order = [DIRECT, LIKELY, RELAY, TCP]
    before, after = (forecast(each, theirs) for each in (mine, mine._replace(forwarded=True)))
    assert order.index(after.kind) <= order.index(before.kind)


@pytest.mark.parametrize("mapping", BEHAVIOURS)
@pytest.mark.parametrize("filtering", BEHAVIOURS)
def test_a_class_is_silent_only_about_what_is_not_known(mapping: str, filtering: str) -> None:
    assert bool(nature(mapping, filtering)) == bool(mapping)
