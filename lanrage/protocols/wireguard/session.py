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
_INNER_MIN_BYTES = TRANSPORT_MIN_BYTES + _IPV4.size


class Session:
    """A keypair in one of its owner's slots."""

    __slots__ = (
        "_decrypt",
        "_encrypt",
        "_head",
        "_head_received",
        "born_ns",
        "counter",
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
        self._head_received = TYPE_TRANSPORT | local_index << 32
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
        head, decrypt, nonce_of = self._head_received, self._decrypt, _NONCE.pack
        header_of, ipv4_of = _HEADER.unpack_from, _IPV4.unpack_from
        window, owner, source_known = self.window, self.owner, b""
        packets: list[bytes] = []
        # Counted where something is odd; the rest follows from the number of packets.
        refused = undelivered = run = received_bytes = 0
        expected = window.next_in_order()
        for datagram in islice(datagrams, start, None):
            size = len(datagram)
            if size < TRANSPORT_MIN_BYTES:
                break
            head_seen, counter = header_of(datagram)
            if head_seen != head:
                break
            if counter != expected:
                window.advance(run)
                run = 0
                if not window.is_fresh(counter):
                    drops["replayed"] += 1
                    refused += 1
                    continue
            try:
                packet = decrypt(nonce_of(counter), datagram[TRANSPORT_HEADER_BYTES:], None)
            except InvalidTag:
                drops["forged"] += 1
                refused += 1
                continue
            if counter == expected:
                run += 1
                expected += 1
            else:
                window.mark(counter)
                expected = window.next_in_order()
            received_bytes += size
            if size >= _INNER_MIN_BYTES and packet[0] >> 4 == 4:
                total, source = ipv4_of(packet)
            elif size == TRANSPORT_MIN_BYTES:  # a keepalive
                undelivered += 1
                continue
            else:
                total, source = _ipv6_of(packet)
            if total + TRANSPORT_MIN_BYTES != size:
                if not _IPV4.size <= total <= len(packet):
                    drops["bad_inner"] += 1
                    undelivered += 1
                    continue
                packet = packet[:total]
            # Where the last source repeats, nothing is looked up.
            if source != source_known:
                if owner_of(source) is not owner:
                    drops["spoofed"] += 1
                    undelivered += 1
                    continue
                source_known = source
            packets.append(packet)
        window.advance(run)
        authentic = len(packets) + undelivered
        return Opened(start + authentic + refused, packets, authentic, received_bytes)


class Opened(NamedTuple):
    """What a run held: `end` is the position after it."""

    end: int
    packets: list[bytes]
    authentic: int
    received_bytes: int


def _ipv6_of(packet: bytes) -> tuple[int, bytes]:
    """Length and source that an IPv6 packet claims; (0, b"") where it is none."""
    if len(packet) < _IPV6.size or packet[0] >> 4 != 6:
        return 0, b""
    payload, source = _IPV6.unpack_from(packet)
    return payload + _IPV6.size, source
