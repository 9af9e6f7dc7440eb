from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lanrage.tunnel.icmp import unreachable
from tests.tunnel.packets import UDP, Flow, naive_checksum, packet


def test_the_sender_is_told_by_the_address_it_asked_for() -> None:
    asked = packet(Flow(protocol=UDP), bytes(1000))
    told = unreachable(asked)
    assert told is not None
    assert (told[12:16], told[16:20]) == (asked[16:20], asked[12:16])
    assert told[20:22] == b"\x03\x01"
    assert asked.startswith(told[28:])
    assert len(told) == int.from_bytes(told[2:4], "big") <= 576
    assert naive_checksum(told[:20]) == naive_checksum(told[20:]) == 0


def test_the_same_for_ipv6() -> None:
    asked = packet(Flow(version=6), bytes(1300))
    told = unreachable(asked)
    assert told is not None
    assert (told[8:24], told[24:40]) == (asked[24:40], asked[8:24])
    assert told[40:42] == b"\x01\x03"
    assert asked.startswith(told[48:])
    assert len(told) == 40 + int.from_bytes(told[4:6], "big") == 1280
    pseudo = told[8:40] + (len(told) - 40).to_bytes(4, "big") + bytes([0, 0, 0, 58])
    assert naive_checksum(pseudo + told[40:]) == 0


def test_an_error_is_never_answered_with_an_error() -> None:
    for version in (4, 6):
        told = unreachable(packet(Flow(version=version), b"hello"))
        assert told is not None
        assert unreachable(told) is None


def test_only_the_first_fragment_is_answered() -> None:
    later = bytearray(packet(Flow(protocol=UDP), bytes(100)))
    later[7] = 1
    assert unreachable(bytes(later)) is None


@given(st.binary(min_size=20, max_size=200))
def test_no_packet_makes_it_raise(garbage: bytes) -> None:
    assert unreachable(garbage) is None or unreachable(garbage)
