"""Every kind of router against every other: each pair connects, and directly where it can.

The table that is printed, and its figures against their targets, are bench/matrix.py's; here times
are bounded generously, since other tests share the machine.
"""

from __future__ import annotations

import itertools

import pytest

from bench.matrix import SEATS, Pair, Result, expected, judge, measure, table, topology
from lanrage.lab.topology import problem

FIRST_MS_MAX = 6_000
DIRECT_MS_MAX = 10_000


@pytest.fixture(scope="module")
def result() -> Result:
    return measure()


def words(pairs: list[Pair]) -> str:
    return "\n" + "\n".join(str(pair) for pair in pairs)


@pytest.mark.root
@pytest.mark.timeout(240)
def test_every_pair_connects(result: Result) -> None:
    print(table(result.pairs))
    bad = [p for p in result.pairs if p.first_ms is None or p.first_ms > FIRST_MS_MAX]
    bad += [p for p in result.pairs if "" in p.kinds]
    assert not bad, words(bad)


@pytest.mark.root
@pytest.mark.timeout(240)
def test_every_pair_that_can_be_direct_is_and_soon(result: Result) -> None:
    possible = [p for p in result.pairs if p.expected == "direct"]
    bad = [p for p in possible if p.kinds != ("direct", "direct")]
    bad += [p for p in possible if p.direct_ms is None or p.direct_ms > DIRECT_MS_MAX]
    assert not bad, words(bad)


@pytest.mark.root
@pytest.mark.timeout(240)
def test_only_who_has_no_udp_uses_tcp(result: Result) -> None:
    """So the lab's routers are what they are called, and nobody was direct by accident."""
    no_udp = {seat.name for seat in SEATS if not seat.udp}
    for pair in result.pairs:
        for name, kind in zip((pair.one, pair.other), pair.kinds, strict=True):
            if pair.expected == "direct":
                continue
            assert kind == ("tcp" if name in no_udp else "relay"), pair


BY_KIND = {seat.kind: seat for seat in SEATS}


@pytest.mark.parametrize(
    ("one", "other", "best"),
    [
        ("port-restricted", "remapped", "direct"),
        ("port-restricted", "symmetric", "relay"),
        ("port-restricted", "double NAT", "direct"),
        ("full-cone", "symmetric", "direct"),
        ("address-restricted", "symmetric", "direct"),
        ("symmetric", "carrier NAT", "relay"),
        ("double NAT", "carrier NAT", "relay"),
        ("hairpin one", "hairpin two", "direct"),
        ("hairpin one", "symmetric", "relay"),
        ("udp-blocked", "full-cone", "tcp"),
        ("udp-blocked", "https-only", "tcp"),
    ],
)
def test_what_two_routers_allow(one: str, other: str, best: str) -> None:
    assert expected(BY_KIND[one], BY_KIND[other]) == best
    assert expected(BY_KIND[other], BY_KIND[one]) == best


def test_the_lab_of_all_kinds_is_sound_and_every_pair_has_a_cell() -> None:
    assert problem(topology()) is None
    pairs = [
        Pair(
            one=one.name,
            other=other.name,
            expected=expected(one, other),
            kinds=("relay", ""),
            first_ms=100.0,
            direct_ms=None,
        )
        for one, other in itertools.combinations(SEATS, 2)
    ]
    assert table(pairs).count("none 100") == len(pairs) == 55
    assert judge(pairs).unconnected == 55
