"""Asking the home router to open a port: NAT-PMP (RFC 6886) and PCP (RFC 6887), as bytes.

Both speak over UDP to port 5351 of the gateway, and are told apart by their first byte, the
version (0 and 2). A request names the port inside, the port wished outside and for how long; the
answer says what was given. A lifetime of 0 takes the mapping back.

PCP knows a mapping's owner by a nonce: who asks again with another one is refused (section 11.3),
so each mapping keeps its nonce for ever. `nonce` derives it from a secret of this device, and a
node that crashed still owns its mappings at its next start.
"""

from __future__ import annotations

import hashlib
import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Final

import msgspec

PORT: Final = 5351
LIFETIME_S: Final = 7200  # section 3.3 of RFC 6886
RETRIES_MS: Final = (250, 500, 1000, 2000)  # section 3.1: doubled each time; it has nine
NONCE_BYTES: Final = 12
PROTOCOLS: Final = {"udp": 17, "tcp": 6}
EXTERNAL_REQUEST: Final = b"\x00\x00"

_PMP_OPCODES: Final = {"udp": 1, "tcp": 2}
_PMP_MAP: Final = struct.Struct(">BBHHHI")
_PMP_MAPPED: Final = struct.Struct(">BBHIHHI")
_PMP_EXTERNAL: Final = struct.Struct(">BBHI4s")
_PCP_MAP: Final = struct.Struct(">BBHI16s12sB3xHH16s")
_PCP_MAPPED: Final = struct.Struct(">BBxBII12x12sB3xHH16s")
_PCP_HEAD: Final = struct.Struct(">BBxBII12x")
_ANSWER: Final = 0x80
_SIZE_MAX: Final = 1100  # section 7 of RFC 6887
_V4_ZERO: Final = IPv6Address("::ffff:0.0.0.0").packed

_PMP_RESULTS: Final = {
    1: "it does not know this version",
    2: "it is set to refuse",
    3: "it has no connection itself",
    4: "it has no room left",
    5: "it does not know the request",
}
_PCP_RESULTS: Final = {
    1: "it does not know this version",
    2: "it is set to refuse",
    3: "it found the request malformed",
    4: "it does not know the request",
    7: "it has a failure of its own",
    8: "it has no room left",
    9: "it does not do this protocol",
    10: "it allows no more mappings",
    11: "it cannot give that port",
    12: "there is another router in between",
}
# Where no stranger can reach: behind another router, or nowhere (RFC 1918, 6598, 3927, 1122).
_UNREACHABLE: Final = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
    )
)


class External(msgspec.Struct, frozen=True):
    """NAT-PMP: the router's own outside address."""

    host: str


class Given(msgspec.Struct, frozen=True):
    """A mapping that the router made or prolonged, or (`lifetime_s` 0) took back."""

    method: str  # "pcp" | "nat-pmp"
    protocol: str
    port: int  # inside
    external_port: int
    external_host: str  # empty for NAT-PMP, which tells it apart
    lifetime_s: int
    epoch_s: int  # the router's; smaller than before: it has forgotten everything


class Denied(msgspec.Struct, frozen=True):
    method: str
    reason: str  # in words


Answer = External | Given | Denied


def nonce(secret: bytes, protocol: str, port: int) -> bytes:
    """The nonce of one mapping of this device."""
    named = f"lanrage pcp {protocol} {port}".encode()
    return hashlib.blake2b(named, key=secret[:64], digest_size=NONCE_BYTES).digest()


def pmp_map(protocol: str, port: int, external_port: int, lifetime_s: int) -> bytes:
    return _PMP_MAP.pack(0, _PMP_OPCODES[protocol], 0, port, external_port, lifetime_s)


def pcp_map(
    own_host: str,
    own_nonce: bytes,
    protocol: str,
    port: int,
    external_port: int,
    lifetime_s: int,
) -> bytes:
    """`own_host`: the address that the packet will come from; the router compares."""
    client = IPv6Address(f"::ffff:{own_host}").packed
    number = PROTOCOLS[protocol]
    return _PCP_MAP.pack(
        2, 1, 0, lifetime_s, client, own_nonce, number, port, external_port, _V4_ZERO
    )


def parse(packet: bytes, own_nonce: bytes = b"") -> Answer | None:
    """What a gateway answered; None for what is no answer, or one to somebody else's nonce."""
    if len(packet) < 4 or len(packet) > _SIZE_MAX or not packet[1] & _ANSWER:
        return None
    if packet[0] == 2:
        return _parse_pcp(packet, own_nonce)
    return _parse_pmp(packet) if packet[0] == 0 else None


def _parse_pmp(packet: bytes) -> Answer | None:
    result = int.from_bytes(packet[2:4], "big")
    if result:
        return Denied("nat-pmp", _PMP_RESULTS.get(result, f"it answered {result}"))
    opcode = packet[1] & ~_ANSWER
    if opcode == 0 and len(packet) >= _PMP_EXTERNAL.size:
        host = _PMP_EXTERNAL.unpack_from(packet)[4]
        return External(str(IPv4Address(host)))
    names = {number: name for name, number in _PMP_OPCODES.items()}
    if opcode not in names or len(packet) < _PMP_MAPPED.size:
        return None
    _, _, _, epoch, port, outside, lifetime = _PMP_MAPPED.unpack_from(packet)
    return Given("nat-pmp", names[opcode], port, outside, "", lifetime, epoch)


def _parse_pcp(packet: bytes, own_nonce: bytes) -> Answer | None:
    if len(packet) < _PCP_HEAD.size or packet[1] != _ANSWER | 1:
        return None
    result = packet[3]
    if len(packet) < _PCP_MAPPED.size:
        return Denied("pcp", _PCP_RESULTS.get(result, f"it answered {result}")) if result else None
    _, _, _, lifetime, epoch, theirs, number, port, outside, host = _PCP_MAPPED.unpack_from(packet)
    if theirs != own_nonce:
        return None
    if result:
        return Denied("pcp", _PCP_RESULTS.get(result, f"it answered {result}"))
    mapped = IPv6Address(host).ipv4_mapped
    names = {each: name for name, each in PROTOCOLS.items()}
    if mapped is None or number not in names:
        return None
    return Given("pcp", names[number], port, outside, str(mapped), lifetime, epoch)


def is_reachable(host: str) -> bool:
    """Whether strangers could reach that IPv4 address: no private, carrier's or other range that
    means another router stands between this one and the Internet."""
    try:
        address = IPv4Address(host)
    except ValueError:
        return False
    return not any(address in network for network in _UNREACHABLE)
