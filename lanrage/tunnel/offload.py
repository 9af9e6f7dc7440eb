"""What the kernel's offloads would do, done for packets that leave by UDP. Pure.

The TAP device hands over and takes frames of up to 64 KiB with a virtio-net header in front
(`struct virtio_net_hdr`, linux/virtio_net.h): one TCP "segment" that is really 45. WireGuard
carries IP packets of at most one MTU with complete checksums. `split` cuts the one into the
others, `Joiner.join` glues neighbours of one flow together again, so that a system call and a
walk through the kernel's stack are paid once for dozens of packets.

Internet checksum (RFC 1071): the sum of 16-bit words in ones' complement is the data read as one
large number modulo 65,535. Read little-endian the number is built faster and odd lengths need no
padding; the sum then comes out byte-swapped, and swapping is multiplication by 256 (mod 65,535).

Joining: two packets belong together when their headers, read as numbers, are equal outside a mask
(lengths, checksums, IP identification), after adding the payload size to the sequence number.
Time stamps, window, ECN, TTL and flags are inside the comparison, so nothing of a header is lost.
The TCP checksum of what is joined is not verified again: the peer's AEAD vouches for the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

VNET = struct.Struct("<BBHHHH")  # flags, GSO type, header length, GSO size, checksum start, offset
ETHERNET_SIZE = 14
ETHERNET_AT = VNET.size
IP_AT = VNET.size + ETHERNET_SIZE
FRAME_MAX = 65_535 + IP_AT
IPV4, IPV6 = b"\x08\x00", b"\x86\xdd"

NEEDS_CHECKSUM = 1  # VIRTIO_NET_HDR_F_NEEDS_CSUM
GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP = 0, 1, 4, 5  # VIRTIO_NET_HDR_GSO_*
TCP, UDP = 6, 17
TCP_FIN_PSH, TCP_PSH, TCP_ACK = 0x09, 0x08, 0x10
TOTAL_MAX = 65_535  # of one joined packet, IP header included

_from_bytes = int.from_bytes


def ones_sum(data: bytes | bytearray) -> int:
    """A number congruent (mod 65,535) to the ones' complement sum of big-endian words."""
    return _from_bytes(data, "little") % 65_535 * 256


def split(frame: bytes) -> list[bytes]:
    """The plain IP packets in one frame from the TAP device, each at most one MTU, with right
    checksums. A frame that makes no sense (no kernel writes one) gives an empty list."""
    if len(frame) < IP_AT + 20:
        return []
    flags, gso, _, size, start, offset = VNET.unpack_from(frame)
    if gso == GSO_NONE:
        if flags & NEEDS_CHECKSUM:
            return [_complete(frame, ETHERNET_AT + start, offset)]
        return [frame[IP_AT:]]
    transport = ETHERNET_AT + start
    if not size or not IP_AT + 20 <= transport <= len(frame) - 20:
        return []
    if gso in (GSO_TCP4, GSO_TCP6):
        return _split_tcp(frame, transport, size)
    if gso == GSO_UDP:
        return _split_udp(frame, transport, size)
    return []


def _complete(frame: bytes, transport: int, offset: int) -> bytes:
    """The packet of `frame` with its checksum, which so far holds the pseudo header's sum."""
    checksum = -ones_sum(frame[transport:]) % 65_535 or 65_535  # 0 would mean "none" in UDP
    at = transport + offset
    return b"%b%b%b" % (frame[IP_AT:at], checksum.to_bytes(2, "big"), frame[at + 2 :])


@lru_cache(maxsize=512)
def _tcp_layout(ip_size: int, tail_size: int, payload_size: int) -> struct.Struct:
    """IP header, ports, sequence, acknowledgement to window, checksum, the rest, payload."""
    return struct.Struct(f">{ip_size}s4sI8sH{tail_size}s{payload_size}s")


