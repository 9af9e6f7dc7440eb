"""Joining: how fast, and how each thing that can be wrong is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from lanrage.control import client as control
from lanrage.control import limits, link, messages
from lanrage.control.urls import websocket_url
from lanrage.identity import fresh
from lanrage.protocols import partylog
from lanrage.protocols.invite import Invite
from lanrage.protocols.partylog import Chain
from lanrage.refusal import Refusal
from tests.control.liar import lying
from tests.control.room import nodes, now_ms, serving, url_of


async def refused(invite: Invite) -> Refusal:
    result = await control.join(invite, fresh("guest"))
    assert isinstance(result, Refusal), "the invite let a guest in"
    return result


class Flights:
    """A wire to a server that counts how often the talking side changes."""

    def __init__(self, port: int) -> None:
        self.turns: list[str] = []
        self.connections = 0
        self._port = port
        self.url = ""

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(
            self._pump("guest", reader, far_writer), self._pump("server", far_reader, writer)
        )

    async def _pump(
        self, who: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(65_536):
                if self.turns[-1:] != [who]:
                    self.turns.append(who)
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Flights]:
    flights = Flights(port)
    server = await asyncio.start_server(flights.carry, "127.0.0.1", 0)
    flights.url = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield flights
    finally:
        server.close()


async def test_a_join_takes_two_round_trips_after_tcps_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        invite = await ada.invite(server)
        async with wire(server.port) as flights:
            through = msgspec.structs.replace(invite, control=(flights.url,))
            assert isinstance(await control.join(through, bob.identity), control.Joined)
            # Handshake and challenge; hello with the join, and the whole chain.
            assert flights.turns == ["guest", "server"] * 2


async def test_the_connection_of_the_join_serves_the_member_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        invite = await ada.invite(server)
        async with wire(server.port) as flights:
            await bob.join(msgspec.structs.replace(invite, control=(flights.url,)))
            await ada.until(lambda: bob.identity.peer in ada.online)
            await bob.until(lambda: len(bob.online) == 2)
            ada.client.signal(bob.identity.peer, b"hello")
            await bob.heard(control.SignalArrived)
            assert isinstance(await bob.rename("Bobby"), Chain)
            assert flights.connections == 1
            await bob.client.close()
        await ada.until(lambda: bob.identity.peer not in ada.online)


async def test_the_connection_of_a_join_serves_only_who_is_where_the_join_ended(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        joined = await bob.client.join(await ada.invite(server))
        assert isinstance(joined, control.Joined)
        earlier = partylog.extend(partylog.EMPTY, joined.records[:-2])
        assert isinstance(earlier, Chain)
        bob.chain = earlier
        bob.client.want(control.Target(joined.party, (joined.url,), earlier))
        await bob.until(lambda: bob.chain.length == len(joined.records))
        assert bob.identity.peer in bob.chain.members


async def test_a_join_that_nothing_follows_leaves_nobody_online(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        assert isinstance(await bob.client.join(await ada.invite(server)), control.Joined)
        assert isinstance(await ada.rename("Ada L."), Chain)
        assert ada.online == (ada.identity.peer,)
        bob.client.want(None)


async def test_a_name_that_is_taken_costs_one_round_trip_more(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada", "Ada") as (ada, guest):
        await ada.found(server)
        await guest.join(await ada.invite(server))
        assert guest.chain.members[guest.identity.peer].name == "Ada 2"


async def test_an_old_invite_with_an_old_head_still_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "APPENDS_BURST", 100.0)
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        invite = await ada.invite(server)
        for number in range(50):  # more than a page of records
            assert isinstance(await ada.rename(f"ada {number}"), Chain)
        await bob.join(invite)
        assert bob.chain.length == 53


async def test_an_invite_that_expired_lets_nobody_in_by_the_servers_clock(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada") as (ada,):
        await ada.found(server)
        invite = await ada.invite(server, life_ms=1_000, at_ms=now_ms() - 60_000)
        assert (await refused(invite)).code == "invite_expired"


async def test_a_revoked_a_used_and_a_foreign_invite_each_say_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        revoked, used = await ada.invite(server), await ada.invite(server)
        public = partylog.key_of(revoked.id)
        assert public is not None
        done = await ada.append(
            lambda chain: partylog.revoke_invite(
                ada.identity.signer, chain, invite_public=public, at_ms=now_ms()
            )
        )
        assert isinstance(done, Chain)
        await bob.join(used)
        elsewhere = msgspec.structs.replace(used, party=partylog.text_of(bytes(32)))
        unknown = msgspec.structs.replace(used, seed=bytes(32))
        assert (await refused(revoked)).code == "invite_revoked"
        assert (await refused(used)).code == "invite_used"
        assert (await refused(elsewhere)).code == "invite_foreign"
        assert (await refused(unknown)).code == "invite_foreign"


async def test_a_guest_tries_all_addresses_of_an_invite(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        invite = await ada.invite(server)
        async with saying(b"") as silent:
            urls = ("127.0.0.1:1", silent, "no such host", url_of(server))
            await bob.join(msgspec.structs.replace(invite, control=urls))


async def test_another_party_at_the_first_address_does_not_keep_a_guest_out(
    tmp_path: Path,
) -> None:
    async with (
        serving(tmp_path / "a") as ours,
        serving(tmp_path / "b") as theirs,
        nodes("ada", "bob") as (ada, bob),
    ):
        await ada.found(ours)
        invite = await ada.invite(ours)
        urls = (url_of(theirs), url_of(ours))
        joined = await bob.join(msgspec.structs.replace(invite, control=urls))
        assert joined.url == url_of(ours)


@asynccontextmanager
async def saying(answer: bytes, *, then_close: bool = False) -> AsyncIterator[str]:
    """A TCP server that answers any request with these bytes."""
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if then_close:
            writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for writer in writers:
            writer.close()


def an_invite(url: str) -> Invite:
    return Invite(
        party=partylog.text_of(bytes(32)),
        seed=bytes(32),
        head="00" * 32,
        length=1,
        control=(url,),
        name="x",
    )


async def test_a_control_that_is_down_is_said_to_be_unreachable() -> None:
    refusal = await refused(an_invite("127.0.0.1:1"))
    assert refusal.code == "control_unreachable"
    assert str(refusal).startswith("Cannot reach control at 127.0.0.1:1: nothing listens there.")


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\x00" * 99],
)
async def test_what_is_not_a_control_server_is_said_not_to_be_one(answer: bytes) -> None:
    async with saying(answer, then_close=True) as url:
        assert (await refused(an_invite(url))).code == "not_control"


async def test_another_websocket_server_is_said_not_to_be_control() -> None:
    async with lying([], subprotocol="chat") as liar:
        assert (await refused(an_invite(liar.url))).code == "not_control"
    async with lying([], first="welcome to the chat") as liar:
        assert (await refused(an_invite(liar.url))).code == "not_control"


@pytest.mark.parametrize(("theirs", "older"), [(0, "the control server"), (9, "this LANrage")])
async def test_a_control_of_another_version_says_who_must_update(theirs: int, older: str) -> None:
    said = msgspec.msgpack.encode({"type": "challenge", "version": theirs})
    async with lying([], first=said) as liar:
        refusal = await refused(an_invite(liar.url))
    assert refusal.code == "control_version"
    assert refusal.fix.startswith(f"Update {older};")


async def test_a_control_that_says_nothing_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "DIAL_S", 0.1)
    async with saying(b"") as silent:
        refusal = await refused(an_invite(silent))
    assert refusal.code == "control_unreachable"
    assert refusal.why == "it did not answer"


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("192.0.2.7:8667", "ws://192.0.2.7:8667/"),
        ("192.0.2.7", f"ws://192.0.2.7:{messages.DEFAULT_PORT}/"),
        ("[2001:db8::7]:9000", "ws://[2001:db8::7]:9000/"),
        ("ws://host.example", "ws://host.example:80/"),
        ("http://host.example:8667/x?y=1", "ws://host.example:8667/x?y=1"),
        ("https://host.example", "wss://host.example:443/"),
        (" wss://host.example/lanrage ", "wss://host.example:443/lanrage"),
    ],
)
def test_control_addresses_are_read_as_people_write_them(written: str, url: str) -> None:
    assert websocket_url(written) == url


@pytest.mark.parametrize(
    "written",
    [
        *("", ":8667", "host:port", "host:99999", "host:0", "ftp://host", "ws://", "a b:1"),
        *("ws://me:secret@host", "ws://host#x", "ws://[::1", "host\n:1", "$(id):1"),
    ],
)
def test_what_is_no_address_is_refused(written: str) -> None:
    refusal = websocket_url(written)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "bad_control"


async def test_a_control_that_hangs_up_is_told_as_one_plain_line() -> None:
    async def hang_up(connection: ServerConnection) -> None:
        challenge = messages.Challenge(
            version=messages.PROTOCOL, nonce=bytes(messages.NONCE_SIZE), at=now_ms()
        )
        await connection.send(messages.encode(challenge))
        await connection.recv()
        await connection.close(4000, "\x1b[31mred\nnext")

    protocol = Subprotocol(messages.SUBPROTOCOL)
    async with serve(hang_up, "127.0.0.1", 0, subprotocols=[protocol]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        refusal = await refused(an_invite(f"127.0.0.1:{port}"))
    assert refusal.code == "control_lost"
    assert str(refusal).isprintable()
    assert "by itself" not in refusal.fix
