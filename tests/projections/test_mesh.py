"""Folding: total, deterministic, forgetting what a new run cannot know."""

from __future__ import annotations

import msgspec

from events.base import Stored
from events.path import PathQuality
from lanrage import commands as c
from projections import mesh
from tests.playbook import ALICE, BOB, Playbook

WAN = PathQuality(kind="direct", address="198.51.100.9:26666", rtt_us=40_000)


def stored(seq: int, kind: str, data: bytes = b"{}") -> Stored:
    return Stored(
        seq=seq,
        stream="s",
        version=seq,
        id=f"{seq:032x}",
        type=kind,
        at=seq,
        session="x",
        data=msgspec.Raw(data),
    )


def test_unknown_and_unreadable_events_are_counted_and_change_nothing_else() -> None:
    state = mesh.fold(mesh.EMPTY, stored(1, "voice.spoken"))
    state = mesh.fold(state, stored(2, "peer.online", b'{"peer": 7}'))
    assert (state.seq, state.unread) == (2, 2)
    assert state.peers == {}


def test_the_canonical_form_is_read_back_as_the_same_state() -> None:
    book = Playbook.in_party(ALICE, BOB)
    book.tell(c.NotePath(peer=BOB.peer, new=WAN, took_ms=80))
    data = mesh.canonical(book.state)
    assert mesh.from_canonical(data) == book.state
    assert mesh.canonical(mesh.from_canonical(data)) == data


def test_a_new_session_forgets_paths_and_presence_but_not_the_party() -> None:
    book = Playbook.in_party(ALICE, BOB)
    book.tell(c.NotePresence(party=book.state.party, online=(BOB.peer,)))
    book.tell(c.NotePath(peer=BOB.peer, new=WAN, took_ms=80))
    chain, since = book.state.chain, book.state.peers[BOB.peer].since
    book.tell(
        c.OpenSession(
            version="0", platform="t", peer=ALICE.peer, name="alice", wireguard=ALICE.wireguard
        )
    )
    assert book.state.peers == {BOB.peer: mesh.Peer(since=since)}
    assert book.state.chain == chain
    assert book.state.control.urls
    assert book.state.control.connected == ""


def test_an_exported_session_carries_the_state_it_began_with() -> None:
    book = Playbook.in_party(ALICE, BOB)
    first = stored(book.state.seq + 1, "session.ended", b'{"reason":"x"}')
    rows = [*_as_rows(book), first]
    head = mesh.carried(rows[:-1], first)
    assert mesh.fold_all(mesh.EMPTY, [*head, first]) == mesh.fold_all(mesh.EMPTY, rows)
    assert mesh.carried([], first) == ()


def _as_rows(book: Playbook) -> list[Stored]:
    """One pseudo event that stands for everything the playbook did."""
    return [
        stored(
            book.state.seq,
            "session.carried",
            msgspec.json.encode({"state": msgspec.Raw(mesh.canonical(book.state))}),
        )
    ]
