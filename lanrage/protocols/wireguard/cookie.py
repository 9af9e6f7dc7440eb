"""Cookies: proof of address under load (whitepaper section 5.3, 5.4.4, 5.4.7).

A handshake costs us several curve multiplications, its forgery costs an attacker nothing. So under
load a message with a valid mac1 gets a cookie, a MAC of its source address under a secret of two
minutes, sealed for the sender; only a message whose mac2 was made with that cookie is worked on,
and of those 20 a second from one address. `Doorkeeper` is the answering half, `CookieJar` the half
that receives cookies and stamps them on what we send.

The reply is sealed with XChaCha20-Poly1305, which `cryptography` lacks: HChaCha20 is derived from
its ChaCha20 (draft-irtf-cfrg-xchacha-03 section 2.2). One ChaCha20 block is state + rounds(state)
word by word; HChaCha20 wants words 0-3 and 12-15 of rounds(state), and the initial state at those
places (the constants; counter and nonce) is public, so subtracting it gives them.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2s
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from lanrage.protocols.endpoint import Place, Via
from lanrage.protocols.wireguard.constants import (
    BUCKET_BURST,
    BUCKET_PER_SECOND,
    BUCKETS_MAX,
    COOKIE_BYTES,
    COOKIE_LATENCY,
    COOKIE_LIFE,
    LABEL_COOKIE,
    LABEL_MAC1,
    LOAD_HANDSHAKES_PER_SECOND,
    LOAD_HOLD,
    MAC_BYTES,
    SECOND,
    TYPE_COOKIE,
)

_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_WORDS = struct.Struct("<4I")
_COOKIE = struct.Struct("<II24s32s")


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """The 32-byte subkey of a 32-byte key and a 16-byte nonce."""
    block = Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64))
    return _minus(block[:16], _SIGMA) + _minus(block[48:], _WORDS.unpack(nonce))


def _minus(words: bytes, state: tuple[int, ...]) -> bytes:
    pairs = zip(_WORDS.unpack(words), state, strict=True)
    return _WORDS.pack(*((a - b) & 0xFFFFFFFF for a, b in pairs))


def xchacha_seal(key: bytes, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
    """XChaCha20-Poly1305 with a 24-byte nonce."""
    subkey = hchacha20(key, nonce[:16])
    return ChaCha20Poly1305(subkey).encrypt(bytes(4) + nonce[16:], plain, associated)


def xchacha_open(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    """The plain text, or None where the tag is wrong."""
    subkey = hchacha20(key, nonce[:16])
    try:
        return ChaCha20Poly1305(subkey).decrypt(bytes(4) + nonce[16:], sealed, associated)
    except InvalidTag:
        return None


def mac(key: bytes, message: bytes) -> bytes:
    """Keyed BLAKE2s of 16 bytes (RFC 7693)."""
    return blake2s(message, key=key, digest_size=MAC_BYTES).digest()


def mac1_key(public_key: bytes) -> bytes:
    return blake2s(LABEL_MAC1 + public_key).digest()


def cookie_key(public_key: bytes) -> bytes:
    return blake2s(LABEL_COOKIE + public_key).digest()


class CookieJar:
    """What one peer needs: stamps our messages to it, and keeps the cookie it gave us."""

    def __init__(self, peer_public_key: bytes) -> None:
        self._mac1_key = mac1_key(peer_public_key)
        self._cookie_key = cookie_key(peer_public_key)
        self._cookie: bytes | None = None
        self._cookie_expires_at_ns = 0
        self._last_mac1: bytes | None = None

    def stamp(self, message: bytes, now_ns: int) -> bytes:
        """The message (without macs) with mac1, and mac2 if a cookie is still good."""
        mac1 = mac(self._mac1_key, message)
        self._last_mac1 = mac1
        stamped = message + mac1
        if self._cookie is None or now_ns >= self._cookie_expires_at_ns:
            return stamped + bytes(MAC_BYTES)
        return stamped + mac(self._cookie, stamped)

    def put_reply(self, datagram: bytes, now_ns: int) -> bool:
        """Keep the cookie of a reply to the last message stamped; False if it is no such reply."""
        if self._last_mac1 is None:
            return False
        _, _, nonce, sealed = _COOKIE.unpack(datagram)
        cookie = xchacha_open(self._cookie_key, nonce, sealed, self._last_mac1)
        if cookie is None:
            return False
        self._cookie = cookie
        self._cookie_expires_at_ns = now_ns + COOKIE_LIFE - COOKIE_LATENCY
        self._last_mac1 = None
        return True


@dataclass(slots=True)
class _Bucket:
    tokens_ns: int
    at_ns: int


class Doorkeeper:
    """Decides which handshake messages are worth the work."""

    def __init__(self, public_key: bytes, random: Callable[[int], bytes]) -> None:
        self._mac1_key = mac1_key(public_key)
        self._cookie_key = cookie_key(public_key)
        self._random = random
        self._secret = b""
        self._secret_expires_at_ns = 0
        self._second_began_ns = -SECOND
        self._seen_in_second = 0
        self._loaded_until_ns: int | None = None
        self._buckets: dict[bytes, _Bucket] = {}

    def has_mac1(self, message: bytes) -> bool:
        """Whether the sender knows our public key. Costs one hash."""
        body, mac1 = message[: -2 * MAC_BYTES], message[-2 * MAC_BYTES : -MAC_BYTES]
        return compare_digest(mac(self._mac1_key, body), mac1)

    def under_load(self, now_ns: int) -> bool:
        """Count one message with a valid mac1 and say whether there are too many of them."""
        if now_ns - self._second_began_ns >= SECOND:
            self._second_began_ns = now_ns
            self._seen_in_second = 0
        self._seen_in_second += 1
        if self._seen_in_second > LOAD_HANDSHAKES_PER_SECOND:
            self._loaded_until_ns = now_ns + LOAD_HOLD
        return self._loaded_until_ns is not None and now_ns < self._loaded_until_ns

    def has_mac2(self, message: bytes, source: Place, now_ns: int) -> bool:
        """Whether the sender proved to receive at its source address."""
        body, mac2 = message[:-MAC_BYTES], message[-MAC_BYTES:]
        return compare_digest(mac(self._cookie(source, now_ns), body), mac2)

    def allows(self, source: Place, now_ns: int) -> bool:
        """Take one token from the bucket of the source (an IPv6 /64 is one source, so is each
        sender behind a relay)."""
        key = _bucket_key(source)
        bucket = self._buckets.get(key)
        price = SECOND // BUCKET_PER_SECOND
        full = price * BUCKET_BURST
        if bucket is None:
            if len(self._buckets) >= BUCKETS_MAX and not self._forget_full_buckets(now_ns):
                return False
            self._buckets[key] = _Bucket(full - price, now_ns)
            return True
        bucket.tokens_ns = min(full, bucket.tokens_ns + now_ns - bucket.at_ns)
        bucket.at_ns = now_ns
        if bucket.tokens_ns < price:
            return False
        bucket.tokens_ns -= price
        return True

    def reply(self, message: bytes, source: Place, now_ns: int) -> bytes:
        """The cookie reply to a message of ours: its sender's index is at offset 4."""
        (sender,) = struct.unpack_from("<I", message, 4)
        nonce = self._random(24)
        mac1 = message[-2 * MAC_BYTES : -MAC_BYTES]
        sealed = xchacha_seal(self._cookie_key, nonce, self._cookie(source, now_ns), mac1)
        reply = _COOKIE.pack(TYPE_COOKIE, sender, nonce, sealed)
        assert len(reply) == COOKIE_BYTES
        return reply

    def _cookie(self, source: Place, now_ns: int) -> bytes:
        if now_ns >= self._secret_expires_at_ns or not self._secret:
            self._secret = self._random(32)
            self._secret_expires_at_ns = now_ns + COOKIE_LIFE
        return mac(self._secret, " ".join(map(str, source)).encode())

    def _forget_full_buckets(self, now_ns: int) -> bool:
        full_after = SECOND * BUCKET_BURST // BUCKET_PER_SECOND
        kept = {k: b for k, b in self._buckets.items() if now_ns - b.at_ns < full_after}
        self._buckets = kept
        return len(kept) < BUCKETS_MAX


def _bucket_key(source: Place) -> bytes:
    if isinstance(source, Via):
        return " ".join(map(str, source)).encode()
    ip = source[0]
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return ip.encode()
    if not isinstance(address, IPv6Address):
        return address.packed
    mapped = address.ipv4_mapped
    return mapped.packed if mapped else address.packed[:8]
