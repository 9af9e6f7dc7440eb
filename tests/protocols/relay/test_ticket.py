"""Tickets: what control issues is what the relay reads, and nothing else counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanrage.protocols.relay import ticket, wire

GOLDEN = Path(__file__).parents[2] / "data" / "relay" / "ticket.hex"
KEY = bytes(range(32))
CLAIM = ticket.Ticket(bytes(range(16)), 258, bytes(range(100, 132)), 1_800_000_000)


def test_a_ticket_is_the_bytes_it_has_always_been() -> None:
    golden = bytes.fromhex(GOLDEN.read_text())
    assert ticket.issue(CLAIM, KEY) == golden
    assert ticket.check(golden, KEY, CLAIM.expires_s) == CLAIM


@given(st.integers(1, wire.MEMBER_MAX), st.binary(min_size=16, max_size=16))
def test_what_was_issued_is_read_again(member: int, party: bytes) -> None:
    claim = ticket.Ticket(party, member, bytes(32), 10)
    assert ticket.check(ticket.issue(claim, KEY), KEY, 10) == claim


@pytest.mark.parametrize("at", range(0, wire.TICKET_BYTES, 3))
def test_a_changed_ticket_is_none(at: int) -> None:
    changed = bytearray(ticket.issue(CLAIM, KEY))
    changed[at] ^= 1
    assert ticket.check(bytes(changed), KEY, 0) is None


def test_a_ticket_ends_a_little_after_its_time_and_is_for_one_relay() -> None:
    issued = ticket.issue(CLAIM, KEY)
    assert ticket.check(issued, KEY, CLAIM.expires_s + ticket.SLACK_S) == CLAIM
    assert ticket.check(issued, KEY, CLAIM.expires_s + ticket.SLACK_S + 1) is None
    assert ticket.check(issued, bytes(32), 0) is None


@given(st.binary(max_size=120))
def test_any_other_bytes_are_none(text: bytes) -> None:
    assert ticket.check(text, KEY, 0) is None


def test_a_number_of_a_guest_is_never_issued() -> None:
    with pytest.raises(AssertionError):
        ticket.issue(ticket.Ticket(bytes(16), wire.GUEST_MIN, bytes(32), 10), KEY)
