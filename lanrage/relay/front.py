"""The relay's door for networks where only TCP gets out: WebSocket over TLS, on ports like 443.

Each connection gets a loopback UDP socket of its own towards the relay, and a message is a
datagram. So the forwarder knows nothing of TCP: to it a member behind this door is one more source
address, with the same bind, the same proofs and the same budgets.

The same port leads to control, if the operator says where that is: then one box with one open port
serves players who can reach nothing else, and an invite can name `wss://box:443#sha256=PIN`.
Control sees them all come from this address, and counts them so.

What one connection does is in visitor.py; here is who may come in.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections import Counter
from pathlib import Path
from typing import Final

from lanrage import certificate
from lanrage.control.limits import network
from lanrage.control.urls import websocket_url
from lanrage.refusal import Refusal
from lanrage.relay.visitor import Visitor
from lanrage.tunnel.tcp import prepare

CONNECTIONS_MAX: Final = 400  # two descriptors each, and a process commonly has 1024
PER_SOURCE_MAX: Final = 32  # a household, a school's router
BACKLOG: Final = 128
ALL: Final = ("", "*", "::")


class Front:
    """Make one with `serve`. `pin` is empty if an authority has signed the certificate."""

    def __init__(self, context: ssl.SSLContext, pin: str, relay_port: int, control: str) -> None:
        self.port = 0
        self.pin: Final = pin
        self._context = context
        self._relay_port = relay_port
        self._control = control
        self._open: Counter[str] = Counter()
        self._visitors: set[Visitor] = set()
        self._server: asyncio.Server | None = None

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        for visitor in list(self._visitors):
            visitor.abort()

    async def listen(self, host: str, port: int) -> None:
        listener = await _listener(host, port)
        self.port = listener.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._visitor, sock=listener, backlog=BACKLOG)

    def _visitor(self) -> Visitor:
        return Visitor(self._context, self._relay_port, self._control, self._enter, self._exit)

    def _enter(self, visitor: Visitor, host: str) -> bool:
        """Whether there is room for one more from there."""
        source = network(host)
        self._visitors.add(visitor)
        self._open[source] += 1
        return len(self._visitors) <= CONNECTIONS_MAX and self._open[source] <= PER_SOURCE_MAX

    def _exit(self, visitor: Visitor, host: str) -> None:
        source = network(host)
        self._visitors.discard(visitor)
        self._open[source] -= 1
        if self._open[source] <= 0:
            del self._open[source]


async def serve(
    listen: tuple[str, int],
    relay_port: int,
    cert: Path | None = None,
    key: Path | None = None,
    control: str = "",
    *,
    state: Path | None = None,
) -> Front | Refusal:
    """Let members in at `listen` (host, port; 0: any free one) to the relay at 127.0.0.1 and to
    `control` (as people write it; empty: none). Without a certificate of the operator's one is
    made: once and for all if it can be kept in a state directory, else for this run."""
    url = websocket_url(control) if control else ""
    if isinstance(url, Refusal):
        return url
    pem = await asyncio.to_thread(_pem, cert, key, state)
    if isinstance(pem, Refusal):
        return pem
    context, pin = certificate.server_context(pem), certificate.pin_of(pem)
    if isinstance(context, Refusal):
        return context
    if isinstance(pin, Refusal):
        return pin
    front = Front(context, pin, relay_port, url)
    try:
        await front.listen(*listen)
    except OSError as error:
        return _cannot_listen(*listen, error)
    return front


def _pem(cert: Path | None, key: Path | None, state: Path | None) -> certificate.Pem | Refusal:
    if cert is not None or key is not None:
        # One file may hold both.
        return certificate.read(cert or key or Path(), key or cert or Path())
    kept = certificate.kept(state) if state is not None else None
    return kept if isinstance(kept, certificate.Pem) else certificate.self_signed()


async def _listener(host: str, port: int) -> socket.socket:
    dual = host in ALL and socket.has_dualstack_ipv6()
    family, address = socket.AF_INET6 if dual else socket.AF_INET, "::" if dual else ""
    if host not in ALL:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, address = found[0][0], str(found[0][4][0])
    listener = socket.create_server(
        (address, port), family=family, backlog=BACKLOG, dualstack_ipv6=dual
    )
    prepare(listener)
    listener.setblocking(False)
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> Refusal:
    shown = f"[{host}]" if ":" in host else host or "*"
    number = error.errno or 0
    why = os.strerror(number) if number > 0 else error.strerror or str(error)
    return Refusal(
        "port_taken" if number == errno.EADDRINUSE else "cannot_listen",
        f"Cannot serve members over TCP at {shown}:{port}",
        why.lower(),
        "Stop the other program, or choose another port with --tcp.",
    )
