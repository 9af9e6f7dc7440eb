"""The tunnel process as a node runs it: two of them, on the two ends of a cable."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from events.peer import Candidate
from lanrage.tunnel import link
from lanrage.tunnel.framing import frame
from lanrage.tunnel.link import Link
from lanrage.tunnel.messages import (
    AnyNotice,
    Configure,
    Configured,
    Counters,
    Deconfigure,
    DropPeer,
    Established,
    Expired,
    Failed,
    Opened,
    PutCandidates,
    PutPeer,
    PutServers,
    Start,
    Started,
    Stop,
)
from tests.tunnel.pair import ROOT, WITHIN_S, Pair, Side, ping, wait_until

pytestmark = pytest.mark.root

RSS_KB_MAX = 40 * 1024  # half of it shared libraries; TLS is loaded ahead (see tcp.load)
CAP_NET_ADMIN_ONLY = 1 << 12
NoticeT = TypeVar("NoticeT")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with Pair(tmp_path) as made:
        yield made


class End:
    """A link and everything it said."""

    def __init__(self, started: Link) -> None:
        self.link = started
        self.said: list[AnyNotice] = []
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for notice in self.link.notices():
            self.said.append(notice)
            self._more.set()

    async def hears(self, kind: type[NoticeT], count: int = 1) -> NoticeT:
        """The `count`th notice of this kind."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                found = [notice for notice in self.said if isinstance(notice, kind)]
                if len(found) >= count:
                    return found[count - 1]
                self._more.clear()
                await self._more.wait()

    async def close(self) -> None:
        await self.link.stop()
        await self._task


async def started(side: Side) -> End:
    with side.entered():
        end = End(await link.start())
    end.link.send(Start(private_key=side.private, interface=side.interface, port=side.port))
    return end


@pytest.fixture
async def ends(pair: Pair) -> AsyncIterator[tuple[End, End]]:
    both = (await started(pair.a), await started(pair.b))
    yield both
    for end in both:
        await end.close()


def configure(side: Side) -> Configure:
    return Configure(address=f"{side.inside}/24", address6=f"{side.inside6}/64", mtu=1420)


def introduce(end: End, name: str, other: Side, port: int) -> None:
    end.link.send(
        PutPeer(
            peer=name,
            public_key=other.public,
            allowed=(f"{other.inside}/32", f"{other.inside6}/128"),
            keepalive_s=0,
        )
    )
    candidates = (Candidate("host", f"{other.outside}:{port}"), Candidate("host", "192.0.2.99:9"))
    end.link.send(PutCandidates(peer=name, candidates=candidates))


async def test_two_members_meet_and_carry_packets(pair: Pair, ends: tuple[End, End]) -> None:
    for end, side in zip(ends, (pair.a, pair.b), strict=True):
        said = await end.hears(Started)
        assert (said.interface, said.port) == (side.interface, side.port)
        end.link.send(configure(side))
    introduce(ends[0], "bob", pair.b, pair.b.port)
    introduce(ends[1], "alice", pair.a, pair.a.port)
    for end, side, name in ((ends[0], pair.a, "bob"), (ends[1], pair.b, "alice")):
        assert (await end.hears(Configured)).address == f"{side.inside}/24"
        assert (await end.hears(Opened)).peer == name
    assert await asyncio.to_thread(ping, pair.a, pair.b.inside, "-c", "5", "-i", "0.05") == (5, 5)
    assert await asyncio.to_thread(ping, pair.b, pair.a.inside6, "-c", "5", "-i", "0.05") == (5, 5)
    for end, name in ((ends[0], "bob"), (ends[1], "alice")):
        assert (await end.hears(Established)).peer == name
        at = 1
        while not (counters := await end.hears(Counters, at)).peers:
            at += 1
        assert [one.peer for one in counters.peers] == [name]
        assert all(count > 0 for count in counters.drops.values())

    ends[0].link.send(DropPeer(peer="bob"))
    assert (await ends[0].hears(Opened)).peer == "bob"
    assert await asyncio.to_thread(ping, pair.a, pair.b.inside, "-c", "1", "-W", "0.3") == (1, 0)
    introduce(ends[0], "bob", pair.b, pair.b.port)
    await ends[0].hears(Opened, 2)
    assert await asyncio.to_thread(ping, pair.a, pair.b.inside, "-c", "5", "-i", "0.05") == (5, 5)

    ends[0].link.send(Deconfigure())
    ends[0].link.send(configure(pair.a))
    await ends[0].hears(Configured, 2)
    assert pair.a.run("ip", "-4", "-br", "addr", "show", pair.a.interface).split()[2] == (
        f"{pair.a.inside}/24"
    )


