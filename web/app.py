"""The API: the node's commands and views over HTTP, and the page.

One route for each command a person may give (`POST`, the command's struct as JSON), views under
`GET`. Bodies and answers go through msgspec; FastAPI routes, reads query parameters and lists it
all as OpenAPI. What the node refuses comes back as the refusal itself:
`{"code", "what", "why", "fix"}`, and so does every other error.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import anyio
import msgspec
import segno
from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from sse_starlette import EventSourceResponse
from starlette.exceptions import HTTPException

from events.base import Stored
from lanrage.commands import Command
from lanrage.refusal import Refusal
from projections.lobby import Status
from web import metrics, page, schema
from web.feed import READERS_MAX, Feed
from web.guard import Guard, Receive, Scope, Send
from web.port import Node

EVENTS_LIMIT_MAX = 1000
PING_INTERVAL_S = 15
SEND_TIMEOUT_S = 10.0
QR_CHARS_MAX = 1000
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

After = Annotated[int, Query(ge=-EVENTS_LIMIT_MAX, description="a seq; -N: the newest N events")]
Limit = Annotated[int, Query(ge=1, le=EVENTS_LIMIT_MAX)]
TypeGlob = Annotated[str | None, Query(alias="type", pattern=r"^[a-z0-9_./*?-]{1,64}$")]
LastEventId = Annotated[str | None, Header(pattern=r"^[0-9]{1,18}$")]


class App:
    """The guarded ASGI application. `close()` ends its endless responses."""

    def __init__(self, guard: Guard, feed: Feed) -> None:
        self._guard = guard
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._guard(scope, receive, send)

    def close(self) -> None:
        self._feed.close()


def create_app(node: Node, *, token: str, hosts: frozenset[str], read_only: bool = False) -> App:
    """`hosts`: see `guard.loopback_hosts`. `read_only` refuses every command (a replayed log)."""
    api = FastAPI(
        title="LANrage", redirect_slashes=False, docs_url=None, redoc_url=None, openapi_url=None
    )
    feed = Feed(node, read_only=read_only)
    _add_commands(api, node, read_only)
    _add_views(api, node, feed)
    _add_stream(api, node, feed)
    page.add(api)
    api.add_exception_handler(RequestValidationError, _unreadable_query)
    api.add_exception_handler(HTTPException, _http_error)
    return App(Guard(api, token=token, hosts=hosts), feed)


# --- commands --------------------------------------------------------------------------------


def _add_commands(api: FastAPI, node: Node, read_only: bool) -> None:
    for command in schema.COMMANDS:
        api.add_api_route(
            schema.command_path(command),
            _endpoint(node, command, read_only),
            methods=["POST"],
            name=command.__name__,
            description=command.__doc__ or "",
            openapi_extra=schema.takes(command),
            responses=schema.answers({"type": "object"}),
        )


def _endpoint(
    node: Node, command: type[Command], read_only: bool
) -> Callable[[Request], Awaitable[Response]]:
    decoder = msgspec.json.Decoder(command)

    async def endpoint(request: Request) -> Response:
        if read_only:
            why, fix = "this is a replay of a log", "Use the dashboard of a running node."
            return answer(Refusal("read_only", "Cannot change anything", why, fix), 403)
        try:
            asked: Any = decoder.decode(await request.body() or b"{}")
        except UNREADABLE as error:
            return _unreadable(str(error))
        result = await node.submit(asked)
        return answer(result, 409 if isinstance(result, Refusal) else 200)

    return endpoint


# --- views -----------------------------------------------------------------------------------


def _add_views(api: FastAPI, node: Node, feed: Feed) -> None:
    @api.get("/api/status", responses=schema.answers(schema.ref(Status)))
    async def status() -> Response:
        return answer(node.status())

    @api.get("/api/state", responses=schema.answers({"type": "object"}))
    async def state() -> Response:
        return _json(node.state())

    stored_list = {"type": "array", "items": schema.ref(Stored)}

    @api.get("/api/events", responses=schema.answers(stored_list))
    async def events(after: After = 0, type_glob: TypeGlob = None, limit: Limit = 100) -> Response:
        return answer(await node.read(_absolute(after, node.head), limit, type_glob))

    @api.post("/api/qr", openapi_extra=schema.takes(schema.QrText), responses=schema.SVG)
    async def qr(request: Request) -> Response:
        """A link as QR code. In the body: an invite is a secret, and URLs get written down."""
        try:
            text = msgspec.json.decode(await request.body(), type=schema.QrText).text
        except UNREADABLE as error:
            return _unreadable(str(error))
        if not 0 < len(text) <= QR_CHARS_MAX:
            return _unreadable(f"text must have 1 to {QR_CHARS_MAX} characters")
        return Response(qr_svg(text), media_type="image/svg+xml", headers=NO_STORE)

    @api.get("/api/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return answer(schema.complete(api.openapi()))

    @api.get("/metrics", include_in_schema=False)
    async def prometheus() -> Response:
        text = metrics.text(node.status(), head=node.head, readers=feed.readers)
        return Response(text, media_type=metrics.MEDIA_TYPE, headers=NO_STORE)


def qr_svg(text: str) -> bytes:
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(out, kind="svg", border=2, xmldecl=False)
    return out.getvalue()


# --- the live stream -------------------------------------------------------------------------


class Stream(EventSourceResponse):
    """sse-starlette looks for the end of the server twice a second; ours is told."""

    def __init__(self, feed: Feed, after: int, type_glob: str | None) -> None:
        super().__init__(
            feed.read(after, type_glob), ping=PING_INTERVAL_S, send_timeout=SEND_TIMEOUT_S
        )
        self._feed = feed

    async def _listen_for_exit_signal(self) -> None:  # type: ignore[override]
        await self._feed.closed()
        await anyio.sleep(0.05)  # the reader ends by itself; this is for one stuck in a send


def _add_stream(api: FastAPI, node: Node, feed: Feed) -> None:
    @api.get("/api/events/stream", responses=schema.STREAM, response_class=EventSourceResponse)
    async def stream(
        after: After = 0, type_glob: TypeGlob = None, last_event_id: LastEventId = None
    ) -> Response:
        """Events as they happen. `id:` is `seq`; `Last-Event-ID` or `after` resumes behind it."""
        if feed.readers >= READERS_MAX:
            why = f"{READERS_MAX} streams are open already"
            return answer(Refusal("too_many_streams", "Cannot stream", why, "Close one."), 503)
        start = after if last_event_id is None else int(last_event_id)
        return Stream(feed, _absolute(start, node.head), type_glob)


def _absolute(after: int, head: int) -> int:
    return after if after >= 0 else max(0, head + after)


# --- answers ---------------------------------------------------------------------------------

NO_STORE = {"cache-control": "no-store"}


def answer(document: object, status: int = 200) -> Response:
    return _json(msgspec.json.encode(document), status)


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json", headers=NO_STORE)


def _unreadable(why: str) -> Response:
    fix = "Its shape is in /api/openapi.json."
    return answer(Refusal("bad_request", "Cannot read this request", why, fix), 422)


async def _unreadable_query(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _unreadable(f"{first['loc'][-1]}: {first['msg']}")


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    fix = "The API is listed in /api/openapi.json."
    refusal = Refusal("no_route", "Cannot answer this request", error.detail, fix)
    return answer(refusal, error.status_code)
