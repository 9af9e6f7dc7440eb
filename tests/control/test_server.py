"""What strangers may do to a control server: little, and not for long."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from lanrage.control import client as control
from lanrage.control import limits
from lanrage.control import messages as m
from lanrage.control.server import ControlServer
from lanrage.identity import fresh
from lanrage.protocols import partylog
from lanrage.protocols.invite import Invite
from lanrage.protocols.partylog import Chain
from lanrage.refusal import Refusal
from tests.control.room import Node, nodes, serving, url_of


@asynccontextmanager
async def stranger(server: ControlServer) -> AsyncIterator[ClientConnection]:
    async with connect(
        f"ws://{url_of(server)}",
        subprotocols=[Subprotocol(m.SUBPROTOCOL)],
        compression=None,
        proxy=None,
    ) as socket:
        yield socket


async def heard(socket: ClientConnection) -> m.FromServer:
    frame = m.from_server(await asyncio.wait_for(socket.recv(), 10))
    assert frame is not None
    return frame


async def nonce_of(socket: ClientConnection) -> bytes:
    challenge = await heard(socket)
    assert isinstance(challenge, m.Challenge)
    return challenge.nonce


async def closed(socket: ClientConnection) -> tuple[int, str]:
    """Read to the end; close code and reason."""
    try:
        async with asyncio.timeout(10):
            while True:
                await socket.recv()
    except ConnectionClosed as end:
        return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")


async def guest_of(socket: ClientConnection, invite: Invite) -> None:
    """Say hello as somebody who holds the invite."""
    me = fresh("guest")
    hello = m.hello(
        me.signer,
        await nonce_of(socket),
        party=invite.party,
        peer=me.peer,
        invite_seed=invite.seed,
        invite=invite.id,
    )
    await socket.send(m.encode(hello))


async def member_of(socket: ClientConnection, node: Node) -> None:
    hello = m.hello(
        node.identity.signer,
        await nonce_of(socket),
        party=node.chain.party,
        peer=node.identity.peer,
        length=node.chain.length,
        head=node.chain.head,
    )
    await socket.send(m.encode(hello))
    assert isinstance(await heard(socket), m.Welcome)


async def test_another_version_is_told_so_with_its_own_close_code(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, stranger(server) as socket:
        await heard(socket)
        await socket.send(msgspec.msgpack.encode({"type": "hello", "version": 99, "new": True}))
        code, reason = await closed(socket)
        assert code == m.CLOSE_VERSION
        assert reason == "control speaks version 1, you 99"


@pytest.mark.parametrize("said", [b"", b"\xc1", b"\x80", "text", bytes(1000)])
async def test_what_is_not_a_hello_ends_the_connection(tmp_path: Path, said: bytes | str) -> None:
    async with serving(tmp_path) as server, stranger(server) as socket:
        await heard(socket)
        await socket.send(said)
        assert (await closed(socket))[0] == m.CLOSE_GARBAGE


async def test_a_hello_for_another_challenge_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada") as (ada,):
        await ada.found(server)
        async with stranger(server) as socket:
            await nonce_of(socket)
            hello = m.hello(
                ada.identity.signer, bytes(16), party=ada.chain.party, peer=ada.identity.peer
            )
            await socket.send(m.encode(hello))
            assert (await closed(socket))[0] == m.CLOSE_GARBAGE


async def test_who_says_nothing_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HELLO_S", 0.05)
    async with serving(tmp_path) as server, stranger(server) as socket:
        await closed(socket)


async def test_small_answers_do_not_wait_for_acknowledgements(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, stranger(server) as near:
        await heard(near)
        assert server._server is not None
        for connection in (near, *server._server.connections):
            raw = connection.transport.get_extra_info("socket")
            assert raw.getsockopt(IPPROTO_TCP, TCP_NODELAY)


async def test_only_members_and_holders_of_a_good_invite_read_the_chain(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada") as (ada,):
        await ada.found(server)
        invite = await ada.invite(server)
        guessed = msgspec.structs.replace(invite, seed=bytes(32))
        for bad in (guessed, msgspec.structs.replace(invite, party=partylog.text_of(bytes(32)))):
            async with stranger(server) as socket:
                await guest_of(socket, bad)
                assert isinstance(await heard(socket), m.Refused)
                assert (await closed(socket))[0] == m.CLOSE_REFUSED
        async with stranger(server) as socket:
            await guest_of(socket, invite)
            assert isinstance(await heard(socket), m.Welcome)
            assert isinstance(await heard(socket), m.Records)


async def test_a_guest_that_does_not_join_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GUEST_S", 0.05)
    async with serving(tmp_path) as server, nodes("ada") as (ada,):
        await ada.found(server)
        async with stranger(server) as socket:
            await guest_of(socket, await ada.invite(server))
            await closed(socket)


async def test_a_guest_can_neither_signal_nor_be_seen(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada") as (ada,):
        await ada.found(server)
        invite = await ada.invite(server)
        async with stranger(server) as socket:
            await guest_of(socket, invite)
            assert isinstance(await heard(socket), m.Welcome)
            await socket.send(m.encode(m.Send(to=ada.identity.peer, sealed=b"spam")))
            await socket.send(m.encode(m.Append(id=7, record=b"spam")))
            while not isinstance(answer := await heard(socket), m.Refused):
                pass
            assert answer.id == 7
        assert isinstance(await ada.rename("Ada L."), Chain)
        assert ada.online == (ada.identity.peer,)
        assert not any(isinstance(each, control.SignalArrived) for each in ada.notices)


async def test_garbage_after_the_hello_ends_that_connection_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada") as (ada,):
        await ada.found(server)
        for said in (b"\xc1", "text", m.encode(m.Conflict(id=1))):
            async with stranger(server) as socket:
                await member_of(socket, ada)
                await socket.send(said)
                assert (await closed(socket))[0] == m.CLOSE_GARBAGE
        async with stranger(server) as socket:
            await member_of(socket, ada)
            await socket.send(bytes(m.FRAME_MAX + 1))
            assert (await closed(socket))[0] == 1009  # RFC 6455: message too big
        assert isinstance(await ada.rename("Ada L."), Chain)


async def test_garbage_on_the_port_is_survived(tmp_path: Path) -> None:
    rng = random.Random(6)
    async with serving(tmp_path) as server, nodes("ada") as (ada,):
        for size in (0, 1, 10, 1_000, 20_000):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(rng.randbytes(size))
            writer.write(b"\r\n\r\n")
            writer.close()
        for request in (b"POST / HTTP/1.1\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(request)
            writer.write_eof()
            await reader.read()
            writer.close()
        await ada.found(server)


async def test_one_address_gets_only_so_many_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_PER_IP_MAX", 3)
    async with serving(tmp_path) as server:
        taken = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await _ended(reader)
        for _, each in (*taken, (reader, writer)):
            each.close()
        # When one goes there is room again.
        for reader, _ in taken:
            await _ended(reader)
        async with stranger(server) as socket:
            assert isinstance(await heard(socket), m.Challenge)


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def test_one_device_keeps_only_its_newest_connections(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada") as (ada,):
        await ada.found(server)
        await ada.heard(control.Connected)
        async with stranger(server) as first:
            await member_of(first, ada)
            opened = []
            for _ in range(limits.CONNECTIONS_PER_PEER_MAX):
                more = stranger(server)
                await member_of(await more.__aenter__(), ada)
                opened.append(more)
            code, reason = await closed(first)
            assert (code, reason) == (m.CLOSE_REFUSED, "this device connected again")
            for more in opened:
                await more.__aexit__(None, None, None)


async def test_who_asks_too_fast_is_answered_more_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "APPENDS_BURST", 5.0)
    monkeypatch.setattr(limits, "APPENDS_PER_S", 20.0)
    async with serving(tmp_path) as server, nodes("ada") as (ada,):
        await ada.found(server)
        async with stranger(server) as socket:
            await member_of(socket, ada)
            loop = asyncio.get_running_loop()
            began = loop.time()
            for number in range(1, 16):
                await socket.send(m.encode(m.Append(id=number, record=b"spam")))
            while not (isinstance(last := await heard(socket), m.Refused) and last.id == 15):
                pass
            assert loop.time() - began > 0.4  # ten beyond the burst, twenty a second


async def test_a_reader_that_stops_reading_costs_the_others_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        await bob.join(await ada.invite(server))
        await ada.until(lambda: len(ada.online) == 2)
        async with stranger(server) as socket:
            await member_of(socket, ada)
            socket.transport.pause_reading()
            for number in range(190):
                bob.client.signal(ada.identity.peer, bytes([number % 256]) * 8_000)
                await asyncio.sleep(0)
            assert isinstance(await bob.rename("Bobby"), Chain)
            await ada.until(lambda: ada.chain == bob.chain)
            socket.transport.abort()


async def test_a_full_server_takes_no_more_parties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanrage.control.parties.PARTIES_MAX", 1)
    async with serving(tmp_path) as server, nodes("ada", "eve") as (ada, eve):
        await ada.found(server)
        with pytest.raises(AssertionError, match="no room for another party"):
            await eve.found(server)


async def test_a_full_server_takes_no_more_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanrage.control.parties.RECORDS_TOTAL_MAX", 2)
    async with serving(tmp_path) as server, nodes("ada") as (ada,):
        await ada.found(server)
        assert isinstance(await ada.rename("Ada L."), Chain)
        refused = await ada.rename("Ada Lovelace")
        assert isinstance(refused, Refusal)
        assert refused.code == "party_full"


@pytest.mark.parametrize("other", [{"head": "00" * 32}, {"length": 7}, {"head": ""}])
async def test_who_holds_another_history_is_told_so_and_sent_nothing(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    async with serving(tmp_path) as server, nodes("ada") as (ada,):
        joined = await ada.found(server)
        held = msgspec.structs.replace(ada.chain, **other)
        start = len(ada.notices)
        ada.client.want(None)
        ada.client.want(control.Target(joined.party, (url_of(server),), held))
        told = await ada.heard(control.Diverged, start)
        assert "history" in told.reason
        assert not any(isinstance(each, control.Connected) for each in ada.notices[start:])


async def test_founding_again_with_the_same_genesis_finds_the_same_party(tmp_path: Path) -> None:
    async with nodes("ada") as (ada,):
        async with serving(tmp_path) as server:
            joined = await ada.found(server)
            again = await control.create(url_of(server), ada.identity, joined.records[0])
            assert again == joined
        async with serving(tmp_path) as server:
            stolen = await control.create(url_of(server), fresh("eve"), joined.records[0])
            assert getattr(stolen, "code", "") == "not_member"
