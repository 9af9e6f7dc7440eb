"""The codes of a party without a server: golden ones, and everything that can happen on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanrage.protocols import pact
from lanrage.protocols.pact import Answer, Offer
from lanrage.protocols.partylog import Invalid, text_of

GOLDEN = Path(__file__).parents[1] / "data" / "pact" / "v1.txt"
SECRET = bytes(range(16))
PLACES = ("198.51.100.4:26666", "[2001:db8::9]:26666", "192.168.1.20:26666")
OFFER = Offer(
    party=text_of(bytes(range(32))),
    wireguard=bytes(range(32, 64)),
    secret=SECRET,
    expires_at=1_795_000_000,
    number=1,
    port=8667,
    places=PLACES,
)
BOB = bytes(range(64, 96))
CODE = pact.offer_code(OFFER)


def answer(places: tuple[str, ...] = ("198.51.100.9:40001",)) -> str:
    return pact.answer_code(BOB, places, SECRET)


def test_the_codes_are_what_they_always_were_and_read_back() -> None:
    assert GOLDEN.read_text().split() == [CODE, answer()]
    assert pact.parse(CODE) == OFFER
    read = pact.parse(answer())
    assert isinstance(read, Answer)
    assert (read.wireguard, read.places) == (BOB, ("198.51.100.9:40001",))


def test_an_answer_belongs_to_one_offer() -> None:
    read = pact.parse(answer())
    assert isinstance(read, Answer)
    assert read.is_to(SECRET)
    assert not read.is_to(bytes(16))


def test_what_a_chat_does_to_a_code_does_no_harm() -> None:
    wrapped = f"> `{CODE[:70]}\n {CODE[70:]}`\r\n"
    assert pact.is_code(wrapped)
    assert pact.parse(wrapped) == OFFER
    assert not pact.is_code("lanrage://join#TFIB")


@given(st.integers(0, len(CODE) - 1))
def test_half_of_a_code_is_never_a_code(length: int) -> None:
    read = pact.parse(CODE[:length])
    assert isinstance(read, Invalid)
    assert read.code in ("foreign", "truncated", "damaged")


@given(st.integers(4, len(CODE) - 2), st.sampled_from("ABCDwxyz0189-_"))
def test_a_wrong_letter_is_noticed(place: int, letter: str) -> None:
    wrong = CODE[:place] + letter + CODE[place + 1 :]
    assert pact.parse(wrong) == OFFER if wrong == CODE else isinstance(pact.parse(wrong), Invalid)


@given(st.text(max_size=300))
def test_any_text_is_read_without_harm(text: str) -> None:
    pact.parse(text)
    pact.parse("LR1-" + text)


def test_a_newer_code_is_told_as_that() -> None:
    assert pact.parse("LR2-" + CODE[4:]) == Invalid(
        "newer", "this code was made by a newer LANrage"
    )


@pytest.mark.parametrize("place", ["127.0.0.1:1", "224.0.0.1:1", "[fe80::1]:1", "192.0.2.1:0"])
def test_places_where_nobody_can_be_are_refused(place: str) -> None:
    nowhere = bytes.fromhex("04 0000 c0000201")
    packed = nowhere if place.endswith(":0") else pact._packed((place,))
    assert pact._unpacked(packed) is None


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(OFFER)
    assert SECRET.hex() not in repr(OFFER)
    assert pact.invite_seed(SECRET) != pact.invite_seed(bytes(16))
