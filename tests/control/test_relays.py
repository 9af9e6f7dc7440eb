"""Relays at control: who may register, what members hear of them, and when."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from lanrage.control import client as control
from lanrage.control import messages as m
from lanrage.control import relay_messages as r
from lanrage.control import relays, tickets
from lanrage.control.messages import Relay
from lanrage.control.secret_file import relay_secret
from lanrage.protocols.partylog import Chain, key_of
from lanrage.protocols.relay import ticket
from lanrage.refusal import Refusal
from tests.control.relayed import SECRET, offer, registered
from tests.control.room import Node, nodes, serving, url_of


def granted(node: Node) -> tuple[Relay, ...]:
    told = [each.relays for each in node.notices if isinstance(each, control.Granted)]
    return told[-1] if told else ()


def picked(node: Node) -> dict[str, str]:
    told = [each.picks for each in node.notices if isinstance(each, control.Picked)]
    return {each.peer: each.relay for each in told[-1]} if told else {}


async def test_a_member_gets_a_ticket_that_the_relay_accepts(tmp_path: Path) -> None:
    one = offer(addresses=("192.0.2.7:7777",), region="eu")
    async with serving(tmp_path, relay_secret=SECRET) as server, nodes("ada") as (ada,):
        await ada.found(server)
        async with registered(server, one):
            await ada.until(lambda: bool(granted(ada)))
    (grant,) = granted(ada)
    assert (grant.relay, grant.addresses, grant.region) == (
        "192.0.2.7:7777",
        ("192.0.2.7:7777",),
        "eu",
    )
    assert (grant.public_key, grant.boot) == (one.public_key, one.boot)
    read = ticket.check(grant.ticket, one.ticket_key, int(time.time()))
    assert read is not None
    assert read.party == (key_of(ada.chain.party) or b"")[:16]
    assert (read.member, read.public_key) == (1, ada.identity.wireguard_public)
    assert abs(read.expires_s - time.time() - ticket.LIFE_S) < 30


async def test_a_relay_that_was_there_first_is_granted_with_the_welcome(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, relay_secret=SECRET) as server,
        registered(server, offer(addresses=("192.0.2.7:7777",))),
        nodes("ada", "bob") as (ada, bob),
    ):
        await ada.found(server)
        await bob.join(await ada.invite(server))
        await bob.until(lambda: bool(granted(bob)))
        assert granted(bob)[0].ticket != granted(ada)[0].ticket


async def test_a_relay_with_another_secret_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanrage.control.enrolment._is_own", lambda *_: False)
    async with serving(tmp_path, relay_secret=SECRET) as server:
        for wrong in (b"w" * 32, b""):
            async with registered(server, offer(), wrong) as (registration, lines):
                line = await asyncio.wait_for(lines.get(), 10)
                assert "secret is not control's" in line
                assert "\n" not in line
                assert registration.relay == ""


async def test_a_relay_on_the_same_computer_needs_no_secret_and_is_where_control_is(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server, nodes("ada") as (ada,):
        await ada.found(server)
        async with registered(server, offer(7777), b""):
            await ada.until(lambda: bool(granted(ada)))
        assert granted(ada)[0].addresses == ("127.0.0.1:7777",)
        assert granted(ada)[0].relay.endswith(":7777")


@pytest.mark.parametrize("header", ["Origin", "X-Forwarded-For"])
async def test_what_a_browser_or_proxy_here_passes_on_is_not_of_this_computer(
    tmp_path: Path, header: str
) -> None:
    async with (
        serving(tmp_path) as server,
        connect(
            f"ws://{url_of(server)}",
            subprotocols=[Subprotocol(r.SUBPROTOCOL)],
            additional_headers={header: "http://192.0.2.1"},
            proxy=None,
        ) as socket,
    ):
        challenge = r.from_server(await socket.recv())
        assert isinstance(challenge, m.Challenge)
        one = offer()
        facts = r.Facts(
            addresses=("192.0.2.7:7777",),
            public_key=one.public_key,
            boot=one.boot,
            ticket_key=one.ticket_key,
        )
        sealed = r.seal(facts, b"", challenge.nonce, bytes(12))
        await socket.send(r.encode(r.Offer(version=r.PROTOCOL, sealed=sealed)))
        answer = r.from_server(await socket.recv())
        assert isinstance(answer, m.Refused)
        assert answer.code == "secret"
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def test_a_restarted_relay_is_told_at_once_and_one_that_is_gone_after_its_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "GRACE_S", 0.3)
    first, second = (offer(addresses=("192.0.2.7:7777",)) for _ in range(2))
    async with serving(tmp_path, relay_secret=SECRET) as server, nodes("ada") as (ada,):
        await ada.found(server)
        async with registered(server, first):
            await ada.until(lambda: bool(granted(ada)))
        async with registered(server, second):
            await ada.until(lambda: granted(ada)[0].boot == second.boot)
            told = [each for each in ada.notices if isinstance(each, control.Granted)]
            assert all(each.relays for each in told), "it was never said to be gone"
            await asyncio.sleep(0.4)  # nothing may happen in it
            assert granted(ada), "the grace of the first start is over and forgotten"
        await ada.until(lambda: not granted(ada))


async def test_tickets_are_renewed_before_they_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "RENEW_S", 0.05)
    async with serving(tmp_path, relay_secret=SECRET) as server, nodes("ada") as (ada,):
        await ada.found(server)
        async with registered(server, offer(addresses=("192.0.2.7:7777",))):
            await ada.until(
                lambda: sum(isinstance(each, control.Granted) for each in ada.notices) > 2
            )


async def test_control_picks_the_relay_with_the_least_sum_and_tells_both_ends(
    tmp_path: Path,
) -> None:
    near, far = "192.0.2.7:7777", "192.0.2.8:7777"
    async with serving(tmp_path, relay_secret=SECRET) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        await bob.join(await ada.invite(server))
        async with (
            registered(server, offer(addresses=(near,))),
            registered(server, offer(addresses=(far,))),
        ):
            await ada.until(lambda: len(granted(ada)) == 2)
            await bob.until(lambda: len(granted(bob)) == 2)
            ada.client.measured({near: 10, far: 60, "unknown:1": 1})
            bob.client.measured({near: 30, far: 5})
            await ada.until(lambda: picked(ada) == {bob.identity.peer: near})
            await bob.until(lambda: picked(bob) == {ada.identity.peer: near})
            # What was measured is told again after a reconnect.
            before = len(ada.notices)
            ada.client._session._link.abort()  # type: ignore[union-attr]
            await ada.heard(control.Disconnected, before)
            await ada.heard(control.Picked, before)
        await bob.client.close()
        await ada.until(lambda: picked(ada) == {})


async def test_who_is_kicked_gets_no_more_tickets(tmp_path: Path) -> None:
    async with serving(tmp_path, relay_secret=SECRET) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        await bob.join(await ada.invite(server))
        await ada.until(lambda: len(ada.chain.members) == 2)
        assert isinstance(await ada.kick(bob.identity.peer), Chain)
        await bob.heard(control.Disconnected)
        async with registered(server, offer(addresses=("192.0.2.7:7777",))):
            await ada.until(lambda: bool(granted(ada)))
        assert not granted(bob)


def test_the_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "relay.secret"
    made = relay_secret(path)
    assert isinstance(made, bytes)
    assert len(made) >= 32
    assert relay_secret(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["relay.secret"]
    path.write_bytes(b"short")
    assert isinstance(relay_secret(path), Refusal)
    assert isinstance(relay_secret(tmp_path / "no" / "folder"), Refusal)
