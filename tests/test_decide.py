"""The rules, as transcripts: what a report means to a node in a given state."""

from __future__ import annotations

import msgspec
import pytest

from events import nat, party, path, peer, tunnel
from events.path import PathQuality
from events.peer import Candidate
from lanrage import commands as c
from lanrage.decide import check, decide, find_member
from lanrage.protocols import partylog
from lanrage.refusal import Refusal
from projections import mesh
from tests.playbook import ALICE, BOB, CAROL, NOW_MS, Playbook, grown, joined, party_of

LAN = PathQuality(kind="direct", address="192.168.1.7:26666", rtt_us=900)
WAN = PathQuality(kind="direct", address="198.51.100.9:26666", rtt_us=40_000)


def types(events: tuple[object, ...]) -> list[type]:
    return [type(event) for event in events]


def test_entering_stores_the_whole_verified_chain() -> None:
    book = Playbook(BOB)
    chain, records = party_of(BOB)
    events = book.tell(
        c.Enter(party=chain.party, control=("ws://c",), embedded=False, records=records)
    )
    assert types(events) == [
        party.PartyEntered,
        party.PartyCreated,
        party.InviteIssued,
        peer.PeerJoined,
    ]
    assert book.state.chain == chain
    assert book.state.chain.members[BOB.peer].address == "10.66.0.2"
    assert list(book.state.peers) == [ALICE.peer]


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_one_altered_record_refuses_the_whole_chain(broken: int) -> None:
    book = Playbook(BOB)
    chain, records = party_of(BOB)
    flipped = bytes([*records[broken][:-1], records[broken][-1] ^ 1])
    lie = (*records[:broken], flipped, *records[broken + 1 :])
    refusal = book.refused(
        c.Enter(party=chain.party, control=("ws://c",), embedded=False, records=lie)
    )
    assert refusal.what == "Refused the party's records"
    assert book.state.party == ""


def test_a_chain_without_us_does_not_let_us_in() -> None:
    book = Playbook(CAROL)
    chain, records = party_of(BOB)
    refusal = book.refused(
        c.Enter(party=chain.party, control=("ws://c",), embedded=False, records=records)
    )
    assert refusal.code == "not_member"


def test_a_new_record_becomes_one_event_and_a_repeated_one_none() -> None:
    book = Playbook.in_party(ALICE)
    before = book.state.chain
    record = joined(before, BOB)
    news = c.AcceptRecords(party=before.party, after=before.length, records=(record,))
    assert types(book.tell(news)) == [peer.PeerJoined]
    assert book.tell(news) == ()
    overlapping = c.AcceptRecords(
        party=before.party,
        after=before.length,
        records=(record, joined(book.state.chain, CAROL)),
    )
    assert types(book.tell(overlapping)) == [peer.PeerJoined]
    assert list(book.state.peers) == [BOB.peer, CAROL.peer]


def test_a_contradicting_history_is_refused_and_said_once() -> None:
    book = Playbook.in_party(ALICE)
    chain, _ = party_of()
    stale = joined(chain, BOB)
    book.tell(c.AcceptRecords(party=chain.party, after=chain.length, records=(stale,)))
    held = book.state.chain
    other = joined(chain, CAROL)
    lie = c.AcceptRecords(party=chain.party, after=held.length, records=(other,))
    assert types(book.tell(lie)) == [party.PartyForked]
    assert book.tell(lie) == ()
    assert book.state.chain == held


def test_records_after_a_gap_are_refused() -> None:
    book = Playbook.in_party(ALICE)
    chain = book.state.chain
    refusal = book.refused(
        c.AcceptRecords(party=chain.party, after=chain.length + 1, records=(joined(chain, BOB),))
    )
    assert refusal.code == "gap"


def test_being_kicked_ends_the_party_here() -> None:
    book = Playbook.in_party(BOB, BOB)
    chain = book.state.chain
    kick = partylog.kick(ALICE.signer, chain, peer=BOB.peer, at_ms=NOW_MS)
    assert isinstance(kick, bytes)
    events = book.tell(c.AcceptRecords(party=chain.party, after=chain.length, records=(kick,)))
    assert types(events) == [peer.PeerKicked, party.PartyExited]
    assert book.state.party == ""
    assert book.state.chain == partylog.EMPTY


