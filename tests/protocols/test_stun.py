"""STUN: the vectors of RFC 5769, our own bytes, and anything at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols import stun
from lanrage.protocols.endpoint import Address

DATA = Path(__file__).parents[1] / "data" / "stun"
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
CLASSIC = bytes(range(16))
SOURCE = ("203.0.113.7", 40123)
SOURCE6 = ("2001:db8::7", 40123)
ALTERNATE = ("198.51.100.1", 3479)


def golden(name: str) -> bytes:
    return bytes.fromhex((DATA / f"{name}.hex").read_text())


def classic(change: int | None = None) -> bytes:
    attributes = [] if change is None else [(0x0003, stun.CHANGE_REQUEST.pack(change, CLASSIC))]
    return stun.encode(stun.BINDING_REQUEST, CLASSIC, attributes, fingerprint=False)


def test_the_rfc_5769_request_is_read() -> None:
    message = stun.parse(golden("rfc5769-2.1-request"))
    assert message is not None
    assert message.type == stun.BINDING_REQUEST
    assert message.transaction == stun.COOKIE + TRANSACTION
    assert message.get(stun.SOFTWARE) == "STUN test client"
    assert message.attributes[0x0006] == b"evtj:h6vY"


@pytest.mark.parametrize(
    ("name", "mapped"),
    [
        ("rfc5769-2.2-response-ipv4", ("192.0.2.1", 32853)),
        ("rfc5769-2.3-response-ipv6", ("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_the_rfc_5769_responses_tell_the_mapped_address(name: str, mapped: Address) -> None:
    message = stun.parse(golden(name))
    assert message is not None
    assert message.mapped == mapped


def test_a_changed_bit_breaks_the_fingerprint() -> None:
    datagram = bytearray(golden("rfc5769-2.2-response-ipv4"))
    datagram[30] ^= 1
    assert stun.parse(bytes(datagram)) is None


def test_our_request_and_both_answers_are_the_bytes_we_always_sent() -> None:
    request = stun.request(TRANSACTION)
    assert request == golden("our-request")
    for name, source in [("our-answer-ipv4", SOURCE), ("our-answer-ipv6", SOURCE6)]:
        reply = stun.respond(request, source, alternate=ALTERNATE)
        assert reply == stun.Reply(golden(name), from_third_socket=False)


def test_a_modern_client_reads_its_address_from_our_answer() -> None:
    for source in (SOURCE, SOURCE6):
        reply = stun.respond(stun.request(TRANSACTION), source, alternate=None)
        assert reply is not None
        message = stun.parse(reply.datagram)
        assert message is not None
        assert message.mapped == source
        assert stun.is_stun(reply.datagram)


def test_a_classic_client_is_told_its_address_and_our_second_one() -> None:
    reply = stun.respond(classic(), SOURCE, alternate=ALTERNATE)
    assert reply == stun.Reply(golden("our-answer-classic"), from_third_socket=False)
    message = stun.parse(reply.datagram)
    assert message is not None
    assert message.classic
    assert message.mapped == SOURCE
    assert message.get(stun.CHANGED_ADDRESS) == ALTERNATE


def test_change_port_is_answered_from_the_third_socket_and_change_ip_by_silence() -> None:
    reply = stun.respond(classic(stun.CHANGE_PORT), SOURCE, alternate=ALTERNATE)
    assert reply is not None
    assert reply.from_third_socket
    both = stun.CHANGE_IP | stun.CHANGE_PORT
    assert stun.respond(classic(both), SOURCE, alternate=ALTERNATE) is None
    assert stun.respond(classic(stun.CHANGE_IP), SOURCE, alternate=ALTERNATE) is None


def test_no_answer_is_much_larger_than_its_request() -> None:
    unknown = [(number, b"") for number in range(0x0100, 0x0120)]
    requests = [
        stun.request(TRANSACTION),
        classic(),
        stun.encode(stun.BINDING_REQUEST, stun.COOKIE + TRANSACTION, unknown, fingerprint=True),
    ]
    for request in requests:
        for source in (SOURCE, SOURCE6):
            reply = stun.respond(request, source, alternate=ALTERNATE)
            assert reply is not None
            assert len(reply.datagram) <= len(request) + 36


def test_an_attribute_that_must_be_understood_and_is_not_gets_error_420() -> None:
    request = stun.encode(
        stun.BINDING_REQUEST,
        stun.COOKIE + TRANSACTION,
        [(0x0024, bytes(4)), (0x0006, b"user"), (0x8022, b"x")],
        fingerprint=False,
    )
    reply = stun.respond(request, SOURCE, alternate=None)
    assert reply is not None
    message = stun.parse(reply.datagram)
    assert message is not None
    assert message.type == stun.BINDING_ERROR
    assert message.get(stun.ERROR_CODE) == (420, "")
    assert message.get(stun.UNKNOWN_ATTRIBUTES) == (0x0024,)


def test_only_requests_are_answered() -> None:
    for type_ in (stun.BINDING_INDICATION, stun.BINDING_SUCCESS, stun.BINDING_ERROR, 0x0003):
        message = stun.encode(type_, stun.COOKIE + TRANSACTION, [], fingerprint=True)
        assert stun.respond(message, SOURCE, alternate=ALTERNATE) is None


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        stun.request(TRANSACTION)[:-1],
        stun.request(TRANSACTION) + bytes(4),
        b"\x40" + stun.request(TRANSACTION)[1:],
        stun.encode(1, CLASSIC, [(1, b"")], fingerprint=False)[:-2] + b"\xff\xff",
    ],
)
def test_what_is_cut_padded_or_runs_over_its_end_is_not_a_message(damaged: bytes) -> None:
    assert stun.parse(damaged) is None


def test_a_mapped_address_of_a_wrong_length_is_none() -> None:
    for number in (0x0001, 0x0020):
        for size in (0, 3, 7, 9, 20):
            attributes = [(number, bytes(size))]
            datagram = stun.encode(0x0101, CLASSIC, attributes, fingerprint=False)
            message = stun.parse(datagram)
            assert message is not None
            assert message.mapped is None


addresses = st.tuples(
    st.ip_addresses().map(str).filter(lambda text: "%" not in text), st.integers(0, 65535)
)


@settings(deadline=None)
@given(address=addresses, transaction=st.binary(min_size=16, max_size=16))
def test_every_address_survives_packing_plain_and_xored(
    address: Address, transaction: bytes
) -> None:
    for attribute in (stun.MAPPED_ADDRESS, stun.XOR_MAPPED_ADDRESS, stun.CHANGED_ADDRESS):
        packed = attribute.pack(address, transaction)
        assert attribute.unpack(packed, transaction) == address


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_raise(datagram: bytes) -> None:
    read_everything(datagram)


@settings(deadline=None)
@given(body=st.binary(max_size=120), type_=st.sampled_from([0x0001, 0x0101, 0x0111]))
def test_no_body_in_a_right_header_raises(body: bytes, type_: int) -> None:
    body = body[: len(body) - len(body) % 4]
    for transaction in (stun.COOKIE + TRANSACTION, CLASSIC):
        header = type_.to_bytes(2, "big") + len(body).to_bytes(2, "big") + transaction
        read_everything(header + body)


def read_everything(datagram: bytes) -> None:
    stun.is_stun(datagram)
    stun.respond(datagram, SOURCE, alternate=ALTERNATE)
    message = stun.parse(datagram)
    if message is None:
        return
    assert message.mapped is None or len(message.mapped) == 2
    message.get(stun.ERROR_CODE)
    message.get(stun.UNKNOWN_ATTRIBUTES)
    message.get(stun.SOFTWARE)
    message.get(stun.FINGERPRINT)
