"""IP packets and TAP frames the naive way, for tests to compare with: slow, and easy to believe."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from lanrage.tunnel.offload import ETHERNET_SIZE, IPV4, IPV6, VNET

MAC = bytes.fromhex("020000000042")
TCP, UDP = 6, 17
FIN, PSH, ACK = 0x01, 0x08, 0x10


def naive_checksum(data: bytes) -> int:
    """RFC 1071 by the book: add words, fold carries, invert."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True)
class Flow:
    """Everything of a packet but its payload."""

    version: int = 4
    protocol: int = TCP
    sequence: int = 1000
    flags: int = ACK
    options: bytes = b""
    identification: int = 7
    port: int = 5000
    window: int = 512
    tos: int = 0

    @property
    def head(self) -> int:
        ip = 20 if self.version == 4 else 40
        return ip + (20 + len(self.options) if self.protocol == TCP else 8)

    def after(self, size: int) -> Flow:
        """The flow once `size` more bytes were sent."""
        return replace(
            self,
            sequence=(self.sequence + size) % 2**32,
            identification=(self.identification + 1) % 2**16,
        )


def packet(flow: Flow, payload: bytes) -> bytes:
    """One whole IP packet with right checksums."""
    source, destination = addresses(flow)
    if flow.protocol == TCP:
        offset = (20 + len(flow.options)) // 4 << 4
        transport = struct.pack(
            ">HHIIBBHHH", flow.port, 80, flow.sequence, 99, offset, flow.flags, flow.window, 0, 0
        )
        transport += flow.options
        at = 16
    else:
        transport = struct.pack(">HHHH", flow.port, 80, 8 + len(payload), 0)
        at = 6
    size = len(transport) + len(payload)
    pseudo = source + destination + struct.pack(">II", size, flow.protocol)
    checksum = naive_checksum(pseudo + transport + payload)
    if flow.protocol == UDP:
        checksum = checksum or 0xFFFF
    transport = transport[:at] + checksum.to_bytes(2, "big") + transport[at + 2 :]
    return ip_header(flow, size) + transport + payload


def addresses(flow: Flow) -> tuple[bytes, bytes]:
    if flow.version == 4:
        return bytes([10, 66, 0, 1]), bytes([10, 66, 0, 2])
    return bytes.fromhex("fd12" + "00" * 13 + "01"), bytes.fromhex("fd12" + "00" * 13 + "02")


def ip_header(flow: Flow, size: int) -> bytes:
    source, destination = addresses(flow)
    if flow.version == 6:
        fixed = struct.pack(">IHBB", 6 << 28 | flow.tos << 20, size, flow.protocol, 64)
        return fixed + source + destination
    header = struct.pack(
        ">BBHHHBBH", 0x45, flow.tos, 20 + size, flow.identification, 0x4000, 64, flow.protocol, 0
    )
    header += source + destination
    return header[:10] + naive_checksum(header).to_bytes(2, "big") + header[12:]


def super_frame(flow: Flow, payload: bytes, size: int) -> bytes:
    """What the kernel hands over: one huge packet, its transport checksum only begun."""
    huge = bytearray(packet(flow, payload))
    ip = 20 if flow.version == 4 else 40
    offset = 16 if flow.protocol == TCP else 6
    source, destination = addresses(flow)
    pseudo = source + destination + struct.pack(">II", len(huge) - ip, flow.protocol)
    huge[ip + offset : ip + offset + 2] = (~naive_checksum(pseudo) & 0xFFFF).to_bytes(2, "big")
    gso = (1 if flow.version == 4 else 4) if flow.protocol == TCP else 5
    if len(payload) <= size:
        gso, size = 0, 0
    start = ETHERNET_SIZE + ip
    vnet = VNET.pack(1, gso, ETHERNET_SIZE + flow.head, size, start, offset)
    return vnet + MAC + MAC + (IPV4 if flow.version == 4 else IPV6) + bytes(huge)


def segments(flow: Flow, payload: bytes, size: int) -> list[bytes]:
    """What the kernel would have sent without offloads."""
    packets: list[bytes] = []
    for at in range(0, len(payload), size):
        last = at + size >= len(payload)
        flags = flow.flags if last else flow.flags & ~(FIN | PSH)
        packets.append(packet(replace(flow, flags=flags), payload[at : at + size]))
        flow = flow.after(size)
    return packets