def test_presence_tells_only_what_changed() -> None:
    book = Playbook.in_party(ALICE, BOB, CAROL)
    of = book.state.party
    everyone = (ALICE.peer, BOB.peer, CAROL.peer)
    assert types(book.tell(c.NotePresence(party=of, online=everyone))) == [
        peer.PeerOnline,
        peer.PeerOnline,
    ]
    assert book.tell(c.NotePresence(party=of, online=everyone)) == ()
    gone = book.tell(c.NotePresence(party=of, online=(ALICE.peer, CAROL.peer)))
    assert gone == (peer.PeerOffline(peer=BOB.peer, reason="left control"),)


def test_older_candidates_are_ignored() -> None:
    book = Playbook.in_party(ALICE, BOB)
    here = (Candidate("host", "192.168.1.7:26666"),)
    there = (Candidate("mapped", "198.51.100.9:26666"),)
    newer = c.NoteCandidates(peer=BOB.peer, generation=7, candidates=here)
    older = c.NoteCandidates(peer=BOB.peer, generation=6, candidates=there)
    assert types(book.tell(newer)) == [peer.PeerCandidates]
    assert book.tell(older) == ()
    assert book.tell(newer) == ()
    assert book.state.peers[BOB.peer].candidates == here


def test_candidates_are_gathered_anew_with_a_growing_generation() -> None:
    book = Playbook.in_party(ALICE, BOB)
    first = book.tell(c.NoteAddresses(addresses=("192.168.0.2:26666",)))
    assert types(first) == [nat.NatGathered]
    second = book.tell(c.NoteMapping(server="c:1", mapped="198.51.100.9:4000", rtt_ms=40))
    assert types(second) == [nat.NatMapped, nat.NatGathered]
    assert [each.kind for each in book.state.nat.candidates] == ["host", "mapped"]
    assert book.tell(c.NoteMapping(server="c:1", mapped="198.51.100.9:4000", rtt_ms=41)) == ()
    lost = book.tell(c.NoteMapping(server="c:1", reason="no answer"))
    assert types(lost) == [nat.NatUnmapped, nat.NatGathered]
    generations = [e.generation for e in (*first, *second, *lost) if isinstance(e, nat.NatGathered)]
    assert generations == sorted(set(generations))
    assert generations[0] == NOW_MS


def test_a_mapping_that_is_our_own_address_is_not_listed_twice() -> None:
    book = Playbook.in_party(ALICE, BOB)
    book.tell(c.NoteAddresses(addresses=("203.0.113.5:26666",)))
    book.tell(c.NoteMapping(server="c:1", mapped="203.0.113.5:26666", rtt_ms=1))
    assert book.state.nat.candidates == (Candidate("host", "203.0.113.5:26666"),)


def test_a_path_opens_switches_and_is_lost() -> None:
    book = Playbook.in_party(ALICE, BOB)
    opened = book.tell(c.NotePath(peer=BOB.peer, new=WAN, took_ms=80))
    assert opened == (path.PathOpened(peer=BOB.peer, path=WAN, took_ms=80),)
    book.tell(c.NotePath(peer=BOB.peer, old=WAN, new=LAN, reason="nearer"))
    assert book.state.peers[BOB.peer].path == LAN
    lost = book.tell(c.NotePath(peer=BOB.peer, old=LAN, reason="no answer for 2 s"))
    assert types(lost) == [path.PathLost]
    assert book.state.peers[BOB.peer].path is None


def test_reports_about_strangers_are_no_news() -> None:
    book = Playbook.in_party(ALICE, BOB)
    assert book.tell(c.NotePath(peer=CAROL.peer, new=WAN)) == ()
    assert book.tell(c.NoteSession(peer=CAROL.peer, established=True)) == ()
    assert book.tell(c.NoteProbing(peer=CAROL.peer, addresses=("192.0.2.1:1",))) == ()
    assert book.tell(c.NoteCandidates(peer=CAROL.peer, generation=1, candidates=())) == ()


def test_a_session_is_established_once() -> None:
    book = Playbook.in_party(ALICE, BOB)
    up = c.NoteSession(peer=BOB.peer, established=True, took_ms=41)
    assert types(book.tell(up)) == [tunnel.TunnelEstablished]
    assert book.tell(up) == ()


