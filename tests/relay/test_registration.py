"""A relay at its control server: found again by itself, its secrets kept, its frames as ever."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.control import client as control
from lanrage.control import messages as m
from lanrage.control import relay_messages as r
from lanrage.relay.offer import Load, Offer
from tests.control.relayed import SECRET, offer, registered
from tests.control.room import nodes, serving

GOLDEN = Path(__file__).parent.parent / "data" / "relay" / "registration-v1.txt"
FACTS = r.Facts(
    addresses=("192.0.2.7:3478",),
    region="eu",
    host="relay.example.org",
    tcp=443,
    pin="ab" * 32,
    public_key=bytes(range(32)),
    boot=bytes(8),
    ticket_key=bytes(32),
)
SEALED = r.seal(FACTS, SECRET, bytes(16), bytes(12))
FROM_SERVER: tuple[r.FromServer, ...] = (
    m.Challenge(version=1, nonce=bytes(16), at=1_800_000_000_000),
    r.Accepted(relay="192.0.2.7:3478"),
    m.Refused(code="secret", reason="the relay's secret is not control's"),
)
FROM_RELAY: tuple[r.FromRelay, ...] = (
    r.Offer(version=1, sealed=SEALED),
    r.Load(members=3, bytes_per_s=1_000_000),
)


def test_frames_are_written_and_read_as_they_always_were() -> None:
    golden = [bytes.fromhex(line) for line in GOLDEN.read_text().splitlines()]
    assert [r.encode(each) for each in (*FROM_SERVER, *FROM_RELAY)] == golden
    assert tuple(r.from_server(each) for each in golden[:3]) == FROM_SERVER
    assert tuple(r.from_relay(each) for each in golden[3:]) == FROM_RELAY


def test_facts_are_read_only_with_the_secret_and_for_this_challenge() -> None:
    assert r.open_facts(SEALED, SECRET, bytes(16)) == FACTS
    assert r.open_facts(SEALED, b"", bytes(16)) is None
    assert r.open_facts(SEALED, SECRET, b"x" * 16) is None
    assert r.open_facts(SEALED[:-1] + bytes([SEALED[-1] ^ 1]), SECRET, bytes(16)) is None
    assert r.open_facts(b"short", SECRET, bytes(16)) is None
    assert FACTS.ticket_key.hex() not in repr(FACTS)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_none(message: bytes) -> None:
    r.from_server(message)
    r.from_relay(message)
    r.open_facts(message, SECRET, bytes(16))


async def line(lines: asyncio.Queue[str]) -> str:
    return await asyncio.wait_for(lines.get(), 20)


async def test_it_registers_again_when_control_comes_back(tmp_path: Path) -> None:
    one = offer(addresses=("192.0.2.7:3478",))
    async with serving(tmp_path, relay_secret=SECRET) as server:
        port = server.port
        entered = registered(server, one, load=Load(members=2, bytes_per_s=9))
        registration, lines = await entered.__aenter__()
        assert "as 192.0.2.7:3478" in await line(lines)
        relay = server._relays.all()["192.0.2.7:3478"]
        async with asyncio.timeout(10):
            while relay.load.members != 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    try:
        assert "Not registered" in await line(lines)
        async with serving(tmp_path, port, relay_secret=SECRET):
            async with asyncio.timeout(20):
                while "Registered with" not in await line(lines):
                    pass
            assert registration.relay == "192.0.2.7:3478"
    finally:
        await entered.__aexit__(None, None, None)


async def test_on_controls_computer_another_secret_does_no_harm(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, relay_secret=SECRET) as server,
        registered(server, offer(), b"w" * 32) as (_, lines),
    ):
        assert "Registered with" in await line(lines)


async def test_a_name_instead_of_an_address_is_resolved_and_kept_in_the_url(
    tmp_path: Path,
) -> None:
    named = Offer(
        addresses=(),
        host="localhost",
        port=3478,
        tcp=443,
        public_key=secrets.token_bytes(32),
        boot=secrets.token_bytes(8),
        ticket_key=secrets.token_bytes(32),
    )
    async with serving(tmp_path, relay_secret=SECRET) as server, nodes("ada") as (ada,):
        await ada.found(server)
        async with registered(server, named):
            granted = await ada.heard(control.Granted)
    (relay,) = granted.relays
    assert "127.0.0.1:3478" in relay.addresses
    assert relay.tcp == "wss://localhost:443/"


async def test_no_room_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lanrage.control.relays.RELAYS_MAX", 0)
    async with (
        serving(tmp_path, relay_secret=SECRET) as server,
        registered(server, offer()) as (_, lines),
    ):
        assert "no room for another relay" in await line(lines)
