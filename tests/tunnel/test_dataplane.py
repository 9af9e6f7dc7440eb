"""Packets through the whole data plane, with a socketpair where the kernel's interface would be."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.protocols.relay import wire
from lanrage.protocols.wireguard.engine import Peer
from lanrage.tunnel import udp
from lanrage.tunnel.dataplane import TURN_PACKETS_MAX, DataPlane, new_engine
from lanrage.tunnel.interface import Interface
from lanrage.tunnel.loop import now_ns
from lanrage.tunnel.offload import FRAME_MAX, IP_AT
from lanrage.tunnel.outside import Outside, stamped, unstamped
from lanrage.tunnel.udp import UdpPort
from tests.tunnel.packets import MAC, UDP, Flow, packet, super_frame

WITHIN_S = 5.0
TO_BOB = Flow(protocol=UDP)  # 10.66.0.2
TO_CAROL = Flow(version=6, protocol=UDP)  # fd12::2
ALICE = ("10.66.0.1/32", "fd12::1/128")


class Probes:
    """Whoever shares the port: takes what begins with its mark."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.relayed: list[bytes] = []
        self.places: dict[int, Place] = {}

    def is_ours(self, datagram: bytes) -> bool:
        return datagram.startswith(b"probe")

    def receive(self, datagram: bytes, source: Place, now_ns: int) -> None:
        self.taken.append(datagram)

    def unwrap(
        self, datagrams: list[bytes], source: Place, now_ns: int
    ) -> list[tuple[Place, list[bytes]]]:
        self.relayed += datagrams
        place = self.places.get(wire.number_of(datagrams[0]))
        return [] if place is None else [(place, unstamped(datagrams))]


class Member:
    def __init__(self, number: int) -> None:
        self.kernel, tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.kernel.setblocking(False)
        tap.setblocking(False)
        opened = udp.open_port(0)
        assert isinstance(opened, UdpPort), opened
        self.port = opened
        self.engine = new_engine(bytes([number]) * 32, roaming=False)
        self.probes = Probes()
        self.batches: list[Peer] = []
        self.interface = Interface(tap.detach(), "lo", MAC, joins_udp=True)
        self.data = DataPlane(
            self.interface,
            Outside(self.port),
            self.engine,
            settle=self.settle,
            note_data=lambda peer, _now, _sent: self.batches.append(peer),
            others=self.probes,
        )

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.port.port

    def settle(self, _now: int) -> None:
        for place, datagram in self.engine.take_outgoing():
            assert not isinstance(place, Via)
            self.port.send(place, [datagram])

    def knows(self, other: Member, *allowed: str) -> None:
        self.engine.put_peer(other.engine.public_key, allowed=allowed, endpoint=other.address)

    def hear(self) -> bool:
        """Take in all that has arrived; whether anything had."""
        ready, _, _ = select.select(self.port.sockets, [], [], 0)
        for receiver in ready:
            self.data.on_udp(receiver, now_ns(), True)
        return bool(ready)

    def packets(self) -> list[bytes]:
        """What arrived at this computer's kernel."""
        arrived: list[bytes] = []
        while True:
            try:
                arrived.append(self.kernel.recv(FRAME_MAX)[IP_AT:])
            except BlockingIOError:
                return arrived

    def close(self) -> None:
        self.interface.close()
        self.port.close()
        self.kernel.close()


def settled(*members: Member) -> None:
    """Until nothing is on its way any more: loopback delivers before a send returns."""
    for _ in range(100):
        if not any(member.hear() for member in members):
            return
    raise AssertionError("they talk without end")


@pytest.fixture
def party() -> Iterator[tuple[Member, Member, Member]]:
    """Alice, who has sessions with bob (IPv4) and carol (IPv6)."""
    alice, bob, carol = (Member(number) for number in (1, 2, 3))
    alice.knows(bob, "10.66.0.2/32")
    alice.knows(carol, "fd12::2/128")
    bob.knows(alice, *ALICE)
    carol.knows(alice, *ALICE)
    for flow in (TO_BOB, TO_CAROL):
        alice.kernel.send(super_frame(flow, b"hello", 1000))
        alice.data.on_tap(now_ns(), True)
        settled(alice, bob, carol)
    assert (len(bob.packets()), len(carol.packets())) == (1, 1)
    alice.batches.clear()
    bob.batches.clear()
    yield alice, bob, carol
    for member in (alice, bob, carol):
        member.close()


def test_frames_read_in_one_turn_reach_each_its_own_member_in_order(
    party: tuple[Member, Member, Member],
) -> None:
    alice, bob, carol = party
    order = (TO_BOB, TO_CAROL, TO_CAROL, TO_BOB)
    flows = [replace(flow, port=5000 + at) for at, flow in enumerate(order)]
    for flow in flows:
        alice.kernel.send(super_frame(flow, b"move", 1000))
    alice.data.on_tap(now_ns(), True)
    settled(alice, bob, carol)
    assert bob.packets() == [packet(flows[0], b"move"), packet(flows[3], b"move")]
    assert carol.packets() == [packet(flows[1], b"move"), packet(flows[2], b"move")]


