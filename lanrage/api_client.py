"""The command line's way to the running node: its API on loopback, found by `api.json`."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from lanrage.refusal import Refusal
from lanrage.state_dir import ApiFile, read_api

TIMEOUT_S = 30.0
BODY_MAX = 64 << 20


class Api:
    def __init__(self, where: ApiFile) -> None:
        self._address = urlsplit(where.api).netloc
        self._token = where.token

    def call(self, method: str, path: str, body: Any = None) -> Any | Refusal:
        """The answer's document, or the refusal the node gave."""
        response = self._request(method, path, body, TIMEOUT_S)
        if isinstance(response, Refusal):
            return response
        try:
            text = response.read(BODY_MAX)
        except OSError as error:
            return _gone(str(error))
        if response.status >= 400:
            return _refused(response.status, text)
        return msgspec.json.decode(text) if text else None

    def follow(self, path: str) -> Iterator[bytes]:
        """The `data` of every server-sent event of kind `message`, until the node ends."""
        response = self._request("GET", path, None, None)
        if isinstance(response, Refusal) or response.status != 200:
            return
        kind = b"message"
        for line in response:
            field, _, value = line.rstrip(b"\r\n").partition(b": ")
            if field == b"event":
                kind = value
            elif field == b"data" and kind == b"message":
                yield value
            elif not field:
                kind = b"message"

    def _request(
        self, method: str, path: str, body: Any, timeout_s: float | None
    ) -> http.client.HTTPResponse | Refusal:
        connection = http.client.HTTPConnection(self._address, timeout=timeout_s)
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Origin": f"http://{self._address}",
            "Content-Type": "application/json",
        }
        try:
            connection.request(
                method, path, None if body is None else msgspec.json.encode(body), headers
            )
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            return _gone(str(error))


def connect(state: Path) -> Api | Refusal:
    where = read_api(state)
    if where is None:
        return Refusal(
            "not_running",
            "LANrage is not running here",
            f"no node uses {state}",
            "Start it with `sudo lanrage up`, or name its folder with --state.",
        )
    return Api(where)


def _refused(status: int, text: bytes) -> Refusal:
    try:
        return msgspec.json.decode(text, type=Refusal)
    except msgspec.MsgspecError:
        return Refusal("api", "The node refused", f"it answered {status}", "")


def _gone(why: str) -> Refusal:
    return Refusal(
        "not_running",
        "Cannot reach the running node",
        why,
        "Is it in another network namespace, or was it killed? Start it with `sudo lanrage up`.",
    )
