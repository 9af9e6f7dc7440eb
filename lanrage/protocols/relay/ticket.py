"""Who may use a relay: a ticket that control made, for one member, for a short time.

     0  1  version, 1
     1  1  zero
     2  2  member number, 1..3839
     4 32  the member's WireGuard public key: only its owner can bind with the ticket
    36 16  party: the first half of its id, which is a hash
    52  6  zeros
    58  8  expires, Unix seconds
    66 16  HMAC-SHA256, first half, over all before, with the key that the relay told control

The relay keeps no list of parties: what is in a ticket is what it knows. Clocks may differ by
`SLACK_S`.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass

from lanrage.protocols.relay.wire import MEMBER_MAX, TICKET_BYTES

VERSION = 1
PARTY_BYTES = 16
KEY_BYTES = 32
LIFE_S = 600
SLACK_S = 120

_BODY = struct.Struct("!BxH32s16s6xQ")
_MAC_BYTES = 16

assert _BODY.size + _MAC_BYTES == TICKET_BYTES


@dataclass(frozen=True, slots=True)
class Ticket:
    party: bytes  # 16 bytes
    member: int
    public_key: bytes
    expires_s: int


def issue(ticket: Ticket, key: bytes) -> bytes:
    assert 1 <= ticket.member <= MEMBER_MAX
    body = _BODY.pack(VERSION, ticket.member, ticket.public_key, ticket.party, ticket.expires_s)
    return body + _mac(body, key)


def check(text: bytes, key: bytes, now_s: int) -> Ticket | None:
    """The ticket, if control made it with this key and it has not expired."""
    if len(text) != TICKET_BYTES:
        return None
    body, mac = text[: _BODY.size], text[_BODY.size :]
    if not hmac.compare_digest(_mac(body, key), mac):
        return None
    version, member, public_key, party, expires_s = _BODY.unpack(body)
    if version != VERSION or not 1 <= member <= MEMBER_MAX or now_s > expires_s + SLACK_S:
        return None
    return Ticket(party, member, public_key, expires_s)


def _mac(body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_MAC_BYTES]
