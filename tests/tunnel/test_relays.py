"""Relays over UDP and TCP: a real socket towards small relays, on a clock that the test moves."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from lanrage.protocols import endpoint
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.protocols.relay import wire
from lanrage.tunnel import udp
from lanrage.tunnel.messages import RelayBound, RelayGrant, RelayUnbound
from lanrage.tunnel.outside import Outside
from lanrage.tunnel.paths import BoundRelay
from lanrage.tunnel.relays import (
    TCP_AFTER_NS,
    TCP_CLOSE_NS,
    TCP_NEXT_NS,
    Changed,
    Deliver,
    Notice,
    Relays,
)
from lanrage.tunnel.udp import UdpPort
from tests.protocols.relay.answering import MEMBER_SEED, RELAY_SEED, TICKET, Relay, public

MS = 1_000_000
S = 1000 * MS
DATA = b"\x04\0\0\0" + bytes(60)
VIA = wire.number(1, 2)


class Doorway:
    """A relay with a UDP socket, that hears or does not."""

    def __init__(self) -> None:
        self.relay = Relay()
        self.hears = True
        self.data: list[bytes] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.address: Address = self.socket.getsockname()
        self.name = endpoint.text(self.address)

    def answer(self, datagram: bytes, now_ns: int) -> bytes | None:
        if wire.is_control(datagram):
            return self.relay.answer(datagram, self.address, now_ns)
        self.data.append(datagram)
        return None

    def answer_all(self, now_ns: int) -> None:
        while True:
            try:
                datagram, source = self.socket.recvfrom(2048)
            except BlockingIOError:
                return
            answer = self.answer(datagram, now_ns) if self.hears else None
            if answer is not None:
                self.socket.sendto(answer, source)

    def grant(self, ticket: bytes = TICKET, tcp: bool = True) -> RelayGrant:
        return RelayGrant(
            relay=self.name,
            addresses=(self.name,),
            region="eu",
            tcp=f"wss://{self.name}/" if tcp else "",
            pin="",
            public_key=public(RELAY_SEED),
            boot=self.relay.boot,
            ticket=ticket,
        )


@dataclass
class Link:
    """An open WebSocket to a doorway."""

    grant: RelayGrant
    deliver: Deliver
    changed: Changed
    doorway: Doorway
    sent: list[bytes] = field(default_factory=list)
    is_closed: bool = False

    def send(self, datagrams: Sequence[bytes], now_ns: int, *, urgent: bool) -> None:
        assert not self.is_closed
        self.sent += datagrams

    def answer_all(self, now_ns: int) -> None:
        sent, self.sent = self.sent, []
        for datagram in sent:
            answer = self.doorway.answer(datagram, now_ns)
            if answer is not None:
                self.deliver([answer], now_ns)

    def timer(self) -> int | None:
        return None

    def handle_timer(self, now_ns: int) -> None:
        assert not self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def count_drops(self) -> dict[str, int]:
        return {"tcp_old": 1}


class World:
    def __init__(self, count: int) -> None:
        opened = udp.open_port(0)
        assert isinstance(opened, UdpPort), opened
        self.port = opened
        self.outside = Outside(opened)
        self.doorways = [Doorway() for _ in range(count)]
        self.links: list[Link] = []
        self.opens = True
        self.said: list[tuple[int, Notice]] = []
        self.usable: Sequence[BoundRelay] = ()
        self.now_ns = 5 * S
        self.relays = Relays(
            MEMBER_SEED,
            self.outside,
            random=random.Random(3).randbytes,
            dial=self.dial,
            deliver=self.deliver,
            tell=lambda notice: self.said.append((self.now_ns, notice)),
            usable=self.use,
        )

    def dial(self, grant: RelayGrant, deliver: Deliver, changed: Changed) -> Link:
        (doorway,) = (each for each in self.doorways if each.name == grant.relay)
        self.links.append(Link(grant, deliver, changed, doorway))
        return self.links[-1]

    def deliver(self, datagrams: list[bytes], place: Place, now_ns: int) -> None:
        for datagram in datagrams:
            self.relays.receive(datagram, place, now_ns)

    def use(self, usable: Sequence[BoundRelay], now_ns: int) -> None:
        self.usable = usable

    def put(self, *grants: RelayGrant) -> None:
        self.relays.put(grants or [each.grant() for each in self.doorways], self.now_ns)

    def run(self, for_ns: int) -> None:
        end_ns = self.now_ns + for_ns
        while self.now_ns < end_ns:
            self._exchange()
            due_ns = self.relays.timer()
            next_ns = end_ns if due_ns is None else min(end_ns, max(due_ns, self.now_ns))
            self.now_ns = max(next_ns, self.now_ns)
            if due_ns is not None and due_ns <= self.now_ns:
                self.relays.handle_timer(self.now_ns)
                later_ns = self.relays.timer()
                assert later_ns is None or later_ns > self.now_ns, "it would never sleep"
        self._exchange()

    def _exchange(self) -> None:
        """What is on the way arrives, 1 ms each way."""
        for _ in range(4):
            self.now_ns += MS
            for doorway in self.doorways:
                doorway.answer_all(self.now_ns)
            while (received := self.port.receive(self.port.sockets[0])) is not None:
                data, size, source = received
                for at in range(0, len(data), size):
                    self.relays.receive(data[at : at + size], source, self.now_ns)
            for link in self.links:
                link.answer_all(self.now_ns)

    def open_links(self) -> list[Link]:
        return [link for link in self.links if not link.is_closed]

    def bound(self, carrier: str) -> list[str]:
        return [
            said.relay
            for _, said in self.said
            if isinstance(said, RelayBound) and said.carrier == carrier
        ]

    def carriers(self) -> list[str]:
        return [each.carrier for each in self.usable]

    def close(self) -> None:
        self.relays.close()
        self.outside.close()
        for doorway in self.doorways:
            doorway.socket.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World(3)
    yield made
    made.close()


def test_all_relays_are_bound_over_udp_and_nothing_over_tcp(world: World) -> None:
    world.put()
    world.run(60 * S)
    names = [each.name for each in world.doorways]
    assert sorted(world.bound("relay")) == sorted(names)
    assert [each.name for each in world.usable] == names, "nearest first"
    assert all(each.rtt_ns > 0 for each in world.usable)
    assert world.links == []
    world.outside.send(Via("relay", names[1], VIA), [DATA])
    world.run(S)
    assert [wire.number_of(each) for each in world.doorways[1].data] == [VIA]
    assert world.relays.name_at(world.doorways[1].address) == ("relay", names[1])


def test_without_udp_the_nearest_is_dialled_and_then_the_next(world: World) -> None:
    for doorway in world.doorways:
        doorway.hears = False
    world.put(world.doorways[0].grant(tcp=False), *(each.grant() for each in world.doorways[1:]))
    world.run(TCP_AFTER_NS - 20 * MS)
    assert world.links == []
    world.run(40 * MS)
    assert [link.grant.relay for link in world.links] == [world.doorways[1].name]
    world.run(TCP_NEXT_NS)
    assert len(world.links) == 2
    world.links[0].changed(None, world.now_ns)
    world.run(S)
    assert world.carriers() == ["tcp"]
    assert world.bound("tcp") == [world.doorways[1].name]
    assert world.relays.name_at(Via("tcp", world.doorways[1].name, 0)) == (
        "tcp",
        world.doorways[1].name,
    )


def test_udp_takes_over_as_soon_as_it_works_and_the_link_is_closed_later(world: World) -> None:
    nearest = world.doorways[0]
    nearest.hears = False
    world.put(nearest.grant())
    world.run(S)
    world.links[0].changed(None, world.now_ns)
    world.run(S)
    assert world.carriers() == ["tcp"]
    nearest.hears = True
    world.run(15 * S)
    assert world.carriers() == ["relay"]
    assert [said.carrier for _, said in world.said if isinstance(said, RelayUnbound)] == ["tcp"]
    world.outside.send(Via("tcp", nearest.name, VIA), [DATA])
    world.run(S)
    assert len(nearest.data) == 1, "what still goes to the link takes the better way"
    assert world.open_links()
    world.run(TCP_CLOSE_NS)
    assert not world.open_links()
    assert len(world.links) == 1
    assert world.relays.count_drops()["tcp_old"] == 1, "what it lost is not forgotten with it"


def test_when_udp_stops_the_open_link_is_used_again_at_once(world: World) -> None:
    nearest = world.doorways[0]
    nearest.hears = False
    world.put(nearest.grant())
    world.run(S)
    world.links[0].changed(None, world.now_ns)
    nearest.hears = True
    world.run(16 * S)
    assert world.carriers() == ["relay"]
    nearest.hears = False
    world.run(22 * S)
    assert world.carriers() == ["tcp"]
    assert len(world.links) == 1


def test_a_link_that_breaks_is_dialled_again_later_and_later(world: World) -> None:
    world.doorways[0].hears = False
    world.put(world.doorways[0].grant())
    dialled: list[int] = []
    for _ in range(4):
        known = len(world.links)
        while len(world.links) == known:
            world.run(50 * MS)
        dialled.append(world.now_ns)
        world.links[-1].changed("connection refused", world.now_ns)
    gaps = [(later - earlier) / S for earlier, later in itertools.pairwise(dialled)]
    assert gaps == pytest.approx([1, 2, 4], abs=0.2)
    assert world.usable == ()


def test_what_control_does_not_offer_any_more_is_left(world: World) -> None:
    world.put()
    world.run(S)
    first, second, _ = world.doorways
    world.put(second.grant())
    world.run(S)
    assert [each.name for each in world.usable] == [second.name]
    assert world.relays.name_at(first.address) is None
    world.outside.send(Via("relay", first.name, VIA), [DATA])
    assert world.outside.drops == {"relay_unbound": 1}
    heard = len(first.relay.heard)
    world.run(60 * S)
    assert len(first.relay.heard) == heard
    world.relays.put((), world.now_ns)
    world.run(S)
    assert world.relays.timer() is None
    assert world.usable == []


def test_the_same_grants_again_change_nothing(world: World) -> None:
    world.put()
    world.run(S)
    said, heard = len(world.said), [len(each.relay.heard) for each in world.doorways]
    world.put()
    world.run(S)
    assert (len(world.said), [len(each.relay.heard) for each in world.doorways]) == (said, heard)


def test_a_change_of_our_network_binds_anew_at_once(world: World) -> None:
    world.put()
    world.run(S)
    heard = [len(each.relay.heard) for each in world.doorways]
    world.doorways[0].relay.observed = ("203.0.113.1", 9)
    world.relays.change_network(world.now_ns)
    world.run(100 * MS)
    assert all(
        len(each.relay.heard) == before + 2
        for each, before in zip(world.doorways, heard, strict=True)
    )
    last = world.said[-1][1]
    assert isinstance(last, RelayBound)
    assert last.address == "203.0.113.1:9"


def test_grants_that_cannot_be_used_are_counted(world: World) -> None:
    good = world.doorways[0].grant()
    world.put(
        RelayGrant(
            relay="r", addresses=("example.org:1",), region="", tcp="", pin="",
            public_key=good.public_key, boot=good.boot, ticket=TICKET,
        ),
        world.doorways[1].grant(ticket=b"short"),
        RelayGrant(
            relay="s", addresses=good.addresses, region="", tcp="", pin="",
            public_key=bytes(32), boot=good.boot, ticket=TICKET,
        ),
        good,
    )  # fmt: skip
    world.run(S)
    assert [each.name for each in world.usable] == [good.relay]
    assert world.relays.count_drops() == {"relay_grant": 3}


def test_messages_of_nobody_are_counted(world: World) -> None:
    world.put()
    world.run(S)
    stranger = wire.stranger(wire.Stranger(bytes(8)))
    sources: list[Place] = [("203.0.113.66", 6), Via("tcp", "nobody", 0), Via("port", "1 x", 0)]
    for source in sources:
        world.relays.receive(stranger, source, world.now_ns)
        assert world.relays.name_at(source) is None
    assert world.relays.count_drops() == {"relay_unknown": 3}
