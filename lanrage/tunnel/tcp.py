"""A member's way to a relay where UDP does not get through: WebSocket over TLS.

A message is a datagram. It looks like a web page's connection, since networks without UDP often
let nothing else out. The price is TCP's: one lost segment holds up all that follows. What can be
done about that is done: the socket takes no more than it can send soon (TCP_NOTSENT_LOWAT), the
rest waits where the newest wins (protocols/relay/backlog), and nothing waits for more to be sent
along (TCP_NODELAY).

    connecting -> securing (TLS) -> asking (HTTP upgrade) -> open -> closed
        each address in turn        any failure, and a deadline over all ----^

`changed(None, now)` says that it is open, `changed(why, now)` that it is closed, once. Nothing is
told from inside the constructor or `close`. A closed carrier is thrown away: whether and when to
dial again is its owner's business.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from lanrage.protocols import endpoint
from lanrage.protocols.relay import wire
from lanrage.protocols.relay.backlog import Backlog
from lanrage.tunnel.loop import Loop, now_ns

# TLS and WebSocket cost 3.5 MB of memory: only who has to use them loads them.
if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.frames import Frame

    from lanrage.tunnel.tls import Tls

SUBPROTOCOL: Final = "lanrage.relay-data"
MESSAGE_MAX: Final = 2048  # bytes; a datagram is shorter than an Ethernet frame
S = 1_000_000_000
ADDRESS_NS: Final = 3 * S // 2  # for one address to accept, if there are more
OPEN_NS: Final = 10 * S  # until it is open
ADDRESSES_MAX: Final = 4
NOTSENT_BYTES: Final = 16_384
BUFFER_BYTES: Final = 131_072  # on its way at most: what is there cannot be overtaken any more
USER_TIMEOUT_MS: Final = 15_000  # unacknowledged for that long: the connection is dead
BURST_BYTES: Final = 8_192  # sealed at once
READ_BYTES: Final = 65_536
READS_MAX: Final = 4  # a wake-up; the rest is still ready at the next
SHOWN_MAX: Final = 120  # characters of a reason
TCP_NOTSENT_LOWAT: Final = 25
# Strict, for control may name any URL, and TLS and WebSocket raise about some.
URL: Final = re.compile(
    r"wss://(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_-]{1,63}(?:\.[0-9A-Za-z_-]{1,63}){0,9})"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/[\x21-\x22\x24-\x7e]{0,200})?"
)
PIN: Final = re.compile(r"(?:[0-9a-f]{64})?")
BINARY: Final = 2  # WebSocket's opcode for a whole binary message
UNINTELLIGIBLE: Final = "it sent something unintelligible"

CONNECTING, SECURING, ASKING, OPEN, CLOSED = range(5)
STATES: Final = ("to accept", "to finish TLS", "to speak WebSocket", "", "")


class TcpCarrier:
    """Dials at once. `url` is `wss://host:port/path`; `addresses` are what its host resolved to,
    numeric, best first, and may be empty if it is numeric itself. `pin`: the hex SHA-256 of its
    certificate; empty: the system's authorities decide."""

    def __init__(
        self,
        loop: Loop,
        url: str,
        pin: str,
        *,
        addresses: Sequence[str] = (),
        deliver: Callable[[list[bytes], int], None],
        changed: Callable[[str | None, int], None],
    ) -> None:
        self.drops: dict[str, int] = {}
        self._loop = loop
        self._url = url
        self._pin = pin
        self._deliver = deliver
        self._changed = changed
        self._backlog = Backlog()
        self._state = CONNECTING
        self._socket: socket.socket | None = None
        self._tls: Tls | None = None
        self._websocket: ClientProtocol | None = None
        self._unsent = b""  # sealed, and not yet taken by the socket
        self._waits = False  # for the socket to take more
        self._failure = ""  # found where it could not be told
        started = now_ns()
        self._until_ns = started + OPEN_NS
        self._address_until_ns = 0
        places = _places(url, addresses)
        self._left = list(places)
        if not places or PIN.fullmatch(pin) is None:
            self._failure = "its address or its pin cannot be used"
            return
        self._dial(started)

    # --- what the owner does ------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._state == OPEN

    def send(self, datagrams: Sequence[bytes], now: int, *, urgent: bool) -> None:
        """Now, or as soon as the network takes more; or never, if that is too late. `urgent` goes
        before everything else."""
        if self._state != OPEN:
            self._drop("tcp_not_open", len(datagrams))
            return
        for datagram in datagrams:
            self._backlog.put(datagram, now, urgent=urgent)
        if not self._waits:
            self._flush(now)

    def count_drops(self) -> dict[str, int]:
        """Datagrams lost here, by reason."""
        full, old = self._backlog.dropped_full, self._backlog.dropped_old
        waited = {"tcp_full": full, "tcp_old": old}
        return {**self.drops, **{reason: count for reason, count in waited.items() if count}}

    def close(self) -> None:
        """Hang up. Nothing is told."""
        if self._state == OPEN and self._websocket is not None and not self._unsent:
            self._websocket.send_close(1000)
            self._seal(b"".join(self._websocket.data_to_send()))
            self._write()
        self._state = CLOSED
        self._failure = ""
        self._hang_up()

    def timer(self) -> int | None:
        if self._state == CLOSED:
            return None
        if self._failure:
            return 0
        if self._state == OPEN:
            return None
        if self._state == CONNECTING and self._left:
            return min(self._until_ns, self._address_until_ns)
        return self._until_ns

    def handle_timer(self, now: int) -> None:
        if self._state == CLOSED:
            return
        if self._failure:
            self._close(self._failure, now)
        elif self._state != OPEN and now >= self._until_ns:
            self._close(f"it took too long {STATES[self._state]}", now)
        elif self._state == CONNECTING and self._left and now >= self._address_until_ns:
            self._dial(now)

    # --- connecting ---------------------------------------------------------------------------

    def _dial(self, now: int) -> None:
        """The next address."""
        self._hang_up()
        host, port = self._left.pop(0)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._address_until_ns = now + ADDRESS_NS
        try:
            made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._failure = _why(error.errno)
            return
        self._socket = made
        prepare(made)
        number = made.connect_ex((host, port))
        if number not in (0, errno.EINPROGRESS):
            # Such as no route for this family: the next address has its turn at once.
            self._address_until_ns = now
            self._failure = "" if self._left else _why(number)
        self._loop.add(made.fileno(), self._on_socket)
        self._wait(True)

    def _on_socket(self, now: int, _busy: bool) -> None:
        if self._failure:
            return  # told by the timer
        if self._state == CONNECTING:
            self._on_connected(now)
            return
        self._read(now)
        if self._waits:
            self._flush(now)

    def _on_connected(self, now: int) -> None:
        assert self._socket is not None
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number and self._left:
            self._dial(now)
            return
        if number:
            self._close(_why(number), now)
            return
        from lanrage.certificate import client_context
        from lanrage.tunnel.tls import Tls

        self._state = SECURING
        host = urlsplit(self._url).hostname  # which URL has checked
        self._tls = Tls(client_context(self._pin), host=host)
        self._tls.begin()
        self._flush(now)

    def _ask(self) -> None:
        """TLS stands; now the upgrade."""
        from websockets.client import ClientProtocol
        from websockets.typing import Subprotocol
        from websockets.uri import parse_uri

        self._state = ASKING
        protocol = ClientProtocol(
            parse_uri(self._url), subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=MESSAGE_MAX
        )
        request = protocol.connect()
        request.headers["User-Agent"] = "LANrage"
        protocol.send_request(request)
        self._websocket = protocol

    # --- reading ------------------------------------------------------------------------------

    def _read(self, now: int) -> None:
        for _ in range(READS_MAX):
            assert self._socket is not None
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                return self._close(_why(error.errno), now)
            if not data:
                return self._close("it hung up", now)
            self._on_bytes(data, now)
            if self._state == CLOSED or len(data) < READ_BYTES:
                return
        return

    def _on_bytes(self, data: bytes, now: int) -> None:
        assert self._tls is not None
        plain = self._tls.receive(data)
        if self._state == SECURING and self._tls.ready:
            self._ask()
        arrived = self._on_plain(plain, now) if plain and self._state != CLOSED else []
        if arrived:
            self._deliver(arrived, now)
        if self._state == CLOSED:
            return
        self._flush(now)  # also the alert that says what we did not like
        if self._tls.failure:
            self._close(self._tls.failure, now)

    def _on_plain(self, plain: bytes, now: int) -> list[bytes]:
        """The datagrams in it. What is no datagram ends the connection."""
        from websockets.frames import Frame, Opcode

        websocket = self._websocket
        assert websocket is not None
        websocket.receive_data(plain)
        events = websocket.events_received()
        if self._state == ASKING and not self._on_answer(now):
            return []
        arrived: list[bytes] = []
        for event in events:
            if not isinstance(event, Frame) or event.opcode in (Opcode.PING, Opcode.PONG):
                continue  # the answer to the upgrade; a ping is answered by the library
            data = datagram_in(event)
            if data is None:
                over = event.opcode is Opcode.CLOSE
                self._close("it hung up" if over else UNINTELLIGIBLE, now)
                return arrived
            arrived.append(data)
        if websocket.parser_exc is not None:
            self._close(UNINTELLIGIBLE, now)
        return arrived

    def _on_answer(self, now: int) -> bool:
        """Whether the upgrade was granted; it may also be incomplete, or refused."""
        websocket = self._websocket
        assert websocket is not None
        if websocket.handshake_exc is not None:
            self._close(_refused(websocket.handshake_exc), now)
            return False
        if websocket.state.name != "OPEN":
            return False
        if websocket.subprotocol != SUBPROTOCOL:
            self._close("it is not a LANrage relay", now)
            return False
        self._state = OPEN
        self._changed(None, now)
        return self.is_open  # unless its owner has closed it just now

    # --- writing ------------------------------------------------------------------------------

    def _flush(self, now: int) -> None:
        """Seal and send until nothing waits, or the socket takes no more."""
        while self._socket is not None and not self._failure:
            if not self._unsent:
                self._seal(self._next(now))
            if not self._unsent:
                return self._wait(False)
            self._write()
            if self._unsent:
                return self._wait(True)
        return None

    def _next(self, now: int) -> bytes:
        """What WebSocket has to say itself, and as much of the backlog as is sealed at once."""
        websocket = self._websocket
        if websocket is None:
            return b""
        size = 0
        while self._state == OPEN and size < BURST_BYTES:
            datagram = self._backlog.take(now)
            if datagram is None:
                break
            websocket.send_binary(datagram)
            size += len(datagram)
        return b"".join(websocket.data_to_send())

    def _seal(self, plain: bytes) -> None:
        assert self._tls is not None
        if plain:
            self._tls.send(plain)
        self._unsent += self._tls.outgoing()

    def _write(self) -> None:
        assert self._socket is not None
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._failure = _why(error.errno)  # may be inside `send`: told by the timer
            return
        self._unsent = self._unsent[sent:]

    def _wait(self, waits: bool) -> None:
        assert self._socket is not None
        if waits != self._waits:
            self._waits = waits
            self._loop.want_write(self._socket.fileno(), waits)

    # --- the end ------------------------------------------------------------------------------

    def _close(self, why: str, now: int) -> None:
        if self._state == CLOSED:
            return
        self._state = CLOSED
        self._failure = ""
        self._hang_up()
        self._changed(why[:SHOWN_MAX], now)

    def _hang_up(self) -> None:
        if self._socket is None:
            return
        self._loop.remove(self._socket.fileno())
        self._socket.close()
        self._socket = None
        self._waits = False

    def _drop(self, reason: str, count: int) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + count


