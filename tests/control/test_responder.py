"""STUN beside the WebSocket's port, over real sockets."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from events.log import Log
from lanrage.control import limits
from lanrage.control.server import ControlServer
from lanrage.protocols import stun
from tests.control.room import serving

CLASSIC = bytes(range(16))


@contextmanager
def asking(family: socket.AddressFamily = socket.AF_INET) -> Iterator[socket.socket]:
    with socket.socket(family, socket.SOCK_DGRAM) as opened:
        opened.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        opened.setblocking(False)
        yield opened


async def answered(
    sock: socket.socket, request: bytes, to: tuple[str, int]
) -> tuple[stun.Message, tuple[str, int]]:
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(sock, request, to)
    datagram, source = await asyncio.wait_for(loop.sock_recvfrom(sock, 2048), 5)
    message = stun.parse(datagram)
    assert message is not None
    return message, (source[0], source[1])


async def test_main_and_alternate_port_tell_where_they_see_the_sender(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for port in (server.port, server.port + 1):
            with asking() as sock:
                request = stun.request(bytes(12))
                message, source = await answered(sock, request, ("127.0.0.1", port))
                assert message.mapped == sock.getsockname()
                assert source == ("127.0.0.1", port)


async def test_a_classic_client_is_told_of_the_alternate_and_heard_from_a_third_port(
    tmp_path: Path,
) -> None:
    plain = stun.encode(stun.BINDING_REQUEST, CLASSIC, [], fingerprint=False)
    change = stun.CHANGE_REQUEST.pack(stun.CHANGE_PORT, CLASSIC)
    changing = stun.encode(
        stun.BINDING_REQUEST, CLASSIC, [(stun.CHANGE_REQUEST.number, change)], fingerprint=False
    )
    async with serving(tmp_path) as server:
        with asking() as sock:
            message, _ = await answered(sock, plain, ("127.0.0.1", server.port))
            assert message.get(stun.CHANGED_ADDRESS) == ("127.0.0.1", server.port + 1)
            _, source = await answered(sock, changing, ("127.0.0.1", server.port))
            assert source[0] == "127.0.0.1"
            assert source[1] not in (server.port, server.port + 1)


async def test_a_server_on_all_addresses_answers_both_families_from_where_it_was_asked(
    tmp_path: Path,
) -> None:
    log = await Log.open(tmp_path / "control.sqlite", session="s" * 16)
    assert isinstance(log, Log)
    server = await ControlServer.start("", 0, log)
    assert isinstance(server, ControlServer)
    with asking() as four, asking(socket.AF_INET6) as six:
        # 127.0.0.2 is ours too; an answer from 127.0.0.1 would not pass a router's filter.
        message, source = await answered(four, stun.request(bytes(12)), ("127.0.0.2", server.port))
        assert message.mapped == four.getsockname()
        assert source == ("127.0.0.2", server.port)
        message, source = await answered(six, stun.request(bytes(12)), ("::1", server.port))
        assert message.mapped == six.getsockname()[:2]
        assert source == ("::1", server.port)
    for host in ("127.0.0.1", "::1"):
        _, writer = await asyncio.open_connection(host, server.port)
        writer.close()
    await server.close()
    await log.close()


async def test_garbage_is_met_with_silence_and_the_next_request_with_an_answer(
    tmp_path: Path,
) -> None:
    rng = random.Random(7)
    async with serving(tmp_path) as server:
        with asking() as sock:
            loop = asyncio.get_running_loop()
            to = ("127.0.0.1", server.port)
            for size in (0, 1, 19, 20, 100, 1_400):
                await loop.sock_sendto(sock, rng.randbytes(size), to)
            message, _ = await answered(sock, stun.request(b"x" * 12), to)
            assert message.transaction[4:] == b"x" * 12


async def test_one_source_gets_only_so_many_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STUN_BURST", 3.0)
    monkeypatch.setattr(limits, "STUN_PER_S", 0.001)
    async with serving(tmp_path) as server:
        with asking() as sock:
            loop = asyncio.get_running_loop()
            for number in range(10):
                request = stun.request(number.to_bytes(12, "big"))
                await loop.sock_sendto(sock, request, ("127.0.0.1", server.port))
            for _ in range(3):
                await asyncio.wait_for(loop.sock_recv(sock, 2048), 5)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_recv(sock, 2048), 0.2)


def test_a_bucket_refills_with_time_and_never_beyond_its_size() -> None:
    bucket = limits.Bucket(2.0, 3.0, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(0.5)
    assert not bucket.take(0.5)
    assert [bucket.take(1_000.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.owe(1_000.0) == pytest.approx(0.5)
    assert bucket.owe(1_000.0) == pytest.approx(1.0)


def test_buckets_forget_whom_they_heard_of_longest_ago() -> None:
    buckets = limits.Buckets(1.0, 1.0, 2)
    now = time.monotonic()
    assert buckets.take("a", now)
    assert buckets.take("b", now)
    assert not buckets.take("a", now)
    assert buckets.take("c", now)  # b is forgotten
    assert not buckets.take("a", now)
    assert buckets.take("b", now)
