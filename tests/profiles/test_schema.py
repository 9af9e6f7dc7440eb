"""A profile's text either becomes a profile or a list of mistakes that a player can mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.schema import Profile, parse, published

PROFILES = Path(__file__).parent.parent.parent / "profiles"
PORT = {"protocol": "udp", "first": 3979, "use": "game"}
GAME: dict[str, Any] = {"id": "a-game", "name": "A Game", "ports": [PORT]}


def mistakes(**changed: Any) -> tuple[str, ...]:
    found = parse(msgspec.json.encode(GAME | changed), "a-game.json")
    return () if isinstance(found, Profile) else found


def test_a_profile_keeps_what_its_file_says() -> None:
    found = parse(msgspec.json.encode(GAME | {"mtu": 1300, "dscp": 32}), "a-game.json")
    assert isinstance(found, Profile)
    assert (found.id, found.mtu, found.dscp, found.ports[0].first) == ("a-game", 1300, 32, 3979)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"mtu": 9000}, "mtu"),
        ({"mtu": 576}, "mtu"),
        ({"dscp": 64}, "dscp"),
        ({"keepalive_s": -1}, "keepalive_s"),
        ({"id": "../../etc/passwd"}, "id"),
        ({"id": ""}, "id"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"ports": [PORT | {"first": 65_536}]}, "ports[0].first"),
        ({"ports": [PORT, PORT | {"first": 9, "last": 8}]}, "ports[1].last"),
        ({"ports": [PORT | {"protocol": "sctp"}]}, "ports[0].protocol"),
        ({"ports": [PORT] * 33}, "ports"),
        ({"groups": ["192.0.2.1"]}, "groups[0]"),
        ({"groups": ["nonsense"]}, "groups[0]"),
        ({"groups": ["224.0.2.60"]}, "groups"),
        ({"sources": [{"facts": ["ports"], "confidence": "sure", "reference": "x"}]}, "sources[0]"),
    ],
)
def test_a_mistake_is_named_by_file_and_field(changed: dict[str, Any], field: str) -> None:
    line = mistakes(**changed)[0]
    assert line.startswith(f"a-game.json: {field}")


def test_a_misspelt_field_is_a_mistake() -> None:
    (line,) = mistakes(keepalive=25)
    assert "keepalive" in line


@given(st.binary(max_size=400))
def test_no_text_raises(text: bytes) -> None:
    found = parse(text, "any.json")
    assert isinstance(found, Profile) or all(line.startswith("any.json: ") for line in found)


def test_text_nested_without_end_is_a_mistake() -> None:
    assert isinstance(parse(b"[" * 100_000, "deep.json"), tuple)


def test_the_published_schema_is_the_one_in_use() -> None:
    assert (PROFILES / "schema.json").read_bytes() == published()