def _split_tcp(frame: bytes, transport: int, size: int) -> list[bytes]:
    head = transport + (frame[transport + 12] >> 4) * 4
    if not transport + 20 <= head < len(frame):
        return []
    payloads = [frame[at : at + size] for at in range(head, len(frame), size)]
    header_size = head - transport
    ips = _ip_headers(frame[IP_AT:transport], header_size, payloads)
    ip_size, tail_size = transport - IP_AT, head - transport - 18
    ports, tail = frame[transport : transport + 4], frame[transport + 18 : head]
    sequence = _from_bytes(frame[transport + 4 : transport + 8], "big")
    after = frame[transport + 8 : transport + 16]  # acknowledgement, flags, window
    inner = after[:5] + bytes((after[5] & ~TCP_FIN_PSH,)) + after[6:]  # both on the last only
    constant = _pseudo_sum(frame, TCP) + ones_sum(ports + inner + tail) + header_size + size
    pack = _tcp_layout(ip_size, tail_size, size).pack
    packets: list[bytes] = []
    last = payloads.pop()
    for ip, payload in zip(ips, payloads, strict=False):
        number = _from_bytes(payload, "little") % 65_535 * 256  # ones_sum, inlined
        checksum = -(constant + sequence + number) % 65_535
        packets.append(pack(ip, ports, sequence, inner, checksum, tail, payload))
        sequence = sequence + size & 0xFFFFFFFF
    constant += ones_sum(after) - ones_sum(inner) + len(last) - size
    checksum = -(constant + sequence + ones_sum(last)) % 65_535
    pack = _tcp_layout(ip_size, tail_size, len(last)).pack
    packets.append(pack(ips[-1], ports, sequence, after, checksum, tail, last))
    return packets


def _split_udp(frame: bytes, transport: int, size: int) -> list[bytes]:
    head = transport + 8
    payloads = [frame[at : at + size] for at in range(head, len(frame), size)]
    ips = _ip_headers(frame[IP_AT:transport], 8, payloads)
    ports = frame[transport : transport + 4]
    constant = _pseudo_sum(frame, UDP) + ones_sum(ports)
    packets: list[bytes] = []
    for ip, payload in zip(ips, payloads, strict=True):
        length = len(payload) + 8  # twice: once in the header, once in the pseudo header
        checksum = -(constant + 2 * length + ones_sum(payload)) % 65_535 or 65_535
        packets.append(b"%b%b%b%b" % (ip, ports, _HH.pack(length, checksum), payload))
    return packets


_HH = struct.Struct(">HH")
_IP4 = struct.Struct(">2sHH4sH")  # version and TOS, total length, identification, -, checksum


def _pseudo_sum(frame: bytes, protocol: int) -> int:
    """Addresses and protocol; the caller adds the length of the segment."""
    if frame[IP_AT] >> 4 == 4:
        return ones_sum(frame[IP_AT + 12 : IP_AT + 20]) + protocol
    return ones_sum(frame[IP_AT + 8 : IP_AT + 40]) + protocol


def _ip_headers(ip: bytes, transport_size: int, payloads: Sequence[bytes]) -> list[bytes]:
    """The IP header of each segment: lengths, and for IPv4 identification and checksum."""
    if ip[0] >> 4 == 6:
        extensions = len(ip) - 40  # the payload length counts them, not the fixed header
        lengths = [len(payloads[0]), len(payloads[-1])]
        both = [
            b"%b%b%b" % (ip[:4], (extensions + transport_size + n).to_bytes(2, "big"), ip[6:])
            for n in lengths
        ]
        return [both[0]] * (len(payloads) - 1) + [both[1]]
    version, fragment, rest = ip[:2], ip[6:10], ip[12:]
    identification = _from_bytes(ip[4:6], "big")
    constant = ones_sum(version + fragment + rest)
    headers: list[bytes] = []
    pack, sizes = _IP4.pack, len(ip) + transport_size
    for payload in payloads:
        length = sizes + len(payload)
        checksum = -(constant + length + identification) % 65_535
        headers.append(pack(version, length, identification, fragment, checksum) + rest)
        identification = identification + 1 & 0xFFFF
    return headers


# --- joining ---------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _mask(version: int, protocol: int, head: int) -> int:
    """Which header bits must be equal for two packets to be neighbours in one flow."""
    ip = 20 if version == 4 else 40
    keep = bytearray(b"\xff" * head)
    free = [(2, 6), (10, 12)] if version == 4 else [(4, 6)]
    free.append((ip + 16, ip + 18) if protocol == TCP else (ip + 4, ip + 8))
    for start, end in free:
        keep[start:end] = bytes(end - start)
    return _from_bytes(keep, "big")


