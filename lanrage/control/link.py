"""One connection to a control server, from dialling to the last frame, with failures as values.

Several addresses may lead to the same server (an invite lists all of its host's). `first` tries
them in their order, each a moment after the one before, and keeps the first that works: the idea
of RFC 8305.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)
from websockets.typing import Subprotocol

from lanrage.certificate import WrongPin, client_context
from lanrage.control import messages as m
from lanrage.control.refused import refusal
from lanrage.control.urls import split_pin, websocket_url
from lanrage.refusal import Refusal, plain

DIAL_S: Final = 5.0  # until the server's challenge is here
STAGGER_S: Final = 0.25  # between the starts of two attempts (RFC 8305 §5)
CLOSE_S: Final = 1.0

_silent = logging.getLogger("lanrage.control.websocket")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False

T = TypeVar("T")


class Link:
    """A challenged connection. `recv` and `send` never raise."""

    def __init__(self, url: str, socket: ClientConnection, challenge: m.Challenge) -> None:
        self.url: Final = url
        self.challenge: Final = challenge
        self._socket = socket

    async def send(self, *frames: m.FromNode) -> None:
        """Best effort: a broken connection shows at the next `recv`."""
        for frame in frames:
            await self.send_message(m.encode(frame))

    @property
    def host(self) -> str:
        """The server's numeric address."""
        address = self._socket.remote_address
        return str(address[0]).partition("%")[0] if address else ""

    async def send_message(self, message: bytes) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._socket.send(message)

    async def recv_message(self) -> bytes | str | Refusal:
        try:
            return await self._socket.recv()
        except ConnectionClosed as closed:
            reason = closed.rcvd.reason if closed.rcvd is not None else ""
            return lost(self.url, plain(reason) or "the connection broke")

    async def recv(self) -> m.FromServer | Refusal:
        message = await self.recv_message()
        if isinstance(message, Refusal):
            return message
        frame = m.from_server(message)
        return foreign(self.url, "it sent something unintelligible") if frame is None else frame

    async def answers(self, within_s: float) -> bool:
        """Whether the other side answers a ping in time."""
        try:
            async with asyncio.timeout(within_s):
                await (await self._socket.ping())
        except (ConnectionClosed, TimeoutError):
            return False
        return True

    async def greet(self, what: str, *frames: m.FromNode) -> m.Welcome | Refusal:
        """Say hello, and what else need not wait. Whoever is not welcome, or does not wait for the
        answer, has hung up."""
        answer: m.FromServer | Refusal | None = None
        try:
            await self.send(*frames)
            answer = await self.recv()
        finally:
            if not isinstance(answer, m.Welcome):
                self.abort()
        match answer:
            case m.Welcome() | Refusal():
                return answer
            case m.Refused(code=code, reason=reason):
                return refusal(what, code, reason)
        return refusal(what, "garbage", "the control server broke the protocol")

    def abort(self) -> None:
        self._socket.transport.abort()


async def dial(written: str, subprotocol: str = m.SUBPROTOCOL) -> Link | Refusal:
    """Connect to one address and take its challenge."""
    url = websocket_url(written)
    if isinstance(url, Refusal):
        return url
    try:
        async with asyncio.timeout(DIAL_S):
            return await _dial(written, url, subprotocol)
    except TimeoutError:
        return unreachable(written, "it did not answer")
    except InvalidStatus as answer:
        return foreign(written, f"it answers HTTP {answer.response.status_code}")
    except (InvalidHandshake, InvalidMessage, InvalidURI, ConnectionClosed):
        return foreign(written, "it does not speak our protocol")
    except EOFError:
        return foreign(written, "it hung up")
    except WrongPin:
        return impostor(written)
    except ssl.SSLError as error:
        return untrusted(written, error)
    except OSError as error:
        return unreachable(written, _why(error))


