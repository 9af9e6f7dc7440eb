"""One connection at the relay's TCP door: TLS, a request, and then whatever was asked for.

    securing -> asking -> carrying datagrams   (subprotocol `lanrage.relay-data`)
                       -> talking to control   (subprotocol `lanrage.control`, byte by byte)
                       -> one line of text     (a browser)

Like the member's side (tunnel/tcp.py) it seals no more than the network takes: asyncio is told to
report every byte that it had to keep, and until that is gone datagrams wait in a backlog where the
newest win. The relay's socket is read all the time, so nothing old waits in there either.

Who has not bound itself at the relay within `BIND_S` is shown out: only its Welcome, which the
relay seals for the owner of a ticket, makes a guest. Until then a few control messages pass, no
more.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from lanrage import __version__, certificate
from lanrage.control.urls import split_pin
from lanrage.protocols.relay import wire
from lanrage.protocols.relay.backlog import Backlog, is_urgent
from lanrage.tunnel.tcp import BURST_BYTES, MESSAGE_MAX, SUBPROTOCOL, datagram_in
from lanrage.tunnel.tls import Tls

CONTROL_SUBPROTOCOL: Final = "lanrage.control"
OPEN_S: Final = 10.0  # for TLS and the request
BIND_S: Final = 10.0
IDLE_S: Final = 60.0  # a member beats every 15 to 20 s
CLOSE_S: Final = 2.0  # for last words
DIAL_S: Final = 5.0  # to control
HEAD_MAX: Final = 8_192  # bytes of a request
UNBOUND_MAX: Final = 32  # messages of who is not bound yet
READS_MAX: Final = 64  # datagrams at once
PASSED_MAX: Final = 65_536  # bytes that wait in one direction of a talk with control
LOOPBACK: Final = "127.0.0.1"


class Visitor(asyncio.Protocol):
    def __init__(
        self,
        context: ssl.SSLContext,
        relay_port: int,
        control: str,
        enter: Callable[[Visitor, str], bool],
        exit: Callable[[Visitor, str], None],
    ) -> None:
        """`control` is a URL, or empty."""
        self._tls = Tls(context, server_side=True)
        self._websocket = ServerProtocol(
            subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=MESSAGE_MAX
        )
        self._relay_port = relay_port
        self._control = control
        self._enter = enter
        self._exit = exit
        self._loop = asyncio.get_running_loop()
        self._take: Callable[[bytes], None] = self._on_request
        self._head = b""
        self._host = ""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._wait_resumed: Callable[[], None] = lambda: None
        self._backlog = Backlog()
        self._relay: socket.socket | None = None
        self._is_bound = False
        self._heard = 0  # messages
        self._heard_s = 0.0  # when the last one came
        self._upstream: _Upstream | None = None
        self._dialling: asyncio.Task[None] | None = None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)  # tell of every byte that is kept
        peer = transport.get_extra_info("peername")
        self._host = str(peer[0]) if peer else LOOPBACK
        if not self._enter(self, self._host):
            self.abort()
            return
        self._timer = self._loop.call_later(OPEN_S, self.abort)

    def data_received(self, data: bytes) -> None:
        plain = self._tls.receive(data)
        self._write()
        if plain:
            self._take(plain)
        if self._tls.failure:
            self._hang_up()

    def pause_writing(self) -> None:
        self._paused = True
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._upstream is not None:
            self._upstream.resume_reading()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._exit(self, self._host)
        if self._timer is not None:
            self._timer.cancel()
        if self._relay is not None:
            self._loop.remove_reader(self._relay)
            self._relay.close()
            self._relay = None
        if self._dialling is not None:
            self._dialling.cancel()
        if self._upstream is not None:
            self._upstream.hang_up()

    # --- the request ----------------------------------------------------------------------------

    def _on_request(self, plain: bytes) -> None:
        self._head += plain
        if len(self._head) > HEAD_MAX:
            self._hang_up()
            return
        self._websocket.receive_data(plain)
        request = next(iter(self._websocket.events_received()), None)
        if isinstance(request, Request):
            self._answer(request)
        elif self._websocket.handshake_exc is not None:
            self._hang_up()

    def _answer(self, request: Request) -> None:
        wanted = request.headers.get_all("Sec-WebSocket-Protocol")
        if "Upgrade" not in request.headers:
            self._respond(self._websocket.reject(200, f"LANrage relay {__version__}\n"))
        elif wanted == [SUBPROTOCOL]:
            self._respond(self._websocket.accept(request))
        elif wanted == [CONTROL_SUBPROTOCOL] and self._control:
            # Nothing else beside it: control trusts relays on its own computer, and to it whoever
            # comes through here may look like one.
            self._take = self._on_too_early
            self._dialling = self._loop.create_task(self._dial_control())
        else:
            self._respond(self._websocket.reject(400, "This is a LANrage relay.\n"))

    def _respond(self, response: Response) -> None:
        self._websocket.send_response(response)
        self._say()
        if response.status_code == 101:
            self._carry()
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        """After what was written is sent."""
        if self._transport is None or self._transport.is_closing():
            return
        self._take = lambda _plain: None
        self._transport.close()
        self._again(CLOSE_S, self.abort)

    def _again(self, after_s: float, act: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(after_s, act)

    # --- carrying datagrams ---------------------------------------------------------------------

    def _carry(self) -> None:
        relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            relay.connect((LOOPBACK, self._relay_port))
        except OSError:
            relay.close()
            self._hang_up()
            return
        self._relay = relay
        self._loop.add_reader(relay, self._on_relay)
        self._take = self._on_messages
        self._again(BIND_S, self._on_bind_late)

    def _on_bind_late(self) -> None:
        if not self._is_bound:
            self._bid_farewell("no bind")
            return
        self._on_idle()

    def _on_idle(self) -> None:
        left_s = self._heard_s + IDLE_S - self._loop.time()
        if left_s <= 0:
            self._bid_farewell("idle")
            return
        self._again(left_s, self._on_idle)

    def _on_messages(self, plain: bytes) -> None:
        websocket = self._websocket
        websocket.receive_data(plain)
        for event in websocket.events_received():
            if not isinstance(event, Frame) or event.opcode in (Opcode.PING, Opcode.PONG):
                continue
            datagram = datagram_in(event)
            if datagram is None:
                self._bid_farewell("not a datagram")
                return
            self._pass_on(datagram)
        self._say()
        if websocket.close_expected() or websocket.parser_exc is not None:
            self._hang_up()

    def _pass_on(self, datagram: bytes) -> None:
        self._heard += 1
        self._heard_s = self._loop.time()
        if not self._is_bound and (self._heard > UNBOUND_MAX or not wire.is_control(datagram)):
            return
        assert self._relay is not None
        with contextlib.suppress(OSError):  # a full queue, or a relay that restarts: it is lost
            self._relay.send(datagram)

    def _on_relay(self) -> None:
        now_ns = time.monotonic_ns()
        for _ in range(READS_MAX):
            if self._relay is None:
                return
            try:
                datagram = self._relay.recv(MESSAGE_MAX)
            except BlockingIOError:
                break
            except OSError:  # nothing listens there at the moment
                break
            if not (wire.is_relayed(datagram) or wire.is_control(datagram)):
                continue
            if wire.is_control(datagram) and wire.kind_of(datagram) == wire.WELCOME:
                self._is_bound = True
            self._backlog.put(datagram, now_ns, urgent=is_urgent(datagram))
        self._flush()

    def _flush(self) -> None:
        """Seal and send until nothing waits, or the network takes no more."""
        while self._backlog and not self._paused:
            now_ns, size = time.monotonic_ns(), 0
            while size < BURST_BYTES and (datagram := self._backlog.take(now_ns)) is not None:
                self._websocket.send_binary(datagram)
                size += len(datagram)
            self._say()

    def _bid_farewell(self, why: str) -> None:
        if self._websocket.state.name == "OPEN":
            self._websocket.send_close(1008, why)
            self._say()
        self._hang_up()

    def _say(self) -> None:
        """What WebSocket has to send."""
        plain = b"".join(self._websocket.data_to_send())
        if plain:
            self._tls.send(plain)
        self._write()

    def _write(self) -> None:
        sealed = self._tls.outgoing()
        if sealed and self._transport is not None and not self._transport.is_closing():
            self._transport.write(sealed)

    # --- talking to control ---------------------------------------------------------------------

    def _on_too_early(self, plain: bytes) -> None:
        """A client speaks again only when its request was answered."""
        self._hang_up()

    async def _dial_control(self) -> None:
        url, pin = split_pin(self._control)
        parts = urlsplit(url)
        secure = parts.scheme == "wss"
        upstream = _Upstream(self.say_plain, self._hang_up, self._slow_down)
        try:
            async with asyncio.timeout(DIAL_S):
                await self._loop.create_connection(
                    lambda: upstream,
                    parts.hostname or "",
                    parts.port or 0,
                    ssl=certificate.client_context(pin) if secure else None,
                )
        except (OSError, TimeoutError):
            self._respond(self._websocket.reject(502, "Control is out of reach.\n"))
            return
        self._upstream = upstream
        self._take = upstream.write
        if self._timer is not None:
            self._timer.cancel()  # control has its own limits
        upstream.write(self._head)
        self._head = b""

    def say_plain(self, plain: bytes) -> None:
        self._tls.send(plain)
        self._write()

    def _slow_down(self, slow: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if slow:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


class _Upstream(asyncio.Protocol):
    """The far side of a talk with control. Each side is read only as fast as the other takes it."""

    def __init__(
        self,
        say: Callable[[bytes], None],
        ended: Callable[[], None],
        slow_down: Callable[[bool], None],
    ) -> None:
        self._say = say
        self._ended = ended
        self._slow_down = slow_down
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=PASSED_MAX)

    def data_received(self, data: bytes) -> None:
        self._say(data)

    def pause_writing(self) -> None:
        self._slow_down(True)

    def resume_writing(self) -> None:
        self._slow_down(False)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.close()
