"""Datagrams for every kind of place, out of real sockets."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator, Sequence

import pytest

from lanrage.protocols.endpoint import Address, Via
from lanrage.protocols.relay import wire
from lanrage.tunnel import udp
from lanrage.tunnel.loop import Loop, now_ns
from lanrage.tunnel.outside import EXTRA_UNUSED_NS, EXTRAS_MAX, SWEEP_NS, Outside
from lanrage.tunnel.udp import UdpPort

NUMBER = wire.number(1, 2)
DATA = [b"\x04\0\0\0" + bytes([n]) * 60 for n in range(3)]
PROBE = wire.PROBE_MAGIC + bytes(60)
RELAY = Via("relay", "192.0.2.1:3478", NUMBER)
TCP = Via("tcp", "192.0.2.1:3478", NUMBER)
FRIEND = Via("friend", "carol", NUMBER)


class Carried:
    """A connection that remembers."""

    def __init__(self) -> None:
        self.sent: list[tuple[list[bytes], bool]] = []

    def send(self, datagrams: Sequence[bytes], now_ns: int, *, urgent: bool) -> None:
        self.sent.append((list(datagrams), urgent))


class Sender:
    """An `Outside`, and one socket that hears what it sends."""

    def __init__(self) -> None:
        opened = udp.open_port(0)
        assert isinstance(opened, UdpPort), opened
        self.directs: dict[str, Address] = {}
        self.outside = Outside(opened, self.directs.get)
        self.loop = Loop()
        self.extras: list[tuple[int, bytes, Address]] = []
        self.outside.watch(self.loop, self.on_extra)
        self._ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ear.bind(("127.0.0.1", 0))
        self._ear.setblocking(False)
        self.ear: Address = self._ear.getsockname()

    def on_extra(self, port: UdpPort, number: int, now: int, busy: bool) -> None:
        received = port.receive(port.sockets[0])
        assert received is not None
        self.extras.append((number, received[0], received[2]))

    def heard(self) -> list[bytes]:
        return [datagram for datagram, _ in self.heard_from()]

    def heard_from(self) -> list[tuple[bytes, Address]]:
        found: list[tuple[bytes, Address]] = []
        while True:
            try:
                found.append(self._ear.recvfrom(2048))
            except BlockingIOError:
                return found

    def answer(self, datagram: bytes, to: Address) -> None:
        self._ear.sendto(datagram, to)

    def close(self) -> None:
        self._ear.close()
        self.outside.close()


@pytest.fixture
def sender() -> Iterator[Sender]:
    made = Sender()
    yield made
    made.close()


def test_what_goes_directly_is_sent_as_it_is(sender: Sender) -> None:
    sender.outside.send(sender.ear, [*DATA, PROBE])
    assert sender.heard() == [*DATA, PROBE]


def test_what_goes_through_a_relay_carries_the_number(sender: Sender) -> None:
    sender.outside.put_relay(RELAY.name, sender.ear)
    sender.outside.send(RELAY, DATA)
    sender.outside.send(RELAY, [PROBE])
    heard = sender.heard()
    assert [wire.number_of(datagram) for datagram in heard] == [NUMBER] * 4
    assert [wire.unstamp(datagram) for datagram in heard] == [*DATA, PROBE]


def test_a_relay_that_does_not_know_us_gets_nothing(sender: Sender) -> None:
    sender.outside.put_relay(RELAY.name, sender.ear)
    sender.outside.put_relay(RELAY.name, None)
    sender.outside.send(RELAY, DATA)
    assert sender.heard() == []
    assert sender.outside.drops == {"relay_unbound": 3}


def test_a_friend_is_reached_at_its_own_best_address(sender: Sender) -> None:
    sender.outside.send(FRIEND, DATA)
    sender.directs["carol"] = sender.ear
    sender.outside.send(FRIEND, DATA)
    assert [wire.unstamp(datagram) for datagram in sender.heard()] == DATA
    assert sender.outside.drops == {"friend_away": 3}


def test_over_tcp_data_waits_for_probes_and_handshakes(sender: Sender) -> None:
    carried = Carried()
    sender.outside.put_carrier(TCP.name, carried)
    for datagrams in (DATA, [PROBE], [b"\x01\0\0\0" + bytes(144)]):
        sender.outside.send(TCP, datagrams)
    assert [urgent for _, urgent in carried.sent] == [False, True, True]
    assert [wire.unstamp(each) for each in carried.sent[0][0]] == DATA


def test_while_a_relay_changes_its_carrier_nothing_is_lost(sender: Sender) -> None:
    carried = Carried()
    sender.outside.put_relay(RELAY.name, sender.ear)
    sender.outside.send(TCP, DATA)
    assert len(sender.heard()) == 3
    sender.outside.put_relay(RELAY.name, None)
    sender.outside.put_carrier(TCP.name, carried)
    sender.outside.send(RELAY, DATA)
    assert len(carried.sent[0][0]) == 3
    sender.outside.put_carrier(TCP.name, None)
    sender.outside.send(TCP, DATA)
    assert sender.outside.drops == {"tcp_unbound": 3}


def test_extra_sockets_have_ports_of_their_own_and_hear_answers(sender: Sender) -> None:
    for number in (7, 8, 7):
        sender.outside.send(Outside.behind(number, sender.ear), [PROBE])
    sources = [source for _, source in sender.heard_from()]
    assert sources[0] == sources[2]
    assert len({port for _, port in sources} | {sender.outside.port.port}) == 3
    sender.answer(b"pong", sources[1])
    fds = [fd for fd, _ in sender.loop._epoll.poll(1.0, 1)]
    sender.loop._callbacks[fds[0]](now_ns(), False)
    assert sender.extras == [(8, b"pong", sender.ear)]


def test_extra_sockets_that_nobody_uses_are_closed(sender: Sender) -> None:
    assert sender.outside.timer() is None
    sender.outside.send(Outside.behind(1, sender.ear), [PROBE])
    (_, source), *_ = sender.heard_from()
    begun = now_ns()
    due = sender.outside.timer()
    assert due is not None
    assert begun - SWEEP_NS <= due - SWEEP_NS <= begun
    sender.outside.handle_timer(due)
    assert sender.outside.timer() == due + SWEEP_NS
    sender.outside.handle_timer(due + EXTRA_UNUSED_NS)
    assert sender.outside.timer() is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("0.0.0.0", source[1]))
        assert not select.select([free], [], [], 0)[0]


def test_there_are_so_many_extra_sockets_and_no_more(sender: Sender) -> None:
    for number in range(EXTRAS_MAX + 3):
        sender.outside.send(Outside.behind(number, sender.ear), [PROBE])
    assert len({source for _, source in sender.heard_from()}) == EXTRAS_MAX
    assert sender.outside.drops == {"no_extra_port": 3}
