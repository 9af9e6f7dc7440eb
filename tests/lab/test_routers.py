"""What routers do beyond one home behind one: hairpin, carriers, IPv6, moves, blocked pairs."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lanrage.lab.lab import Computer, Lab
from lanrage.lab.topology import Home, Kind, Router, Server, Topology, address6_of

pytestmark = pytest.mark.root

ANSWER_S_MAX = 2.0
SILENCE_S = 0.3
PORT = 26666
Address = tuple[str, int]


class Udp:
    """A socket of this process in a computer of the lab."""

    def __init__(self, computer: Computer, port: int = 0, family: int = socket.AF_INET) -> None:
        self.socket = computer.socket(socket.SOCK_DGRAM, family)
        self.socket.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        self.address: Address = (computer.address, self.socket.getsockname()[1])

    def send(self, to: Address) -> None:
        self.socket.sendto(b"hello", to)

    def hears(self, within_s: float = ANSWER_S_MAX) -> Address | None:
        self.socket.settimeout(within_s)
        try:
            return self.socket.recvfrom(100)[1][:2]  # type: ignore[no-any-return]
        except TimeoutError:
            return None

    def mapped_at(self, server: Udp, at: str = "") -> Address:
        self.send((at or server.address[0], server.address[1]))
        heard = server.hears()
        assert heard is not None
        return heard


def one_home(*computers: str, kind: Kind, hairpin: bool = False) -> Topology:
    home = Home(name="home1", computers=computers, router=Router(kind=kind, hairpin=hairpin))
    return Topology(homes=(home,), servers=(Server(name="one", alternate=True), Server(name="two")))


def meet(one: Udp, other: Udp, at_one: Address, at_other: Address) -> list[Address | None]:
    """Both send to where the other seems to be, twice; what each heard."""
    for _ in range(2):
        one.send(at_other)
        other.send(at_one)
    return [one.hears(SILENCE_S), other.hears(SILENCE_S)]


@pytest.mark.parametrize("kind", ["full-cone", "address-restricted"])
def test_computers_of_a_cone_with_one_port_number_get_public_ports_of_their_own(kind: Kind) -> None:
    with Lab(one_home("pc1", "pc2", kind=kind)) as lab:
        one, two = Udp(lab.computer("one")), Udp(lab.computer("two"))
        first, second = (Udp(lab.computer(name), PORT) for name in ("pc1", "pc2"))
        at_first, at_second = first.mapped_at(one), second.mapped_at(two)
        assert at_first[1] == PORT != at_second[1]
        assert (first.mapped_at(two), second.mapped_at(one)) == (at_first, at_second)
        one.send(at_second)
        two.send(at_first)
        assert (first.hears(), second.hears()) == (two.address, one.address)


@pytest.mark.parametrize("kind", ["port-restricted", "remapped", "address-restricted", "full-cone"])
def test_a_hairpin_leads_back_in_with_the_mapped_source(kind: Kind) -> None:
    with Lab(one_home("pc1", "pc2", kind=kind, hairpin=True)) as lab:
        server = Udp(lab.computer("one"))
        first, second = (Udp(lab.computer(name), PORT) for name in ("pc1", "pc2"))
        at_first, at_second = first.mapped_at(server), second.mapped_at(server)
        assert meet(first, second, at_first, at_second) == [at_second, at_first]


def test_without_hairpin_nothing_leads_back_in() -> None:
    with Lab(one_home("pc1", "pc2", kind="full-cone")) as lab:
        server = Udp(lab.computer("one"))
        first, second = (Udp(lab.computer(name), PORT) for name in ("pc1", "pc2"))
        at_first, at_second = first.mapped_at(server), second.mapped_at(server)
        assert meet(first, second, at_first, at_second) == [None, None]


@pytest.mark.parametrize(
    ("kind", "hairpin", "joined"),
    [
        ("port-restricted", True, True),
        ("port-restricted", False, False),
        ("symmetric", False, False),
    ],
)
def test_homes_behind_one_carrier_meet_by_its_hairpin_alone(
    kind: Kind, hairpin: bool, joined: bool
) -> None:
    carrier = Home(name="isp", lan="100.64.0.0/24", router=Router(kind=kind, hairpin=hairpin))
    homes = [Home(name=f"home{n}", computers=(f"pc{n}",), uplink="isp") for n in (1, 2)]
    with Lab(Topology(homes=(carrier, *homes), servers=(Server(name="one"),))) as lab:
        server = Udp(lab.computer("one"))
        first, second = (Udp(lab.computer(name), PORT) for name in ("pc1", "pc2"))
        at_first, at_second = first.mapped_at(server), second.mapped_at(server)
        assert at_first[0] == at_second[0] == lab.computer("isp").address
        met = meet(first, second, at_first, at_second)
        assert met == ([at_second, at_first] if joined else [None, None])


def test_a_carrier_that_maps_anew_each_time_makes_the_home_symmetric() -> None:
    carrier = Home(name="isp", lan="100.64.0.0/24", router=Router(kind="symmetric"))
    home = Home(name="home1", computers=("pc1",), uplink="isp")
    servers = (Server(name="one"), Server(name="two"))
    with Lab(Topology(homes=(carrier, home), servers=servers)) as lab:
        pc = Udp(lab.computer("pc1"))
        mapped = {pc.mapped_at(Udp(lab.computer(name))) for name in ("one", "two")}
        assert len(mapped) == 2


def test_a_server_answers_from_its_second_address() -> None:
    topology = one_home("pc1", kind="full-cone")
    with Lab(topology) as lab:
        server, pc = Udp(lab.computer("one")), Udp(lab.computer("pc1"))
        assert pc.mapped_at(server, "203.0.113.242") == pc.mapped_at(server)


@pytest.fixture(scope="module")
def two() -> Iterator[Lab]:
    homes = tuple(Home(name=f"home{n}", computers=(f"pc{n}",)) for n in (1, 2))
    with Lab(Topology(homes=homes, servers=(Server(name="one"),), ipv6=True)) as lab:
        yield lab


def pair(lab: Lab) -> tuple[Udp, Udp, Address, Address]:
    server = Udp(lab.computer("one"))
    first, second = Udp(lab.computer("pc1")), Udp(lab.computer("pc2"))
    return first, second, first.mapped_at(server), second.mapped_at(server)


def test_ipv6_is_routed_and_lets_in_only_what_was_asked_for(two: Lab) -> None:
    first, second = (Udp(two.computer(name), family=socket.AF_INET6) for name in ("pc1", "pc2"))
    at_first, at_second = (
        (address6_of(two.topology, name), udp.address[1])
        for name, udp in (("pc1", first), ("pc2", second))
    )
    first.send(at_second)
    assert second.hears(SILENCE_S) is None
    second.send(at_first)
    assert first.hears() == at_second
    first.send(at_second)
    assert second.hears() == at_first


def test_a_blocked_pair_is_silent_while_servers_answer(two: Lab) -> None:
    first, second, at_first, at_second = pair(two)
    assert meet(first, second, at_first, at_second) == [at_second, at_first]
    two.block("pc1", "home2")
    try:
        while first.hears(0.01) or second.hears(0.01):
            pass
        assert meet(first, second, at_first, at_second) == [None, None]
        server = Udp(two.computer("one"))
        first.mapped_at(server)
        server.send(at_first)
        assert first.hears() == server.address
    finally:
        two.unblock("pc1", "home2")
    assert meet(first, second, at_first, at_second) == [at_second, at_first]


def test_a_home_that_moves_has_a_new_address_and_is_still_reached(two: Lab) -> None:
    first, second, at_first, at_second = pair(two)
    new = two.move("home1")
    assert new != at_first[0]
    server = Udp(two.computer("one"))
    assert first.mapped_at(server)[0] == new == two.computer("home1").address
    second.send(at_first)
    assert first.hears(SILENCE_S) is None
    moved = first.mapped_at(server)
    assert meet(first, second, moved, at_second) == [at_second, moved]
