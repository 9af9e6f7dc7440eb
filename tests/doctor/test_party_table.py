"""The forecast for each pair beside what it uses now."""

from __future__ import annotations

from events.path import PathQuality
from lanrage import commands as c
from lanrage.doctor.party import Pair, pairs, table
from projections.lobby import status
from tests.playbook import ALICE, BOB, CAROL, Playbook

DIRECT = PathQuality(kind="direct", address="198.51.100.9:26666", rtt_us=40_000)
RELAYED = PathQuality(kind="relay", address="192.0.2.1:3478", rtt_us=60_000, relay="192.0.2.1:3478")


def two_of(mapping: str, path: PathQuality | None) -> tuple[Pair, ...]:
    """Alice's and Bob's routers are alike; Carol is not there."""
    book = Playbook.in_party(ALICE, BOB, CAROL)
    book.tell(c.NotePresence(party=book.state.party, online=(BOB.peer,)))
    book.tell(
        c.NoteBehaviour(mapping=mapping, filtering="port", hairpin="no", server="x", evidence=())
    )
    book.tell(c.NotePeerNat(peer=BOB.peer, mapping=mapping, filtering="port", hairpin="no"))
    if path is not None:
        book.tell(c.NotePath(peer=BOB.peer, new=path))
        book.tell(c.NoteSession(peer=BOB.peer, established=True))
    return pairs(status(book.state))


def test_a_path_as_good_as_its_forecast_is_as_expected() -> None:
    bob, carol = two_of("independent", DIRECT)
    assert (bob.forecast, bob.now, bob.as_expected) == ("direct", "direct", True)
    assert (carol.now, carol.as_expected) == ("", True)


def test_a_relay_where_direct_was_to_be_expected_shows_both_reasons() -> None:
    found = two_of("independent", RELAYED)
    assert not found[0].as_expected
    text = "\n".join(table(found))
    assert "No direct path has answered yet" in text
    assert "Forecast: Both routers keep one public port" in text


def test_a_relay_that_was_expected_needs_no_second_reason() -> None:
    found = two_of("port", RELAYED)
    assert found[0].as_expected
    assert "Forecast:" not in "\n".join(table(found[:1]))


def test_columns_line_up() -> None:
    lines = [line for line in table(two_of("port", RELAYED)) if not line.startswith(" ")]
    assert (
        len({line.index(word) for line, word in zip(lines, ("its", "hard", "not"), strict=True)})
        == 1
    )
