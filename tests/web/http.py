"""A client that sends exactly the bytes it is told to, to try what no well-behaved one would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from lanrage.refusal import Refusal
from web.port import Node
from web.server import WebServer, serve

TOKEN = "t0ken-" + "x" * 26


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Message(NamedTuple):
    event: str
    id: str
    data: str


@asynccontextmanager
async def serving(
    node: Node, *, read_only: bool = False, port: int = 0
) -> AsyncIterator[WebServer]:
    server = await serve(node, token=TOKEN, host="127.0.0.1", port=port, read_only=read_only)
    assert not isinstance(server, Refusal), server
    try:
        yield server
    finally:
        await server.close()


def request_bytes(
    port: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """Values of `headers` replace the usual ones; an empty value leaves the header out."""
    lines = {"Host": f"127.0.0.1:{port}", "Authorization": f"Bearer {TOKEN}"}
    if method not in ("GET", "HEAD"):
        lines["Content-Length"] = str(len(body))
    lines |= headers or {}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode() + body


async def send(port: int, data: bytes, *, host: str = "127.0.0.1") -> Answer:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            status, headers = await read_head(reader)
            length = 0 if data.startswith(b"HEAD") else int(headers.get("content-length", "0"))
            return Answer(status, headers, await reader.readexactly(length))
    finally:
        writer.close()
        await writer.wait_closed()


async def call(
    port: int,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    return await send(port, request_bytes(port, method, path, body, headers))


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split(" ")[1]), headers


class Stream:
    """One SSE connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._text = b""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, port: int, query: str = "", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Stream]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request_bytes(port, "GET", f"/api/events/stream{query}", headers=headers))
            status, answered = await read_head(reader)
            assert status == 200, status
            assert answered["content-type"].startswith("text/event-stream")
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    async def messages(self) -> AsyncIterator[Message]:
        """Every message until the server ends the stream."""
        while True:
            async with asyncio.timeout(20):
                size = int(await self._reader.readuntil(b"\r\n"), 16)
                chunk = await self._reader.readexactly(size + 2)
            if size == 0:
                return
            self._text += chunk[:-2].replace(b"\r\n", b"\n")
            *blocks, self._text = self._text.split(b"\n\n")
            for block in blocks:
                yield _message(block.decode())

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The next `count` stored events."""
        found: list[dict[str, Any]] = []
        if count == 0:
            return found
        async for message in self.messages():
            if message.event == "message":
                found.append(msgspec.json.decode(message.data))
                assert found[-1]["seq"] == int(message.id)
            if len(found) == count:
                break
        return found


def _message(block: str) -> Message:
    fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
    return Message(fields.get("event", "message"), fields.get("id", ""), fields.get("data", ""))
