"""Control goes away and comes back; members go on as if nothing had been."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from events.log import Log
from lanrage.control import client as control
from lanrage.control import messages as m
from lanrage.control import session
from lanrage.control.run import run
from lanrage.control.server import ControlServer
from lanrage.protocols import partylog
from lanrage.protocols.partylog import Chain
from lanrage.refusal import Refusal
from tests.control.room import Node, nodes, now_ms, serving, url_of

ALONE = """
import asyncio, sys
from pathlib import Path
from lanrage.control.run import run
print(asyncio.run(run(sys.argv[1], Path(sys.argv[2]), json=True)))
"""


async def alone(listen: str, state: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ALONE, listen, str(state)), stdout=asyncio.subprocess.PIPE
    )


async def ready(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 20)
    facts = msgspec.json.decode(line)
    assert facts["ready"] is True
    assert facts["control"] == f"ws://127.0.0.1:{facts['port']}"
    return int(facts["port"])


async def test_members_resume_after_a_restart_and_get_what_they_missed(tmp_path: Path) -> None:
    async with nodes("ada", "bob") as (ada, bob):
        async with serving(tmp_path) as server:
            port = server.port
            await ada.found(server)
            await bob.join(await ada.invite(server))
            await bob.client.close()
            assert isinstance(await ada.rename("Ada L."), Chain)
        await ada.heard(control.Disconnected)
        before = len(ada.notices)
        async with serving(tmp_path, port):
            await ada.heard(control.Connected, before)
            bob.client.want(control.Target(bob.chain.party, (f"127.0.0.1:{port}",), bob.chain))
            await bob.until(lambda: bob.chain.length == ada.chain.length)
            assert bob.chain == ada.chain
            assert isinstance(await bob.rename("Bobby"), Chain)
            await ada.until(lambda: ada.chain.members[bob.identity.peer].name == "Bobby")


async def test_control_killed_with_kill_9_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    first = await alone("127.0.0.1:0", tmp_path)
    port = await ready(first)
    async with nodes("ada") as (ada,):
        await ada.found_at(f"127.0.0.1:{port}")
        assert isinstance(await ada.rename("Ada L."), Chain)
        os.kill(first.pid, signal.SIGKILL)
        await first.wait()
        await ada.heard(control.Disconnected)
        before = len(ada.notices)
        second = await alone(f"127.0.0.1:{port}", tmp_path)
        assert await ready(second) == port
        await ada.heard(control.Connected, before)
        assert not any(isinstance(each, control.Diverged) for each in ada.notices)
        assert isinstance(await ada.rename("Ada"), Chain)
    second.send_signal(signal.SIGTERM)
    assert await second.wait() == 0


async def test_an_append_while_control_is_away_waits_for_it(tmp_path: Path) -> None:
    async with nodes("ada") as (ada,):
        async with serving(tmp_path) as server:
            port = server.port
            await ada.found(server)
            await ada.heard(control.Connected)
        await ada.heard(control.Disconnected)
        renaming = asyncio.create_task(ada.rename("Ada L."))
        async with serving(tmp_path, port):
            assert isinstance(await renaming, Chain)


async def test_an_append_with_control_gone_is_refused_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "APPEND_S", 0.1)
    async with nodes("ada") as (ada,):
        async with serving(tmp_path) as server:
            await ada.found(server)
            await ada.heard(control.Connected)
        await ada.heard(control.Disconnected)
        refusal = await ada.rename("Ada L.")
        assert isinstance(refusal, Refusal)
        assert refusal.code == "control_timeout"


async def test_the_losers_of_a_race_build_again_on_the_new_head(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        await bob.join(await ada.invite(server))
        renames = [ada.rename(f"ada {n}") for n in range(5)]
        renames += [bob.rename(f"bob {n}") for n in range(5)]
        results = await asyncio.gather(*renames)
        assert all(isinstance(each, Chain) for each in results)
        await ada.until(lambda: ada.chain.length == 13)
        await bob.until(lambda: bob.chain.length == 13)
        assert ada.chain == bob.chain


async def test_a_server_stopped_in_the_middle_of_many_appends_stops_cleanly(
    tmp_path: Path,
) -> None:
    names = [f"guest{number}" for number in range(8)]
    async with nodes("ada", *names) as (ada, *guests):
        async with serving(tmp_path) as server:
            await ada.found(server)
            invite = await ada.invite(server, uses=8)
            joins = [asyncio.create_task(control.join(invite, each.identity)) for each in guests]
            await asyncio.wait(joins, return_when=asyncio.FIRST_COMPLETED)
            port = server.port
        results = await asyncio.gather(*joins)
        taken = sum(isinstance(each, control.Joined) for each in results)
        assert taken >= 1
        async with serving(tmp_path, port):
            await ada.until(lambda: len(ada.chain.members) >= 1 + taken)
            assert len(ada.chain.members) <= 9


async def test_a_rule_says_no_before_anything_is_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        await bob.join(await ada.invite(server))
        refusal = await bob.kick(ada.identity.peer)
        assert isinstance(refusal, Refusal)
        assert refusal.code == "not_admin"
        taken = await bob.rename("ADA")
        assert isinstance(taken, Refusal)
        assert taken.code == "name_taken"


async def test_an_offline_member_learns_from_the_record_itself_that_it_was_kicked(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        await bob.join(await ada.invite(server))
        await bob.client.close()
        await ada.until(lambda: len(ada.chain.members) == 2)
        assert isinstance(await ada.kick(bob.identity.peer), Chain)
        assert isinstance(await ada.rename("not for bob"), Chain)
        bob.client.want(control.Target(bob.chain.party, (url_of(server),), bob.chain))
        gone = await bob.heard(control.Disconnected)
        assert gone.code == "kicked"
        assert bob.chain.departed == {bob.identity.peer: "kicked"}
        assert bob.chain.length == ada.chain.length - 1


async def test_who_leaves_is_gone_for_the_others_and_may_come_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        used = await ada.invite(server)
        await bob.join(used)
        assert isinstance(await bob.leave(), Chain)
        bob.client.want(None)
        await ada.until(lambda: bob.identity.peer not in ada.chain.members)
        again = Node(identity=bob.identity)
        spent = await again.client.join(used)
        assert isinstance(spent, Refusal)
        assert spent.code == "invite_used"
        await again.join(await ada.invite(server))
        assert again.chain.members[bob.identity.peer].address == "10.66.0.2"
        await again.client.close()


async def test_a_member_whose_computer_froze_is_offline_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(m, "PING_S", 0.2)
    monkeypatch.setattr(m, "PONG_S", 0.2)
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        await bob.join(await ada.invite(server))
        await ada.until(lambda: len(ada.online) == 2)
        await bob.heard(control.Presence)
        frozen = bob.client._session
        assert frozen is not None
        assert frozen._link is not None
        frozen._link._socket.transport.pause_reading()
        await ada.until(lambda: ada.online == (ada.identity.peer,))


async def test_wanting_the_same_again_changes_nothing_and_wanting_none_disconnects(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        joined = await ada.found(server)
        await bob.join(await ada.invite(server))
        await ada.until(lambda: len(ada.online) == 2)
        for _ in range(3):
            ada.client.want(control.Target(joined.party, (joined.url,), ada.chain))
        assert isinstance(await ada.rename("Ada L."), Chain)
        assert sum(isinstance(each, control.Connected) for each in ada.notices) == 1
        ada.client.want(None)
        await bob.until(lambda: bob.online == (bob.identity.peer,))


async def test_signals_pass_between_members_of_one_party_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, nodes("ada", "bob", "eve") as (ada, bob, eve):
        await ada.found(server)
        await eve.found(server)
        await bob.join(await ada.invite(server))
        await bob.until(lambda: len(bob.online) == 2)
        await eve.heard(control.Connected)
        eve.client.signal(bob.identity.peer, b"from another party")
        assert isinstance(await eve.rename("Eve"), Chain)  # so the signal before it was read
        ada.client.signal(bob.identity.peer, b"from ada")
        arrived = await bob.heard(control.SignalArrived)
        assert arrived == control.SignalArrived(ada.identity.peer, b"from ada")


async def test_the_server_alone_says_what_it_cannot_do(tmp_path: Path) -> None:
    async with serving(tmp_path / "one") as server:
        taken = await run(f"127.0.0.1:{server.port}", tmp_path / "two")
        assert isinstance(taken, Refusal)
        assert taken.code == "port_taken"
    for listen in ("127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:65535"):
        refusal = await run(listen, tmp_path / "two")
        assert isinstance(refusal, Refusal)
        assert refusal.code == "bad_listen"
    (tmp_path / "file").write_text("")
    unusable = await run("127.0.0.1:0", tmp_path / "file")
    assert isinstance(unusable, Refusal)
    assert unusable.code == "state_unusable"
    nowhere = await run("192.0.2.1:0", tmp_path / "two")
    assert isinstance(nowhere, Refusal)
    assert nowhere.code == "cannot_listen"


async def test_only_who_may_found_a_party_here_does(tmp_path: Path) -> None:
    async with nodes("ada", "eve") as (ada, eve):
        creators = frozenset({ada.identity.peer})
        async with serving(tmp_path, creators=creators) as server:
            await ada.found(server)
            record = partylog.genesis(
                eve.identity.signer,
                name="Eve's",
                founder_name="eve",
                wireguard=eve.identity.wireguard_public,
                nonce=bytes(16),
                at_ms=now_ms(),
            )
            refusal = await control.create(url_of(server), eve.identity, record)
            assert isinstance(refusal, Refusal)
            assert refusal.code == "not_creator"


async def test_a_port_that_is_half_taken_is_refused_whole(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        log = await Log.open(tmp_path / "second.sqlite", session="t" * 16, lock="second.lock")
        assert isinstance(log, Log)
        # TCP on the neighbour is free, but its UDP port is our alternate one.
        refusal = await ControlServer.start("127.0.0.1", server.port + 1, log)
        await log.close()
        assert isinstance(refusal, Refusal)
        assert refusal.code == "port_taken"


async def test_who_is_online_is_told_again_after_every_change_of_the_chain(tmp_path: Path) -> None:
    """Somebody may leave and come back before a slow reader has heard of either."""
    async with serving(tmp_path) as server, nodes("ada", "bob") as (ada, bob):
        await ada.found(server)
        await bob.join(await ada.invite(server))
        await ada.until(lambda: bob.identity.peer in ada.online)
        ada.notices.clear()
        assert isinstance(await bob.rename("bobby"), Chain)
        await ada.until(lambda: bob.identity.peer in ada.online)
