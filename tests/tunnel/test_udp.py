"""The batching UDP port, over loopback."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from lanrage.refusal import Refusal
from lanrage.tunnel.udp import Address, UdpPort, open_port

ANSWER_WITHIN_S = 5.0


@pytest.fixture
def port() -> Iterator[UdpPort]:
    opened = open_port(0)
    assert isinstance(opened, UdpPort)
    yield opened
    opened.close()


@pytest.fixture
def other() -> Iterator[UdpPort]:
    opened = open_port(0)
    assert isinstance(opened, UdpPort)
    yield opened
    opened.close()


def receive(port: UdpPort, count: int) -> tuple[list[bytes], set[Address]]:
    """Wait for `count` datagrams, whatever batches they come in."""
    got: list[bytes] = []
    sources: set[Address] = set()
    while len(got) < count:
        ready, _, _ = select.select(port.sockets, [], [], ANSWER_WITHIN_S)
        assert ready, f"{len(got)} of {count} datagrams came"
        received = port.receive(ready[0])
        assert received is not None
        data, size, source = received
        got += [data[at : at + size] for at in range(0, len(data), size)]
        sources.add(source)
    return got, sources


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_batches_arrive_whole_and_in_order(port: UdpPort, other: UdpPort, host: str) -> None:
    sizes = [1452] * 50 + [100] + [1452] * 3 + [32] + [1400] * 2 + [1452, 1]
    sent = [bytes([n]) * size for n, size in enumerate(sizes)]
    port.send((host, other.port), sent)
    got, sources = receive(other, len(sent))
    assert got == sent
    assert sources == {(host, port.port)}
    assert port.drops == {}


def test_a_run_of_equal_datagrams_and_a_shorter_last_one_is_one_send_and_one_read(
    port: UdpPort, other: UdpPort
) -> None:
    run = [bytes([n]) * 1400 for n in range(20)] + [b"last"]
    port.send(("127.0.0.1", other.port), run)
    select.select(other.sockets, [], [], ANSWER_WITHIN_S)
    received = other.receive(other.sockets[0])
    assert received is not None
    data, size, _ = received
    assert (data, size) == (b"".join(run), 1400)


def test_hundreds_of_small_datagrams_need_more_than_one_send(port: UdpPort, other: UdpPort) -> None:
    sent = [bytes([n % 256]) * 100 for n in range(200)]
    port.send(("127.0.0.1", other.port), sent)
    assert receive(other, 200)[0] == sent


def test_nothing_waiting_is_none(port: UdpPort) -> None:
    assert port.receive(port.sockets[0]) is None


def test_an_unreachable_address_is_counted_and_nothing_more(port: UdpPort) -> None:
    port.send(("255.255.255.255", 9), [b"x"])
    port.send(("255.255.255.255", 9), [b"x", b"x"])
    assert port.drops == {"send_eacces": 3}


def test_a_datagram_too_large_to_send_is_counted(port: UdpPort, other: UdpPort) -> None:
    port.send(("127.0.0.1", other.port), [bytes(65_535)])
    assert port.drops == {"send_emsgsize": 1}


def test_segments_larger_than_the_way_go_one_by_one(port: UdpPort, other: UdpPort) -> None:
    sent = [bytes([n]) * 32_000 for n in range(2)]
    port.send(("127.0.0.1", other.port), sent)
    assert receive(other, 2)[0] == sent


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_port_in_use_by_either_family_is_refused(family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as squatter:
        if family == socket.AF_INET6:
            squatter.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        squatter.bind(("", 0))
        taken = squatter.getsockname()[1]
        refusal = open_port(taken)
        assert isinstance(refusal, Refusal)
        assert refusal.code == "port_taken"
        assert str(taken) in str(refusal)
    free = open_port(taken)  # and nothing of it was kept
    assert isinstance(free, UdpPort)
    free.close()
