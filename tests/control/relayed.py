"""Relays as control sees them, for the tests of this room."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from lanrage.control.server import ControlServer
from lanrage.relay.offer import Load, Offer
from lanrage.relay.registration import Registration
from tests.control.room import url_of

SECRET = b"s" * 32


def offer(port: int = 7777, *, addresses: tuple[str, ...] = (), region: str = "") -> Offer:
    """Another start of a relay at each call."""
    return Offer(
        addresses=addresses,
        port=port,
        region=region,
        public_key=secrets.token_bytes(32),
        boot=secrets.token_bytes(8),
        ticket_key=secrets.token_bytes(32),
    )


@asynccontextmanager
async def registered(
    server: ControlServer, offered: Offer, secret: bytes = SECRET, load: Load | None = None
) -> AsyncIterator[tuple[Registration, asyncio.Queue[str]]]:
    lines: asyncio.Queue[str] = asyncio.Queue()
    registration = Registration(
        url_of(server), offered, secret, lambda: load or Load(), lines.put_nowait
    )
    running = asyncio.create_task(registration.run())
    try:
        yield registration, lines
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
