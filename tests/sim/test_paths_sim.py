"""Two real path cores on a seeded network. Every failure names its seed."""

from __future__ import annotations

from functools import partial

import pytest

from lanrage.protocols.endpoint import Via
from lanrage.tunnel.messages import Lost, Opened, Switched, Unreachable
from tests.sim.network import (
    FULL_CONE,
    KINDS,
    MS,
    PORT_RESTRICTED,
    SYMMETRIC,
    Member,
    Network,
    StunServer,
    one_home,
    start,
    two_homes,
)

SEEDS = 40
CONES = [kind for kind in KINDS if kind != SYMMETRIC]


def is_open(a: Member, b: Member) -> bool:
    return a.paths.best(b.name) is not None and b.paths.best(a.name) is not None


@pytest.mark.parametrize("kind_a", CONES)
@pytest.mark.parametrize("kind_b", CONES)
def test_homes_whose_routers_map_independently_connect_within_2500_ms(
    kind_a: str, kind_b: str
) -> None:
    for seed in range(SEEDS):
        network = Network(seed, loss=0.05)
        a, b, server = two_homes(network, kind_a, kind_b)
        start([a, b], server)
        assert network.run_until(partial(is_open, a, b), 2.5), f"seed {seed}"
        network.run(5)
        assert is_open(a, b), f"seed {seed}"
        assert not a.of(Unreachable), f"seed {seed}"
        assert not a.of(Lost), f"seed {seed}"


def test_two_in_one_home_end_up_on_the_lan() -> None:
    for seed in range(SEEDS):
        network = Network(seed, loss=0.05)
        a, b, server = one_home(network, PORT_RESTRICTED)
        start([a, b], server)
        network.run(4)
        assert a.paths.best("b") == ("192.168.1.11", 51820), f"seed {seed}"
        assert b.paths.best("a") == ("192.168.1.10", 51820), f"seed {seed}"


def test_a_symmetric_router_opens_to_one_that_lets_everybody_in() -> None:
    for seed in range(SEEDS):
        network = Network(seed, loss=0.05)
        a, b, server = two_homes(network, SYMMETRIC, FULL_CONE)
        start([a, b], server)
        assert network.run_until(partial(is_open, a, b), 3), f"seed {seed}"


def test_symmetric_against_port_restricted_is_unreachable_in_words_once() -> None:
    for seed in range(SEEDS):
        network = Network(seed, loss=0.02)
        a, b, server = two_homes(network, SYMMETRIC, PORT_RESTRICTED)
        start([a, b], server)
        network.run(12)
        for member in (a, b):
            told = member.of(Unreachable)
            assert len(told) == 1, f"seed {seed}: {told}"
            notice = told[0][1]
            assert isinstance(notice, Unreachable)
            assert "symmetric NAT" in notice.reason, f"seed {seed}: {notice.reason}"
            assert notice.after_ms < 6000, f"seed {seed}"


def feed(network: Network, members: list[Member], seconds: float) -> None:
    """Data flows both ways, a batch each 50 ms."""

    def tick(until_ns: int) -> None:
        for member in members:
            for other in member.others:
                member.paths.note_data(other.name, network.now_ns)
        if network.now_ns < until_ns:
            network.at(network.now_ns + 50 * MS, lambda: tick(until_ns))

    tick(network.now_ns + int(seconds * 1000 * MS))


def test_a_dead_path_is_noticed_within_three_seconds_of_traffic_and_comes_back() -> None:
    for seed in range(SEEDS):
        network = Network(seed, loss=0.05)
        a, b, server = two_homes(network, PORT_RESTRICTED, PORT_RESTRICTED)
        start([a, b], server)
        assert network.run_until(partial(is_open, a, b), 3), f"seed {seed}"
        feed(network, [a, b], 60)
        network.run(6 + seed * 0.05)
        assert not a.of(Lost) + b.of(Lost), f"seed {seed}"
        network.wan_cut = True
        cut_ns = network.now_ns
        network.run(3.1)
        for member in (a, b):
            assert member.of(Lost), f"seed {seed}"
            assert member.of(Lost)[0][0] - cut_ns <= 3000 * MS, f"seed {seed}"
        network.wan_cut = False
        assert network.run_until(partial(is_open, a, b), 2.5), f"seed {seed}"
        assert len(a.of(Opened)) == 2, f"seed {seed}"


