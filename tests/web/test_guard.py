"""The guard over every route, with what a rebound name or another site would send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.web.http import TOKEN, call, request_bytes, send, serving
from tests.web.stage import Stage
from web import guard, schema
from web.guard import BODY_BYTES_MAX, Guard, Message, loopback_hosts

PRIVATE = [
    *(("POST", schema.command_path(each)) for each in schema.COMMANDS),
    ("POST", "/api/qr"),
    ("GET", "/api/status"),
    ("GET", "/api/state"),
    ("GET", "/api/events"),
    ("GET", "/api/events/stream"),
    ("HEAD", "/api/events/stream"),
    ("GET", "/api/openapi.json"),
    ("GET", "/metrics"),
    ("GET", "/api/nothing"),
    ("OPTIONS", "/api/status"),
    ("DELETE", "/api/status"),
]
PUBLIC = [("GET", "/"), ("GET", "/assets/none.js"), ("GET", "/nothing")]
FOREIGN_HOSTS = [
    "evil.example:{port}",
    "127.0.0.1",
    "localhost",
    "127.0.0.1:1",
    "0.0.0.0:{port}",
    "127.0.0.1:{port}.evil.example",
    "x127.0.0.1:{port}",
    "[::]:{port}",
    "127.0.0.1:0{port}",
    "127.1:{port}",
    "localhost.:{port}",
]
FOREIGN_SIGNS = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://127.0.0.1:{port}"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost:{port}"},  # another origin than the Host we are called by
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:{port}"},
]
BAD_TOKENS = ["", "Bearer", f"Basic {TOKEN}", "Bearer wrong", f"Bearer {TOKEN}x", f"{TOKEN}"]


async def test_every_private_route_refuses_a_foreign_host_or_site_or_token(stage: Stage) -> None:
    async with serving(stage) as server:
        port = server.port
        for method, path in PRIVATE:
            for host in FOREIGN_HOSTS:
                answer = await call(port, method, path, headers={"Host": host.format(port=port)})
                assert answer.status == 421, (method, path, host)
            for signs in FOREIGN_SIGNS:
                headers = {name: value.format(port=port) for name, value in signs.items()}
                answer = await call(port, method, path, headers=headers)
                assert answer.status == 403, (method, path, signs)
            for token in BAD_TOKENS:
                answer = await call(port, method, path, headers={"Authorization": token})
                assert answer.status == 401, (method, path, token)
                assert answer.headers["www-authenticate"] == "bearer"
    assert stage.asked == []


async def test_static_files_refuse_a_foreign_host_and_a_foreign_site(stage: Stage) -> None:
    async with serving(stage) as server:
        port = server.port
        for method, path in PUBLIC:
            for host in FOREIGN_HOSTS:
                answer = await call(port, method, path, headers={"Host": host.format(port=port)})
                assert answer.status == 421, (path, host)
            for signs in FOREIGN_SIGNS:
                headers = {name: value.format(port=port) for name, value in signs.items()}
                answer = await call(port, method, path, headers=headers)
                assert answer.status == 403, (path, signs)


@pytest.mark.parametrize("site", ["none", "cross-site", "same-site", "same-origin"])
async def test_the_page_can_be_opened_from_anywhere_without_a_token(
    stage: Stage, site: str
) -> None:
    opening = {
        "Sec-Fetch-Site": site,
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
        "Authorization": "",
    }
    async with serving(stage) as server:
        assert (await call(server.port, "GET", "/", headers=opening)).status in (200, 503)
        framed = opening | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"}
        assert (await call(server.port, "GET", "/", headers=framed)).status == 403


@pytest.mark.parametrize("path", ["/api/status", "/metrics"])
async def test_opening_a_private_address_as_a_page_is_refused_even_with_the_token(
    stage: Stage, path: str
) -> None:
    headers = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    async with serving(stage) as server:
        assert (await call(server.port, "GET", path, headers=headers)).status == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
async def test_each_of_our_own_names_is_accepted_with_its_own_origin(
    stage: Stage, host: str
) -> None:
    async with serving(stage) as server:
        own = f"{host}:{server.port}"
        headers = {"Host": own, "Origin": f"http://{own}", "Sec-Fetch-Site": "same-origin"}
        data = request_bytes(server.port, "GET", "/api/status", headers=headers)
        assert (await send(server.port, data)).status == 200


async def test_ipv6_loopback_answers_on_the_same_port(stage: Stage) -> None:
    async with serving(stage) as server:
        headers = {"Host": f"[::1]:{server.port}"}
        data = request_bytes(server.port, "GET", "/api/status", headers=headers)
        assert (await send(server.port, data, host="::1")).status == 200


async def test_two_hosts_or_two_tokens_are_refused(stage: Stage) -> None:
    async with serving(stage) as server:
        first = request_bytes(server.port, "GET", "/api/status")
        token = f"\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        assert (await send(server.port, first.replace(b"\r\n\r\n", token))).status == 401
        host = f"\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
        assert (await send(server.port, first.replace(b"\r\n\r\n", host))).status in (400, 421)


async def test_an_absolute_target_cannot_smuggle_another_path_or_host(stage: Stage) -> None:
    async with serving(stage) as server:
        for target in (
            "http://evil.example/",
            "http://evil.example//assets/x",
            "//evil/api/status",
        ):
            headers = {"Authorization": ""}
            answer = await call(server.port, "GET", target, headers=headers)
            assert answer.status in (400, 401, 404), target


async def test_a_private_path_written_differently_is_still_private_or_unknown(
    stage: Stage,
) -> None:
    async with serving(stage) as server:
        for path in (
            "/api/status/",
            "/%61pi/status",
            "/api%2fstatus",
            "//api/status",
            "/API/status",
        ):
            answer = await call(server.port, "GET", path, headers={"Authorization": ""})
            assert answer.status in (401, 404), path


async def test_no_answer_redirects(stage: Stage) -> None:
    async with serving(stage) as server:
        for path in ("/api/status/", "/api", "/metrics/", "/assets", "/assets/"):
            assert (await call(server.port, "GET", path)).status == 404, path


async def test_a_websocket_is_refused(stage: Stage) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    async with serving(stage) as server:
        for path in ("/", "/api/events/stream"):
            headers = upgrade | {"Authorization": ""}
            answer = await call(server.port, "GET", path, headers=headers)
            assert answer.status != 101


async def test_the_guard_closes_a_websocket_before_the_application_sees_it() -> None:
    sent: list[Message] = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("reached the application")

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def keep(message: Message) -> None:
        sent.append(message)

    gate = Guard(app, token=TOKEN, hosts=loopback_hosts(8666))
    good = [(b"host", b"127.0.0.1:8666"), (b"authorization", b"Bearer " + TOKEN.encode())]
    await gate({"type": "websocket", "path": "/api/x", "headers": good}, receive, keep)
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("hosts", [[], [b"127.0.0.1:8666"] * 2, [b"127.0.0.1:8666", b"evil"]])
async def test_the_guard_itself_insists_on_exactly_one_host(hosts: list[bytes]) -> None:
    """Whatever a server in front of it lets through."""
    sent: list[Message] = []

    async def app(*_: Any) -> None:
        raise AssertionError("it was let in")

    async def receive() -> Message:
        return {"type": "http.request"}

    async def keep(message: Message) -> None:
        sent.append(message)

    headers = [
        *((b"host", host) for host in hosts),
        (b"authorization", b"Bearer " + TOKEN.encode()),
    ]
    scope = {"type": "http", "method": "GET", "scheme": "http", "path": "/", "headers": headers}
    await Guard(app, token=TOKEN, hosts=loopback_hosts(8666))(scope, receive, keep)
    assert sent[0]["status"] == 421


async def test_every_answer_is_hardened_and_none_allows_other_origins(stage: Stage) -> None:
    async with serving(stage) as server:
        for method, path in (*PUBLIC, ("GET", "/api/status"), ("OPTIONS", "/api/status")):
            for headers in ({}, {"Authorization": ""}, {"Host": "evil.example"}):
                answer = await call(server.port, method, path, headers=headers)
                assert "default-src 'none'" in answer.headers["content-security-policy"]
                assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["referrer-policy"] == "no-referrer"
                assert not [name for name in answer.headers if name.startswith("access-control")]
                assert "server" not in answer.headers


async def test_a_body_over_the_limit_is_refused_announced_or_not(stage: Stage) -> None:
    async with serving(stage) as server:
        announced = {"Content-Length": str(BODY_BYTES_MAX + 1)}
        answer = await call(server.port, "POST", "/api/create", headers=announced)
        assert answer.status == 413
        chunked = {"Transfer-Encoding": "chunked", "Content-Length": ""}
        piece = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        data = request_bytes(server.port, "POST", "/api/create", headers=chunked) + piece * 3
        assert (await send(server.port, data)).status == 413
        answer = await call(server.port, "GET", "/api/status", headers={"Content-Length": "1"})
        assert answer.status == 400
    assert stage.asked == []


async def test_a_body_that_never_ends_is_given_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS_MAX", 0.05)
    async with serving(stage) as server:
        half = {"Content-Length": "20"}
        answer = await call(server.port, "POST", "/api/create", b'{"name":', headers=half)
        assert answer.status == 408


async def test_a_connection_that_sends_no_headers_is_closed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.server.HEADERS_SECONDS_MAX", 0.05)
    async with serving(stage) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: ")
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_garbage_on_the_socket_does_not_disturb_the_next_request(stage: Stage) -> None:
    async with serving(stage) as server:
        for garbage in (b"\x00\xff" * 50 + b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(garbage)
            writer.write_eof()
            async with asyncio.timeout(5):
                await reader.read()
            writer.close()
        assert (await call(server.port, "GET", "/api/status")).status == 200
