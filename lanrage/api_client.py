"""The command line's way to the running node: its API on loopback, found by `api.json`."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from lanrage.refusal import Refusal
from lanrage.state_dir import ApiFile, is_running, read_api

TIMEOUT_S = 30.0
BODY_MAX = 64 << 20
UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


class Api:
    def __init__(self, where: ApiFile, timeout_s: float = TIMEOUT_S) -> None:
        self._address = urlsplit(where.api).netloc
        self._token = where.token
        self._timeout_s = timeout_s

    def call(self, method: str, path: str, body: Any = None) -> Any | Refusal:
        """The answer's document, or the refusal the node gave."""
        try:
            content = None if body is None else msgspec.json.encode(body)
        except UnicodeEncodeError:
            return Refusal("not_text", "Cannot do that", "an argument is not UTF-8 text", "")
        with contextlib.closing(self._connection(self._timeout_s)) as connection:
            try:
                response = self._ask(connection, method, path, content)
                text = response.read(BODY_MAX)
                if response.status >= 400:
                    return _refused(response.status, text)
                return msgspec.json.decode(text) if text else None
            except (OSError, http.client.HTTPException) as error:
                return _gone(error)
            except UNREADABLE:
                return _gone("what answers there is not LANrage")

    def follow(self, path: str) -> Iterator[bytes] | Refusal:
        """The `data` of every server-sent event of kind `message`, until the node ends."""
        connection = self._connection(None)
        refused: Refusal
        try:
            response = self._ask(connection, "GET", path, None)
            if response.status == 200:
                return _until_the_end(connection, response)
            refused = _refused(response.status, response.read(BODY_MAX))
        except (OSError, http.client.HTTPException) as error:
            refused = _gone(error)
        connection.close()
        return refused

    def _connection(self, timeout_s: float | None) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._address, timeout=timeout_s)

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
    ) -> http.client.HTTPResponse:
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Origin": f"http://{self._address}",
            "Content-Type": "application/json",
        }
        connection.request(method, path, body, headers)
        return connection.getresponse()


def _until_the_end(
    connection: http.client.HTTPConnection, response: http.client.HTTPResponse
) -> Iterator[bytes]:
    with contextlib.closing(connection), contextlib.closing(response):
        yield from messages(response)


def messages(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The `data` of every server-sent event of kind `message`. The stream also carries views, as
    events of other kinds. A stream that breaks off just ends: no more, and no less, is known."""
    kind = b"message"
    with contextlib.suppress(OSError, http.client.HTTPException):
        for line in lines:
            field, _, value = line.rstrip(b"\r\n").partition(b": ")
            if field == b"event":
                kind = value
            elif field == b"data" and kind == b"message":
                yield value
            elif not field:
                kind = b"message"


def connect(state: Path, timeout_s: float = TIMEOUT_S) -> Api | Refusal:
    where = read_api(state)
    if where is None or not is_running(state):
        return Refusal(
            "not_running",
            "LANrage is not running here",
            f"no node uses {state}",
            "Start it with `sudo lanrage up`, or name its folder with --state.",
        )
    return Api(where, timeout_s)


def _refused(status: int, text: bytes) -> Refusal:
    try:
        return msgspec.json.decode(text, type=Refusal)
    except UNREADABLE:
        return Refusal("api", "The node refused", f"it answered {status}", "")


def _gone(error: Exception | str) -> Refusal:
    why = (error.strerror if isinstance(error, OSError) else "") or str(error)
    return Refusal(
        "not_running",
        "Cannot reach the running node",
        why,
        "Is it in another network namespace, or was it killed? Start it with `sudo lanrage up`.",
    )
