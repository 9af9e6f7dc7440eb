"""The server's side of a relay's connection: challenge, offer, then how busy it is.

Who may register: a relay that proves the secret, and one on this very computer. What comes from
loopback may still be a stranger that a web proxy here passes on, or a page in a browser here:
both show in the request's headers.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from lanrage.control import limits
from lanrage.control import messages as m
from lanrage.control import relay_messages as r
from lanrage.control.outgoing import send
from lanrage.control.relays import Registered, Relays, is_loopback
from lanrage.protocols import endpoint

_PASSED_ON: Final = ("Origin", "Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


async def enrol(connection: ServerConnection, relays: Relays, secret: bytes) -> None:
    """Until the connection ends. Raises as the connection does."""
    nonce = secrets.token_bytes(m.NONCE_SIZE)
    now_ms = time.time_ns() // 1_000_000
    challenge = m.Challenge(version=m.PROTOCOL, nonce=nonce, at=now_ms)
    await send(connection, r.encode(challenge))
    async with asyncio.timeout(limits.HELLO_S):
        offer = r.from_relay(await connection.recv())
    relay = _admit(connection, offer, secret, nonce)
    if isinstance(relay, Registered) and not relays.enter(relay):
        relay = m.Refused(code="full", reason="this control server has no room for another relay")
    if isinstance(relay, m.Refused):
        await send(connection, r.encode(relay))
        await connection.close(m.CLOSE_REFUSED, relay.reason)
        return
    try:
        await send(connection, r.encode(r.Accepted(relay=relay.relay)))
        await _listen(connection, relay)
    finally:
        relays.exit(relay)


async def _listen(connection: ServerConnection, relay: Registered) -> None:
    bucket = limits.Bucket(limits.LOADS_PER_S, limits.LOADS_BURST, time.monotonic())
    with contextlib.suppress(ConnectionClosed):
        while True:
            load = r.from_relay(await connection.recv())
            await asyncio.sleep(bucket.owe(time.monotonic()))
            if not isinstance(load, r.Load):
                await connection.close(m.CLOSE_GARBAGE, "not a frame of this protocol")
                return
            relay.load = load


def _admit(
    connection: ServerConnection, offer: r.FromRelay | None, secret: bytes, nonce: bytes
) -> Registered | m.Refused:
    if not isinstance(offer, r.Offer):
        return m.Refused(code="garbage", reason="not an offer")
    if offer.version != r.PROTOCOL:
        reason = f"control speaks version {r.PROTOCOL}, this relay {offer.version}"
        return m.Refused(code="protocol", reason=reason)
    address = connection.remote_address
    if not address:
        return m.Refused(code="gone", reason="the connection broke")
    source = str(address[0]).partition("%")[0]
    facts = r.open_facts(offer.sealed, secret, nonce) if secret else None
    if facts is None and _is_own(connection, source):
        facts = r.open_facts(offer.sealed, b"", nonce)
    if facts is None:
        return m.Refused(code="secret", reason="the relay's secret is not control's")
    if any(endpoint.parse(each) is None for each in facts.addresses):
        return m.Refused(code="malformed", reason="an address is not ip:port")
    return Registered(facts, source)


def _is_own(connection: ServerConnection, source: str) -> bool:
    """Whether it comes from a program on this computer that speaks for itself."""
    assert connection.request is not None
    headers = connection.request.headers
    return is_loopback(source) and not any(each in headers for each in _PASSED_ON)
