"""What a relay and a control server say to each other over their WebSocket.

MessagePack maps as between control and nodes (`messages`), with the subprotocol `lanrage.relay`:

    server                                  relay
    Challenge  version, nonce          ->
                                       <-   Offer    version, sealed facts
    Accepted | Refused and close       ->
                                       <-   Load     each `LOAD_S`

What a relay says of itself is sealed with a key made of the secret that the operator gave to both,
and of the challenge. So one step proves the secret, is worth nothing on another connection, and
hides the ticket key, with which anybody could issue tickets:

    sealed = nonce (12) | ChaCha20-Poly1305 of a `Facts`
    key    = HKDF-SHA256(secret, salt the challenge's nonce, "lanrage relay offer v1")

A relay on control's own computer may do without: then the secret is empty. The relay is registered
as long as the connection lasts.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lanrage.control.messages import Challenge, Frame, Refused

SUBPROTOCOL: Final = "lanrage.relay"
PROTOCOL: Final = 1
LOAD_S: Final = 10.0
NONCE_SIZE: Final = 12
SEALED_MAX: Final = 2_048  # bytes
_DOMAIN: Final = b"lanrage relay offer v1"
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)

_Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Address = Annotated[str, msgspec.Meta(max_length=64)]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One start of a relay. An address with an unspecified host (`0.0.0.0:7777`) means: at that
    port, where you see me."""

    addresses: Annotated[tuple[_Address, ...], msgspec.Meta(min_length=1, max_length=4)]
    region: Annotated[str, msgspec.Meta(max_length=32)] = ""
    # Its name, in the WebSocket's URL.
    host: Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[0-9A-Za-z.-]*$")] = ""
    tcp: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0  # the WebSocket's port; 0: it has none
    pin: Annotated[str, msgspec.Meta(max_length=64)] = ""
    public_key: _Key
    boot: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    ticket_key: _Key

    def __repr__(self) -> str:
        return f"Facts({self.addresses}, boot={self.boot.hex()})"


class Accepted(Frame, frozen=True, kw_only=True, tag="accepted"):
    """Registered; members know the relay by this name."""

    relay: _Address


class Offer(Frame, frozen=True, kw_only=True, tag="offer"):
    version: int
    sealed: Annotated[bytes, msgspec.Meta(max_length=SEALED_MAX)]


class Load(Frame, frozen=True, kw_only=True, tag="load"):
    members: Annotated[int, msgspec.Meta(ge=0, le=1 << 32)] = 0
    bytes_per_s: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)] = 0


FromServer: TypeAlias = Challenge | Accepted | Refused
FromRelay: TypeAlias = Offer | Load

_encoder = msgspec.msgpack.Encoder()
_from_server: msgspec.msgpack.Decoder[FromServer] = msgspec.msgpack.Decoder(FromServer)
_from_relay: msgspec.msgpack.Decoder[FromRelay] = msgspec.msgpack.Decoder(FromRelay)
_facts = msgspec.msgpack.Decoder(Facts)


def encode(frame: FromServer | FromRelay) -> bytes:
    return _encoder.encode(frame)


def from_server(message: bytes | str) -> FromServer | None:
    try:
        return None if isinstance(message, str) else _from_server.decode(message)
    except _UNREADABLE:
        return None


def from_relay(message: bytes | str) -> FromRelay | None:
    try:
        return None if isinstance(message, str) else _from_relay.decode(message)
    except _UNREADABLE:
        return None


def seal(facts: Facts, secret: bytes, challenge: bytes, nonce: bytes) -> bytes:
    """`nonce`: 12 fresh random bytes."""
    assert len(nonce) == NONCE_SIZE
    text = _encoder.encode(facts)
    return nonce + ChaCha20Poly1305(_key(secret, challenge)).encrypt(nonce, text, _DOMAIN)


def open_facts(sealed: bytes, secret: bytes, challenge: bytes) -> Facts | None:
    """None: sealed with another secret, for another challenge, or not understood."""
    nonce, box = sealed[:NONCE_SIZE], sealed[NONCE_SIZE:]
    if len(nonce) < NONCE_SIZE:
        return None
    try:
        text = ChaCha20Poly1305(_key(secret, challenge)).decrypt(nonce, box, _DOMAIN)
        return _facts.decode(text)
    except (InvalidTag, *_UNREADABLE):
        return None


def _key(secret: bytes, challenge: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=challenge, info=_DOMAIN).derive(secret)
