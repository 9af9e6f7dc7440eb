"""What people read: states and reasons in words."""

from __future__ import annotations

import pytest

from events.path import PathQuality
from events.peer import Candidate
from lanrage import commands as c
from projections.lobby import Live, PeerView, status
from tests.playbook import ALICE, BOB, CAROL, Playbook

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


def connected_by(book: Playbook, path: PathQuality) -> PeerView:
    online(book)
    book.tell(c.NotePath(peer=BOB.peer, new=path))
    book.tell(c.NoteSession(peer=BOB.peer, established=True))
    return bob(book)


def classified(book: Playbook, mapping: str, filtering: str, *, theirs: tuple[str, str]) -> None:
    evidence = ("192.0.2.1:3478 sees 198.51.100.1:5000 (20 ms)",)
    book.tell(
        c.NoteBehaviour(
            mapping=mapping,
            filtering=filtering,
            hairpin="no",
            server="192.0.2.1:3478",
            evidence=evidence,
        )
    )
    book.tell(c.NotePeerNat(peer=BOB.peer, mapping=theirs[0], filtering=theirs[1], hairpin=""))


def test_a_forecast_is_told_before_anything_was_tried() -> None:
    book = Playbook.in_party(ALICE, BOB)
    assert bob(book).forecast.kind == "likely direct"
    classified(book, "port", "port", theirs=("port", "port"))
    assert bob(book).forecast.kind == "relay"
    assert (bob(book).nat, status(book.state).node.nat.nature) == ("hard NAT", "hard NAT")
    classified(book, "independent", "port", theirs=("independent", "port"))
    assert bob(book).forecast.kind == "direct"
    classified(book, "independent", "port", theirs=("blocked", "blocked"))
    assert bob(book).forecast.kind == "tcp"


def test_a_port_that_was_opened_and_ipv6_count_in_the_forecast() -> None:
    book = Playbook.in_party(ALICE, BOB)
    classified(book, "port", "port", theirs=("port", "port"))
    forwarded = (Candidate("forwarded", "198.51.100.9:26666"),)
    book.tell(c.NoteCandidates(peer=BOB.peer, generation=1, candidates=forwarded))
    assert bob(book).forecast.kind == "direct"
    ipv6 = (Candidate("host", "[2001:db8::9]:26666"),)
    book.tell(c.NoteCandidates(peer=BOB.peer, generation=2, candidates=ipv6))
    assert bob(book).forecast.kind == "relay"
    book.tell(c.NoteAddresses(addresses=("[2001:db8::1]:26666", "[fd00::1]:26666")))
    assert bob(book).forecast.kind == "likely direct"


def offered(book: Playbook) -> Playbook:
    relay = c.RelayOffer(relay="192.0.2.1:3478", region="eu", tcp="wss://192.0.2.1:443", boot="00")
    book.tell(c.NoteRelays(party=book.state.party, relays=(relay,)))
    return book


def test_a_relayed_path_names_the_relay_its_region_and_why() -> None:
    book = offered(Playbook.in_party(ALICE, BOB))
    path = PathQuality(kind="relay", address="192.0.2.1:3478", rtt_us=1, relay="192.0.2.1:3478")
    classified(book, "port", "port", theirs=("port", "port"))
    shown = connected_by(book, path)
    assert shown.path
    assert shown.path.via == "the relay 192.0.2.1:3478 (eu)"
    assert "Both routers give every destination another port" in shown.why
    classified(book, "independent", "port", theirs=("independent", "port"))
    assert "goes on being tried" in bob(book).why


def test_a_path_through_a_friend_bears_its_name() -> None:
    book = Playbook.in_party(ALICE, BOB, CAROL)
    path = PathQuality(kind="relay", address="192.0.2.9:1", rtt_us=1, relay=CAROL.peer)
    assert connected_by(book, path).why.startswith("Through carol.")


def test_tcp_is_explained_by_whose_network_blocks_udp() -> None:
    book = offered(Playbook.in_party(ALICE, BOB))
    path = PathQuality(kind="tcp", address="192.0.2.1:443", rtt_us=1, relay="192.0.2.1:3478")
    classified(book, "independent", "port", theirs=("blocked", "blocked"))
    shown = connected_by(book, path)
    assert "UDP is blocked at bob" in shown.why
    assert "Expect delay" in shown.why


def test_a_doubted_path_says_so_until_it_answers() -> None:
    book = Playbook.in_party(ALICE, BOB)
    connected_by(book, WAN)
    book.tell(c.NoteDoubt(peer=BOB.peer, path=WAN, ms=2_100))
    assert "silent for 2100 ms" in bob(book).doubt
    assert bob(book).why.startswith("Not sure")
    book.tell(c.NoteDoubt(peer=BOB.peer, path=WAN, ms=2_900, trusted=True))
    assert bob(book).doubt == ""


def test_relays_are_listed_with_how_we_are_bound_to_them() -> None:
    book = offered(Playbook.in_party(ALICE, BOB))
    assert (status(book.state).relays[0].carrier, status(book.state).relays[0].region) == ("", "eu")
    at = "198.51.100.1:5000"
    book.tell(c.NoteRelayBound(relay="192.0.2.1:3478", carrier="tcp", address=at, rtt_us=20_500))
    assert (status(book.state).relays[0].carrier, status(book.state).relays[0].rtt_ms) == (
        "tcp",
        20.5,
    )
