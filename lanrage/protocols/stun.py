"""STUN Binding (RFC 8489) both ways, and enough of classic STUN (RFC 3489) for its label tests.

A server tells the sender of a Binding request which address it saw. RFC 8489 put a magic cookie
where RFC 3489 had the first four of sixteen transaction bytes, so one header serves both: here a
transaction is always those sixteen bytes, and `Message.classic` says that they do not start with
the cookie. Modern requests are answered with XOR-MAPPED-ADDRESS (routers that rewrite addresses
inside packets cannot spoil it), classic ones with MAPPED-ADDRESS and CHANGED-ADDRESS.

Classic clients find out about filtering by CHANGE-REQUEST. Where we own one address, "change IP" is
met with silence, which is the truth: nothing comes from another address. "Change port" must come
from a port to which the client never sent anything. That is neither the main port nor the
alternate one of CHANGED-ADDRESS (a client that tries both would see a false "address-restricted"),
so a responder has three sockets: main, alternate (main + 1), and a third that is never announced.
A server with a second IP says so in OTHER-ADDRESS, and answers "change IP" from there (RFC 5780).

Everything is pure. `parse` and `respond` take any bytes and never raise.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Generic, TypeVar
from zlib import crc32

from lanrage.protocols.endpoint import Address

COOKIE = bytes.fromhex("2112a442")
TRANSACTION_BYTES = 12  # what a client draws; the cookie goes before it on the wire
HEADER_BYTES = 20
MESSAGE_MAX_BYTES = 1280
UNKNOWN_MAX = 8  # unknown attributes named in an error response

BINDING_REQUEST = 0x0001
BINDING_INDICATION = 0x0011
BINDING_SUCCESS = 0x0101
BINDING_ERROR = 0x0111

CHANGE_IP = 0x04
CHANGE_PORT = 0x02

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attribute(Generic[T]):
    """One row of the attribute table. Both directions get the 16 transaction bytes (for XOR)."""

    number: int
    pack: Callable[[T, bytes], bytes]
    unpack: Callable[[bytes, bytes], T | None]


@dataclass(frozen=True, slots=True)
class Message:
    type: int
    transaction: bytes  # 16 bytes: cookie and 12, or classic's 16
    attributes: Mapping[int, bytes]  # of attributes given twice the first counts (§14)

    @property
    def classic(self) -> bool:
        return not self.transaction.startswith(COOKIE)

    @property
    def mapped(self) -> Address | None:
        """The address the server saw, from whichever attribute carries it."""
        return self.get(XOR_MAPPED_ADDRESS) or self.get(MAPPED_ADDRESS)

    def get(self, attribute: Attribute[T]) -> T | None:
        value = self.attributes.get(attribute.number)
        return None if value is None else attribute.unpack(value, self.transaction)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a responder sends back to where the request came from."""

    datagram: bytes
    from_third_socket: bool  # send it from the socket that no client was ever told of
    from_other_ip: bool = False  # and from our other IP than the one that was asked


def _pack_address(address: Address, _: bytes) -> bytes:
    host, port = address
    packed = ip_address(host).packed
    return struct.pack("!BBH", 0, 1 if len(packed) == 4 else 2, port) + packed


def _unpack_address(value: bytes, _: bytes) -> Address | None:
    if len(value) == 8 and value[1] == 1:
        return str(IPv4Address(value[4:])), int.from_bytes(value[2:4], "big")
    if len(value) == 20 and value[1] == 2:
        return str(IPv6Address(value[4:])), int.from_bytes(value[2:4], "big")
    return None


def _xored(value: bytes, transaction: bytes) -> bytes:
    """Port with the cookie's first half, address with cookie and transaction (§14.2)."""
    key = transaction[:2] + transaction[: len(value) - 4]
    body = bytes(a ^ b for a, b in zip(value[2:], key, strict=True))
    return value[:2] + body


