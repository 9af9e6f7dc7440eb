"""Gossip frames: the same bytes for ever, and garbage is only garbage."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols import gossip
from tests.protocols import party
from tests.protocols.party import ADA, BOB

GOLDEN = Path(__file__).parent.parent / "data" / "gossip" / "frames-v1.txt"
FRAMES: tuple[gossip.Frame, ...] = (
    gossip.Heads(1, party.founded().head, True),
    gossip.Want(1),
    gossip.Records(0, (party.genesis(),)),
    gossip.Signal(bytes(8), ADA.peer, BOB.peer, 1, b"sealed"),
)


def test_frames_are_written_and_read_as_they_always_were() -> None:
    golden = [bytes.fromhex(line) for line in GOLDEN.read_text().splitlines()]
    assert [gossip.encode(each) for each in FRAMES] == golden
    assert tuple(gossip.decode(each) for each in golden) == FRAMES


def test_the_largest_frames_fit() -> None:
    page = gossip.page([bytes(1_024)] * 99)
    assert len(page) == gossip.PAGE_BYTES // 1_024
    assert len(gossip.page([bytes(10)] * 99)) == gossip.PAGE
    sealed = bytes(gossip.SIGNAL_MAX)
    for frame in (
        gossip.Records(1 << 32, page),
        gossip.Signal(bytes(8), ADA.peer, BOB.peer, 1, sealed),
    ):
        datagram = gossip.encode(frame)
        assert len(datagram) <= gossip.FRAME_MAX
        assert gossip.decode(datagram) == frame


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_none(datagram: bytes) -> None:
    gossip.decode(datagram)


def test_what_is_too_long_is_not_read() -> None:
    assert gossip.decode(gossip.encode(FRAMES[0]) + bytes(gossip.FRAME_MAX)) is None
