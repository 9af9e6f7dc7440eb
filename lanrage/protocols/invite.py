"""The invite link: everything a stranger's computer needs to join one party.

    link    = "lanrage://join#" | base64url without padding of payload
    payload = "LR" | version (1 byte) | length of body (2, big-endian) | body | checksum (4)
    body    = MessagePack array: party (32 bytes), seed (32), length, head (32), control, name

The checksum is the first 4 bytes of SHA-256 over what precedes it: it finds typing and copying
mistakes, not forgeries. Magic, version, length and checksum stay where they are in every version,
so that any LANrage can tell a damaged link from a newer one. The seed is a secret: it stands in
the fragment, which browsers do not send to servers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lanrage.protocols.partylog.chain import Invalid
from lanrage.protocols.partylog.keys import key_of, peer_of, text_of
from lanrage.protocols.partylog.names import is_name

PREFIX: Final = "lanrage://join#"
VERSION: Final = 1
LINK_MAX: Final = 4_096  # characters looked at
CONTROL_MAX: Final = 8  # addresses in a link
ADDRESS_MAX: Final = 255  # characters of one address
_MAGIC: Final = b"LR"
_HEAD: Final = len(_MAGIC) + 1 + 2
_CHECKSUM: Final = 4
_LINK: Final = re.compile(r"(?:lanrage://join/?|https?://[^\s#]+)#(?P<payload>[A-Za-z0-9_-]*)=*")
_ADDRESS: Final = re.compile(r"[\x21-\x7e]+")
_QUOTES: Final = " \t\r\n<>\"'`"

_Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Invite(msgspec.Struct, frozen=True, kw_only=True):
    party: str
    seed: bytes  # of the invite's Ed25519 key, 32 bytes; secret
    head: str  # hex; the chain never was shorter than `length` nor different there
    length: int
    control: tuple[str, ...]  # "host:port" or URLs, best first
    name: str  # of the party, to show

    @property
    def id(self) -> str:
        """Base32 of the public key, as the chain names this invite."""
        return peer_of(Ed25519PrivateKey.from_private_bytes(self.seed))

    def __repr__(self) -> str:
        return f"Invite(party={self.party!r}, name={self.name!r})"


class _Body(msgspec.Struct, frozen=True, array_like=True):
    party: _Bytes32
    seed: _Bytes32
    length: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]
    head: _Bytes32
    control: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=ADDRESS_MAX)], ...],
        msgspec.Meta(min_length=1, max_length=CONTROL_MAX),
    ]
    name: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)


def link(invite: Invite) -> str:
    """The link text. The invite must be one that `parse` accepts."""
    party = key_of(invite.party)
    assert party is not None
    body = _encoder.encode(
        _Body(
            party=party,
            seed=invite.seed,
            length=invite.length,
            head=bytes.fromhex(invite.head),
            control=invite.control,
            name=invite.name,
        )
    )
    payload = _MAGIC + bytes([VERSION]) + len(body).to_bytes(2, "big") + body
    payload += _checksum(payload)
    return PREFIX + base64.urlsafe_b64encode(payload).decode().rstrip("=")


def parse(text: str) -> Invite | Invalid:
    """Reads a pasted link, also inside quotes or angle brackets, or behind an https:// page.
    Codes: foreign, truncated, damaged, newer."""
    found = _LINK.fullmatch(text[:LINK_MAX].strip(_QUOTES))
    if found is None:
        return Invalid("foreign", "this is not a LANrage invite")
    payload = _decoded(found["payload"])
    ours = text.strip(_QUOTES).startswith("lanrage:")
    if not payload.startswith(_MAGIC[: len(payload)] if ours else _MAGIC):
        return _damaged() if ours else Invalid("foreign", "this is not a LANrage invite")
    if len(payload) < _HEAD:
        return Invalid("truncated", "the end of this invite is missing")
    end = _HEAD + int.from_bytes(payload[_HEAD - 2 : _HEAD], "big")
    if len(payload) < end + _CHECKSUM:
        return Invalid("truncated", "the end of this invite is missing")
    if len(payload) > end + _CHECKSUM or payload[end:] != _checksum(payload[:end]):
        return _damaged()
    if payload[2] != VERSION:
        return Invalid("newer", "this invite was made by a newer LANrage")
    return _read_body(payload[_HEAD:end])


def _read_body(encoded: bytes) -> Invite | Invalid:
    try:
        body = _decoder.decode(encoded)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _damaged()
    if not is_name(body.name) or not all(_ADDRESS.fullmatch(url) for url in body.control):
        return _damaged()
    return Invite(
        party=text_of(body.party),
        seed=body.seed,
        head=body.head.hex(),
        length=body.length,
        control=body.control,
        name=body.name,
    )


def _decoded(text: str) -> bytes:
    # A single left-over character carries no whole byte.
    whole = text[:-1] if len(text) % 4 == 1 else text
    try:
        return base64.urlsafe_b64decode(whole + "=" * (-len(whole) % 4))
    except (binascii.Error, ValueError):
        return b""


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:_CHECKSUM]


def _damaged() -> Invalid:
    return Invalid("damaged", "this invite is damaged")
