"""A relay at its control server: offered to members for as long as this connection lasts.

It dials, proves the secret, says where it is and how busy, and comes back by itself for ever: a
control server that was restarted knows its relays again within moments.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable
from typing import Final

from lanrage.control import messages as m
from lanrage.control import relay_messages as r
from lanrage.control.backoff import Backoff
from lanrage.control.link import Link, dial, other_version
from lanrage.control.relays import is_loopback
from lanrage.protocols import endpoint
from lanrage.refusal import Refusal, plain
from lanrage.relay.offer import Load, Offer

ANSWER_S: Final = 5.0
RESOLVE_S: Final = 5.0
STEADY_S: Final = 5.0  # a connection that lasted this long makes the next retry quick again
ADDRESSES_MAX: Final = 4
_WRONG_SECRET: Final = "relay_secret"


class Registration:
    """`run` until cancelled. `load` is asked each 10 s; `told` hears one line whenever the relay
    became registered, or why it is not: each once, not at every try. Where control is on this
    computer, the secret may be another than control's, or empty."""

    def __init__(
        self,
        control_url: str,
        offer: Offer,
        secret: bytes,
        load: Callable[[], Load],
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._url = control_url
        self._offer = offer
        self._secret = secret
        self._load = load
        self._tell = told
        self._told = ""
        self._beside = False  # control is on this computer
        self.relay = ""  # its name, while it is registered

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        while True:
            began = loop.time()
            why = await self._once()
            self.relay = ""
            self._say(f"Not registered with control at {self._url}: {plain(why.why)}")
            if loop.time() - began > STEADY_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    def _say(self, line: str) -> None:
        if line != self._told:
            self._tell(line)
        self._told = line

    async def _once(self) -> Refusal:
        """Being registered for as long as that lasts; why it ended."""
        ended = await self._connected(self._secret)
        if ended.code == _WRONG_SECRET and self._beside:
            ended = await self._connected(b"")
        return ended

    async def _connected(self, secret: bytes) -> Refusal:
        link = await dial(self._url, r.SUBPROTOCOL)
        if isinstance(link, Refusal):
            return link
        self._beside = is_loopback(link.host)
        try:
            answer = await self._register(link, secret)
            if isinstance(answer, Refusal):
                return answer
            self.relay = answer.relay
            self._say(f"Registered with control at {self._url} as {self.relay}")
            return await self._stay(link)
        finally:
            link.abort()

    async def _register(self, link: Link, secret: bytes) -> r.Accepted | Refusal:
        facts = await self._facts()
        sealed = r.seal(facts, secret, link.challenge.nonce, secrets.token_bytes(r.NONCE_SIZE))
        await link.send_message(r.encode(r.Offer(version=r.PROTOCOL, sealed=sealed)))
        try:
            async with asyncio.timeout(ANSWER_S):
                message = await link.recv_message()
        except TimeoutError:
            return _refused("timeout", "it did not answer")
        if isinstance(message, Refusal):
            return message
        match r.from_server(message):
            case r.Accepted() as accepted:
                return accepted
            case m.Refused(code="protocol"):
                return other_version(self._url, link.challenge.version)
            case m.Refused(code=code, reason=reason):
                return _refused(code, reason)
        return _refused("garbage", "it broke the protocol")

    async def _stay(self, link: Link) -> Refusal:
        reporting = asyncio.create_task(self._report(link))
        try:
            ended = await link.recv_message()
            return ended if isinstance(ended, Refusal) else _refused("garbage", "it said more")
        finally:
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reporting

    async def _report(self, link: Link) -> None:
        while True:
            load = self._load()
            frame = r.Load(members=load.members, bytes_per_s=load.bytes_per_s)
            await link.send_message(r.encode(frame))
            await asyncio.sleep(r.LOAD_S)

    async def _facts(self) -> r.Facts:
        offer = self._offer
        addresses = list(offer.addresses)
        if offer.host:
            addresses += await _resolved(offer.host, offer.port)
        unknown = f"0.0.0.0:{offer.port}"  # control sees where we are
        return r.Facts(
            addresses=tuple(dict.fromkeys(addresses or [unknown]))[:ADDRESSES_MAX],
            region=offer.region,
            host=offer.host,
            tcp=offer.tcp,
            pin=offer.pin,
            public_key=offer.public_key,
            boot=offer.boot,
            ticket_key=offer.ticket_key,
        )


async def _resolved(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    resolving = loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    try:
        rows = await asyncio.wait_for(resolving, RESOLVE_S)
    except (OSError, TimeoutError):
        return []
    return [endpoint.text((str(row[4][0]), port)) for row in rows]


def _refused(code: str, why: str) -> Refusal:
    return Refusal(
        f"relay_{code}"[:40],
        "The relay is not registered",
        plain(why[:160]),
        "Give both one file: `lanrage relay --secret`, `lanrage control --relay-secret`.",
    )
