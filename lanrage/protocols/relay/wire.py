"""What members and relays send to each other, byte by byte.

**Relayed datagrams** begin with a type byte and a 24-bit session number:

     0  1  1..4 WireGuard's message types; 5 a probe
     1  3  number: sender's member number << 12 | receiver's, both 1..3839
     4     the rest of the WireGuard message, or of the probe after its magic

WireGuard's three reserved bytes are zero and a probe's magic is four constant bytes, so relaying
costs no byte of MTU. Whoever sends stamps the number, whoever receives takes it off again (mac1
covers the bytes as zeros). A direct datagram has number 0 and so is never mistaken.

A number names both ends within the party of its sender, and the relay knows the sender by the
address it has proven. So one registration serves all pairs of a member, no number has to be
agreed upon, a relay forwards batches as they are without rewriting a byte, and the receiver knows
who sent it. What is lost are members beyond number 3839: they get no relay. Numbers from 3840 to
4095 a relay lends to standard WireGuard peers, which know no numbers at all (guests.py).

**Registration** is a three-way bind in messages of equal size, so nobody gains an amplifier, and
the relay keeps nothing about strangers:

    member                               relay
    Bind       ticket                ->          ticket is genuine and lives
               <-  Challenge  cookie over the source address
    Answer     ticket, cookie, MAC   ->          cookie is fresh, MAC proves the ticket's key
               <-  Welcome    where we see you, for how long, MAC

The MAC keys come from HKDF over X25519 of the member's WireGuard key, which the ticket names, and
the relay's key, which control told: a ticket seen on the way is of no use to others, and an
address moves only by a new Answer from there. A `Beat` each 15 to 20 s keeps the registration and
the router's mapping alive. A relay that gets something relayed from an address it does not know
(after it restarted, or after the member's router did) answers `Stranger`: no proof of anything,
but a reason to bind again at once.

    control message: 0 4 `06 00 00 00`; 4 3 "LRR"; 7 1 kind; then
    Bind       8 nonce 8, 16 boot 0, 24 cookie 0, 40 ticket 82, zeros to 208
    Challenge  8 nonce 8, 16 boot 8, 24 cookie 16, zeros to 208
    Answer     8 nonce 8, 16 boot 8, 24 cookie 16, 40 ticket 82, zeros, 192 MAC 16
    Welcome    8 nonce 8, 16 boot 8, 24 life_s 2, 26 family 1, 27 port 2, 29 host 16, zeros, 192 MAC
    Beat       8 boot 8, 16 counter 8, zeros, 48 MAC 16          (64 bytes, so is the answer)
    Beaten     8 boot 8, 16 counter 8, zeros, 48 MAC 16
    Stranger   8 boot 8, 16 zeros to 32

A MAC is BLAKE2s-128 over all bytes before it, keyed for its direction.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass, field
from hashlib import blake2s
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lanrage.protocols.endpoint import Address

PROBE = 5
CONTROL = 6
RELAYED = frozenset((1, 2, 3, 4, PROBE))
PROBE_MAGIC = b"LRP1"  # what byte 0..3 of a probe are when it is not relayed
HEADER = b"\x06\0\0\0LRR"

MEMBER_BITS = 12
GUEST_MIN, GUEST_MAX = 3840, 4095
MEMBER_MAX = GUEST_MIN - 1
RELAYED_MIN = 32  # the shortest WireGuard message; a Stranger is no longer

BIND_SIZE = 208
BEAT_SIZE = 64
STRANGER_SIZE = 32
NONCE_BYTES = 8
BOOT_BYTES = 8
COOKIE_BYTES = 16
TICKET_BYTES = 82
MAC_BYTES = 16

BIND, CHALLENGE, ANSWER, WELCOME, BEAT, BEATEN, STRANGER = range(1, 8)
SIZES = {
    BIND: BIND_SIZE,
    CHALLENGE: BIND_SIZE,
    ANSWER: BIND_SIZE,
    WELCOME: BIND_SIZE,
    BEAT: BEAT_SIZE,
    BEATEN: BEAT_SIZE,
    STRANGER: STRANGER_SIZE,
}

_END = (1 << MEMBER_BITS) - 1
_BIND = struct.Struct("!8s8s16s82s")
_WELCOME = struct.Struct("!8s8sHBH16s")
_BEAT = struct.Struct("!8sQ")


# --- relayed datagrams -------------------------------------------------------------------------


def number(sender: int, receiver: int) -> int:
    """The session number for this direction. Both are numbers of members or guests, and differ."""
    return sender << MEMBER_BITS | receiver


def ends(session: int) -> tuple[int, int]:
    """Sender and receiver."""
    return session >> MEMBER_BITS, session & _END


def number_of(datagram: bytes) -> int:
    return int.from_bytes(datagram[1:4], "big")


def is_relayed(datagram: bytes) -> bool:
    return len(datagram) >= RELAYED_MIN and datagram[0] in RELAYED and datagram[1:4] != b"\0\0\0"


def stamp(datagram: bytes, session: int) -> bytes:
    """A WireGuard message or a probe, ready for a relay."""
    kind = PROBE if datagram[:4] == PROBE_MAGIC else datagram[0]
    return (kind << 24 | session).to_bytes(4, "big") + datagram[4:]


def unstamp(datagram: bytes) -> bytes:
    """What `stamp` was given."""
    kind = datagram[0]
    return (PROBE_MAGIC if kind == PROBE else bytes((kind, 0, 0, 0))) + datagram[4:]


# --- control messages --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Keys:
    """What one side seals its messages with, and checks the other's with."""

    sending: bytes = field(repr=False)
    receiving: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bind:
    """Also an Answer: then `boot` and `cookie` are those of the Challenge."""

    nonce: bytes
    ticket: bytes
    boot: bytes = bytes(BOOT_BYTES)
    cookie: bytes = bytes(COOKIE_BYTES)


