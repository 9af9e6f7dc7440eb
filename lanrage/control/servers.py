"""Where a control server answers STUN: its URL as numeric addresses, names resolved on the way."""

from __future__ import annotations

import asyncio
import ipaddress
from urllib.parse import urlsplit

from lanrage.control.urls import websocket_url
from lanrage.protocols.endpoint import text
from lanrage.refusal import Refusal

RESOLVE_TIMEOUT_S = 5.0


async def servers_of(url: str) -> list[str]:
    """The numeric `ip:port` of a control URL; empty if its name cannot be resolved now.

    Control answers STUN on the next port, too: that two ports see us differently is how a symmetric
    router shows itself (RFC 5780 4.3).
    """
    full = websocket_url(url)
    if isinstance(full, Refusal):
        return []
    parts = urlsplit(full)
    host, port = parts.hostname or "", parts.port or 0
    try:
        ipaddress.ip_address(host)
        return [text((host, each)) for each in (port, port + 1)]
    except ValueError:
        pass
    resolving = asyncio.get_running_loop().getaddrinfo(host, port, type=2)
    try:
        rows = await asyncio.wait_for(resolving, RESOLVE_TIMEOUT_S)
    except (OSError, TimeoutError):
        return []
    return [text((str(row[4][0]), each)) for row in rows for each in (port, port + 1)]