class Joiner:
    """Turns decrypted packets into frames for the TAP device with hardware address `mac`.

    `udp` tells whether the kernel takes joined UDP (Linux 6.2 and later)."""

    def __init__(self, mac: bytes, *, udp: bool) -> None:
        # Any sender's address will do: nothing on this link ever asks who that is.
        self._ethernet4 = mac + b"\x02\x00\x00\x00\x00\x01" + IPV4
        self._ethernet6 = mac + b"\x02\x00\x00\x00\x00\x01" + IPV6
        self._plain4 = bytes(VNET.size) + self._ethernet4
        self._plain6 = bytes(VNET.size) + self._ethernet6
        self._udp = udp

    def join(self, packets: Sequence[bytes]) -> list[list[bytes]]:
        """Frames in order, each as the parts of one gathering write. Order within a flow stays."""
        frames: list[list[bytes]] = []
        at, count = 0, len(packets)
        while at < count:
            packet = packets[at]
            head = self._head(packet) if at + 1 < count else 0
            run = _run(packets, at, head) if head else 1
            if run > 1:
                frames.append(self._glue(packets[at : at + run], head))
            else:
                frames.append([self._plain4 if packet[0] >> 4 == 4 else self._plain6, packet])
            at += run
        return frames

    def _head(self, packet: bytes) -> int:
        """Size of the IP and transport headers of a packet that others may be joined to, or 0."""
        size = len(packet)
        if packet[0] == 0x45 and size > 40 and not (packet[6] & 0x3F or packet[7]):
            ip, protocol = 20, packet[9]
        elif packet[0] >> 4 == 6 and size > 60:
            ip, protocol = 40, packet[6]
        else:
            return 0
        if protocol == TCP:
            head = ip + (packet[ip + 12] >> 4) * 4
            return head if packet[ip + 13] == TCP_ACK and ip + 20 <= head < size else 0
        if protocol != UDP or not self._udp or packet[ip + 6 : ip + 8] == b"\0\0":
            return 0
        return ip + 8 if _from_bytes(packet[ip + 4 : ip + 6], "big") == size - ip else 0

    def _glue(self, packets: Sequence[bytes], head: int) -> list[bytes]:
        first, last = packets[0], packets[-1]
        size = len(first) - head
        total = head + (len(packets) - 1) * size + len(last) - head
        header = bytearray(first[:head])
        if first[0] >> 4 == 4:
            ip, protocol, ethernet, gso = 20, first[9], self._ethernet4, GSO_TCP4
            header[2:4] = total.to_bytes(2, "big")
            header[10:12] = b"\0\0"
            header[10:12] = (-ones_sum(header[:20]) % 65_535).to_bytes(2, "big")
            addresses = header[12:20]
        else:
            ip, protocol, ethernet, gso = 40, first[6], self._ethernet6, GSO_TCP6
            header[4:6] = (total - 40).to_bytes(2, "big")
            addresses = header[8:40]
        offset = 16
        if protocol == UDP:
            gso, offset = GSO_UDP, 6
            header[ip + 4 : ip + 6] = (total - ip).to_bytes(2, "big")
        else:
            header[ip + 13] |= last[ip + 13]  # PSH, if the last one had it
        # The kernel finishes the checksum: it wants the pseudo header's sum, not inverted.
        partial = (ones_sum(addresses) + protocol + total - ip) % 65_535
        header[ip + offset : ip + offset + 2] = partial.to_bytes(2, "big")
        start = ETHERNET_SIZE + ip
        vnet = VNET.pack(NEEDS_CHECKSUM, gso, ETHERNET_SIZE + head, size, start, offset)
        return [b"%b%b%b" % (vnet, ethernet, bytes(header)), *[packet[head:] for packet in packets]]


def _run(packets: Sequence[bytes], at: int, head: int) -> int:
    """How many packets from `at` on are one flow without a gap: equal payload sizes, only the
    last one may be shorter or carry PSH."""
    first = packets[at]
    version = first[0] >> 4
    tcp = first[9 if version == 4 else 6] == TCP
    mask = _mask(version, TCP if tcp else UDP, head)
    size = len(first) - head
    ip = 20 if version == 4 else 40
    step = size << 8 * (head - ip - 8) if tcp else 0  # at the sequence number
    push = TCP_PSH << 8 * (head - ip - 14) if tcp else 0
    expected = (_from_bytes(first[:head], "big") & mask) + step
    room = min((TOTAL_MAX - head) // size, len(packets) - at)
    if tcp and _from_bytes(first[ip + 4 : ip + 8], "big") + room * size >> 32:
        return 1  # the sequence number wraps in here; once in 4 GiB
    run = 1
    while run < room:
        packet = packets[at + run]
        length = len(packet) - head
        if length > size or length <= 0:
            break
        if not tcp and _from_bytes(packet[ip + 4 : ip + 6], "big") != length + 8:
            break
        header = _from_bytes(packet[:head], "big") & mask
        if header != expected:
            return run + 1 if tcp and header == expected | push else run
        run += 1
        if length < size:
            break
        expected += step
    return run
