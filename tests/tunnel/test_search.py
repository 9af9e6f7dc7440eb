"""Port search between a symmetric router and a port-restricted one, on the simulated network."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from lanrage.protocols import endpoint, probe
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.tunnel import search
from lanrage.tunnel.outlet import Outlet
from lanrage.tunnel.outside import Outside
from lanrage.tunnel.prober import Prober
from tests.sim.network import MS, PORT, PORT_RESTRICTED, SYMMETRIC, StunServer
from tests.sim.world import Player, World

S = 1000 * MS
EXTRA_PORT = 30_000  # of the extra socket 0
HOST = "9.9.9.9"


class Extras:
    """A player's way out, with extra sockets that are simulated, too."""

    def __init__(self, player: Player) -> None:
        self._player, self._outside = player, player.outside
        self.ports: list[Address] = []  # where the easy side's search went
        self.sockets: set[int] = set()
        player.computer.take = self._take

    def __getattr__(self, name: str) -> object:
        return getattr(self._outside, name)

    def send(self, place: Place, datagrams: Sequence[bytes]) -> None:
        if not isinstance(place, Via):
            self.ports.append(place)
        if not isinstance(place, Via) or place.carrier != "port":
            return self._outside.send(place, datagrams)
        number, _, written = place.name.partition(" ")
        to = endpoint.parse(written)
        assert to is not None
        self.sockets.add(int(number))
        for datagram in datagrams:
            port = EXTRA_PORT + int(number)
            self._player.world.send(self._player.computer, port, to, datagram)
        return None

    def _take(self, datagram: bytes, source: Address, port: int) -> None:
        player = self._player
        if port == PORT:
            return player.take(datagram, source, port)
        if player.paths.is_ours(datagram):
            place = Outside.behind(port - EXTRA_PORT, source)
            player.paths.receive(datagram, place, player.world.now_ns)
        return player.flush()


def play(seed: int, *consents: bool) -> tuple[World, list[Extras]]:
    world = World(seed)
    world.stun = StunServer(world, "8.8.8.8").names
    world.add_relay()
    players = [world.add_player(SYMMETRIC), world.add_player(PORT_RESTRICTED)]
    extras = []
    for player, consent in zip(players, consents, strict=True):
        player.start()
        player.paths.put_policy(volunteer=True, port_search=consent)
        extras.append(Extras(player))
        player.outside = cast(Outside, extras[-1])
    world.run_until_ns(world.now_ns + 16 * S)
    return world, extras


def test_a_direct_way_through_one_hard_router_is_found_within_the_budget() -> None:
    found = 0
    for seed in range(4):
        world, (hard, easy) = play(seed, True, True)
        one, other = world.players
        assert len(hard.sockets) <= search.SOCKETS
        router = [port for host, port in easy.ports if host == one.home.public]
        assert len(set(router)) <= search.PINGS_MAX + 20, f"seed {seed}"
        ends = one.paths.best(other.name), other.paths.best(one.name)
        if isinstance(ends[0], Via) and ends[0].carrier == "port":
            assert ends[1] is not None, f"seed {seed}"
            assert ends[1][0] == one.home.public, f"seed {seed}"
            found += 1
    assert found >= 3


@pytest.mark.parametrize("consents", [(True, False), (False, True), (False, False)])
def test_nobody_searches_unless_both_consent(consents: tuple[bool, bool]) -> None:
    world, (hard, easy) = play(1, *consents)
    one, other = world.players
    assert not hard.sockets
    assert len({port for host, port in easy.ports if host == one.home.public}) < 10
    best = one.paths.best(other.name)
    assert isinstance(best, Via)
    assert best.carrier == "relay"


def prober() -> tuple[Outlet, Prober]:
    outlet = Outlet(random.Random(3).randbytes)
    peer = X25519PrivateKey.from_private_bytes(bytes([2] * 32)).public_key().public_bytes_raw()
    keys = probe.derive(bytes([1] * 32), peer)
    assert keys is not None
    return outlet, Prober(keys, bytes(8), outlet)


def test_a_router_gets_500_pings_a_second_2048_in_all_and_none_for_ten_minutes_after() -> None:
    outlet, asked = prober()
    searching = search.Search(outlet)
    searching.seek("peer", asked, HOST, 0)
    second: dict[int, int] = {}
    while (due := searching.timer()) is not None:
        before = len(outlet.outgoing)
        searching.handle_timer(due)
        second[due // S] = second.get(due // S, 0) + len(outlet.outgoing) - before
    assert max(second.values()) <= 500
    assert len({to for to, _ in outlet.outgoing}) == len(outlet.outgoing) == search.PINGS_MAX
    searching.seek("peer", asked, HOST, 500 * S)
    assert searching.timer() is None
    searching.seek("peer", asked, HOST, 600 * S)
    assert searching.timer() is not None


def test_there_is_one_search_at_a_time_and_it_ends_when_the_member_is_found() -> None:
    outlet, asked = prober()
    searching = search.Search(outlet)
    searching.seek("peer", asked, HOST, 0)
    searching.offer("other", asked, ("9.9.9.8", 5), 0)
    searching.stop("other")
    assert searching.timer() == search.EASY_DELAY_NS
    searching.stop("peer")
    assert searching.timer() is None
    searching.offer("other", asked, ("9.9.9.8", 5), 0)
    searching.handle_timer(0)
    place = outlet.outgoing[0][0]
    assert place == Via("port", "0 9.9.9.8:5", 0)
