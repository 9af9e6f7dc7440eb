"""Sealed, signed signals between members, carried by a control server that must not read them.

    sealed    = version (1 byte, 1) | nonce (12) | ChaCha20-Poly1305 of plaintext
    plaintext = signature (64) | payload
    key       = HKDF-SHA256(X25519(sender's, recipient's WireGuard keys), "lanrage signal v1")
    AAD       = "lanrage signal v1" | party id (32) | sender (32) | recipient (32)
    signature = the sender's Ed25519 identity over AAD | payload
    payload   = one MessagePack map, a `Signal`; unknown fields are ignored

Nothing here stops the server from withholding a signal or repeating an old one; `generation` grows
with each list, so an old one is ignored.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lanrage.protocols.partylog.chain import Invalid
from lanrage.protocols.partylog.keys import key_of, peer_of

VERSION: Final = 1
NONCE_SIZE: Final = 12
CANDIDATES_MAX: Final = 32
SEALED_MAX: Final = 8_192  # bytes
_TAG_SIZE: Final = 16
_SIGNATURE: Final = 64
_DOMAIN: Final = b"lanrage signal v1"
_SHORTEST: Final = 1 + NONCE_SIZE + _SIGNATURE + _TAG_SIZE

_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=16, pattern="^[a-z0-9]+$")]
_Class = Annotated[str, msgspec.Meta(max_length=16, pattern="^[a-z]*$")]
_Address = Annotated[
    str, msgspec.Meta(min_length=3, max_length=64, pattern=r"^[0-9a-fA-F.:\[\]]+$")
]


class Signal(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the sender may be reached, newest knowledge. Candidates are (kind, "ip:port")."""

    generation: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
    candidates: Annotated[
        tuple[tuple[_Word, _Address], ...], msgspec.Meta(max_length=CANDIDATES_MAX)
    ]
    # What the sender's router does: mapping, filtering, hairpin, in the words of `nat.classified`.
    nat: tuple[_Class, _Class, _Class] = ("", "", "")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Signal)


def seal(
    signal: Signal,
    *,
    signer: Ed25519PrivateKey,
    private_key: X25519PrivateKey,
    party: str,
    to: str,
    to_public: bytes,
    nonce: bytes,
) -> bytes:
    """`nonce`: 12 fresh random bytes. The recipient's key is one that the chain accepted."""
    assert len(nonce) == NONCE_SIZE
    aad = _aad(party, peer_of(signer), to)
    payload = _encoder.encode(signal)
    key = _key(private_key, to_public)
    assert key is not None
    text = signer.sign(aad + payload) + payload
    return bytes([VERSION]) + nonce + ChaCha20Poly1305(key).encrypt(nonce, text, aad)


def open_signal(
    sealed: bytes,
    *,
    private_key: X25519PrivateKey,
    party: str,
    sender: str,
    sender_public: bytes,
    to: str,
) -> Signal | Invalid:
    """Codes: size, version, sealed (not for us, or not by this sender), signature, malformed."""
    if not _SHORTEST <= len(sealed) <= SEALED_MAX:
        return Invalid("size", f"a signal of {len(sealed)} bytes")
    if sealed[0] != VERSION:
        return Invalid("version", "a signal of another LANrage version")
    key = _key(private_key, sender_public)
    if key is None:
        return Invalid("sealed", "the sender's key is unsafe")
    aad = _aad(party, sender, to)
    nonce, box = sealed[1 : 1 + NONCE_SIZE], sealed[1 + NONCE_SIZE :]
    try:
        text = ChaCha20Poly1305(key).decrypt(nonce, box, aad)
    except InvalidTag:
        return Invalid("sealed", "this signal cannot be opened")
    signature, payload = text[:_SIGNATURE], text[_SIGNATURE:]
    try:
        Ed25519PublicKey.from_public_bytes(key_of(sender) or b"").verify(signature, aad + payload)
    except (InvalidSignature, ValueError):
        return Invalid("signature", "the sender did not sign this signal")
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Invalid("malformed", "the signal's content is not understood")


def _aad(party: str, sender: str, to: str) -> bytes:
    return _DOMAIN + b"".join(key_of(text) or bytes(32) for text in (party, sender, to))


def _key(own: X25519PrivateKey, other: bytes) -> bytes | None:
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:  # wrong length, or a point of small order
        return None
    return HKDF(SHA256(), length=32, salt=None, info=_DOMAIN).derive(shared)
