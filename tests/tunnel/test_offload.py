"""Cutting and gluing packets, compared with building each one by hand."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.tunnel.offload import ETHERNET_SIZE, IP_AT, VNET, Joiner, ones_sum, split
from tests.tunnel.packets import (
    ACK,
    FIN,
    MAC,
    PSH,
    TCP,
    UDP,
    Flow,
    naive_checksum,
    packet,
    segments,
    super_frame,
)

TIMESTAMPS = bytes.fromhex("0101080a0000000100000002")
flows = st.builds(
    Flow,
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([TCP, UDP]),
    sequence=st.integers(0, 2**32 - 1),
    flags=st.sampled_from([ACK, ACK | PSH, ACK | FIN, ACK | PSH | FIN]),
    options=st.sampled_from([b"", TIMESTAMPS, bytes(40)]),
    identification=st.integers(0, 2**16 - 1),
    port=st.integers(0, 2**16 - 1),
    tos=st.integers(0, 255),
)
payloads = st.binary(min_size=1, max_size=5000)
sizes = st.integers(1, 1400)


@given(st.binary(max_size=300))
def test_the_sum_is_the_internet_checksum(data: bytes) -> None:
    assert -ones_sum(data) % 65_535 == naive_checksum(data) % 65_535


@settings(max_examples=200, deadline=None)
@given(flows, payloads, st.integers(30, 1400))
def test_a_super_frame_splits_into_what_would_have_been_sent_without_offloads(
    flow: Flow, payload: bytes, size: int
) -> None:
    assert split(super_frame(flow, payload, size)) == segments(flow, payload, size)


def test_splitting_all_zero_payload_gives_a_udp_checksum_that_is_not_none() -> None:
    flow = Flow(protocol=UDP)
    for port in range(0, 65_536, 97):
        (cut, _) = split(super_frame(replace(flow, port=port), bytes(64), 32))
        assert cut[26:28] != b"\0\0"


def test_a_frame_without_offloads_passes_as_it_is() -> None:
    whole = packet(Flow(), b"hello")
    frame = bytes(VNET.size + ETHERNET_SIZE) + whole
    assert split(frame) == [whole]


@given(st.binary(max_size=200))
def test_a_frame_of_garbage_never_raises(garbage: bytes) -> None:
    assert isinstance(split(garbage), list)


@given(st.sampled_from([1, 4, 5]), st.integers(0, 65_535), st.integers(0, 65_535), st.binary())
def test_a_lying_offload_header_never_raises(gso: int, size: int, start: int, rest: bytes) -> None:
    frame = VNET.pack(1, gso, 54, size % 2000, start, 16) + bytes(14) + b"\x45" + bytes(60) + rest
    assert isinstance(split(frame), list)


def back(frame: list[bytes]) -> list[bytes]:
    """The packets in a frame we made, cut as the kernel would."""
    return split(b"".join(frame))


@settings(max_examples=200, deadline=None)
@given(flows, payloads, sizes)
def test_joining_the_segments_of_a_flow_and_splitting_again_loses_nothing(
    flow: Flow, payload: bytes, size: int
) -> None:
    sent = segments(flow, payload, size)
    frames = Joiner(MAC, udp=True).join(sent)
    got = [one for frame in frames for one in back(frame)]
    assert got == sent


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 300)), max_size=40), st.data())
def test_joining_mixed_flows_keeps_every_packet_and_its_order(
    picks: list[tuple[int, int]], data: st.DataObject
) -> None:
    state = [Flow(port=1), Flow(version=6, port=2), Flow(port=3, protocol=UDP)]
    sent: list[bytes] = []
    for which, size in picks:
        flow = replace(state[which], flags=data.draw(st.sampled_from([ACK, ACK | PSH])))
        sent.append(packet(flow, bytes(size)))
        state[which] = state[which].after(size)
    got = [one for frame in Joiner(MAC, udp=True).join(sent) for one in back(frame)]
    assert [_without_id(one) for one in got] == [_without_id(one) for one in sent]


def test_one_bulk_batch_becomes_one_frame() -> None:
    for version in (4, 6):
        for protocol in (TCP, UDP):
            sent = segments(Flow(version=version, protocol=protocol), bytes(40 * 1300), 1300)
            assert len(Joiner(MAC, udp=True).join(sent)) == 1


def test_udp_stays_apart_where_the_kernel_does_not_take_it_joined() -> None:
    sent = segments(Flow(protocol=UDP), bytes(10 * 100), 100)
    assert len(Joiner(MAC, udp=False).join(sent)) == 10


def test_a_mark_of_congestion_is_not_joined_away() -> None:
    first, second = segments(Flow(), bytes(200), 100)
    marked = packet(replace(Flow(), tos=3).after(100), bytes(100))
    assert marked != second
    assert len(Joiner(MAC, udp=True).join([first, marked])) == 2


def test_a_frame_is_addressed_to_the_interface_with_the_kind_of_ip() -> None:
    for version, kind in ((4, b"\x08\x00"), (6, b"\x86\xdd")):
        ((head, body),) = Joiner(MAC, udp=True).join([packet(Flow(version=version), b"x")])
        assert head[VNET.size : VNET.size + 6] == MAC
        assert head[IP_AT - 2 : IP_AT] == kind
        assert body == packet(Flow(version=version), b"x")


def test_no_joined_packet_is_longer_than_ip_can_say() -> None:
    sent = segments(Flow(), bytes(100 * 1380), 1380)
    frames = Joiner(MAC, udp=True).join(sent)
    assert len(frames) == 3
    assert all(sum(map(len, frame)) - IP_AT <= 65_535 for frame in frames)


def _without_id(one: bytes) -> bytes:
    """IPv4 identification and its checksum may change: every packet has DF."""
    return one if one[0] >> 4 == 6 else one[:4] + one[6:10] + one[12:]
