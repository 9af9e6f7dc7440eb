"""The relay's TCP door: who comes in, what passes, and what a slow or rude visitor costs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from lanrage.certificate import client_context
from lanrage.control.link import Link, dial
from lanrage.protocols.relay import backlog, wire
from lanrage.refusal import Refusal
from lanrage.relay import front, visitor
from lanrage.relay.front import Front
from lanrage.tunnel.tcp import BURST_BYTES
from tests.control.room import Node, nodes, serving
from tests.relay.door import BIND, PATIENCE_S, WELCOME, data, probe, relay_socket, sequence_of


class Room:
    """A front and the relay behind it, which welcomes whoever binds."""

    def __init__(self, served: Front, relay: socket.socket) -> None:
        self.front = served
        self.arrived: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()
        self._relay = relay
        asyncio.get_running_loop().add_reader(relay, self._read)

    @property
    def url(self) -> str:
        return f"wss://127.0.0.1:{self.front.port}/"

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            datagram, source = self._relay.recvfrom(2048)
            if datagram == BIND:
                self._relay.sendto(WELCOME, source)
            self.arrived.put_nowait((datagram, source))

    def answer(self, datagram: bytes, source: tuple[str, int]) -> None:
        self._relay.sendto(datagram, source)

    async def heard(self) -> tuple[bytes, tuple[str, int]]:
        return await asyncio.wait_for(self.arrived.get(), PATIENCE_S)

    async def visit(self, subprotocol: str = "lanrage.relay-data") -> ClientConnection:
        return await connect(
            self.url,
            ssl=client_context(self.front.pin),
            subprotocols=[Subprotocol(subprotocol)],
            compression=None,
            proxy=None,
            ping_interval=None,
        )

    async def bound(self) -> tuple[ClientConnection, tuple[str, int]]:
        visiting = await self.visit()
        await visiting.send(BIND)
        assert await visiting.recv() == WELCOME
        return visiting, (await self.heard())[1]


@asynccontextmanager
async def room(control: str = "") -> AsyncIterator[Room]:
    loop = asyncio.get_running_loop()
    with relay_socket() as relay:
        port = relay.getsockname()[1]
        served = await front.serve(("127.0.0.1", 0), port, control=control)
        assert isinstance(served, Front), served
        try:
            yield Room(served, relay)
        finally:
            loop.remove_reader(relay)
            await served.close()


async def closed(visiting: ClientConnection) -> tuple[int, str]:
    """How the front ended it."""
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await visiting.recv()
    return visiting.close_code or 0, visiting.close_reason or ""


async def test_each_connection_has_an_address_of_its_own_at_the_relay() -> None:
    async with room() as it:
        (one, one_at), (two, two_at) = await it.bound(), await it.bound()
        assert one_at != two_at
        it.answer(data(1), one_at)
        it.answer(data(2), two_at)
        assert (await one.recv(), await two.recv()) == (data(1), data(2))
        await one.send(data(3))
        assert await it.heard() == (data(3), one_at)
        await one.close()
        await two.close()


async def test_without_tls_nothing_is_answered() -> None:
    async with room() as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.front.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        assert b"HTTP" not in answer
        writer.close()


async def test_a_browser_is_told_what_this_is() -> None:
    async with room() as it:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", it.front.port, ssl=client_context(it.front.pin)
        )
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.rpartition(b"\r\n\r\n")[2].startswith(b"LANrage relay ")
        writer.close()


@pytest.mark.parametrize(
    "asked",
    ["lanrage.control-2, lanrage.relay", "lanrage.control, lanrage.relay", "lanrage.relay"],
)
async def test_nobody_gets_at_control_as_if_it_were_a_relay(asked: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as server, room(f"127.0.0.1:{server.port}") as it:
        arrived = server._sources._arrivals._buckets
        with pytest.raises(InvalidStatus, match="400"):
            await connect(
                it.url,
                ssl=client_context(it.front.pin),
                additional_headers={"Sec-WebSocket-Protocol": asked},
                proxy=None,
            )
        assert not arrived


@pytest.mark.parametrize("subprotocol", ["lanrage.control", "chat"])
async def test_what_is_not_served_here_is_refused(subprotocol: str) -> None:
    async with room() as it:
        with pytest.raises(InvalidStatus, match="400"):
            await it.visit(subprotocol)


async def test_a_head_without_end_is_cut_off() -> None:
    async with room() as it:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", it.front.port, ssl=client_context(it.front.pin)
        )
        writer.write(b"GET /" + b"x" * visitor.HEAD_MAX + b" HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()


@pytest.mark.parametrize(
    "message",
    ["text", b"", b"\x04", bytes(100), b"\x09" + bytes(99), BIND[:-1], BIND + b"\0"],
    ids=["text", "empty", "short", "zeros", "no kind", "cut", "long"],
)
async def test_what_is_no_datagram_of_ours_ends_the_visit(message: bytes | str) -> None:
    async with room() as it:
        visiting, _ = await it.bound()
        await visiting.send(message)
        assert await closed(visiting) == (1008, "not a datagram")
        assert it.arrived.empty()


async def test_a_message_longer_than_any_datagram_ends_the_visit() -> None:
    async with room() as it:
        visiting, _ = await it.bound()
        await visiting.send(data(1, size=visiting.protocol.max_message_size or 4096))
        assert (await closed(visiting))[0] == 1009


async def test_a_message_in_pieces_ends_the_visit() -> None:
    async with room() as it:
        visiting, _ = await it.bound()
        whole = data(1)
        with contextlib.suppress(ConnectionClosed):
            await visiting.send([whole[:50], whole[50:]])
        assert await closed(visiting) == (1008, "not a datagram")


async def test_who_does_not_bind_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitor, "BIND_S", 0.1)
    async with room() as it:
        visiting = await it.visit()
        assert await closed(visiting) == (1008, "no bind")


async def test_who_falls_silent_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitor, "BIND_S", 0.1)
    monkeypatch.setattr(visitor, "IDLE_S", 0.3)
    async with room() as it:
        visiting, _ = await it.bound()
        assert await closed(visiting) == (1008, "idle")


async def test_who_asks_for_nothing_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitor, "OPEN_S", 0.1)
    async with room() as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.front.port)
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()


async def test_until_the_relay_welcomes_it_a_stranger_says_little_there() -> None:
    challenge = (wire.HEADER + bytes((wire.ANSWER,))).ljust(wire.BIND_SIZE, b"\0")
    async with room() as it:
        visiting = await it.visit()
        await visiting.send(data(1))  # dropped: it is not bound
        for _ in range(2 * visitor.UNBOUND_MAX):
            await visiting.send(challenge)
        assert (await it.heard())[0] == challenge
        await (await visiting.ping())
        await asyncio.sleep(0)
        assert it.arrived.qsize() <= visitor.UNBOUND_MAX - 2
        await visiting.close()


async def test_one_address_has_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "PER_SOURCE_MAX", 2)
    async with room() as it:
        one, two = await it.visit(), await it.visit()
        with pytest.raises((OSError, EOFError)):
            await it.visit()
        await one.close()
        await one.wait_closed()
        await until(lambda: len(it.front._visitors) == 1)
        again = await it.visit()
        await again.close()
        await two.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  the front tells nobody
            await asyncio.sleep(0.005)


async def test_for_a_stalled_reader_little_waits_and_then_the_newest_comes_after_the_probes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backlog, "DATA_AGE_NS", 60 * 10**9)  # whatever else this computer does
    async with room() as it:
        visiting, source = await it.bound()
        sent = await stall(it, visiting, source)
        (stalled,) = it.front._visitors
        assert stalled._backlog._count <= backlog.PER_NUMBER_MAX
        assert stalled._transport is not None
        assert stalled._transport.get_write_buffer_size() <= 2 * BURST_BYTES
        it.answer(probe(7), source)
        await until(lambda: len(stalled._backlog._urgent) == 1)
        got = await resume(visiting, lambda last: last == data(sent - 1, size=500))
        behind = got[got.index(probe(7)) + 1 :]
        newest = [sequence_of(each) for each in behind]
        assert backlog.PER_NUMBER_MAX // 2 < len(newest) <= backlog.PER_NUMBER_MAX
        assert newest == list(range(sent - len(newest), sent))


async def test_what_waited_too_long_for_a_stalled_reader_never_comes() -> None:
    async with room() as it:
        visiting, source = await it.bound()
        sent = await stall(it, visiting, source)
        # Time itself is what is tested.
        await asyncio.sleep(2 * backlog.DATA_AGE_NS / 1e9)
        (stalled,) = it.front._visitors
        goes_on = asyncio.create_task(keep_sending(it, data(sent), source))
        got = await resume(visiting, lambda last: last == data(sent))
        goes_on.cancel()
        assert stalled._backlog.dropped_old > 0
        lost = stalled._backlog.dropped_old + stalled._backlog.dropped_full
        assert sum(1 for each in got if len(each) == 500) + lost >= sent


async def keep_sending(it: Room, datagram: bytes, source: tuple[str, int]) -> None:
    while True:
        it.answer(datagram, source)
        await asyncio.sleep(0.001)  # the pace of a game


async def stall(it: Room, visiting: ClientConnection, source: tuple[str, int]) -> int:
    """Send to a member that does not read, until nothing more is taken; how many were sent."""
    visiting.transport.pause_reading()
    (stalled,) = it.front._visitors
    sent = still = 0
    async with asyncio.timeout(PATIENCE_S):
        while still < 50:
            full = stalled._backlog.dropped_full
            for _ in range(4):
                it.answer(data(sent, size=500), source)
                sent += 1
            # Time itself is what is tested.
            await asyncio.sleep(0.002)
            still = still + 1 if stalled._backlog.dropped_full == full + 4 else 0
    return sent


async def resume(visiting: ClientConnection, is_last: Callable[[bytes], bool]) -> list[bytes]:
    visiting.transport.resume_reading()
    got: list[bytes] = []
    async with asyncio.timeout(PATIENCE_S):
        while not got or not is_last(got[-1]):
            message = await visiting.recv()
            assert isinstance(message, bytes)
            got.append(message)
    await visiting.close()
    return got


async def test_a_party_meets_at_control_through_this_door_by_a_pinned_address(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server, room(f"127.0.0.1:{server.port}") as it:
        url = f"{it.url}#sha256={it.front.pin}"
        async with nodes("ada") as (ada,):
            assert isinstance(ada, Node)
            await ada.found_at(url)
            await ada.until(lambda: ada.online == (ada.identity.peer,))
            invite = await ada.invite(server)
            assert invite.length == 2


async def test_another_certificate_than_the_pinned_one_is_one_clear_refusal() -> None:
    async with room("127.0.0.1:9") as it:
        refused = await dial(f"{it.url}#sha256={'0' * 64}")
        assert isinstance(refused, Refusal)
        assert refused.code == "control_pin"
        assert "0" * 64 not in refused.what


async def test_without_its_pin_a_self_signed_control_is_not_trusted() -> None:
    async with room("127.0.0.1:9") as it:
        refused = await dial(it.url)
        assert isinstance(refused, Refusal)
        assert refused.code == "control_tls"
        assert "self-signed" in refused.why


async def test_when_control_is_down_the_door_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with room(f"127.0.0.1:{port}") as it:
        refused = await dial(f"{it.url}#sha256={it.front.pin}")
        assert isinstance(refused, Refusal)
        assert "HTTP 502" in refused.why


async def test_both_ends_of_a_talk_with_control_end_together(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, room(f"127.0.0.1:{server.port}") as it:
        link = await dial(f"{it.url}#sha256={it.front.pin}")
        assert isinstance(link, Link)
        assert len(server._sources._open) == 1
        link.abort()
        await until(lambda: not server._sources._open)
        assert not it.front._visitors
        link = await dial(f"{it.url}#sha256={it.front.pin}")
        assert isinstance(link, Link)
        assert server._server is not None
        server._server.close()
        ended = await asyncio.wait_for(link.recv(), PATIENCE_S)
        assert isinstance(ended, Refusal)
        await until(lambda: not it.front._visitors)


async def test_a_port_in_use_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = await front.serve(("127.0.0.1", taken.getsockname()[1]), 9)
    assert isinstance(refused, Refusal)
    assert refused.code == "port_taken"