def prepare(stream: socket.socket) -> None:
    """For datagrams: nothing waits for more, little waits at all, and silence is noticed. Also for
    a listening socket: connections inherit it."""
    tcp = socket.IPPROTO_TCP
    stream.setsockopt(tcp, socket.TCP_NODELAY, 1)
    stream.setsockopt(tcp, TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
    stream.setsockopt(tcp, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    # Before the connection is made: afterwards the window's scale is fixed (tcp(7)).
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)


def datagram_in(frame: Frame) -> bytes | None:
    """The datagram that this WebSocket frame carries; None if it is anything else."""
    data = bytes(frame.data)
    whole = frame.opcode == BINARY and frame.fin
    return data if whole and (wire.is_relayed(data) or wire.is_control(data)) else None


def load() -> None:
    """Import all that a carrier will need, by doing once what it does. To be called before the
    process becomes nobody, who may not be allowed to read where Python is installed."""
    import websockets.exceptions
    import websockets.frames  # noqa: F401
    from websockets.client import ClientProtocol
    from websockets.uri import parse_uri

    from lanrage.certificate import client_context
    from lanrage.tunnel.tls import Tls

    Tls(client_context("0" * 64), host="localhost").begin()
    protocol = ClientProtocol(parse_uri("wss://localhost/"))
    protocol.send_request(protocol.connect())


def _places(url: str, addresses: Sequence[str]) -> list[endpoint.Address]:
    """Where to dial, in order; nothing if the URL is of no use."""
    found = URL.fullmatch(url)
    if found is None:
        return []
    port = int(found["port"] or 443)
    hosts = addresses or [found["host"].strip("[]")]
    parsed = [endpoint.parse(endpoint.text((host, port))) for host in hosts]
    return [each for each in parsed if each is not None][:ADDRESSES_MAX]


def _refused(why: Exception) -> str:
    """Why the upgrade was not granted."""
    from websockets.exceptions import InvalidStatus

    if isinstance(why, InvalidStatus):
        return f"it answers HTTP {why.response.status_code}"
    return "it does not speak WebSocket"


def _why(number: int | None) -> str:
    if number == errno.ECONNREFUSED:
        return "nothing listens there"
    return os.strerror(number or errno.EIO).lower()
