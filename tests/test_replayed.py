"""A dashboard on a log: the same views as the node had, and nothing to press."""

from __future__ import annotations

import asyncio
import http.client

import msgspec
import pytest

from events.base import Stored, stream_of
from events.codec import encode
from lanrage import commands as c
from lanrage.refusal import Refusal
from lanrage.replayed import Replayed
from projections import lobby, mesh
from tests.playbook import ALICE, BOB, Playbook
from web.server import WebServer, serve


def rows_of(book: Playbook) -> list[Stored]:
    """The playbook's events as the log would hold them."""
    return [
        Stored(
            seq=number,
            stream=stream_of(event),
            version=1,
            id=f"{number:032x}",
            type=event.TYPE,
            at=book.now_ms,
            session="s",
            data=msgspec.Raw(encode(event)),
        )
        for number, event in enumerate(book.told, 1)
    ]


def replayed() -> tuple[Playbook, Replayed]:
    book = Playbook.in_party(ALICE, BOB)
    book.tell(c.NotePresence(party=book.state.party, online=(BOB.peer,)))
    return book, Replayed(rows_of(book))


async def test_it_shows_what_the_node_showed() -> None:
    book, replay = replayed()
    assert replay.head == len(book.told)
    assert replay.status() == lobby.status(mesh.fold_all(mesh.EMPTY, rows_of(book)))
    assert [row.seq for row in await replay.read(2, 2)] == [3, 4]
    assert {row.type for row in await replay.read(0, 99, "peer.*")} == {
        "peer.joined",
        "peer.online",
    }


async def test_it_refuses_every_command() -> None:
    _, replay = replayed()
    assert isinstance(await replay.submit(c.Leave()), Refusal)


async def test_it_is_served_read_only() -> None:
    _, replay = replayed()
    server = await serve(replay, token="t" * 32, host="127.0.0.1", port=0, read_only=True)
    assert isinstance(server, WebServer)
    try:
        assert await _ask(server.port, "GET", "/api/status", "t" * 32) == 200
        assert await _ask(server.port, "POST", "/api/leave", "t" * 32) >= 400
        assert await _ask(server.port, "GET", "/api/status", "wrong") == 401
    finally:
        await server.close()


async def _ask(port: int, method: str, path: str, token: str) -> int:
    def ask() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request(method, path, "{}" if method == "POST" else None, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    return await asyncio.to_thread(ask)


async def test_an_empty_log_is_shown_too() -> None:
    replay = Replayed([])
    assert replay.head == 0
    assert replay.status().party is None
    with pytest.raises(TimeoutError):
        await _first(replay)


async def _first(replay: Replayed) -> None:
    async with asyncio.timeout(0.05):
        async for _ in replay.subscribe(0):
            return
