"""The answer to a packet for an address nobody has: "host unreachable" (RFC 792, RFC 4443). Pure.

Without it a game waits for its own time-out. It comes from the address in question, because this
computer would not believe itself in a packet from outside.
"""

from __future__ import annotations

import struct

from lanrage.tunnel.offload import ones_sum

ICMP, ICMPV6 = 1, 58
_PROTOCOL_AT = {4: 9, 6: 6}
_UNREACHABLE4 = b"\x03\x01"  # destination unreachable: host
_UNREACHABLE6 = b"\x01\x03"  # destination unreachable: address
_QUOTED4_MAX = 548  # RFC 1812, 4.3.2.3: the whole error stays within 576 bytes
_QUOTED6_MAX = 1232  # RFC 4443, 2.4 (c): within 1,280


def unreachable(packet: bytes) -> bytes | None:
    """The error for an IP packet from this computer; None for what must not be answered with one
    (RFC 1122, 3.2.2): errors and other ICMP but echo requests, and all but first fragments."""
    version = packet[0] >> 4
    head = (packet[0] & 15) * 4 if version == 4 else 40
    protocol = packet[_PROTOCOL_AT.get(version, 0)]
    if len(packet) < head + 8 or version not in _PROTOCOL_AT:
        return None
    if protocol in (ICMP, ICMPV6) and packet[head] not in (8, 128):
        return None
    if version == 4:
        return None if packet[6] & 0x1F or packet[7] else _unreachable4(packet)
    return _unreachable6(packet)


def _unreachable4(packet: bytes) -> bytes:
    message = _with_checksum(_UNREACHABLE4 + bytes(6) + packet[:_QUOTED4_MAX], b"")
    start = struct.pack(">BBHIBB", 0x45, 0, 20 + len(message), 0, 64, ICMP)
    addresses = packet[16:20] + packet[12:16]
    checksum = -ones_sum(start + addresses) % 65_535
    return start + checksum.to_bytes(2, "big") + addresses + message


def _unreachable6(packet: bytes) -> bytes:
    message = _UNREACHABLE6 + bytes(6) + packet[:_QUOTED6_MAX]
    addresses = packet[24:40] + packet[8:24]
    pseudo = addresses + struct.pack(">II", len(message), ICMPV6)
    start = struct.pack(">IHBB", 6 << 28, len(message), ICMPV6, 64)
    return start + addresses + _with_checksum(message, pseudo)


def _with_checksum(message: bytes, pseudo: bytes) -> bytes:
    checksum = -ones_sum(pseudo + message) % 65_535
    return message[:2] + checksum.to_bytes(2, "big") + message[4:]
