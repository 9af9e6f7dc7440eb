"""The handshake: Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s with WireGuard's messages (whitepaper 5.4).

    initiator                                            responder
    initiate()          -- e, es, s, ss, timestamp -->   read_static(), read_timestamp()
    consume_response()  <-- e, ee, se, psk, empty --     respond()

Both ends then hold the same two transport keys, one for each direction. The chaining key `ck`
collects every secret, the hash `h` every byte said so far; each sealed field is bound to both.
Messages here are without mac1 and mac2 (cookie.py adds them). Ephemeral keys and time come from the
caller, so a run can be repeated byte by byte. Wrong bytes, also low-order points, give None.
"""

import hmac
import struct
from dataclasses import dataclass
from hashlib import blake2s

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from lanrage.protocols.wireguard.constants import (
    CONSTRUCTION,
    IDENTIFIER,
    INITIATION_BYTES,
    MAC_BYTES,
    RESPONSE_BYTES,
    SECOND,
    TYPE_INITIATION,
    TYPE_RESPONSE,
)

_INITIATION = struct.Struct("<II32s48s28s")
_RESPONSE = struct.Struct("<III32s16s")
_TAI64N = struct.Struct(">QI")
_TAI64_EPOCH = 2**62 + 10
# Coarse enough (16.8 ms) not to tell the world how exactly our clock runs; Linux and Go do so too.
_TIMESTAMP_GRAIN = 1 << 24


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Transport keys as one end holds them."""

    send: bytes
    receive: bytes


@dataclass(frozen=True, slots=True)
class Initiation:
    """What the initiator keeps until the response comes."""

    ephemeral: X25519PrivateKey
    chaining_key: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Announced:
    """An initiation of which only the sender's public key was read."""

    public_key: bytes
    sender: int
    ephemeral: bytes
    sealed_timestamp: bytes
    chaining_key: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Authenticated:
    """An initiation that its sender really made, at some time."""

    public_key: bytes
    timestamp: bytes
    sender: int
    ephemeral: bytes
    chaining_key: bytes
    hash: bytes


class Identity:
    """The local static key."""

    def __init__(self, private_key: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private_key)
        self.public_key = self._private.public_key().public_bytes_raw()

    def shared(self, public_key: bytes) -> bytes | None:
        """The Diffie-Hellman secret with a public key; None for a low-order point."""
        return _shared(self._private, public_key)


def tai64n(unix_ns: int) -> bytes:
    """The 12-byte timestamp of an initiation, rounded down to 2^24 ns."""
    seconds, fraction = divmod(max(unix_ns, 0), SECOND)
    return _TAI64N.pack(_TAI64_EPOCH + seconds, fraction - fraction % _TIMESTAMP_GRAIN)


def later_tai64n(timestamp: bytes) -> bytes:
    """The next timestamp that is greater, for a clock that has not moved on (or went back)."""
    seconds, fraction = _TAI64N.unpack(timestamp)
    fraction += _TIMESTAMP_GRAIN
    if fraction >= SECOND:
        return _TAI64N.pack(seconds + 1, 0)
    return _TAI64N.pack(seconds, fraction)


def initiate(
    identity: Identity,
    public_key: bytes,
    static_shared: bytes,
    *,
    sender: int,
    ephemeral: bytes,
    timestamp: bytes,
) -> tuple[bytes, Initiation]:
    """The first message to a public key whose secret with ours is known and not low-order."""
    private = X25519PrivateKey.from_private_bytes(ephemeral)
    e = private.public_key().public_bytes_raw()
    ck, h = _begin(public_key)
    h = _hash(h, e)
    ck = _kdf1(ck, e)
    es = _shared(private, public_key)
    assert es is not None, "put_peer refuses low-order keys"
    ck, key = _kdf2(ck, es)
    sealed_static = _seal(key, identity.public_key, h)
    h = _hash(h, sealed_static)
    ck, key = _kdf2(ck, static_shared)
    sealed_timestamp = _seal(key, timestamp, h)
    h = _hash(h, sealed_timestamp)
    message = _INITIATION.pack(TYPE_INITIATION, sender, e, sealed_static, sealed_timestamp)
    return message, Initiation(private, ck, h)


