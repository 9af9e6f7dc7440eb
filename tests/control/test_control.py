"""Members and a real control server on loopback: the whole life of a party."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from lanrage.control import client as control
from lanrage.control.client import Joined
from lanrage.protocols.partylog import Chain
from lanrage.refusal import Refusal
from tests.control.room import Node, nodes, serving, url_of


async def test_a_party_is_founded_and_a_guest_joins_and_both_see_each_other(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        await bob.join(await ada.invite(server))
        await ada.until(lambda: len(ada.chain.members) == 2)
        both = tuple(sorted((ada.identity.peer, bob.identity.peer)))
        for node in (ada, bob):
            await node.until(partial(_sees, node, both))
        assert bob.chain.members == ada.chain.members
        assert bob.chain.members[bob.identity.peer].address == "10.66.0.2"


async def test_an_invite_raced_by_twenty_lets_exactly_one_in(tmp_path: Path) -> None:
    names = [f"guest{number}" for number in range(20)]
    async with serving(tmp_path) as server, nodes("ada", *names) as (ada, *guests):
        await ada.found(server)
        invite = await ada.invite(server)
        results = await asyncio.gather(*(control.join(invite, g.identity) for g in guests))
        codes = sorted(r.code if isinstance(r, Refusal) else "in" for r in results)
        assert codes == ["in"] + ["invite_used"] * 19
        await ada.until(lambda: len(ada.chain.members) == 2)
        assert len(ada.chain.members) == 2


async def test_twenty_at_once_all_get_in_with_an_invite_for_twenty(tmp_path: Path) -> None:
    names = ["guest"] * 20
    async with serving(tmp_path) as server, nodes("ada", *names) as (ada, *guests):
        await ada.found(server)
        invite = await ada.invite(server, uses=20)
        results = await asyncio.gather(*(control.join(invite, g.identity) for g in guests))
        assert all(isinstance(each, Joined) for each in results)
        await ada.until(lambda: len(ada.chain.members) == 21)
        assert len({member.name for member in ada.chain.members.values()}) == 21
        assert len({member.address for member in ada.chain.members.values()}) == 21


async def test_who_is_kicked_learns_it_and_stays_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        await bob.join(await ada.invite(server))
        await ada.until(lambda: len(ada.chain.members) == 2)
        assert isinstance(await ada.kick(bob.identity.peer), Chain)
        gone = await bob.heard(control.Disconnected)
        assert gone.code == "kicked"
        assert bob.chain.departed == {bob.identity.peer: "kicked"}
        again = await control.join(await ada.invite(server), bob.identity)
        assert isinstance(again, Refusal)
        assert again.code == "kicked"


def _sees(node: Node, online: tuple[str, ...]) -> bool:
    return node.online == online


async def test_a_browser_is_told_what_listens_here(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: " + url_of(server).encode() + b"\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.splitlines()[-1].startswith(b"LANrage control ")
