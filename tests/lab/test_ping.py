"""ICMP echo packets, by RFC 792 and RFC 1071."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lanrage.lab.ping import checksum, echo_request, reply_sequence

HEAD = bytes.fromhex("45000054000000004001000001020304") + bytes(4)


def test_the_checksum_is_that_of_the_rfcs_example() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=64))
def test_a_request_sums_to_zero_and_its_answer_is_recognized(
    identifier: int, sequence: int, payload: bytes
) -> None:
    payload += bytes(len(payload) % 2)
    request = echo_request(identifier, sequence, payload)
    assert checksum(request) == 0
    assert reply_sequence(HEAD + request, identifier) is None, "a request is no answer"
    answer = HEAD + b"\0" + request[1:]
    assert reply_sequence(answer, identifier) == sequence
    assert reply_sequence(answer, identifier ^ 1) is None


@given(st.binary(min_size=1, max_size=80))
def test_garbage_is_no_answer_and_no_error(packet: bytes) -> None:
    reply_sequence(packet, 1)
