"""The rendezvous server: stores and orders the signed records of parties, passes sealed signals on,
tells who is connected. It is trusted with nothing else: members verify what it says.

One TCP port: WebSocket for nodes (`messages`), one line of text for a browser; and STUN over UDP
on the same number (`responder`). One connection is one `_serve`: challenge, hello, then a reader
and a writer until either ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import socket
import ssl
import time
from collections import Counter
from functools import partial
from typing import Any, Final, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from events.log import Log
from lanrage import __version__
from lanrage.control import limits
from lanrage.control import messages as m
from lanrage.control import relay_messages as r
from lanrage.control.conversation import DEPARTED, Audience, Conversation
from lanrage.control.enrolment import enrol
from lanrage.control.outgoing import send
from lanrage.control.parties import Parties, Party
from lanrage.control.relays import Relays
from lanrage.control.responder import Responder
from lanrage.control.tickets import PartyRelays
from lanrage.protocols.partylog import Chain, Invalid, body, party_of
from lanrage.protocols.partylog.rules import invite_rule
from lanrage.refusal import Refusal

PORT_TRIES: Final = 32  # for a free pair of UDP ports, where any port will do
REASON_MAX: Final = 120  # bytes; a close frame holds 123 (RFC 6455 §5.5)

# The library writes a traceback for every scanner that knocks; what matters we answer ourselves.
_silent = logging.getLogger("lanrage.control.websocket")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class ControlServer:
    """Make one with `start`."""

    def __init__(
        self, parties: Parties, creators: frozenset[str] | None, relay_secret: bytes
    ) -> None:
        self._parties = parties
        self._creators = creators
        self._relay_secret = relay_secret
        self._relays = Relays(self._relays_changed)
        self._audiences: dict[str, Audience] = {}
        self._founded = limits.Bucket(limits.FOUNDED_PER_S, limits.FOUNDED_BURST, time.monotonic())
        self._sources = _Sources()
        self._server: Server | None = None
        self._responder: Responder | None = None
        self.port = 0

    @classmethod
    async def start(
        cls,
        host: str,
        port: int,
        log: Log,
        *,
        creators: frozenset[str] | None = None,
        relay_secret: bytes = b"",
        tls: ssl.SSLContext | None = None,
    ) -> ControlServer | Refusal:
        """Serve at `host` (empty: all addresses) and `port` (0: any free one). The log stays the
        caller's to close. `creators`: who may found parties here; None for everybody.
        `relay_secret`: what relays prove to register; without it only those on this computer do.
        `tls`: to serve wss:// and nothing else."""
        parties = Parties(log)
        await parties.load()
        server = cls(parties, creators, relay_secret)
        for attempt in range(PORT_TRIES):
            try:
                await server._listen(host, port, tls)
                return server
            except OSError as error:
                if port or attempt == PORT_TRIES - 1:
                    return _cannot_listen(host, port, error)
        raise AssertionError("unreachable")

    async def close(self) -> None:
        if self._responder is not None:
            self._responder.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._relays.close()
        await self._parties.settled()

    async def _listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        family, address = await _family(host)
        listener = _listener(family, address, port)
        try:
            number = listener.getsockname()[1]
            responder = Responder.start(family, address, number)
        except OSError:
            listener.close()
            raise
        self.port = number
        self._responder = responder
        self._server = await serve(
            self._serve,
            sock=listener,
            ssl=tls,
            ssl_handshake_timeout=limits.OPEN_S if tls else None,
            process_request=_browser,
            create_connection=cast("type[ServerConnection]", partial(_Counted, self._sources)),
            subprotocols=[Subprotocol(m.SUBPROTOCOL), Subprotocol(r.SUBPROTOCOL)],
            compression=None,
            server_header="LANrage",
            open_timeout=limits.OPEN_S,
            ping_interval=m.PING_S,
            ping_timeout=m.PONG_S,
            close_timeout=limits.CLOSE_S,
            max_size=m.FRAME_MAX,
            max_queue=4,
            logger=_silent,
        )

    # --- one connection -----------------------------------------------------------------------

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            await self._converse(connection)
        except Exception as bug:  # ours: told here, since the library's log is switched off
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a control connection failed", "exception": bug}
            )

    async def _converse(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            if connection.subprotocol == r.SUBPROTOCOL:
                return await enrol(connection, self._relays, self._relay_secret)
            conversation = await self._greet(connection)
            if conversation is None:
                return
            conversation.audience.enter(conversation)
            try:
                await _both(
                    self._read(connection, conversation), self._write(connection, conversation)
                )
            finally:
                conversation.audience.exit(conversation)
                self._forget(conversation.audience)

    async def _greet(self, connection: ServerConnection) -> Conversation | None:
        """Challenge and hello. None: the connection was answered and closed."""
        if connection.subprotocol != m.SUBPROTOCOL:
            await connection.close(m.CLOSE_GARBAGE, "this is a LANrage control server")
            return None
        nonce = secrets.token_bytes(m.NONCE_SIZE)
        challenge = m.Challenge(version=m.PROTOCOL, nonce=nonce, at=_now_ms())
        await _send(connection, challenge)
        async with asyncio.timeout(limits.HELLO_S):
            message = await connection.recv()
        theirs = m.version_of(message)
        if theirs is not None and theirs != m.PROTOCOL:
            reason = f"control speaks version {m.PROTOCOL}, you {theirs}"[:REASON_MAX]
            await _send(connection, m.Refused(code="protocol", reason=reason))
            await connection.close(m.CLOSE_VERSION, reason)
            return None
        hello = m.from_node(message)
        if not isinstance(hello, m.Hello) or not m.is_authentic(hello, nonce):
            await connection.close(m.CLOSE_GARBAGE, "not a hello")
            return None
        admitted = await self._admit(hello, nonce)
        if isinstance(admitted, m.Refused):
            await _send(connection, admitted)
            await connection.close(m.CLOSE_REFUSED, admitted.reason[:REASON_MAX])
            return None
        return admitted

    async def _admit(self, hello: m.Hello, nonce: bytes) -> Conversation | m.Refused:
        party = await self._found(hello) if hello.genesis else self._parties.get(hello.party)
        if isinstance(party, m.Refused):
            return party
        if party is None:
            return m.Refused(code="unknown_party", reason="this control server has no such party")
        guest = hello.peer not in party.chain.members
        if hello.relays and hello.length > party.chain.length:
            if party.chain.departed.get(hello.peer) == "kicked":
                return m.Refused(code="kicked", reason=DEPARTED["kicked"])
            return Conversation(
                hello.peer,
                self._audience(party),
                party.chain.length,
                guest,
                wants_relays=True,
                refilling=True,
            )
        refused = _guest_refused(hello, nonce, party) if guest else None
        departed = refused is not None and refused.code in DEPARTED
        if refused is not None and not departed:
            return refused
        if party.head_at(hello.length) != hello.head:
            return m.Refused(code="diverged", reason="this control server has another history")
        return Conversation(
            hello.peer,
            self._audience(party),
            hello.length,
            guest and not departed,
            wants_relays=hello.relays,
        )

    def _audience(self, party: Party) -> Audience:
        audience = self._audiences.get(party.chain.party)
        if audience is None:
            audience = Audience(party, PartyRelays(self._relays))
            self._audiences[party.chain.party] = audience
        return audience

    async def _found(self, hello: m.Hello) -> Party | m.Refused:
        genesis = body(hello.genesis)
        if genesis is None:
            return m.Refused(code="malformed", reason="this is no genesis")
        # The party counts, not who asks: any member may bring back what this server has lost.
        if self._creators is not None and genesis.author not in self._creators:
            return m.Refused(code="not_creator", reason="this control server is for another party")
        if party_of(hello.genesis) != hello.party:
            return m.Refused(code="malformed", reason="this genesis is of another party")
        if not self._founded.take(time.monotonic()):
            return m.Refused(code="busy", reason="too many parties are being founded here")
        party = await self._parties.found(hello.genesis, _now_ms())
        if isinstance(party, Party):
            return party
        return _refused(0, party)

    async def _read(self, connection: ServerConnection, conversation: Conversation) -> None:
        now = time.monotonic()
        frames = limits.Bucket(limits.FRAMES_PER_S, limits.FRAMES_BURST, now)
        appends = limits.Bucket(limits.APPENDS_PER_S, limits.APPENDS_BURST, now)
        refills = limits.Bucket(limits.REFILLS_PER_S, limits.REFILLS_BURST, now)
        until = now + limits.GUEST_S
        while True:  # the writer ends it, after the final frame
            async with asyncio.timeout(until - time.monotonic() if conversation.guest else None):
                message = await connection.recv()
            # Whoever asks too fast is read more slowly.
            await asyncio.sleep(frames.owe(time.monotonic()))
            match m.from_node(message):
                case m.Append() as append:
                    await asyncio.sleep(appends.owe(time.monotonic()))
                    await self._append(conversation, append)
                case m.Refill() as refill:
                    await asyncio.sleep(refills.owe(time.monotonic()))
                    if await self._refill(conversation, refill):
                        until = time.monotonic() + limits.GUEST_S
                case m.Stay():
                    conversation.stay()
                case m.Send(to=to, sealed=sealed):
                    if not conversation.guest:
                        signal = m.Signal(sender=conversation.peer, sealed=sealed)
                        conversation.audience.forward(to, signal)
                case m.Measured(rtts_ms=rtts_ms):
                    if not conversation.guest:
                        conversation.audience.measure(conversation.peer, rtts_ms)
                case _:
                    await connection.close(m.CLOSE_GARBAGE, "not a frame of this protocol")
                    return

    async def _write(self, connection: ServerConnection, conversation: Conversation) -> None:
        while (frame := await conversation.next()) is not None:
            await _send(connection, frame)
        final = conversation.final
        assert final is not None
        await _send(connection, final)
        await connection.close(m.CLOSE_REFUSED, final.reason[:REASON_MAX])

    async def _append(self, conversation: Conversation, append: m.Append) -> None:
        party = conversation.party
        result = await self._parties.append(party, append.record, _now_ms())
        if not isinstance(result, Chain):
            conflict = isinstance(result, Invalid) and result.code == "link"
            await conversation.reply(
                m.Conflict(id=append.id) if conflict else _refused(append.id, result)
            )
            return
        if conversation.peer in result.members:
            conversation.guest = False
        await conversation.reply(m.Appended(id=append.id, length=result.length))
        conversation.audience.wake()

    async def _refill(self, conversation: Conversation, refill: m.Refill) -> bool:
        """Whether it brought anything new."""
        before = conversation.party.chain.length
        result = await self._parties.refill(
            conversation.party, refill.after, refill.records, _now_ms()
        )
        if not isinstance(result, Chain):
            conversation.end(_refused(0, result))
            return False
        conversation.showed(refill.after + len(refill.records))
        await conversation.reply(m.Appended(id=0, length=result.length))
        return result.length > before

    def _forget(self, audience: Audience) -> None:
        party = audience.party.chain.party
        if not audience.conversations and self._audiences.get(party) is audience:
            del self._audiences[party]

    def _relays_changed(self) -> None:
        for audience in self._audiences.values():
            audience.relays.refresh()
            audience.wake()


class _Sources:
    """Who is connected from where, and how often they come."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._arrivals = limits.Buckets(
            limits.CONNECTS_PER_S, limits.CONNECTS_BURST, limits.SOURCES_MAX
        )

    def arrive(self, source: str) -> bool:
        """Count one more connection; whether it may stay."""
        self._open[source] += 1
        return (
            self._open[source] <= limits.CONNECTIONS_PER_IP_MAX
            and self._open.total() <= limits.CONNECTIONS_MAX
            and self._arrivals.take(source, time.monotonic())
        )

    def depart(self, source: str) -> None:
        self._open[source] -= 1
        if self._open[source] <= 0:
            del self._open[source]


class _Counted(ServerConnection):
    """Drops a connection over the limits before a byte of it is read."""

    def __init__(self, sources: _Sources, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sources = sources
        self._source = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peername = transport.get_extra_info("peername")
        self._source = limits.network(str(peername[0])) if peername else ""
        if not self._sources.arrive(self._source):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._sources.depart(self._source)


async def _both(*jobs: Any) -> None:
    """Until one of them ends; its exception, if any, is ours."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _send(connection: ServerConnection, frame: m.FromServer) -> None:
    await send(connection, m.encode(frame))


def _guest_refused(hello: m.Hello, nonce: bytes, party: Party) -> m.Refused | None:
    """Why somebody who is no member may not come in; None with a good invite."""
    why = party.chain.departed.get(hello.peer)
    if why == "kicked":
        return m.Refused(code=why, reason=DEPARTED[why])
    if not m.is_guest(hello, nonce):
        return m.Refused(code=why or "not_member", reason="not a member of this party")
    spent = invite_rule(party.chain, hello.invite, _now_ms())
    return None if spent is None else m.Refused(code=spent.code, reason=spent.reason)


def _refused(id: int, why: Invalid | Refusal) -> m.Refused:
    if isinstance(why, Invalid):
        return m.Refused(id=id, code=why.code, reason=why.reason)
    return m.Refused(id=id, code="storage", reason="control could not store it")


def _browser(connection: ServerConnection, request: Request) -> Response | None:
    """A person who opens the address in a browser is told what it is."""
    if "Upgrade" in request.headers:
        return None
    return connection.respond(200, f"LANrage control {__version__}\n")


async def _family(host: str) -> tuple[socket.AddressFamily, str]:
    """The socket family for a host, and its numeric address. All addresses: one socket for both."""
    if host in ("", "::", "*"):
        return (socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    family, _, _, _, address = found[0]
    return socket.AddressFamily(family), str(address[0])


def _listener(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    dual = family == socket.AF_INET6 and host == "::"
    listener = socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=dual)
    # asyncio does this only for sockets whose protocol number is given. Connections inherit it;
    # without it each small answer waits for a delayed acknowledgement, about 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> Refusal:
    shown = f"[{host}]" if ":" in host else host or "*"
    # asyncio's own text repeats the address; a name that is not known has a negative number.
    number = error.errno or 0
    why = os.strerror(number) if number > 0 else error.strerror or str(error)
    return Refusal(
        "port_taken" if error.errno == errno.EADDRINUSE else "cannot_listen",
        f"Cannot serve control at {shown}:{port}",
        f"{why.lower()} (TCP {port}, UDP {port} and {port + 1} are needed)",
        "Stop the other program, or choose another port (--control-listen of `lanrage up`).",
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