def read_static(identity: Identity, datagram: bytes) -> Announced | None:
    """Who says to be the sender of an initiation. Proves nothing yet but knowledge of our key."""
    assert len(datagram) == INITIATION_BYTES
    _, sender, e, sealed_static, sealed_timestamp = _INITIATION.unpack(datagram[: -2 * MAC_BYTES])
    ck, h = _begin(identity.public_key)
    h = _hash(h, e)
    ck = _kdf1(ck, e)
    es = identity.shared(e)
    if es is None:
        return None
    ck, key = _kdf2(ck, es)
    public_key = _open(key, sealed_static, h)
    if public_key is None:
        return None
    return Announced(public_key, sender, e, sealed_timestamp, ck, _hash(h, sealed_static))


def read_timestamp(announced: Announced, static_shared: bytes) -> Authenticated | None:
    """The rest of an initiation, given our static secret with the one it names."""
    ck, key = _kdf2(announced.chaining_key, static_shared)
    timestamp = _open(key, announced.sealed_timestamp, announced.hash)
    if timestamp is None:
        return None
    h = _hash(announced.hash, announced.sealed_timestamp)
    return Authenticated(
        announced.public_key, timestamp, announced.sender, announced.ephemeral, ck, h
    )


def respond(
    received: Authenticated, *, sender: int, ephemeral: bytes, preshared_key: bytes
) -> tuple[bytes, SessionKeys] | None:
    """The second message and our keys; None if a point of the initiator's is low-order."""
    private = X25519PrivateKey.from_private_bytes(ephemeral)
    e = private.public_key().public_bytes_raw()
    ee = _shared(private, received.ephemeral)
    se = _shared(private, received.public_key)
    if ee is None or se is None:
        return None
    h = _hash(received.hash, e)
    ck = _kdf1(_kdf1(_kdf1(received.chaining_key, e), ee), se)
    ck, tau, key = _kdf3(ck, preshared_key)
    h = _hash(h, tau)
    empty = _seal(key, b"", h)
    message = _RESPONSE.pack(TYPE_RESPONSE, sender, received.sender, e, empty)
    receive, send = _kdf2(ck, b"")
    return message, SessionKeys(send, receive)


def consume_response(
    identity: Identity, initiation: Initiation, datagram: bytes, preshared_key: bytes
) -> SessionKeys | None:
    """Our keys from the answer to our initiation; None if it is not a true answer."""
    assert len(datagram) == RESPONSE_BYTES
    _, _, _, e, empty = _RESPONSE.unpack(datagram[: -2 * MAC_BYTES])
    ee = _shared(initiation.ephemeral, e)
    se = identity.shared(e)
    if ee is None or se is None:
        return None
    h = _hash(initiation.hash, e)
    ck = _kdf1(_kdf1(_kdf1(initiation.chaining_key, e), ee), se)
    ck, tau, key = _kdf3(ck, preshared_key)
    h = _hash(h, tau)
    if _open(key, empty, h) is None:
        return None
    send, receive = _kdf2(ck, b"")
    return SessionKeys(send, receive)


def _begin(responder_public_key: bytes) -> tuple[bytes, bytes]:
    return _CK, _hash(_H, responder_public_key)


def _shared(private: X25519PrivateKey, public_key: bytes) -> bytes | None:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:  # a low-order point: the secret would be all zero
        return None


def _hash(h: bytes, data: bytes) -> bytes:
    return blake2s(h + data).digest()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "blake2s")


def _kdf1(ck: bytes, secret: bytes) -> bytes:
    return _hmac(_hmac(ck, secret), b"\x01")


def _kdf2(ck: bytes, secret: bytes) -> tuple[bytes, bytes]:
    root = _hmac(ck, secret)
    first = _hmac(root, b"\x01")
    return first, _hmac(root, first + b"\x02")


def _kdf3(ck: bytes, secret: bytes) -> tuple[bytes, bytes, bytes]:
    root = _hmac(ck, secret)
    first = _hmac(root, b"\x01")
    second = _hmac(root, first + b"\x02")
    return first, second, _hmac(root, second + b"\x03")


# Each handshake key seals exactly one field, hence the constant nonce.
def _seal(key: bytes, plain: bytes, associated: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(bytes(12), plain, associated)


def _open(key: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), sealed, associated)
    except InvalidTag:
        return None


_CK = blake2s(CONSTRUCTION).digest()
_H = _hash(_CK, IDENTIFIER)
