"""What ought to be, where the state alone decides it."""

from __future__ import annotations

from msgspec.structs import replace

from lanrage import commands as c
from projections import mesh
from projections.wanted import wanted
from tests.playbook import ALICE, BOB, Playbook


def test_our_own_control_is_not_asked_how_it_sees_us() -> None:
    """It sees us on loopback, which says nothing of our router."""
    state = Playbook.in_party(ALICE, BOB).state
    assert wanted(state).servers == state.control.urls
    embedded = wanted(replace(state, control=replace(state.control, embedded=True)))
    assert embedded.servers == ()
    assert embedded.serve


def test_nobody_is_told_anything_while_control_is_out_of_reach() -> None:
    book = Playbook.in_party(ALICE, BOB)
    book.tell(c.NoteAddresses(addresses=("192.168.0.2:26666",)))
    book.tell(c.NotePresence(party=book.state.party, online=(BOB.peer,)))
    assert list(wanted(book.state).told) == [BOB.peer]
    lost = c.NoteControl(party=book.state.party, url="", connected=False, reason="it hung up")
    book.tell(lost)
    assert wanted(book.state).told == {}


def test_inside_a_tunnel_members_are_told_without_control_and_by_it_again_when_it_is_back() -> None:
    book = Playbook.in_party(ALICE, BOB)
    party = book.state.party
    book.tell(c.NoteAddresses(addresses=("192.168.0.2:26666",)))
    book.tell(c.NotePresence(party=party, online=(BOB.peer,)))
    before = wanted(book.state).told
    book.tell(c.NoteSession(peer=BOB.peer, established=True, took_ms=9))
    book.tell(c.NoteControl(party=party, url="", connected=False, reason="it hung up"))
    within = wanted(book.state).told
    assert within.keys() == before.keys()
    assert within != before


def test_the_generation_of_our_addresses_survives_a_restart() -> None:
    """Members ignore a list that is not newer than the one they know, whatever our clock says."""
    book = Playbook.in_party(ALICE, BOB)
    here = c.NoteAddresses(addresses=("192.168.0.2:26666",))
    book.tell(here)
    before = book.state.nat.generation
    book.now_ms -= 1_000_000
    book.tell(
        c.OpenSession(
            version="0", platform="t", peer=ALICE.peer, name="alice", wireguard=ALICE.wireguard
        )
    )
    assert book.state.nat == mesh.Nat(generation=before)
    book.tell(here)
    assert book.state.nat.generation == before + 1
