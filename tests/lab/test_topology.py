"""A lab's description: addresses, drawing, and what is wrong with a bad one."""

from __future__ import annotations

import msgspec
import pytest

from lanrage.lab.firewall import ruleset
from lanrage.lab.switch import Line
from lanrage.lab.topology import (
    Home,
    Kind,
    Router,
    Server,
    Topology,
    address6_of,
    address_of,
    draw,
    legs,
    problem,
    two_homes,
)

CARRIER = Topology(
    homes=(
        Home(name="isp", lan="100.64.0.0/24", router=Router(kind="symmetric")),
        Home(name="home1", computers=("alice",), uplink="isp"),
        Home(name="home2", computers=("carol",), line=Line(delay_ms=5, loss=0.01)),
    ),
    servers=(Server(name="control"),),
)


def test_addresses_follow_from_the_description() -> None:
    lab = two_homes()
    assert [(leg.node, leg.address) for leg in legs(lab)] == [
        ("control", "203.0.113.2"),
        ("home1", "203.0.113.10"),
        ("home2", "203.0.113.20"),
    ]
    assert address_of(lab, "bob") == "192.168.1.11"
    assert address_of(lab, "carol") == "192.168.2.10"
    assert address_of(CARRIER, "home1") == "100.64.0.200"


def test_the_drawing_shows_every_node_and_who_hangs_on_whom() -> None:
    assert draw(CARRIER) == (
        "public 203.0.113.0/24\n"
        "|- control       203.0.113.2     line 0 ms\n"
        "|- isp           203.0.113.10    symmetric, line 0 ms\n"
        "   |- home1      100.64.0.200    port-restricted\n"
        "      |- alice   192.168.2.10\n"
        "|- home2         203.0.113.30    port-restricted, line 5 ms, 1.0% lost\n"
        "   |- carol      192.168.3.10"
    )


def test_a_description_survives_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(CARRIER), type=Topology) == CARRIER


@pytest.mark.parametrize(
    ("homes", "words"),
    [
        ((Home(name="a", computers=("a",)),), "the same name"),
        ((Home(name="a b"),), "lower-case"),
        ((Home(name="../x"),), "lower-case"),
        ((Home(name="a", uplink="b"), Home(name="b")), "no earlier home"),
        ((Home(name="a", router=Router(kind="symmetric", hairpin=True)),), "hairpin"),
        (tuple(Home(name=f"a{n}") for n in range(25)), "room for"),
    ],
)
def test_a_bad_description_is_told_in_words(homes: tuple[Home, ...], words: str) -> None:
    assert words in (problem(Topology(homes=homes)) or "")


def test_only_the_symmetric_kind_randomizes_and_every_kind_drops_strays() -> None:
    kinds: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
    rules = {kind: ruleset(Router(kind=kind), "203.0.113.10") for kind in kinds}
    assert [kind for kind in kinds if "random" in rules[kind]] == ["symmetric"]
    for each in rules.values():
        assert 'iifname "wan" ct state new drop' in each


def test_the_drawing_shows_second_addresses_hairpins_and_ipv6() -> None:
    lab = Topology(
        homes=(Home(name="home1", computers=("alice",), router=Router(hairpin=True)),),
        servers=(Server(name="control", alternate=True),),
        ipv6=True,
    )
    assert draw(lab) == (
        "public 203.0.113.0/24 2001:db8::/48\n"
        "|- control       203.0.113.2     line 0 ms, also 203.0.113.242\n"
        "|- home1         203.0.113.10    port-restricted, hairpin, line 0 ms\n"
        "   |- alice      192.168.1.10    2001:db8:0:1::10"
    )
    assert problem(lab) is None
    assert address6_of(lab, "control") == "2001:db8::2"
    assert address6_of(lab, "home1") == "2001:db8::a"
