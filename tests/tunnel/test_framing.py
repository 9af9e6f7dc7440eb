from __future__ import annotations

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from events.peer import Candidate
from lanrage.refusal import Refusal
from lanrage.tunnel.framing import Unframer, frame
from lanrage.tunnel.messages import (
    FRAME_MAX,
    AnyNotice,
    AnyOrder,
    Counters,
    Failed,
    PeerCounters,
    PutCandidates,
    PutPeer,
    Start,
    Stop,
)

ORDERS = (
    Start(private_key=bytes(32), interface="lanrage0", port=0),
    PutPeer(peer="a" * 52, public_key=bytes(32), allowed=("10.66.0.2/32",), keepalive_s=25),
    PutCandidates(peer="a" * 52, candidates=(Candidate("host", "192.0.2.1:5"),)),
    Stop(),
)
NOTICES = (
    Failed(refusal=Refusal("port_taken", "what", "why", "fix")),
    Counters(
        peers=(
            PeerCounters(
                peer="a", rx_bytes=2**60, tx_bytes=1, rx_packets=1, tx_packets=1, rtt_us=0,
                loss_permille=0,
            ),
        ),
        drops={"forged": 3},
    ),
)  # fmt: skip


@given(st.lists(st.integers(1, 60), min_size=1))
def test_messages_arrive_whole_however_the_stream_is_cut(cuts: list[int]) -> None:
    stream = b"".join(map(frame, ORDERS))
    unframer = Unframer(msgspec.msgpack.Decoder(AnyOrder))
    got: list[AnyOrder] = []
    for size in cuts:
        got += unframer.feed(stream[:size]) or []
        stream = stream[size:]
    got += unframer.feed(stream) or []
    assert tuple(got) == ORDERS


def test_notices_arrive_as_they_were_sent() -> None:
    unframer = Unframer(msgspec.msgpack.Decoder(AnyNotice))
    assert unframer.feed(b"".join(map(frame, NOTICES))) == list(NOTICES)


def test_a_frame_beyond_the_limit_ends_the_stream_before_its_body_comes() -> None:
    unframer = Unframer(msgspec.msgpack.Decoder(AnyOrder))
    assert unframer.feed((FRAME_MAX + 1).to_bytes(4, "big")) is None


@given(st.binary(max_size=60))
@example(b"\x81\xa4type\xa1\xff")  # text that is not UTF-8
def test_garbage_ends_the_stream_or_waits_for_more(garbage: bytes) -> None:
    framed = len(garbage).to_bytes(4, "big") + garbage
    assert Unframer(msgspec.msgpack.Decoder(AnyOrder)).feed(framed) is None
    assert Unframer(msgspec.msgpack.Decoder(AnyOrder)).feed(garbage) in (None, [])