async def test_orders_may_be_repeated(pair: Pair, ends: tuple[End, End]) -> None:
    end, side = ends[0], pair.a
    for count in (1, 2):
        end.link.send(Start(private_key=side.private, interface=side.interface, port=side.port))
        assert (await end.hears(Started, count + 1)).port == side.port
        end.link.send(configure(side))
        await end.hears(Configured, count)
        end.link.send(PutServers(servers=()))
        introduce(end, "bob", pair.b, pair.b.port)
    end.link.send(Deconfigure())
    end.link.send(Deconfigure())
    end.link.send(DropPeer(peer="nobody"))
    end.link.send(PutCandidates(peer="nobody", candidates=()))
    end.link.send(configure(side))
    await end.hears(Configured, 3)


async def test_a_bad_address_is_refused_and_the_process_lives(
    pair: Pair, ends: tuple[End, End]
) -> None:
    ends[0].link.send(Configure(address="hello", address6="", mtu=1420))
    assert (await ends[0].hears(Failed)).refusal.code == "address"
    ends[0].link.send(Configure(address="10.9.0.1/24", address6="", mtu=99_999))
    assert (await ends[0].hears(Failed, 2)).refusal.code == "mtu"
    ends[0].link.send(configure(pair.a))
    await ends[0].hears(Configured)


async def test_a_key_that_nobody_can_have_is_reported(ends: tuple[End, End]) -> None:
    ends[0].link.send(
        PutPeer(peer="eve", public_key=bytes(32), allowed=("10.9.0.9/32",), keepalive_s=0)
    )
    assert (await ends[0].hears(Expired)).peer == "eve"


async def test_nobody_takes_another_members_key(pair: Pair, ends: tuple[End, End]) -> None:
    introduce(ends[0], "bob", pair.b, pair.b.port)
    introduce(ends[0], "eve", pair.b, pair.b.port)
    assert (await ends[0].hears(Expired)).peer == "eve"


async def test_after_the_start_it_is_nobody_with_one_capability(ends: tuple[End, End]) -> None:
    await ends[0].hears(Started)
    status = _status(ends[0].link.pid)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == CAP_NET_ADMIN_ONLY
    assert int(status["CapBnd"], 16) == int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
    assert status["Groups"] == ""
    assert status["NoNewPrivs"] == "1"


async def test_it_is_small_and_sleeps_when_there_is_nothing_to_do(
    pair: Pair, ends: tuple[End, End]
) -> None:
    ends[0].link.send(configure(pair.a))
    await ends[0].hears(Configured)
    assert int(_status(ends[0].link.pid)["VmRSS"].split()[0]) <= RSS_KB_MAX
    before = _status(ends[0].link.pid)["voluntary_ctxt_switches"]
    await asyncio.sleep(1.5)  # being idle is what is measured
    after = _status(ends[0].link.pid)["voluntary_ctxt_switches"]
    assert int(after) - int(before) <= 3


async def test_broadcasts_and_strangers_are_counted(pair: Pair, ends: tuple[End, End]) -> None:
    ends[0].link.send(configure(pair.a))
    await ends[0].hears(Configured)
    with pair.a.entered():
        game = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with game:
        game.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        game.bind((pair.a.inside, 0))
        for _ in range(100):
            game.sendto(b"anybody?", ("10.9.0.255", 6112))
            game.sendto(b"anybody?", ("10.9.0.77", 6112))
            game.sendto(b"anybody?", ("239.9.9.9", 6112))
            counters = [notice for notice in ends[0].said if isinstance(notice, Counters)]
            wanted = {"broadcast", "multicast", "no_member"}
            if counters and wanted <= set(counters[-1].drops):
                return
            await asyncio.sleep(0.1)  # counters come once a second
    raise AssertionError(ends[0].said)