@dataclass(frozen=True, slots=True)
class Challenge:
    nonce: bytes
    boot: bytes
    cookie: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    nonce: bytes
    boot: bytes
    life_s: int
    observed: Address


@dataclass(frozen=True, slots=True)
class Beat:
    boot: bytes
    counter: int


@dataclass(frozen=True, slots=True)
class Stranger:
    boot: bytes


Message: TypeAlias = Bind | Challenge | Welcome | Beat | Stranger


def derive(private_key: bytes, public_key: bytes, *, relay: bool) -> Keys | None:
    """Keys between a member and a relay, or None if the other's key is no usable point."""
    private = X25519PrivateKey.from_private_bytes(private_key)
    own = private.public_key().public_bytes_raw()
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:
        return None
    salt = public_key + own if relay else own + public_key  # the member's first
    okm = HKDF(SHA256(), 64, salt, b"lanrage relay v1").derive(shared)
    to_relay, to_member = okm[:32], okm[32:]
    return Keys(to_member, to_relay) if relay else Keys(to_relay, to_member)


def is_control(datagram: bytes) -> bool:
    """Whether this is a control message by shape: magic, a known kind, and its exact size."""
    return (
        len(datagram) > len(HEADER)
        and datagram[: len(HEADER)] == HEADER
        and SIZES.get(datagram[len(HEADER)]) == len(datagram)
    )


def kind_of(datagram: bytes) -> int:
    """Of a control message."""
    return datagram[len(HEADER)]


def bind(message: Bind) -> bytes:
    return _padded(BIND, _bind_body(message), BIND_SIZE)


def challenge(message: Challenge) -> bytes:
    body = message.nonce + message.boot + message.cookie
    return _padded(CHALLENGE, body, BIND_SIZE)


def answer(message: Bind, keys: Keys) -> bytes:
    return _sealed(ANSWER, _bind_body(message), BIND_SIZE, keys)


def welcome(message: Welcome, keys: Keys) -> bytes:
    host, port = message.observed
    parsed = ip_address(host)
    packed = parsed.packed.ljust(16, b"\0")
    body = _WELCOME.pack(message.nonce, message.boot, message.life_s, parsed.version, port, packed)
    return _sealed(WELCOME, body, BIND_SIZE, keys)


def beat(message: Beat, keys: Keys) -> bytes:
    return _sealed(BEAT, _BEAT.pack(message.boot, message.counter), BEAT_SIZE, keys)


def beaten(message: Beat, keys: Keys) -> bytes:
    return _sealed(BEATEN, _BEAT.pack(message.boot, message.counter), BEAT_SIZE, keys)


def stranger(message: Stranger) -> bytes:
    return _padded(STRANGER, message.boot, STRANGER_SIZE)


def read(datagram: bytes) -> Message | None:
    """What a control message says. Whether its MAC is right is asked with `is_sealed`; Bind,
    Challenge and Stranger have none."""
    if not is_control(datagram):
        return None
    kind, body = kind_of(datagram), datagram[len(HEADER) + 1 :]
    if kind in (BIND, ANSWER):
        nonce, boot, cookie, ticket = _BIND.unpack_from(body)
        return Bind(nonce, ticket, boot, cookie)
    if kind == CHALLENGE:
        return Challenge(body[:8], body[8:16], body[16:32])
    if kind == WELCOME:
        return _read_welcome(body)
    if kind == STRANGER:
        return Stranger(body[:8])
    return Beat(*_BEAT.unpack_from(body))


def is_sealed(datagram: bytes, keys: Keys) -> bool:
    """Whether the other side of `keys` made this message (Answer, Welcome, Beat, Beaten)."""
    head, mac = datagram[:-MAC_BYTES], datagram[-MAC_BYTES:]
    return hmac.compare_digest(_mac(head, keys.receiving), mac)


def _read_welcome(body: bytes) -> Welcome | None:
    nonce, boot, life_s, family, port, packed = _WELCOME.unpack_from(body)
    if family == 4:
        return Welcome(nonce, boot, life_s, (str(IPv4Address(packed[:4])), port))
    if family == 6:
        return Welcome(nonce, boot, life_s, (str(IPv6Address(packed)), port))
    return None


def _bind_body(message: Bind) -> bytes:
    assert len(message.ticket) == TICKET_BYTES
    return _BIND.pack(message.nonce, message.boot, message.cookie, message.ticket)


def _padded(kind: int, body: bytes, size: int) -> bytes:
    return (HEADER + bytes((kind,)) + body).ljust(size, b"\0")


def _sealed(kind: int, body: bytes, size: int, keys: Keys) -> bytes:
    head = _padded(kind, body, size - MAC_BYTES)
    return head + _mac(head, keys.sending)


def _mac(head: bytes, key: bytes) -> bytes:
    return blake2s(head, digest_size=MAC_BYTES, key=key).digest()
