"""Two short codes with which two computers find each other without any server.

    code    = "LR1-" | base64url without padding of payload
    payload = kind (1 byte) | length of body (1) | body | checksum (4)
    offer   = party (32) | WireGuard key (32) | secret (16) | expiry, Unix seconds (4)
              | member number (2) | control's port (2) | places
    answer  = WireGuard key (32) | places | MAC (16)
    place   = 4 or 6 (1) | port (2) | address (4 or 16)

Each side pastes the other's code, so each knows where the other is and what key it has. The secret
travels in the offer only. It proves that the answer is the answer to this offer (the MAC), and the
seed of a one-use invite is derived from it, with which the guest becomes a member as usual, at the
host's own control, inside the tunnel. The party is named whole, because its chain is believed only
if it begins with that hash.

The checksum is the first bytes of SHA-256: it finds copying mistakes, not forgeries.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import msgspec

from lanrage.protocols import endpoint
from lanrage.protocols.partylog.chain import Invalid
from lanrage.protocols.partylog.keys import key_of, text_of

PREFIX: Final = "LR1-"
CODE_MAX: Final = 400  # characters looked at
PLACES_MAX: Final = 4
SECRET_BYTES: Final = 16

_OFFER, _ANSWER = 1, 2
_CHECKSUM: Final = 4
_MAC: Final = 16
_FIXED: Final = struct.Struct(">32s32s16sIHH")
_SHAPE: Final = re.compile(r"LR(?P<version>\d{1,3})-(?P<payload>[A-Za-z0-9_-]*)=*")
_SPACE: Final = re.compile(r"[\s<>\"'`]+")


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    party: str
    wireguard: bytes
    secret: bytes
    expires_at: int  # Unix seconds
    number: int  # of the host in the party
    port: int  # TCP, of its control
    places: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Offer(party={self.party!r}, expires_at={self.expires_at})"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    wireguard: bytes
    places: tuple[str, ...]
    signed: bytes
    mac: bytes

    def is_to(self, secret: bytes) -> bool:
        return hmac.compare_digest(self.mac, _mac(secret, self.signed))


def is_code(text: str) -> bool:
    """Whether this is meant to be a code, and not an invite link."""
    return re.match(r"LR\d{1,3}-", _SPACE.sub("", text[:CODE_MAX])) is not None


def offer_code(offer: Offer) -> str:
    party = key_of(offer.party)
    assert party is not None
    fixed = _FIXED.pack(
        party, offer.wireguard, offer.secret, offer.expires_at, offer.number, offer.port
    )
    return _code(_OFFER, fixed + _packed(offer.places))


def answer_code(wireguard: bytes, places: tuple[str, ...], secret: bytes) -> str:
    signed = wireguard + _packed(places)
    return _code(_ANSWER, signed + _mac(secret, signed))


def parse(text: str) -> Offer | Answer | Invalid:
    """Reads a pasted code, also with line breaks and quotes from a chat. Codes: foreign, newer,
    truncated, damaged."""
    found = _SHAPE.fullmatch(_SPACE.sub("", text[:CODE_MAX]))
    if found is None:
        return Invalid("foreign", "this is no LANrage code")
    if found["version"] != "1":
        return Invalid("newer", "this code was made by a newer LANrage")
    payload = _decoded(found["payload"])
    if len(payload) < 2 or len(payload) < 2 + payload[1] + _CHECKSUM:
        return Invalid("truncated", "the end of this code is missing")
    end = 2 + payload[1]
    if payload[end:] != _checksum(payload[:end]):
        return Invalid("damaged", "this code is damaged")
    body = payload[2:end]
    read = {_OFFER: _read_offer, _ANSWER: _read_answer}.get(payload[0])
    return (read(body) if read else None) or Invalid("damaged", "this code is damaged")


def invite_seed(secret: bytes) -> bytes:
    """Of the invite's Ed25519 key, 32 bytes."""
    return hashlib.blake2b(b"invite", key=secret, digest_size=32, person=b"LANrage pact").digest()


def _read_offer(body: bytes) -> Offer | None:
    if len(body) < _FIXED.size:
        return None
    party, wireguard, secret, expires_at, number, port = _FIXED.unpack_from(body)
    places = _unpacked(body[_FIXED.size :])
    if places is None or not number or not port:
        return None
    return Offer(
        party=text_of(party),
        wireguard=wireguard,
        secret=secret,
        expires_at=expires_at,
        number=number,
        port=port,
        places=places,
    )


def _read_answer(body: bytes) -> Answer | None:
    if len(body) < 32 + _MAC:
        return None
    signed = body[:-_MAC]
    places = _unpacked(signed[32:])
    if places is None:
        return None
    return Answer(wireguard=signed[:32], places=places, signed=signed, mac=body[-_MAC:])


def _packed(places: tuple[str, ...]) -> bytes:
    packed = b""
    for written in places[:PLACES_MAX]:
        address = endpoint.parse(written)
        assert address is not None, written
        host = ip_address(address[0])
        packed += bytes([host.version]) + address[1].to_bytes(2, "big") + host.packed
    return packed


def _unpacked(packed: bytes) -> tuple[str, ...] | None:
    places: list[str] = []
    at = 0
    while at < len(packed):
        size = 16 if packed[at] == 6 else 4
        host = packed[at + 3 : at + 3 + size]
        port = int.from_bytes(packed[at + 1 : at + 3], "big")
        if packed[at] not in (4, 6) or len(host) < size:
            return None
        shown = str(IPv6Address(host) if size == 16 else IPv4Address(host))
        if not endpoint.is_unicast((shown, port)):
            return None
        places.append(endpoint.text((shown, port)))
        at += 3 + size
    return tuple(places) if 1 <= len(places) <= PLACES_MAX else None


def _code(kind: int, body: bytes) -> str:
    payload = bytes([kind, len(body)]) + body
    payload += _checksum(payload)
    return PREFIX + base64.urlsafe_b64encode(payload).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    whole = text[:-1] if len(text) % 4 == 1 else text
    try:
        return base64.urlsafe_b64decode(whole + "=" * (-len(whole) % 4))
    except (binascii.Error, ValueError):
        return b""


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()[:_CHECKSUM]


def _mac(secret: bytes, signed: bytes) -> bytes:
    return hashlib.blake2b(signed, key=secret, digest_size=_MAC, person=b"LANrage answer").digest()
