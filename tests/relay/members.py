"""Members of a real relay on loopback: sockets that bind by hand."""

from __future__ import annotations

import os
import socket
import time

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import ticket, wire
from tests.protocols.relay.answering import keys_of, public

RELAY_SEED, TICKET_KEY = bytes([11]) * 32, bytes([12]) * 32
PARTY = bytes(16)


def seed(number: int) -> bytes:
    return number.to_bytes(4, "big") + bytes(28)


def ticket_of(number: int) -> bytes:
    expires_s = int(time.time()) + ticket.LIFE_S
    return ticket.issue(ticket.Ticket(PARTY, number, public(seed(number)), expires_s), TICKET_KEY)


def bind(made: socket.socket, relay: Address, number: int) -> wire.Welcome:
    """Bind this socket as a member of the party."""
    keys, text = keys_of(seed(number), RELAY_SEED, relay=False), ticket_of(number)
    nonce = os.urandom(wire.NONCE_BYTES)
    made.settimeout(5)
    made.sendto(wire.bind(wire.Bind(nonce, text)), relay)
    challenge = wire.read(made.recv(2048))
    assert isinstance(challenge, wire.Challenge)
    answer = wire.Bind(nonce, text, challenge.boot, challenge.cookie)
    made.sendto(wire.answer(answer, keys), relay)
    said = made.recv(2048)
    assert wire.is_sealed(said, keys)
    welcome = wire.read(said)
    assert isinstance(welcome, wire.Welcome)
    made.settimeout(None)
    return welcome