def _pack_xor_address(address: Address, transaction: bytes) -> bytes:
    return _xored(_pack_address(address, transaction), transaction)


def _unpack_xor_address(value: bytes, transaction: bytes) -> Address | None:
    if len(value) not in (8, 20):
        return None
    return _unpack_address(_xored(value, transaction), transaction)


def _pack_word(word: int, _: bytes) -> bytes:
    return struct.pack("!I", word)


def _unpack_word(value: bytes, _: bytes) -> int | None:
    return int.from_bytes(value, "big") if len(value) == 4 else None


def _pack_error(error: tuple[int, str], _: bytes) -> bytes:
    code, phrase = error
    return struct.pack("!HBB", 0, code // 100, code % 100) + phrase.encode()


def _unpack_error(value: bytes, _: bytes) -> tuple[int, str] | None:
    if len(value) < 4:
        return None
    code = (value[2] & 0x07) * 100 + value[3]
    return code, value[4:128].decode("utf-8", "replace")


def _pack_numbers(numbers: tuple[int, ...], _: bytes) -> bytes:
    return struct.pack(f"!{len(numbers)}H", *numbers)


def _unpack_numbers(value: bytes, _: bytes) -> tuple[int, ...] | None:
    return struct.unpack(f"!{len(value) // 2}H", value) if len(value) % 2 == 0 else None


def _pack_text(text: str, _: bytes) -> bytes:
    return text.encode()


def _unpack_text(value: bytes, _: bytes) -> str | None:
    return value.decode("utf-8", "replace")


MAPPED_ADDRESS = Attribute(0x0001, _pack_address, _unpack_address)
CHANGE_REQUEST = Attribute(0x0003, _pack_word, _unpack_word)
CHANGED_ADDRESS = Attribute(0x0005, _pack_address, _unpack_address)  # RFC 3489
ERROR_CODE = Attribute(0x0009, _pack_error, _unpack_error)
UNKNOWN_ATTRIBUTES = Attribute(0x000A, _pack_numbers, _unpack_numbers)
XOR_MAPPED_ADDRESS = Attribute(0x0020, _pack_xor_address, _unpack_xor_address)
SOFTWARE = Attribute(0x8022, _pack_text, _unpack_text)
OTHER_ADDRESS = Attribute(0x802C, _pack_address, _unpack_address)  # RFC 5780
FINGERPRINT = Attribute(0x8028, _pack_word, _unpack_word)

CREDENTIALS = {0x0006, 0x0008, 0x001C}  # USERNAME and both MESSAGE-INTEGRITYs: we ask for none
UNDERSTOOD = CREDENTIALS | {MAPPED_ADDRESS.number, CHANGE_REQUEST.number, XOR_MAPPED_ADDRESS.number}
COMPREHENSION_OPTIONAL = 0x8000  # and above: may be ignored (§14)


def encode(
    type_: int, transaction: bytes, attributes: list[tuple[int, bytes]], *, fingerprint: bool
) -> bytes:
    """One message; `transaction` is all sixteen bytes after the length."""
    body = bytearray()
    for number, value in attributes:
        body += struct.pack("!HH", number, len(value)) + value + bytes(-len(value) % 4)
    length = len(body) + (8 if fingerprint else 0)  # the length counts the fingerprint (§14.7)
    message = struct.pack("!HH", type_, length) + transaction + body
    if not fingerprint:
        return message
    return message + struct.pack("!HHI", FINGERPRINT.number, 4, _fingerprint(message))


def _fingerprint(message: bytes) -> int:
    return crc32(message) ^ 0x5354554E


def request(transaction: bytes) -> bytes:
    """A Binding request with FINGERPRINT; `transaction` is 12 unpredictable bytes."""
    assert len(transaction) == TRANSACTION_BYTES
    return encode(BINDING_REQUEST, COOKIE + transaction, [], fingerprint=True)


def is_stun(datagram: bytes) -> bool:
    """The shape of a modern message, for a socket shared with other protocols (§5, §6.3)."""
    return (
        len(datagram) >= HEADER_BYTES
        and datagram[0] < 0x40
        and datagram[4:8] == COOKIE
        and len(datagram) % 4 == 0
        and int.from_bytes(datagram[2:4], "big") == len(datagram) - HEADER_BYTES
    )


def parse(datagram: bytes) -> Message | None:
    """The message, modern or classic, or None if it is not a well-formed one."""
    if not HEADER_BYTES <= len(datagram) <= MESSAGE_MAX_BYTES or datagram[0] >= 0x40:
        return None
    type_, length = struct.unpack_from("!HH", datagram)
    if length != len(datagram) - HEADER_BYTES or length % 4:
        return None
    attributes: dict[int, bytes] = {}
    at = HEADER_BYTES
    while at < len(datagram):
        number, size = struct.unpack_from("!HH", datagram, at)
        value = datagram[at + 4 : at + 4 + size]
        if len(value) != size:
            return None
        if number == FINGERPRINT.number and not _is_fingerprint(datagram, at, value):
            return None
        attributes.setdefault(number, value)
        at += 4 + size + -size % 4
    return Message(type_, datagram[4:20], attributes)


def _is_fingerprint(datagram: bytes, at: int, value: bytes) -> bool:
    """FINGERPRINT is the last attribute and covers all before it."""
    last = at + 8 == len(datagram) and len(value) == 4
    return last and int.from_bytes(value, "big") == _fingerprint(datagram[:at])


def respond(
    datagram: bytes,
    source: Address,
    *,
    alternate: Address | None,
    other: Address | None = None,
) -> Reply | None:
    """The answer to a Binding request from `source`, or None where silence is right.

    `alternate` is this server's second address as the client can reach it: the same IP, the main
    port plus one, whichever of the two sockets the request came in on. Classic clients are told.
    `other` is the one at the server's second IP, if it has one, and is told to all.
    """
    message = parse(datagram)
    if message is None or message.type != BINDING_REQUEST:
        return None
    change = message.get(CHANGE_REQUEST) or 0
    if change & CHANGE_IP and other is None:
        return None
    answer = _answer(message, source, alternate, other)
    return Reply(answer, bool(change & CHANGE_PORT), bool(change & CHANGE_IP))


def _answer(
    message: Message, source: Address, alternate: Address | None, other: Address | None
) -> bytes:
    transaction = message.transaction
    if message.classic:
        attributes = [(MAPPED_ADDRESS.number, MAPPED_ADDRESS.pack(source, transaction))]
        changed = other or alternate
        if changed is not None:
            packed = CHANGED_ADDRESS.pack(changed, transaction)
            attributes.append((CHANGED_ADDRESS.number, packed))
        return encode(BINDING_SUCCESS, transaction, attributes, fingerprint=False)
    fingerprint = FINGERPRINT.number in message.attributes
    unknown = _unknown(message)
    if unknown:
        attributes = [
            (ERROR_CODE.number, ERROR_CODE.pack((420, ""), transaction)),
            (UNKNOWN_ATTRIBUTES.number, UNKNOWN_ATTRIBUTES.pack(unknown, transaction)),
        ]
        return encode(BINDING_ERROR, transaction, attributes, fingerprint=fingerprint)
    attributes = [(XOR_MAPPED_ADDRESS.number, XOR_MAPPED_ADDRESS.pack(source, transaction))]
    if other is not None:
        attributes.append((OTHER_ADDRESS.number, OTHER_ADDRESS.pack(other, transaction)))
    return encode(BINDING_SUCCESS, transaction, attributes, fingerprint=fingerprint)


def _unknown(message: Message) -> tuple[int, ...]:
    required = [n for n in message.attributes if n < COMPREHENSION_OPTIONAL]
    return tuple(n for n in required if n not in UNDERSTOOD)[:UNKNOWN_MAX]
