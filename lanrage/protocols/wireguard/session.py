"""One keypair and the transport messages under it (whitepaper section 5.4.6).

`seal_batch` and `open_run` are the tunnel's hot path: whole batches, one tight loop each, every
name a local. What a packet costs beyond its cipher call is a nonce, a comparison and a
concatenation; anything that can be settled once per batch (replay window, timers, counters of
bytes) is settled by the caller after the loop.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from struct import Struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from lanrage.protocols.wireguard.constants import (
    PADDING_BYTES,
    REJECT_AFTER,
    REJECT_AFTER_MESSAGES,
    TRANSPORT_HEADER_BYTES,
    TRANSPORT_MIN_BYTES,
    TYPE_TRANSPORT,
)
from lanrage.protocols.wireguard.noise import SessionKeys
from lanrage.protocols.wireguard.replay import ReplayWindow

_HEADER = Struct("<QQ")  # type and receiver index as one number; counter
_HEAD = Struct("<II")
_NONCE = Struct("<4xQ")
_IPV4 = Struct("!2xH8x4s4x")  # total length, source
_IPV6 = Struct("!4xH2x16s16x")  # payload length, source
_IPV6_HEADER_BYTES = _IPV6.size
_IPV4_HEADER_BYTES = _IPV4.size


class Session:
    """A keypair in one of its owner's slots."""

    __slots__ = (
        "_decrypt",
        "_encrypt",
        "_head",
        "born_ns",
        "counter",
        "head_received",
        "initiator",
        "local_index",
        "owner",
        "window",
    )

    def __init__(
        self,
        keys: SessionKeys,
        *,
        owner: object,
        initiator: bool,
        local_index: int,
        remote_index: int,
        born_ns: int,
    ) -> None:
        self.owner = owner
        self.initiator = initiator
        self.local_index = local_index
        self.born_ns = born_ns
        self.counter = 0
        self.window = ReplayWindow()
        self.head_received = TYPE_TRANSPORT | local_index << 32
        self._head = _HEAD.pack(TYPE_TRANSPORT, remote_index)
        self._encrypt = ChaCha20Poly1305(keys.send).encrypt
        self._decrypt = ChaCha20Poly1305(keys.receive).decrypt

    def usable(self, now_ns: int, packets: int = 1) -> bool:
        """Whether this many packets may still be sealed under these keys."""
        young = now_ns - self.born_ns < REJECT_AFTER
        return young and self.counter + packets <= REJECT_AFTER_MESSAGES

    def seal_batch(self, packets: Sequence[bytes], mtu: int) -> list[bytes]:
        """Transport messages for IP packets, each padded to 16 bytes but not beyond the MTU."""
        head, encrypt, nonce_of = self._head, self._encrypt, _NONCE.pack
        counter = self.counter
        datagrams = []
        for packet in packets:
            size = len(packet)
            if size & 15 and size < mtu:
                packet += bytes(min(-size % PADDING_BYTES, mtu - size))
            nonce = nonce_of(counter)
            counter += 1
            datagrams.append(head + nonce[4:] + encrypt(nonce, packet, None))
        self.counter = counter
        return datagrams

    def open_run(
        self,
        datagrams: Sequence[bytes | memoryview],
        start: int,
        owner_of: Callable[[bytes], object],
        drops: dict[str, int],
    ) -> "Opened":
        """Open the datagrams of this session from `start` up to the first of anything else.

        Every packet returned is authentic, not seen before, whole, trimmed to the length its IP
        header tells, and from a source address that `owner_of` gives to the owner of the session.
        """
        head, decrypt, nonce_of, header_of = (
            self.head_received,
            self._decrypt,
            _NONCE.pack,
            _HEADER.unpack_from,
        )
        window, owner, end = self.window, self.owner, start
        packets: list[bytes] = []
        authentic = received_bytes = run = 0
        expected = window.next_in_order()
        source_known = b""
        for datagram in islice(datagrams, start, None):
            size = len(datagram)
            if size < TRANSPORT_MIN_BYTES:
                break
            head_seen, counter = header_of(datagram)
            if head_seen != head:
                break
            end += 1
            if counter != expected:
                window.advance(run)
                run = 0
                if not window.is_fresh(counter):
                    drops["replayed"] += 1
                    continue
            try:
                packet = decrypt(nonce_of(counter), datagram[TRANSPORT_HEADER_BYTES:], None)
            except InvalidTag:
                drops["forged"] += 1
                continue
            if counter == expected:
                run += 1
                expected += 1
            else:
                window.mark(counter)
                expected = window.next_in_order()
            authentic += 1
            received_bytes += size
            if not packet:
                continue
            # An IPv4 source is 4 bytes at 12; where the last one repeats, nothing is looked up.
            total, source = inner_of(packet)
            if total != len(packet):
                if not _IPV4_HEADER_BYTES <= total < len(packet):
                    drops["bad_inner"] += 1
                    continue
                packet = packet[:total]
            if source != source_known:
                if owner_of(source) is not owner:
                    drops["spoofed"] += 1
                    continue
                source_known = source
            packets.append(packet)
        window.advance(run)
        return Opened(end, packets, authentic, received_bytes)


class Opened(NamedTuple):
    """What a run held: `end` is the position after it."""

    end: int
    packets: list[bytes]
    authentic: int
    received_bytes: int


def inner_of(packet: bytes) -> tuple[int, bytes]:
    """Length and source an IP packet claims; (0, b"") where it is neither IPv4 nor IPv6."""
    version = packet[0] >> 4
    if version == 4 and len(packet) >= _IPV4_HEADER_BYTES:
        total, source = _IPV4.unpack_from(packet)
        return total, source
    if version == 6 and len(packet) >= _IPV6_HEADER_BYTES:
        payload, source = _IPV6.unpack_from(packet)
        return payload + _IPV6_HEADER_BYTES, source
    return 0, b""