async def _dial(written: str, url: str, subprotocol: str) -> Link | Refusal:
    dialled, pin = split_pin(url)
    socket = await connect(
        dialled,
        ssl=client_context(pin) if dialled.startswith("wss:") else None,
        subprotocols=[Subprotocol(subprotocol)],
        compression=None,
        proxy=None,
        user_agent_header="LANrage",
        open_timeout=None,
        ping_interval=m.PING_S,
        ping_timeout=m.PONG_S,
        close_timeout=CLOSE_S,
        max_size=m.FRAME_MAX,
        max_queue=4,
        logger=_silent,
        happy_eyeballs_delay=STAGGER_S,
    )
    answer: Link | Refusal = foreign(written, "it does not speak our protocol")
    try:
        if socket.subprotocol == subprotocol:
            answer = _challenged(written, socket, await socket.recv())
    finally:
        if not isinstance(answer, Link):
            socket.transport.abort()
    return answer


def _challenged(url: str, socket: ClientConnection, message: bytes | str) -> Link | Refusal:
    theirs = m.version_of(message)
    if theirs is not None and theirs != m.PROTOCOL:
        return other_version(url, theirs)
    frame = m.from_server(message)
    if isinstance(frame, m.Challenge):
        return Link(url, socket, frame)
    return foreign(url, "it does not begin as a control server does")


async def first(
    urls: Sequence[str],
    attempt: Callable[[str], Awaitable[T | Refusal]],
    close: Callable[[T], None],
) -> T | Refusal:
    """The first success; if there is none, the most telling refusal. `close` disposes of a second
    success that came in the same instant."""
    running: dict[asyncio.Task[T | Refusal], str] = {}
    refusals: list[Refusal] = []
    waiting = list(dict.fromkeys(urls))
    try:
        while waiting or running:
            if waiting:
                url = waiting.pop(0)
                running[asyncio.create_task(_awaited(attempt, url))] = url
            done, _ = await asyncio.wait(
                running,
                timeout=STAGGER_S if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                del running[task]
            results = [task.result() for task in done]
            refusals += [each for each in results if isinstance(each, Refusal)]
            successes = [each for each in results if not isinstance(each, Refusal)]
            for extra in successes[1:]:
                close(extra)
            if successes:
                return successes[0]
    finally:
        for task in running:
            task.cancel()
        for late in await asyncio.gather(*running, return_exceptions=True):
            if not isinstance(late, Refusal | BaseException):
                close(late)
    # What a control server said outranks what kept us from one.
    spoken = [each for each in refusals if each.code not in ("control_unreachable", "not_control")]
    return (spoken or refusals or [unreachable("nowhere", "no address is known")])[0]


async def _awaited(attempt: Callable[[str], Awaitable[T | Refusal]], url: str) -> T | Refusal:
    return await attempt(url)


def _why(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    return (error.strerror or str(error) or "no connection").splitlines()[0].lower()


def unreachable(url: str, why: str) -> Refusal:
    return Refusal(
        "control_unreachable",
        f"Cannot reach control at {url}",
        why,
        "Check that the host is up and that its address and port can be reached from here.",
    )


def impostor(url: str) -> Refusal:
    return Refusal(
        "control_pin",
        f"Cannot trust {url.partition('#')[0]}",
        "its certificate is not the one that this address names: it was replaced, or somebody "
        "else answers",
        "Ask the host for a new invite; if the pin is right, do not use this network.",
    )


def untrusted(url: str, error: ssl.SSLError) -> Refusal:
    why = getattr(error, "verify_message", "") or (error.reason or "unknown").lower()
    return Refusal(
        "control_tls",
        f"Cannot reach control at {url} securely",
        f"no TLS connection: {plain(why).replace('_', ' ')}",
        "Check the address. A self-signed certificate needs its pin: wss://host:443#sha256=HEX.",
    )


def foreign(url: str, why: str) -> Refusal:
    return Refusal(
        "not_control",
        f"Cannot use {url}",
        f"it is not a LANrage control server: {why}",
        "Check the address.",
    )


def other_version(url: str, theirs: int) -> Refusal:
    older, newer = ("this LANrage", "the control server")
    if theirs < m.PROTOCOL:
        older, newer = newer, older
    return Refusal(
        "control_version",
        f"Cannot use control at {url}",
        f"it speaks version {theirs}, this LANrage {m.PROTOCOL}",
        f"Update {older}; {newer} is newer.",
    )


def lost(url: str, why: str) -> Refusal:
    return Refusal("control_lost", f"Lost control at {url}", why, "It is tried again by itself.")
