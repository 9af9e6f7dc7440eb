"""The one gate before everything: no request reaches the application unless it passes here.

A page on any other site can make a browser send requests to 127.0.0.1, and DNS rebinding can make
such a page look local. So, in this order and for HTTP and WebSocket alike:

1. `Host` must be exactly ours, port included: rebinding fails.
2. Fetch metadata and `Origin`, where present, must say same-origin; only opening the page itself
   (a top-level navigation) may come from elsewhere. Other ports of this computer are same-*site*,
   so that is not enough.
3. Whatever is not the static page needs the bearer token. It is never ambient (no cookie), which
   is why programs without an `Origin` may call with it.

There is no WebSocket route, so a WebSocket is refused outright. Paths come from `scope["path"]`,
never from a URL put together again out of headers. Bodies are read here, bounded in size and time.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import msgspec

from lanrage.refusal import Refusal

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_BYTES_MAX = 64 * 1024
BODY_SECONDS_MAX = 10.0
TOKEN_CHARS_MIN = 32  # 192 bits in base64url

PRIVATE = re.compile(r"/api(/.*)?|/metrics(/.*)?", re.DOTALL)
BEARER = re.compile(rb"Bearer ([\x21-\x7e]{1,256})", re.IGNORECASE)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types vue"
)
HARDENING = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

_STATUS = {
    "wrong_host": 421,
    "foreign_origin": 403,
    "no_token": 401,
    "body_unexpected": 400,
    "body_too_large": 413,
    "body_too_slow": 408,
}


def loopback_hosts(port: int) -> frozenset[str]:
    """The `Host` values under which a server on this loopback port may be addressed."""
    names = ("127.0.0.1", "[::1]", "localhost")
    bare = names if port == 80 else ()  # RFC 9110 7.2: the default port is left out
    return frozenset((*(f"{name}:{port}" for name in names), *bare))


class Guard:
    def __init__(self, app: ASGIApp, *, token: str, hosts: frozenset[str]) -> None:
        assert len(token) >= TOKEN_CHARS_MIN
        self._app = app
        self._token = token.encode("ascii")
        self._hosts = frozenset(host.encode("ascii") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # before accept: HTTP 403
            return
        if scope["type"] != "http":
            return
        send = _hardened(send)
        refusal = self._verdict(scope)
        if refusal is None and scope["method"] not in ("GET", "HEAD"):
            body = await _read_body(scope, receive)
            if isinstance(body, bytes):
                receive = _replay(body, receive)
            else:
                refusal = body
        if refusal is not None:
            await _answer(refusal, send)
            return
        await self._app(scope, receive, send)

    def _verdict(self, scope: Scope) -> Refusal | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        host = _all(headers, b"host")
        if len(host) != 1 or host[0].lower() not in self._hosts:
            return _refuse("wrong_host", "this address is not the dashboard's own")
        private = PRIVATE.fullmatch(scope["path"]) is not None
        if not _from_here(scope, headers, host[0].lower(), private):
            return _refuse("foreign_origin", "the request comes from another site")
        if private and not self._token_matches(headers):
            return _refuse("no_token", "the token is missing or wrong")
        if scope["method"] in ("GET", "HEAD") and _has_body(headers):
            return _refuse("body_unexpected", "a GET carries no body")
        return None

    def _token_matches(self, headers: list[tuple[bytes, bytes]]) -> bool:
        given = _all(headers, b"authorization")
        match = BEARER.fullmatch(given[0]) if len(given) == 1 else None
        return match is not None and hmac.compare_digest(match[1], self._token)


def _from_here(
    scope: Scope, headers: list[tuple[bytes, bytes]], host: bytes, private: bool
) -> bool:
    origins = _all(headers, b"origin")
    ours = scope["scheme"].encode() + b"://" + host
    if any(origin.lower() != ours for origin in origins):
        return False
    sites = _all(headers, b"sec-fetch-site")
    if all(site == b"same-origin" for site in sites):
        return True
    opening = scope["method"] == "GET" and (
        _all(headers, b"sec-fetch-mode") == [b"navigate"]
        and _all(headers, b"sec-fetch-dest") == [b"document"]
    )
    return not private and (opening or sites == [b"none"])


def _has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    lengths = _all(headers, b"content-length")
    return bool(_all(headers, b"transfer-encoding")) or any(each != b"0" for each in lengths)


def _all(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


async def _read_body(scope: Scope, receive: Receive) -> bytes | Refusal:
    too_large = _refuse("body_too_large", f"the body is over {BODY_BYTES_MAX} bytes")
    lengths = _all(scope["headers"], b"content-length")
    if any(not each.isdigit() or int(each) > BODY_BYTES_MAX for each in lengths):
        return too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > BODY_BYTES_MAX:
                    return too_large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        return _refuse("body_too_slow", f"the body took over {BODY_SECONDS_MAX:.0f} s")


def _replay(body: bytes, receive: Receive) -> Receive:
    pending = [body]

    async def replayed() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replayed


def _hardened(send: Send) -> Send:
    async def hardened(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HARDENING]
        await send(message)

    return hardened


def _refuse(code: str, why: str) -> Refusal:
    fix = "Open the link that `lanrage up` prints, or send its token as `Authorization: Bearer`."
    return Refusal(code, "Cannot answer this request", why, fix)


async def _answer(refusal: Refusal, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if refusal.code == "no_token":
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.code.startswith("body_"):
        headers.append((b"connection", b"close"))
    body = msgspec.json.encode(refusal)
    headers.append((b"content-length", str(len(body)).encode()))
    status = _STATUS[refusal.code]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
