"""Frames: the same bytes for ever, and garbage is only garbage."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.control import messages as m
from lanrage.control.messages import FromNode, FromServer
from tests.protocols import party
from tests.protocols.party import ADA, BOB

GOLDEN = Path(__file__).parent.parent / "data" / "control" / "frames-v1.txt"
PARTY = party.founded()
FROM_SERVER: tuple[FromServer, ...] = (
    m.Challenge(version=1, nonce=bytes(16), at=party.NOON),
    m.Welcome(length=1, head=PARTY.head),
    m.Records(after=0, records=(party.genesis(),)),
    m.Presence(online=(ADA.peer, BOB.peer)),
    m.Appended(id=1, length=2),
    m.Conflict(id=1),
    m.Refused(id=1, code="used", reason="this invite was already used"),
    m.Signal(sender=ADA.peer, sealed=b"sealed"),
    m.Relays(
        relays=(
            m.Relay(
                relay="192.0.2.7:7777",
                addresses=("192.0.2.7:7777", "[2001:db8::7]:7777"),
                region="eu",
                tcp="wss://192.0.2.7:443/",
                pin="ab" * 32,
                public_key=bytes(32),
                boot=bytes(8),
                ticket=bytes(82),
            ),
        )
    ),
    m.Picks(picks=(m.Pick(peer=BOB.peer, relay="192.0.2.7:7777", sum_ms=41),)),
)
FROM_NODE: tuple[FromNode, ...] = (
    m.hello(
        BOB.signer,
        bytes(16),
        party=PARTY.party,
        peer=BOB.peer,
        length=1,
        head=PARTY.head,
        invite_seed=party.Ticket("first").seed,
        invite=party.Ticket("first").id,
    ),
    m.Append(id=1, record=party.genesis()),
    m.Send(to=ADA.peer, sealed=b"sealed"),
    m.Stay(),
    m.Measured(rtts_ms={"192.0.2.7:7777": 20}),
    m.Refill(after=0, records=(party.genesis(),)),
)
BEFORE_RELAYS = Path(__file__).parent.parent / "data" / "control" / "hello-before-relays.txt"


def golden() -> list[bytes]:
    return [bytes.fromhex(line) for line in GOLDEN.read_text().splitlines()]


def test_frames_are_written_as_they_always_were() -> None:
    assert [m.encode(frame) for frame in (*FROM_SERVER, *FROM_NODE)] == golden()


def test_old_frames_still_read() -> None:
    frames = golden()
    assert tuple(m.from_server(each) for each in frames[: len(FROM_SERVER)]) == FROM_SERVER
    assert tuple(m.from_node(each) for each in frames[len(FROM_SERVER) :]) == FROM_NODE


def test_a_hello_of_before_there_were_relays_asks_for_none() -> None:
    hello = m.from_node(bytes.fromhex(BEFORE_RELAYS.read_text()))
    assert isinstance(hello, m.Hello)
    assert msgspec.structs.replace(hello, relays=True) == FROM_NODE[0]


def test_each_side_reads_only_what_the_other_side_says() -> None:
    assert [m.from_node(m.encode(each)) for each in FROM_SERVER] == [None] * len(FROM_SERVER)
    assert [m.from_server(m.encode(each)) for each in FROM_NODE] == [None] * len(FROM_NODE)


def test_the_largest_frames_fit() -> None:
    page = m.Records(after=1 << 32, records=(bytes(1024),) * m.PAGE)
    assert len(m.encode(page)) < m.FRAME_MAX
    assert len(m.encode(m.Signal(sender=ADA.peer, sealed=bytes(8192)))) < m.FRAME_MAX
    assert len(m.encode(m.Presence(online=(ADA.peer,) * 256))) < m.FRAME_MAX


@pytest.mark.parametrize("kind", ["challenge", "hello"])
def test_the_version_is_read_whatever_else_a_newer_frame_has(kind: str) -> None:
    newer = msgspec.msgpack.encode({"type": kind, "version": 9, "else": [1, {"x": 2}]})
    assert m.version_of(newer) == 9
    assert m.from_server(newer) is None
    assert m.version_of(m.encode(m.Conflict(id=1))) is None
    assert m.version_of("text") is None


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_frame_or_none(message: bytes) -> None:
    m.from_server(message)
    m.from_node(message)
    m.version_of(message)


_values = st.recursive(
    st.none() | st.integers() | st.binary(max_size=70) | st.text(max_size=60) | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(max_examples=300)
@given(
    st.sampled_from([*FROM_SERVER, *FROM_NODE]).map(
        lambda frame: msgspec.msgpack.decode(m.encode(frame))
    ),
    st.data(),
)
def test_frames_with_any_wrong_value_are_a_frame_or_none(
    fields: dict[str, object], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(fields)))
    try:
        message = msgspec.msgpack.encode({**fields, key: data.draw(_values)})
    except (OverflowError, UnicodeEncodeError):
        return
    m.from_server(message)
    m.from_node(message)
    m.version_of(message)