async def test_who_asks_for_nobody_is_told_at_once(pair: Pair, ends: tuple[End, End]) -> None:
    ends[0].link.send(configure(pair.a))
    await ends[0].hears(Configured)
    for family, host in ((socket.AF_INET, "10.9.0.77"), (socket.AF_INET6, "fd99::77")):
        with pair.a.entered():
            game = socket.socket(family, socket.SOCK_STREAM)
        with game:
            game.settimeout(WITHIN_S)
            with pytest.raises(OSError, match="No route to host"):
                await asyncio.to_thread(game.connect, (host, 6112))


async def test_when_somebody_deletes_the_interface_it_ends(
    pair: Pair, ends: tuple[End, End]
) -> None:
    ends[0].link.send(configure(pair.a))
    await ends[0].hears(Configured)
    pair.a.run("ip", "link", "del", pair.a.interface)
    async with asyncio.timeout(WITHIN_S):
        assert await ends[0].link.closed == 1


async def test_a_name_or_port_in_use_ends_it_with_the_reason(pair: Pair) -> None:
    pair.a.run("ip", "link", "add", pair.a.interface, "type", "veth", "peer", "name", "x0")
    end = await started(pair.a)
    assert (await end.hears(Failed)).refusal.code == "interface_taken"
    assert await end.link.closed == 1
    pair.a.run("ip", "link", "del", "x0")
    with pair.a.entered():
        squatter = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with squatter:
        squatter.bind(("", pair.a.port))
        end = await started(pair.a)
        assert (await end.hears(Failed)).refusal.code == "port_taken"
        assert await end.link.closed == 1
    assert pair.a.interface not in pair.a.interfaces()


async def test_stop_ends_it_with_0_and_no_interface(pair: Pair) -> None:
    end = await started(pair.a)
    await end.hears(Started)
    assert await end.link.stop() == 0
    assert pair.a.interface not in pair.a.interfaces()
    end.link.send(Stop())  # nobody hears it; nothing happens


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_however_it_is_ended_no_interface_stays(pair: Pair, number: signal.Signals) -> None:
    end = await started(pair.a)
    await end.hears(Started)
    os.kill(end.link.pid, number)
    async with asyncio.timeout(WITHIN_S):
        assert await end.link.closed == (0 if number == signal.SIGTERM else -number)
    wait_until(lambda: pair.a.interface not in pair.a.interfaces())


async def test_ctrl_c_on_the_terminal_is_the_nodes_to_answer(ends: tuple[End, End]) -> None:
    await ends[0].hears(Started)
    os.kill(ends[0].link.pid, signal.SIGINT)
    ends[0].link.send(Configure(address="10.9.0.1/24", address6="", mtu=1420))
    await ends[0].hears(Configured)


def _direct(pair: Pair) -> tuple[subprocess.Popen[str], socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = pair.start(
            pair.a, sys.executable, "-m", "lanrage.tunnel", str(theirs.fileno()),
            pass_fds=[theirs.fileno()],
        )  # fmt: skip
    ours.settimeout(WITHIN_S)
    return process, ours


def test_when_the_node_is_gone_so_is_the_interface(pair: Pair) -> None:
    process, node = _direct(pair)
    order = Start(private_key=pair.a.private, interface=pair.a.interface, port=0)
    node.sendall(frame(order))
    assert node.recv(4096)
    assert pair.a.interface in pair.a.interfaces()
    node.close()
    assert process.wait(WITHIN_S) == 0
    assert pair.a.interface not in pair.a.interfaces()


@pytest.mark.parametrize(
    "garbage", [b"\xff" * 100, b"\0\0\0\x01\x80", frame(Configure(address="", address6="", mtu=1))]
)
def test_garbage_from_the_node_ends_it_with_one_line(pair: Pair, garbage: bytes) -> None:
    process, node = _direct(pair)
    with node:
        node.sendall(garbage)
        assert process.wait(WITHIN_S) == 1
        assert process.communicate()[1].count("\n") == 1


@pytest.mark.parametrize("argument", ["", "0", "77", "x"])
def test_started_by_hand_it_says_what_it_is(argument: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lanrage.tunnel", *argument.split()],
        capture_output=True, text=True, timeout=WITHIN_S, check=False, cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
