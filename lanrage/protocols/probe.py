"""Probes: authenticated ping and pong of equal size, on the socket that WireGuard uses too.

A pong proves that packets travel both ways between two addresses, measures the round trip, and
tells the pinger which address it was seen at. Ping and pong are 64 bytes each, so a forged source
gains nobody an amplifier.

     0  4  magic "LRP1": WireGuard starts with 1..4 and three zeros, STUN with two zero bits
     4  1  1 ping, 2 pong
     5  1  address family the pong reports: 4 or 6; 0 in a ping
     6  2  port the pong reports; in a ping flags: bit 0, the pinger sends its data this way;
           bit 1, it consents to port search
     8  8  hint: which peer sends, known to the two of them only; finds the key to check with
    16  8  epoch: random for each run of the pinger, echoed by the pong
    24  8  sequence: grows with each ping of that epoch to that peer, echoed by the pong
    32 16  address the pong reports; IPv4 in the first four bytes, the rest zero
    48 16  MAC: BLAKE2s-128 over all before, keyed for this pair and this direction

Keys come from HKDF-SHA256 over X25519 of the two static WireGuard keys, salted with both public
keys (lower one first): 32 bytes for the direction from the lower key, 32 for the other. Whoever
reflects our own ping at us therefore fails the MAC.

A replayed ping can only make us probe the address it came from, once; `Window` refuses even that
as long as the epoch is known. A replayed pong finds nothing pending. All pure; bytes never raise.
"""

from __future__ import annotations

import hmac
import struct
from collections import deque
from dataclasses import dataclass, field
from hashlib import blake2s
from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lanrage.protocols.endpoint import Address

MAGIC = b"LRP1"
SIZE = 64
PING = 1
PONG = 2
HINT_BYTES = 8
EPOCH_BYTES = 8
MAC_BYTES = 16
WINDOW_BITS = 1024
EPOCHS_MAX = 8  # ended epochs of a peer that stay refused

_HEAD = struct.Struct("!4sBBH8s8sQ16s")
_NOWHERE = bytes(16)


@dataclass(frozen=True, slots=True)
class Keys:
    """What one side of a pair sends and checks with."""

    sending: bytes
    receiving: bytes
    sending_hint: bytes
    receiving_hint: bytes  # what an arriving probe of that peer carries


@dataclass(frozen=True, slots=True)
class Probe:
    """An arrived probe whose MAC was right. `observed` is what a pong says it saw."""

    type: int
    epoch: bytes
    sequence: int
    observed: Address | None
    used: bool = False  # of a ping: its sender sends data on this way
    searching: bool = False  # of a ping: its sender consents to port search


def derive(private_key: bytes, peer_public_key: bytes) -> Keys | None:
    """Keys for the pair, or None if the peer's key is no usable point (small order, own key)."""
    private = X25519PrivateKey.from_private_bytes(private_key)
    public = private.public_key().public_bytes_raw()
    if public == peer_public_key or len(peer_public_key) != 32:
        return None
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(peer_public_key))
    except ValueError:
        return None
    salt = min(public, peer_public_key) + max(public, peer_public_key)
    okm = HKDF(SHA256(), 64, salt, b"lanrage probe v1").derive(shared)
    lower, higher = okm[:32], okm[32:]
    sending, receiving = (lower, higher) if public < peer_public_key else (higher, lower)
    return Keys(sending, receiving, _hint(sending), _hint(receiving))


def _hint(key: bytes) -> bytes:
    return blake2s(b"hint", digest_size=HINT_BYTES, key=key).digest()


def _mac(head: bytes, key: bytes) -> bytes:
    return blake2s(head, digest_size=MAC_BYTES, key=key).digest()


def ping(
    keys: Keys, epoch: bytes, sequence: int, *, used: bool = False, searching: bool = False
) -> bytes:
    flags = used | searching << 1
    head = _HEAD.pack(MAGIC, PING, 0, flags, keys.sending_hint, epoch, sequence, _NOWHERE)
    return head + _mac(head, keys.sending)


def pong(keys: Keys, probe: Probe, source: Address) -> bytes:
    """The answer to `probe`, telling its sender that it came from `source`."""
    host, port = source
    parsed = ip_address(host)
    packed = parsed.packed.ljust(16, b"\0")
    hint = keys.sending_hint
    head = _HEAD.pack(MAGIC, PONG, parsed.version, port, hint, probe.epoch, probe.sequence, packed)
    return head + _mac(head, keys.sending)


def is_probe(datagram: bytes) -> bool:
    return len(datagram) == SIZE and datagram[:4] == MAGIC


def hint(datagram: bytes) -> bytes:
    """Whose keys an arrived probe (`is_probe`) asks to be checked with."""
    return datagram[8:16]


def open_probe(datagram: bytes, keys: Keys) -> Probe | None:
    """The probe, if it has the right shape and the peer of `keys` made it."""
    if not is_probe(datagram):
        return None
    head, mac = datagram[: _HEAD.size], datagram[_HEAD.size :]
    if not hmac.compare_digest(_mac(head, keys.receiving), mac):
        return None
    _, type_, family, port, _, epoch, sequence, packed = _HEAD.unpack(head)
    if type_ == PING and family == 0:
        return Probe(type_, epoch, sequence, None, bool(port & 1), bool(port & 2))
    if type_ == PONG and family == 4:
        return Probe(type_, epoch, sequence, (str(IPv4Address(packed[:4])), port))
    if type_ == PONG and family == 6:
        return Probe(type_, epoch, sequence, (str(IPv6Address(packed)), port))
    return None


@dataclass(slots=True)
class Window:
    """Pings of one peer seen before. A new epoch (the peer started again) begins afresh."""

    epoch: bytes = b""
    highest: int = 0
    seen: int = 0  # bit n: sequence `highest - n` was seen
    ended: deque[bytes] = field(default_factory=lambda: deque(maxlen=EPOCHS_MAX))

    def admit(self, probe: Probe) -> bool:
        """Whether this ping is new; it counts as seen from now on."""
        if probe.epoch != self.epoch:
            if probe.epoch in self.ended:
                return False
            if self.epoch:
                self.ended.append(self.epoch)
            self.epoch, self.highest, self.seen = probe.epoch, probe.sequence, 1
            return True
        ahead = probe.sequence - self.highest
        if ahead > 0:
            shift = min(ahead, WINDOW_BITS)
            self.seen = (self.seen << shift | 1) & ((1 << WINDOW_BITS) - 1)
            self.highest = probe.sequence
            return True
        if -ahead >= WINDOW_BITS or self.seen >> -ahead & 1:
            return False
        self.seen |= 1 << -ahead
        return True
