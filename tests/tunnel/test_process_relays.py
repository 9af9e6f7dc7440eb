"""Tunnel processes behind routers that do not let them meet: through a relay, through a friend."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from events.peer import Candidate
from lanrage.lab.lab import Lab
from lanrage.lab.switch import Line
from lanrage.lab.topology import Home, Kind, Router, Server, Topology
from lanrage.tunnel.messages import (
    AnyOrder,
    Configure,
    Configured,
    Counters,
    Established,
    Opened,
    PutCandidates,
    PutPeer,
    PutPolicy,
    PutRelays,
    RelayBound,
    Switched,
)
from tests.tunnel.pair import Side, ping, wait_until
from tests.tunnel.real_relay import RealRelay
from tests.tunnel.test_process import End, started

pytestmark = pytest.mark.root

NAMES = ("alice", "bob", "carol")
PORT = 51820


@dataclass
class Member:
    """A tunnel process on a computer of its own home; its number is its place in NAMES."""

    name: str
    number: int
    side: Side
    end: End
    public: str  # its router's address

    def orders(self, *orders: AnyOrder) -> None:
        for order in orders:
            self.end.link.send(order)

    def knows(self, other: Member, *more: str) -> None:
        self.orders(
            PutPeer(
                peer=other.name,
                public_key=other.side.public,
                allowed=(f"{other.side.inside}/32",),
                keepalive_s=0,
                number=other.number,
            )
        )
        self.candidates(other)

    def candidates(self, other: Member, *more: str) -> None:
        addresses = (f"{other.public}:{PORT}", *more)
        candidates = tuple(Candidate("mapped", address) for address in addresses)
        self.orders(PutCandidates(peer=other.name, candidates=candidates))


class Town:
    def __init__(self, lab: Lab, relay: RealRelay, members: list[Member]) -> None:
        self.lab = lab
        self.relay = relay
        self.members = members

    def offer_relay(self) -> None:
        for member in self.members:
            grant = self.relay.grant(member.number, member.side.public)
            member.orders(PutRelays(relays=(grant,)))

    def introduce(self) -> None:
        for one in self.members:
            for other in self.members:
                if one is not other:
                    one.knows(other)


def homes(kind: Kind, count: int) -> Topology:
    line = Line(delay_ms=5)
    return Topology(
        homes=tuple(
            Home(name=f"{name}home", computers=(name,), router=Router(kind=kind), line=line)
            for name in NAMES[:count]
        ),
        servers=(Server(name="relay", line=line),),
    )


async def settle_in(lab: Lab, count: int) -> list[Member]:
    members: list[Member] = []
    for number, name in enumerate(NAMES[:count], 1):
        computer = lab.computer(name)
        side = Side(
            computer.namespace,
            f"lrr{name}",
            computer.address,
            f"10.9.0.{number}",
            f"fd99::{number}",
        )
        members.append(
            Member(name, number, side, await started(side), lab.computer(f"{name}home").address)
        )
        members[-1].orders(
            Configure(
                address=f"{side.inside}/24", address6=f"{side.inside6}/64", mtu=1420, number=number
            )
        )
    for member in members:
        await member.end.hears(Configured)
    return members


async def make_town(kind: Kind, count: int) -> AsyncIterator[Town]:
    with Lab(homes(kind, count)) as lab:
        server = lab.computer("relay")
        relay = RealRelay(server)
        members = await settle_in(lab, count)
        yield Town(lab, relay, members)
        for member in members:
            await member.end.close()
        relay.close()


@pytest.fixture
async def hard() -> AsyncIterator[Town]:
    """Two members behind symmetric routers."""
    async for town in make_town("symmetric", 2):
        yield town


@pytest.fixture
async def two() -> AsyncIterator[Town]:
    """Two members whose routers let them meet."""
    async for town in make_town("port-restricted", 2):
        yield town


@pytest.fixture
async def deaf() -> AsyncIterator[Town]:
    """Two members whose networks let no UDP through."""
    async for town in make_town("udp-blocked", 2):
        yield town


@pytest.fixture
async def three() -> AsyncIterator[Town]:
    """Three members whose routers would let them meet, if nothing were between them."""
    async for town in make_town("port-restricted", 3):
        yield town


async def test_two_behind_symmetric_routers_talk_through_the_relay_until_one_becomes_friendly(
    hard: Town,
) -> None:
    alice, bob = hard.members
    hard.offer_relay()
    for member in hard.members:
        bound = await member.end.hears(RelayBound)
        assert (bound.relay, bound.carrier) == (hard.relay.name, "relay")
        assert bound.address.startswith(f"{member.public}:")
        assert 15_000 <= bound.rtt_us <= 60_000
    hard.introduce()
    opened = await alice.end.hears(Opened)
    assert (opened.path.kind, opened.path.relay) == ("relay", hard.relay.name)
    await bob.end.hears(Opened)
    pings = asyncio.create_task(
        asyncio.to_thread(ping, alice.side, bob.side.inside, "-c", "150", "-i", "0.02")
    )
    await bob.end.hears(Established)
    await asyncio.to_thread(hard.relay.forwards, 1)

    hard.lab.forward("bobhome", str(PORT), "bob")
    alice.candidates(bob, "203.0.113.99:9")
    for member in hard.members:
        switched = await member.end.hears(Switched)
        assert (switched.old.kind, switched.new.kind) == ("relay", "direct")
    assert await pings == (150, 150)


async def test_a_friend_passes_on_between_two_that_cannot_reach_each_other(three: Town) -> None:
    alice, bob, carol = three.members
    three.lab.block("alicehome", "bobhome")
    three.introduce()
    for member in (alice, bob):
        while True:
            found = [each for each in member.end.said if isinstance(each, Opened)]
            if len(found) == 2:
                break
            await member.end.hears(Opened, len(found) + 1)
    for member, other in ((alice, bob), (bob, alice)):
        (path,) = (
            each.path
            for each in member.end.said
            if isinstance(each, Opened) and each.peer == other.name
        )
        assert (path.kind, path.relay) == ("relay", "carol")
    sent = await asyncio.to_thread(ping, alice.side, bob.side.inside, "-c", "20", "-i", "0.02")
    assert sent == (20, 20)

    carol.orders(PutPolicy(volunteer=False))
    sent = await asyncio.to_thread(ping, alice.side, bob.side.inside, "-c", "3", "-W", "0.2")
    assert sent[1] == 0
    counted = await carol.end.hears(Counters)
    at = 1
    while not counted.drops.get("friend_unwilling"):
        at += 1
        counted = await carol.end.hears(Counters, at)


async def test_when_a_direct_path_dies_the_relay_carries_on_within_a_third_of_a_second(
    two: Town,
) -> None:
    alice, bob = two.members
    two.offer_relay()
    for member in two.members:
        await member.end.hears(RelayBound)
    two.introduce()
    assert (await alice.end.hears(Opened)).path.kind == "direct"
    await bob.end.hears(Opened)
    pings = asyncio.create_task(
        asyncio.to_thread(ping, alice.side, bob.side.inside, "-c", "150", "-i", "0.02")
    )
    await alice.end.hears(Counters, 2)  # there is traffic
    two.lab.block("alicehome", "bobhome")
    assert (await alice.end.hears(Switched)).new.kind == "relay"
    sent, received = await pings
    assert sent == 150
    assert received >= 135
    await asyncio.to_thread(two.relay.forwards, 50)


async def test_where_only_tcp_gets_out_a_relay_is_reached_over_tcp(deaf: Town) -> None:
    alice, bob = deaf.members
    await asyncio.to_thread(deaf.relay.open_front)
    deaf.offer_relay()
    deaf.introduce()
    for member in deaf.members:
        bound = await member.end.hears(RelayBound)
        assert bound.carrier == "tcp"
        assert (await member.end.hears(Opened)).path.kind == "tcp"
    sent = await asyncio.to_thread(ping, alice.side, bob.side.inside, "-c", "20", "-i", "0.05")
    assert sent == (20, 20)


async def test_after_a_restart_of_the_relay_members_are_bound_again_within_two_seconds(
    hard: Town,
) -> None:
    alice, bob = hard.members
    hard.offer_relay()
    hard.introduce()
    await alice.end.hears(Opened)
    await bob.end.hears(Opened)
    await asyncio.to_thread(ping, alice.side, bob.side.inside, "-c", "2", "-i", "0.05")
    await asyncio.to_thread(hard.relay.restart)
    sent, received = await asyncio.to_thread(
        ping, alice.side, bob.side.inside, "-c", "60", "-i", "0.02"
    )
    assert sent == 60
    assert received >= 50, "what is relayed at all tells at once that the relay knows nobody"


async def test_a_standard_wireguard_behind_a_relay_is_reached_where_it_speaks(hard: Town) -> None:
    alice, bob = hard.members
    hard.offer_relay()
    await alice.end.hears(RelayBound)
    phone = replace(bob.side, interface="lrrphone", inside="10.9.0.9", private=bytes([5]) * 32)
    order = PutPeer(
        peer="phone",
        public_key=phone.public,
        allowed=(f"{phone.inside}/32",),
        keepalive_s=0,
        standard=True,
    )
    alice.orders(order)
    start_phone(hard, phone, alice)
    sent = await asyncio.to_thread(ping, phone, alice.side.inside, "-c", "5", "-i", "0.1")
    assert sent == (5, 5)
    opened = await alice.end.hears(Opened)
    assert (opened.peer, opened.path.kind, opened.path.relay) == ("phone", "relay", hard.relay.name)
    sent = await asyncio.to_thread(ping, alice.side, phone.inside, "-c", "5", "-i", "0.1")
    assert sent == (5, 5)


def start_phone(town: Town, phone: Side, to: Member) -> None:
    """Debian's wireguard-go, told that the relay is its peer."""
    env = {"LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"}
    town.lab.computer("bob").popen(["wireguard-go", "-f", phone.interface], env=env)
    wait_until(Path(f"/var/run/wireguard/{phone.interface}.sock").exists)
    config = town.lab.folder / "phone.conf"
    private, public = (base64.b64encode(key).decode() for key in (phone.private, to.side.public))
    config.write_text(
        f"[Interface]\nPrivateKey = {private}\n[Peer]\nPublicKey = {public}\n"
        f"AllowedIPs = {to.side.inside}/32\nEndpoint = {town.relay.name}\n"
    )
    phone.run("wg", "setconf", phone.interface, str(config))
    phone.run("ip", "addr", "add", f"{phone.inside}/24", "dev", phone.interface)
    phone.run("ip", "link", "set", phone.interface, "mtu", "1420", "up")
    phone.run("ip", "route", "replace", f"{to.side.inside}/32", "dev", phone.interface)