def test_a_failed_path_is_not_reported_over_a_working_one() -> None:
    book = Playbook.in_party(ALICE, BOB)
    book.tell(c.NotePath(peer=BOB.peer, new=WAN))
    failed = c.NoteUnreachable(peer=BOB.peer, tried=("192.0.2.1:1",), after_ms=5000, reason="x")
    assert book.tell(failed) == ()


def test_reports_about_another_party_are_no_news() -> None:
    book = Playbook.in_party(ALICE, BOB)
    assert book.tell(c.NotePresence(party="other", online=(BOB.peer,))) == ()
    assert book.tell(c.NoteControl(party="other", url="ws://x", connected=True)) == ()
    assert book.tell(c.AcceptRecords(party="other", after=0, records=(b"x",))) == ()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (c.Create(name="again"), "in_party"),
        (c.Join(link="x"), "in_party"),
        (c.Kick(peer="bob"), "not_admin"),
        (c.Kick(peer="carol"), "kick_self"),
        (c.Kick(peer="nobody"), "no_member"),
        (c.Invite(uses=0), "bad_invite"),
        (c.Invite(expires_s=1), "bad_invite"),
        (c.RevokeInvite(invite="zzz"), "no_invite"),
        (c.Leave(), None),
        (c.Rename(name="c"), None),
    ],
)
def test_intents_of_a_guest_are_checked_before_anything_is_signed(
    command: c.Asked, code: str | None
) -> None:
    book = Playbook.in_party(CAROL, BOB, CAROL)
    refusal = check(book.state, command)
    assert (refusal and refusal.code) == code


def test_without_a_party_there_is_nothing_to_leave_or_kick() -> None:
    book = Playbook(ALICE)
    for command in (c.Leave(), c.Kick(peer="x"), c.Invite(), c.Rename(name="x")):
        refusal = check(book.state, command)
        assert refusal is not None
        assert refusal.code == "no_party"
        assert "lanrage create" in str(refusal)


def test_members_are_found_by_name_id_or_prefix() -> None:
    book = Playbook.in_party(ALICE, BOB, CAROL)
    for text in ("bob", BOB.peer, BOB.peer[:9]):
        found = find_member(book.state, text)
        assert isinstance(found, partylog.Member)
        assert found.peer == BOB.peer
    assert isinstance(find_member(book.state, ""), Refusal)


def test_every_reported_command_has_a_rule() -> None:
    state = mesh.EMPTY
    for kind in c.Reported.__args__:
        fields = {
            field.name: _sample(field) for field in msgspec.structs.fields(kind) if field.required
        }
        decide(state, kind(**fields), NOW_MS)  # a missing rule would be a KeyError
    assert grown(partylog.EMPTY, party_of()[1][0]).length == 1


def _sample(field: msgspec.structs.FieldInfo) -> object:
    samples: dict[object, object] = {str: "x", int: 1, bool: False, bytes: b""}
    return samples.get(field.type, ())


@pytest.mark.parametrize(
    "command",
    [
        c.Create(name="x", uses=0),
        c.Create(name="x", uses=partylog.USES_MAX + 1),
        c.Create(name="x", uses=10**30),
        c.Invite(uses=-1),
        c.Invite(expires_s=59),
        c.Invite(expires_s=10**30),
    ],
)
def test_an_invite_that_cannot_be_is_refused_before_anything_is_done(command: c.Asked) -> None:
    book = Playbook(ALICE) if isinstance(command, c.Create) else Playbook.in_party(ALICE)
    refusal = check(book.state, command)
    assert refusal is not None
    assert refusal.code == "bad_invite"


def test_what_the_tunnel_said_of_a_party_that_was_left_is_no_news() -> None:
    book = Playbook.in_party(ALICE, BOB)
    book.tell(c.ExitParty(reason="left"))
    late = c.NoteConfigured(address="10.66.0.1/16", address6="", mtu=1420)
    assert book.tell(late) == ()
    assert book.state.tunnel.address == ""


def test_an_address_learnt_outside_a_party_is_forgotten_with_its_server() -> None:
    book = Playbook(ALICE)
    book.tell(c.NoteMapping(server="203.0.113.2:8667", mapped="198.51.100.1:26666"))
    gone = c.NoteMapping(server="203.0.113.2:8667", reason="it is not asked any more")
    assert types(book.tell(gone)) == [nat.NatUnmapped, nat.NatGathered]
    assert book.state.nat.mapped == {}
    assert book.tell(gone) == ()
