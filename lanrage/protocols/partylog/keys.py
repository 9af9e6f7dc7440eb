"""Public keys: their text form, and which ones no honest device ever has.

A small-order Ed25519 key has a signature that is valid for every message, and a small-order X25519
key makes every shared secret zero, so both are refused where they enter. Encodings that are not
reduced modulo p are refused too: one key must have one name.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_SIZE: Final = 32
_P: Final = 2**255 - 19
_SIGN: Final = 1 << 255

# y coordinates of the eight points of small order on edwards25519 (both signs of x).
_SMALL_Y: Final = frozenset(
    {
        0,
        1,
        _P - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)
# u coordinates of the points of small order on curve25519 and its twist (RFC 7748 §7).
_SMALL_U: Final = frozenset(
    {
        0,
        1,
        _P - 1,
        0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
        0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
    }
)


def is_safe_identity(public: bytes) -> bool:
    """An Ed25519 public key of full length, canonical, not of small order."""
    if len(public) != KEY_SIZE:
        return False
    y = int.from_bytes(public, "little") & (_SIGN - 1)
    return y < _P and y not in _SMALL_Y


def is_safe_wireguard(public: bytes) -> bool:
    """An X25519 public key of full length, canonical, not of small order."""
    if len(public) != KEY_SIZE:
        return False
    u = int.from_bytes(public, "little")
    return u < _P and u not in _SMALL_U


def text_of(raw: bytes) -> str:
    """Base32 as identifiers are written everywhere: lower case, no padding."""
    return base64.b32encode(raw).decode().rstrip("=").lower()


def key_of(text: str) -> bytes | None:
    """The 32 bytes that `text_of` wrote, or None if it is not exactly such a text."""
    if len(text) != 52 or not text.isascii():
        return None
    try:
        raw = base64.b32decode(text.upper() + "====")
    except binascii.Error:
        return None
    return raw if text_of(raw) == text else None


def peer_of(signer: Ed25519PrivateKey) -> str:
    return text_of(signer.public_key().public_bytes_raw())