def test_small_frames_of_one_member_are_one_batch(party: tuple[Member, Member, Member]) -> None:
    alice, bob, carol = party
    for _ in range(10):
        alice.kernel.send(super_frame(TO_BOB, b"move", 1000))
    alice.data.on_tap(now_ns(), True)
    assert len(alice.batches) == 1
    settled(alice, bob, carol)
    assert len(bob.batches) == 1


def test_a_turn_ends_so_that_bulk_one_way_does_not_hold_up_the_other(
    party: tuple[Member, Member, Member],
) -> None:
    alice, bob, carol = party
    bulk = super_frame(TO_BOB, bytes(TURN_PACKETS_MAX * 100), 100)
    for _ in range(3):
        alice.kernel.send(bulk)
    for left in (2, 1, 0):
        alice.data.on_tap(now_ns(), True)
        assert _waiting(alice) == left
        settled(alice, bob, carol)
    for _ in range(3):
        alice.kernel.send(super_frame(TO_BOB, b"move", 1000))
    alice.data.on_tap(now_ns(), False)
    assert _waiting(alice) == 2, "at the pace of a game, one read is one turn"


def test_what_is_not_wireguards_goes_to_those_who_share_the_port_or_is_counted(
    party: tuple[Member, Member, Member],
) -> None:
    alice, bob, carol = party
    for datagram in (b"probe 1", b"garbage!", b"probe 2" + bytes(300), b"\x04\0\0\0short"):
        bob.port.send(alice.address, [datagram])
    settled(alice, bob, carol)
    assert [each[:7] for each in alice.probes.taken] == [b"probe 1", b"probe 2"]
    assert alice.data.drops == {"unknown_datagram": 1}
    assert alice.engine.drops["bad_length"] == 1
    assert alice.packets() == []


def test_while_a_path_is_doubted_each_packet_goes_two_ways_and_arrives_once(
    party: tuple[Member, Member, Member],
) -> None:
    alice, bob, carol = party
    (peer,) = (each for each in alice.engine.peers.values() if each.endpoint == bob.address)
    alice.engine.set_endpoint(peer, carol.address, now_ns(), bob.address)
    for _ in range(3):
        alice.kernel.send(super_frame(TO_BOB, b"move", 1000))
    alice.data.on_tap(now_ns(), True)
    settled(alice, bob, carol)
    assert bob.packets() == [packet(TO_BOB, b"move")] * 3
    assert carol.engine.drops["unknown_index"] == 3
    alice.engine.set_endpoint(peer, bob.address, now_ns())


def test_relayed_datagrams_are_told_apart_in_whatever_batch_they_come(
    party: tuple[Member, Member, Member],
) -> None:
    alice, bob, carol = party
    (peer,) = (each for each in alice.engine.peers.values() if each.endpoint == bob.address)
    (from_alice,) = bob.engine.peers.values()
    before = from_alice.rx_packets
    for size in (60, 1200):
        direct = alice.engine.seal(peer, [packet(TO_BOB, bytes(size))] * 4, now_ns())
        relayed = stamped(direct[2:], wire.number(9, 2))
        for batch in ([direct[0], *relayed, direct[1]], [relayed[0], direct[0]]):
            bob.probes.relayed.clear()
            alice.port.send(bob.address, batch)
            settled(alice, bob, carol)
            assert bob.probes.relayed == [each for each in batch if each in relayed]
    assert from_alice.rx_packets == before + 4
    assert not bob.engine.drops["unknown_type"]


def test_what_comes_through_a_relay_reaches_us(
    party: tuple[Member, Member, Member],
) -> None:
    alice, bob, carol = party
    relayed = Via("relay", "192.0.2.99:3478", wire.number(2, 1))
    (peer,) = (each for each in alice.engine.peers.values() if each.endpoint == bob.address)
    bob.probes.places[wire.number(1, 2)] = relayed
    sealed = alice.engine.seal(peer, [packet(TO_BOB, b"move")], now_ns())
    alice.port.send(bob.address, stamped(sealed, wire.number(1, 2)))
    settled(alice, bob, carol)
    assert bob.packets() == [packet(TO_BOB, b"move")]


def _waiting(member: Member) -> int:
    """Frames that the kernel still holds for the tunnel; they are put back in order."""
    tap = socket.socket(fileno=member.interface.fd)
    frames: list[bytes] = []
    try:
        while True:
            frames.append(tap.recv(FRAME_MAX))
    except BlockingIOError:
        pass
    finally:
        tap.detach()
    for frame in frames:
        member.kernel.send(frame)
    return len(frames)
