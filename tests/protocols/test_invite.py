"""Invite links: what goes in comes out, and what is wrong is named."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols import invite, partylog
from lanrage.protocols.invite import Invite
from lanrage.protocols.partylog import Invalid
from tests.protocols import party

DATA = Path(__file__).parent.parent / "data" / "control"
GOLDEN = (DATA / "invite-v1.txt").read_text().strip()
TICKET = party.Ticket("first")
PARTY = party.founded()
EXAMPLE = Invite(
    party=PARTY.party,
    seed=TICKET.seed,
    head=PARTY.head,
    length=1,
    control=("192.0.2.7:8667", "ws://[2001:db8::7]:8667", "wss://control.example.org"),
    name="Friday 🦊",
)


def code(text: str) -> str:
    parsed = invite.parse(text)
    assert isinstance(parsed, Invalid), parsed
    return parsed.code


def payload(link: str) -> bytes:
    text = link.partition("#")[2]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def link_of(payload: bytes) -> str:
    return invite.PREFIX + base64.urlsafe_b64encode(payload).decode().rstrip("=")


def test_a_link_reads_back_to_the_invite_it_was_made_from() -> None:
    assert invite.parse(invite.link(EXAMPLE)) == EXAMPLE


def test_old_links_still_read() -> None:
    assert invite.parse(GOLDEN) == EXAMPLE
    assert invite.link(EXAMPLE) == GOLDEN


def test_an_invite_is_named_as_in_the_chain() -> None:
    assert EXAMPLE.id == TICKET.id


def test_the_secret_is_not_shown_by_accident() -> None:
    assert TICKET.seed.hex() not in repr(EXAMPLE)
    assert repr(TICKET.seed) not in repr(EXAMPLE)


@pytest.mark.parametrize(
    "wrapping",
    [" {}\n", '"{}"', "'{}'", "<{}>", "`{}`", "\t{} \r\n"],
)
def test_what_chat_programs_put_around_a_link_does_not_matter(wrapping: str) -> None:
    assert invite.parse(wrapping.format(GOLDEN)) == EXAMPLE


def test_a_link_behind_a_web_page_is_read_too() -> None:
    fragment = GOLDEN.partition("#")[2]
    assert invite.parse(f"https://example.org/join#{fragment}") == EXAMPLE
    assert invite.parse(f"https://example.org/join?x=1#{fragment}==") == EXAMPLE


@pytest.mark.parametrize(
    "text",
    [
        *("", "hello", "https://example.org/", "https://example.org/#top", "lanrage://host"),
        *("lanrage://joinx#abc", "steam://run/1#TFI", "#", GOLDEN.partition("#")[2]),
    ],
)
def test_what_is_not_ours_is_called_foreign(text: str) -> None:
    assert code(text) == "foreign"


def test_every_cut_of_a_link_is_called_truncated() -> None:
    for end in range(len(invite.PREFIX), len(GOLDEN)):
        assert code(GOLDEN[:end]) == "truncated", end


def test_every_changed_byte_is_called_damaged() -> None:
    good = payload(GOLDEN)
    for at in range(5, len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x55
        assert code(link_of(bytes(bad))) == "damaged", at


def test_something_after_the_end_is_called_damaged() -> None:
    assert code(link_of(payload(GOLDEN) + b"\0")) == "damaged"
    assert code(GOLDEN + "!") == "foreign"


def test_a_newer_link_is_called_newer_only_if_it_is_whole() -> None:
    newer = bytearray(payload(GOLDEN)[:-4])
    newer[2] = 2
    checksum = hashlib.sha256(newer).digest()[:4]
    assert code(link_of(bytes(newer) + checksum)) == "newer"
    assert code(link_of(bytes(newer) + b"none")) == "damaged"


@pytest.mark.parametrize(
    "change",
    [
        {"control": ()},
        {"control": ("x",) * 9},
        {"control": ("",)},
        {"control": ("host port",)},
        {"control": ("h\nost",)},
        {"control": ("x" * 256,)},
        {"name": ""},
        {"name": "x" * 33},
        {"name": "a\u202eb"},
        {"length": 0},
        {"seed": b"short"},
    ],
)
def test_a_whole_link_with_impossible_content_is_called_damaged(change: dict[str, object]) -> None:
    fields = {each: getattr(EXAMPLE, each) for each in EXAMPLE.__struct_fields__} | change
    assert code(invite.link(Invite(**fields))) == "damaged"


@settings(max_examples=300)
@given(st.text(max_size=400))
def test_any_text_is_an_answer(text: str) -> None:
    for each in (text, invite.PREFIX + text):
        assert isinstance(invite.parse(each), Invalid)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_any_whole_payload_is_an_answer(body: bytes) -> None:
    framed = b"LR\x01" + len(body).to_bytes(2, "big") + body
    assert code(link_of(framed + hashlib.sha256(framed).digest()[:4])) == "damaged"


@given(
    name=st.text(max_size=40).map(partylog.clean_name),
    length=st.integers(1, 1 << 32),
    seed=st.binary(min_size=32, max_size=32),
    head=st.binary(min_size=32, max_size=32),
    control=st.lists(st.from_regex(r"[\x21-\x7e]{1,80}", fullmatch=True), min_size=1, max_size=8),
)
def test_any_invite_reads_back(
    name: str, length: int, seed: bytes, head: bytes, control: list[str]
) -> None:
    made = Invite(
        party=partylog.text_of(head),
        seed=seed,
        head=head.hex(),
        length=length,
        control=tuple(control),
        name=name,
    )
    assert invite.parse(invite.link(made)) == made