def test_a_cut_lan_is_left_for_nothing_and_found_again() -> None:
    for seed in range(SEEDS // 4):
        network = Network(seed)
        a, b, server = one_home(network, PORT_RESTRICTED)
        start([a, b], server)
        network.run(2)
        feed(network, [a, b], 30)
        network.lan_cut = True
        network.run(3.5)
        assert a.of(Lost), f"seed {seed}"
        network.lan_cut = False
        assert network.run_until(partial(is_open, a, b), 2.5), f"seed {seed}"


def test_five_percent_loss_neither_loses_nor_switches_a_path_in_ten_minutes() -> None:
    switches = 0
    for seed in range(4):
        network = Network(seed, loss=0.05)
        a, b, server = two_homes(network, FULL_CONE, PORT_RESTRICTED)
        start([a, b], server)
        network.run(3)
        feed(network, [a, b], 600)
        network.run(600)
        assert not a.of(Lost) + b.of(Lost), f"seed {seed}"
        switches += len(a.of(Switched)) + len(b.of(Switched))
        rtt_us, loss, _ = a.paths.quality("b")
        assert 40_000 <= rtt_us <= 46_000, f"seed {seed}"
        assert 0 < loss < 300, f"seed {seed}"
    assert switches <= 4


def test_an_idle_pair_wakes_rarely_and_stays_open() -> None:
    network = Network(1)
    a, b, server = two_homes(network, PORT_RESTRICTED, PORT_RESTRICTED)
    start([a, b], server)
    network.run(20)
    wakes, sent = a.wakes, a.sent
    network.run(600)
    assert is_open(a, b)
    assert not a.of(Lost)
    assert (a.wakes - wakes) / 600 <= 0.12
    assert (a.sent - sent) / 600 <= 0.35


def test_a_member_that_starts_again_on_a_new_port_is_found_again() -> None:
    for seed in range(SEEDS):
        network = Network(seed, loss=0.05)
        a, b, server = two_homes(network, PORT_RESTRICTED, PORT_RESTRICTED)
        start([a, b], server)
        network.run(15)
        assert b.computer.home is not None
        b.computer.home.forget()
        b.start()
        b.join([a, b], server.names)
        a.tell()
        network.run(5)
        public = b.computer.home.public
        best = a.paths.best("b")
        assert best is not None, f"seed {seed}"
        assert not isinstance(best, Via), f"seed {seed}"
        assert b.computer.home.inbound(("1.1.1.1", 1), best[1]) is None
        assert best in {(public, port) for port in b.computer.home.mappings.values()}
        assert is_open(a, b), f"seed {seed}"


def test_routers_that_forget_their_mappings_in_the_middle_are_opened_again_within_five_s() -> None:
    for seed in range(SEEDS):
        network = Network(seed, loss=0.05)
        a, b, server = two_homes(network, PORT_RESTRICTED, PORT_RESTRICTED)
        start([a, b], server)
        assert network.run_until(partial(is_open, a, b), 3), f"seed {seed}"
        feed(network, [a, b], 60)
        network.run(8 + seed * 0.1)
        opened = len(a.of(Opened)), len(b.of(Opened))
        for member in (a, b):
            assert member.computer.home is not None
            member.computer.home.forget()
        network.run(5)
        assert is_open(a, b), f"seed {seed}"
        again = len(a.of(Opened)) + len(a.of(Switched)), len(b.of(Opened)) + len(b.of(Switched))
        assert again > opened, f"seed {seed}"


def test_heavy_loss_and_reordering_end_open_and_in_agreement() -> None:
    for seed in range(SEEDS):
        network = Network(seed, delay_ms=60, jitter_ms=80, loss=0.2)
        a, b, server = two_homes(network, PORT_RESTRICTED, FULL_CONE)
        start([a, b], server)
        assert network.run_until(partial(is_open, a, b), 10), f"seed {seed}"


def test_a_party_of_eight_in_four_homes_is_all_connected() -> None:
    for seed in range(4):
        network = Network(seed, loss=0.05)
        server = StunServer(network, "8.8.8.8")
        members = []
        for home in range(4):
            router = network.router(CONES[home % len(CONES)], f"5.5.5.{home + 1}")
            for seat in range(2):
                host = f"192.168.{home}.{10 + seat}"
                members.append(Member(network, f"{home}{seat}", host, router))
        start(members, server)
        network.run(4)
        for one in members:
            for other in one.others:
                best = one.paths.best(other.name)
                assert best is not None, f"seed {seed}"
                near = one.computer.home is other.computer.home
                assert (best[0] == other.computer.host) == near, f"seed {seed}"
