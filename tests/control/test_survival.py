"""Control loses its data, its connections, or the race; the members put it right."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lanrage.control import client as control
from lanrage.control import limits, session
from lanrage.control import messages as m
from lanrage.control.stored import records_after
from lanrage.identity import fresh
from lanrage.protocols import partylog
from lanrage.protocols.partylog import Chain
from tests.control.room import Node, nodes, now_ms, serving, url_of


def chain_of(records: Sequence[bytes]) -> Chain:
    chain = partylog.extend(partylog.EMPTY, records)
    assert isinstance(chain, Chain)
    return chain


def keeping(kept: Sequence[bytes]) -> Callable[[int], Awaitable[Sequence[bytes]]]:
    async def records(after: int) -> Sequence[bytes]:
        return kept[after:]

    return records


def records_of(node: Node, before: Sequence[bytes]) -> list[bytes]:
    """All that this member has: what it joined with and what came since."""
    records = list(before)
    for each in node.notices:
        if isinstance(each, control.Records):
            records[each.after :] = each.records
    return records


async def story(node: Node, other: Node, folder: Path) -> tuple[int, list[bytes]]:
    """Both become members at a control server that ends; its port, and the whole chain."""
    async with serving(folder) as server:
        joined = await node.found(server)
        await other.join(await node.invite(server))
        assert isinstance(await other.rename("Bobby"), Chain)
        await node.until(lambda: node.chain.length == 4)
        await node.client.close()
        await other.client.close()
        return server.port, records_of(node, joined.records)


def follow(node: Node, kept: Sequence[bytes], *urls: str) -> None:
    node.client.want(control.Target(node.chain.party, urls, node.chain, keeping(kept)))


@pytest.mark.parametrize("who", ["ada", "bob"])
async def test_a_server_that_lost_its_file_gets_the_party_back_from_any_member(
    tmp_path: Path, who: str
) -> None:
    async with nodes("ada", "bob") as (ada, bob):
        _, kept = await story(ada, bob, tmp_path / "first")
        first, second = (ada, bob) if who == "ada" else (bob, ada)
        creators = frozenset({ada.identity.peer})
        async with serving(tmp_path / "second", creators=creators) as server:
            first.notices.clear()
            follow(first, kept, url_of(server))
            await first.until(lambda: first.identity.peer in first.online)
            follow(second, kept, url_of(server))
            await first.until(lambda: len(first.online) == 2)
            assert isinstance(await second.rename("again"), Chain)
            await first.until(lambda: first.chain.length == 5)
            assert await records_after(server._parties._log, first.chain.party, 0) == records_of(
                first, kept
            )
    assert not any(isinstance(each, control.Diverged) for each in (*ada.notices, *bob.notices))


async def test_an_embedded_server_takes_back_only_parties_of_its_own_device(tmp_path: Path) -> None:
    async with nodes("ada", "bob") as (ada, bob):
        _, kept = await story(ada, bob, tmp_path / "first")
        creators = frozenset({fresh("eve").peer})
        async with serving(tmp_path / "second", creators=creators) as server:
            before = len(bob.notices)
            follow(bob, kept, url_of(server))
            gone = await bob.heard(control.Disconnected, before)
            assert gone.code == "not_creator"


async def test_a_server_with_an_older_file_is_brought_up_to_date(tmp_path: Path) -> None:
    async with nodes("ada", "bob") as (ada, bob):
        _, kept = await story(ada, bob, tmp_path / "first")
        async with serving(tmp_path / "second") as server:
            await control.create(url_of(server), ada.identity, kept[0])
            # Bob is no member in its file yet.
            follow(bob, kept, url_of(server))
            before = len(bob.notices)
            await bob.until(
                lambda: any(
                    isinstance(each, control.Presence) and bob.identity.peer in each.online
                    for each in bob.notices[before:]
                )
            )
            party = server._parties.get(ada.chain.party)
            assert party is not None
            assert party.records == kept


async def test_a_long_and_old_history_is_given_back_whole(tmp_path: Path) -> None:
    """In pages; and invites that have expired since do not make their joins wrong."""
    then = 1_600_000_000_000
    ada, bob = fresh("ada"), fresh("bob")
    seed = bytes(32)
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    records = [
        partylog.genesis(
            ada.signer,
            name="Friday",
            founder_name="ada",
            wireguard=ada.wireguard_public,
            nonce=bytes(16),
            at_ms=then,
        )
    ]
    chain = chain_of(records)

    def add(record: bytes) -> Chain:
        records.append(record)
        after = partylog.verify(chain, record)
        assert isinstance(after, Chain)
        return after

    chain = add(
        partylog.issue_invite(
            ada.signer, chain, invite_public=public, uses=1, expires_at=then + 9, at_ms=then
        )
    )
    for number in range(3 * m.PAGE):
        chain = add(partylog.rename_party(ada.signer, chain, name=str(number), at_ms=then))
    chain = add(
        partylog.join(
            bob.signer, seed, chain, name="bob", wireguard=bob.wireguard_public, at_ms=then
        )
    )
    node = Node(identity=bob)
    node.chain = chain
    async with serving(tmp_path) as server:
        follow(node, records, url_of(server))
        await node.until(lambda: bob.peer in node.online)
        party = server._parties.get(chain.party)
        assert party is not None
        assert party.chain == chain
        await node.client.close()


async def test_a_longer_chain_that_contradicts_the_servers_is_not_given_to_it(
    tmp_path: Path,
) -> None:
    async with nodes("ada") as (ada,), serving(tmp_path) as server:
        joined = await ada.found(server)
        genesis = ada.chain
        assert isinstance(await ada.rename("one"), Chain)
        await ada.client.close()
        fork: list[bytes] = [*joined.records]
        chain = genesis
        for name in ("two", "three"):
            fork.append(
                partylog.rename_member(ada.identity.signer, chain, name=name, at_ms=now_ms())
            )
            grown = partylog.verify(chain, fork[-1])
            assert isinstance(grown, Chain)
            chain = grown
        ada.chain = chain
        before = len(ada.notices)
        follow(ada, fork, url_of(server))
        told = await ada.heard(control.Diverged, before)
        assert "another history" in told.reason
        party = server._parties.get(chain.party)
        assert party is not None
        assert party.chain.length == 2


async def test_a_record_that_came_another_way_is_given_to_control(tmp_path: Path) -> None:
    async with nodes("ada", "bob") as (ada, bob), serving(tmp_path) as server:
        await ada.found(server)
        await bob.join(await ada.invite(server))
        await ada.until(lambda: len(ada.online) == 2)
        record = partylog.rename_party(
            ada.identity.signer, ada.chain, name="Saturday", at_ms=now_ms()
        )
        ada.client.adopt(ada.chain.length, [record])
        await bob.until(lambda: bob.chain.name == "Saturday")
        assert not any(isinstance(each, control.Disconnected) for each in ada.notices)


async def test_who_claims_a_longer_chain_is_shown_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GUEST_S", 0.2)
    async with nodes("ada", "eve") as (ada, eve), serving(tmp_path) as server:
        joined = await ada.found(server)
        boast = Chain(party=joined.party, length=9, head="ab" * 32)
        eve.client.want(control.Target(joined.party, (url_of(server),), boast))
        await eve.heard(control.Disconnected)
        assert not any(isinstance(each, control.Records | control.Presence) for each in eve.notices)
        assert eve.identity.peer not in ada.online


async def test_in_a_hurry_a_dead_connection_is_dropped_and_dialled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "HURRY_S", 0.2)
    async with nodes("ada") as (ada,), serving(tmp_path) as server:
        await ada.found(server)
        await ada.until(lambda: ada.online != ())
        ada.client.hurry()
        assert isinstance(await ada.rename("lives"), Chain)
        assert server._server is not None
        swallowed = list(server._server.connections)
        for each in swallowed:
            each.transport.pause_reading()
        before = len(ada.notices)
        loop = asyncio.get_running_loop()
        began = loop.time()
        ada.client.hurry()
        await ada.heard(control.Connected, before)
        assert loop.time() - began < 2
        for each in swallowed:
            each.transport.resume_reading()


async def test_in_a_hurry_nobody_waits_for_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lanrage.control.backoff.FIRST_S", 60.0)
    async with nodes("ada") as (ada,):
        async with serving(tmp_path) as server:
            port = server.port
            await ada.found(server)
            await ada.heard(control.Connected)
        await ada.heard(control.Disconnected)
        async with serving(tmp_path, port):
            before = len(ada.notices)
            await asyncio.sleep(0)
            ada.client.hurry()
            await ada.heard(control.Connected, before)
