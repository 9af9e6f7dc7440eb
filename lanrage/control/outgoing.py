"""One message to a connection of a server, which must not wait for ever for a reader."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection

from lanrage.control import limits


async def send(connection: ServerConnection, message: bytes) -> None:
    """Raises TimeoutError where the network does not take it; then the connection is dropped."""
    try:
        async with asyncio.timeout(limits.SEND_S):
            await connection.send(message)
    except TimeoutError:
        connection.transport.abort()
        raise
