"""What people read: states and reasons in words."""

from __future__ import annotations

import pytest

from events.path import PathQuality
from events.peer import Candidate
from lanrage import commands as c
from projections.lobby import Live, PeerView, status
from tests.playbook import ALICE, BOB, Playbook

WAN = PathQuality(kind="direct", address="198.51.100.9:26666", rtt_us=40_000)
LAN = PathQuality(kind="direct", address="192.168.1.7:26666", rtt_us=900)
CANDIDATES = (Candidate("host", LAN.address), Candidate("mapped", WAN.address))


def bob(book: Playbook, live: Live | None = None) -> PeerView:
    return status(book.state, {BOB.peer: live} if live else None).peers[0]


def online(book: Playbook) -> Playbook:
    book.tell(c.NotePresence(party=book.state.party, online=(BOB.peer,)))
    return book


def test_without_a_party_there_is_none_and_no_peers() -> None:
    shown = status(Playbook(ALICE).state)
    assert shown.party is None
    assert shown.peers == ()
    assert shown.node.address == ""


def test_a_member_goes_from_offline_to_connected_with_a_reason_at_each_step() -> None:
    book = Playbook.in_party(ALICE, BOB)
    assert (bob(book).state, "not running" in bob(book).why) == ("offline", True)
    online(book)
    assert (bob(book).state, "Waiting for bob" in bob(book).why) == ("connecting", True)
    book.tell(c.NoteCandidates(peer=BOB.peer, generation=1, candidates=CANDIDATES))
    assert "Trying 2 addresses" in bob(book).why
    book.tell(c.NotePath(peer=BOB.peer, new=WAN, took_ms=80))
    assert (bob(book).state, "session is starting" in bob(book).why) == ("connecting", True)
    book.tell(c.NoteSession(peer=BOB.peer, established=True))
    assert bob(book).state == "connected"
    assert "through both routers" in bob(book).why


@pytest.mark.parametrize(
    ("quality", "words"),
    [
        (LAN, "own address"),
        (WAN, "through both routers"),
        (PathQuality(kind="direct", address="192.0.2.77:1", rtt_us=1), "were seen to come from"),
        (PathQuality(kind="relay", address="192.0.2.1:1", rtt_us=1), "relay"),
        (PathQuality(kind="tcp", address="192.0.2.1:1", rtt_us=1), "expect delay"),
    ],
)
def test_every_kind_of_path_says_why(quality: PathQuality, words: str) -> None:
    book = online(Playbook.in_party(ALICE, BOB))
    book.tell(c.NoteCandidates(peer=BOB.peer, generation=1, candidates=CANDIDATES))
    book.tell(c.NotePath(peer=BOB.peer, new=quality))
    book.tell(c.NoteSession(peer=BOB.peer, established=True))
    assert words in bob(book).why


def test_no_direct_path_is_said_in_the_words_of_its_evidence() -> None:
    book = online(Playbook.in_party(ALICE, BOB))
    book.tell(c.NoteCandidates(peer=BOB.peer, generation=1, candidates=CANDIDATES))
    reason = "None of 2 addresses answered within 5 s."
    book.tell(c.NoteUnreachable(peer=BOB.peer, tried=(WAN.address,), after_ms=5000, reason=reason))
    assert bob(book).why == reason


def test_a_lost_path_says_why_until_there_is_another() -> None:
    book = online(Playbook.in_party(ALICE, BOB))
    book.tell(c.NoteCandidates(peer=BOB.peer, generation=1, candidates=CANDIDATES))
    book.tell(c.NotePath(peer=BOB.peer, new=WAN, took_ms=80))
    reason = "no answer for 2.9 s, and there is no other"
    book.tell(c.NotePath(peer=BOB.peer, old=WAN, reason=reason))
    assert (bob(book).why, bob(book).path) == (reason, None)
    book.tell(c.NotePath(peer=BOB.peer, new=LAN, took_ms=80))
    assert reason not in bob(book).why


def test_control_out_of_reach_is_named_but_a_working_path_stays() -> None:
    book = online(Playbook.in_party(ALICE, BOB))
    book.tell(c.NotePath(peer=BOB.peer, new=WAN))
    book.tell(c.NoteSession(peer=BOB.peer, established=True))
    url = book.state.control.connected
    book.tell(c.NoteControl(party=book.state.party, url=url, connected=False, reason="refused"))
    assert bob(book).state == "connected"
    book.tell(c.NotePath(peer=BOB.peer, old=WAN, reason="no answer"))
    assert bob(book).state == "offline"
    assert "refused" in bob(book).why


def test_live_figures_replace_those_of_the_event() -> None:
    book = online(Playbook.in_party(ALICE, BOB))
    book.tell(c.NotePath(peer=BOB.peer, new=WAN))
    path = bob(book, Live(rtt_us=12_340, loss_permille=20, rx_bytes=5)).path
    assert path is not None
    assert (path.rtt_ms, path.loss) == (12.34, 0.02)


def test_without_control_nothing_is_blamed_on_the_router() -> None:
    book = Playbook.in_party(ALICE, BOB)
    party = book.state.party
    book.tell(c.NoteControl(party=party, url="", connected=False, reason="refused"))
    assert "out of reach" in status(book.state).node.nat.words


def test_the_router_is_described_for_a_person() -> None:
    book = Playbook.in_party(ALICE, BOB)
    assert "No server has answered" in status(book.state).node.nat.words
    book.tell(c.NoteAddresses(addresses=("192.168.0.2:26666",)))
    book.tell(c.NoteMapping(server="a:1", mapped="198.51.100.1:5000"))
    assert "Behind a router" in status(book.state).node.nat.words
    book.tell(c.NoteMapping(server="c:1", mapped="[2001:db8::1]:5000"))
    assert "Behind a router" in status(book.state).node.nat.words
    book.tell(c.NoteMapping(server="b:1", mapped="198.51.100.1:5001"))
    assert "another port" in status(book.state).node.nat.words
