"""The web server inside the node: uvicorn on loopback sockets, without its own process manners.

uvicorn's `serve()` takes over signals and wakes ten times a second to look whether it should stop.
The node does both itself, so this drives uvicorn's `startup()` and `shutdown()` directly; an idle
dashboard costs nothing. Binding is separate and first, so that a taken port is an answer, and the
guard knows the port that it must insist on.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from lanrage.refusal import Refusal
from web.app import App, create_app
from web.guard import loopback_hosts
from web.port import Node

CONNECTIONS_MAX = 64
HEADERS_SECONDS_MAX = 10.0
HEADERS_BYTES_MAX = 16 * 1024
KEEP_ALIVE_S = 30
SHUTDOWN_S = 1
BIND_TRIES_MAX = 8

LOOPBACK = {"127.0.0.1", "::1", "[::1]", "localhost"}


class WebServer:
    def __init__(self, server: uvicorn.Server, app: App, port: int) -> None:
        self._server = server
        self._app = app
        self.port = port

    @classmethod
    async def start(cls, app: App, sockets: tuple[socket.socket, ...]) -> WebServer:
        """Serve `app` on listening sockets made by `bind_loopback`."""
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        config = _config(app)
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=list(sockets))
        return cls(server, app, sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, end the streams, finish what is being answered; bounded in time."""
        self._app.close()
        await self._server.shutdown()
        for task in list(self._server.server_state.tasks):
            await asyncio.wait({task}, timeout=SHUTDOWN_S)


async def serve(
    node: Node, *, token: str, host: str, port: int, read_only: bool = False
) -> WebServer | Refusal:
    """The dashboard and the API of `node` on loopback; `port` 0 lets the kernel choose."""
    sockets = bind_loopback(host, port)
    if isinstance(sockets, Refusal):
        return sockets
    hosts = loopback_hosts(sockets[0].getsockname()[1])
    return await WebServer.start(
        create_app(node, token=token, hosts=hosts, read_only=read_only), sockets
    )


def bind_loopback(host: str, port: int) -> tuple[socket.socket, ...] | Refusal:
    """Listening sockets on 127.0.0.1 and, where there is IPv6, on ::1, with the same port.

    Both, whichever of them was named: otherwise another program could answer for `localhost`.
    """
    if host not in LOOPBACK:
        why = f"{host!r} can be reached from other computers"
        fix = "Use 127.0.0.1, and an SSH tunnel to see it from elsewhere."
        return Refusal("api_not_loopback", "Cannot open the dashboard", why, fix)
    for _ in range(BIND_TRIES_MAX):
        sockets = _bind_both(port)
        if sockets is not None:
            return sockets
        if port:
            break
    why = f"port {port} of 127.0.0.1 is taken or not allowed"
    fix = "Choose another with --api 127.0.0.1:PORT, or stop the program that uses it."
    return Refusal("api_taken", "Cannot open the dashboard", why, fix)


def _bind_both(port: int) -> tuple[socket.socket, ...] | None:
    try:
        first = _listen(socket.AF_INET, "127.0.0.1", port)
    except OSError:
        return None
    try:
        return first, _listen(socket.AF_INET6, "::1", first.getsockname()[1])
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return (first,)
        first.close()
        return None


def _listen(family: int, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # asyncio sets it only where the protocol number is given; connections inherit it. Without
        # it a small second write, a body or an event, waits some 40 ms for an acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((host, port))
        sock.listen(CONNECTIONS_MAX)  # or another bind to this port would still succeed
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


class _Http(H11Protocol):
    """uvicorn has no deadline for a request's headers; a client could hold a connection open."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(HEADERS_SECONDS_MAX, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None:
            self.transport.close()


def _config(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        loop="none",
        http=_Http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nobody may claim to be somebody else's proxy
        server_header=False,
        date_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        backlog=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
        h11_max_incomplete_event_size=HEADERS_BYTES_MAX,
    )
