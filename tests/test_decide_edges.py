"""The rules at their edges: repeated reports are no news, lists are bounded, lies are seen."""

from __future__ import annotations

import pytest

from events import nat, party, path, session
from lanrage import commands as c
from lanrage.decide import CANDIDATES_MAX, find_member
from lanrage.protocols import partylog
from tests.playbook import ALICE, BOB, Playbook, party_of


def test_a_chain_of_another_party_does_not_let_us_in() -> None:
    book = Playbook(BOB)
    _, records = party_of(BOB)
    refusal = book.refused(
        c.Enter(party="another", control=("ws://c",), embedded=False, records=records)
    )
    assert refusal.code == "not_member"


def test_control_that_stays_out_of_reach_is_said_once_for_each_reason() -> None:
    book = Playbook.in_party(ALICE, BOB)
    of = book.state.party
    lost = c.NoteControl(party=of, url="ws://c", connected=False, reason="it hung up")
    assert [type(each) for each in book.tell(lost)] == [party.ControlLost]
    assert book.tell(lost) == ()
    other = c.NoteControl(party=of, url="ws://c", connected=False, reason="it did not answer")
    assert [type(each) for each in book.tell(other)] == [party.ControlLost]


def test_members_are_told_a_bounded_number_of_our_addresses() -> None:
    book = Playbook.in_party(ALICE, BOB)
    many = tuple(f"192.168.0.{each}:26666" for each in range(1, CANDIDATES_MAX + 9))
    book.tell(c.NoteAddresses(addresses=many))
    assert [each.address for each in book.state.nat.candidates] == list(many[:CANDIDATES_MAX])


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (c.NoteProbing(peer=BOB.peer, addresses=("192.0.2.1:1",)), path.PathProbing),
        (c.NoteLabel(label="Full cone", server="192.0.2.1:1"), nat.NatLabelled),
        (c.CloseSession(reason="stopped"), session.SessionEnded),
    ],
)
def test_the_same_report_again_is_no_news(command: c.Reported, event: type) -> None:
    book = Playbook.in_party(ALICE, BOB)
    assert [type(each) for each in book.tell(command)] == [event]
    assert book.tell(command) == ()


def test_an_id_may_be_written_in_capitals() -> None:
    book = Playbook.in_party(ALICE, BOB)
    found = find_member(book.state, BOB.peer[:9].upper())
    assert isinstance(found, partylog.Member)
    assert found.peer == BOB.peer
