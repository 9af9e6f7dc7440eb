"""Longest prefix against a slow oracle, and which texts are prefixes."""

import ipaddress
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols.wireguard.allowedips import AllowedIps, parse_prefixes
from lanrage.protocols.wireguard.constants import ALLOWED_PER_PEER_MAX

# Owners are told apart by identity, as peers are.
ALICE, BOB, CAROL = object(), object(), object()
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SlowRouter:
    """A list that is searched whole."""

    def __init__(self) -> None:
        self.routes: dict[Network, object] = {}

    def lookup(self, address: bytes) -> object | None:
        target = ipaddress.ip_address(address)
        hits = [n for n in self.routes if n.version == target.version and target in n]
        best = max(hits, key=lambda n: n.prefixlen, default=None)
        return None if best is None else self.routes[best]


def table(routes: dict[str, str]) -> AllowedIps[str]:
    allowed: AllowedIps[str] = AllowedIps()
    for text, owner in routes.items():
        for prefix in parse_prefixes([text]):
            allowed.put(prefix, owner)
    return allowed


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def test_the_longest_prefix_wins_whatever_came_first() -> None:
    routes = {"10.0.0.0/8": "eight", "0.0.0.0/0": "all", "10.1.2.3/32": "one", "10.1.0.0/16": "six"}
    allowed = table(routes)
    for address, owner in {
        "10.1.2.3": "one",
        "10.1.2.4": "six",
        "10.2.0.1": "eight",
        "11.0.0.1": "all",
    }.items():
        assert allowed.lookup(packed(address)) == owner


def test_ipv4_and_ipv6_do_not_mix() -> None:
    allowed = table({"0.0.0.0/0": "four", "fd00::/8": "six"})
    assert allowed.lookup(packed("fd12::1")) == "six"
    assert allowed.lookup(packed("2001:db8::1")) is None
    assert allowed.lookup(b"") is None
    assert allowed.lookup(b"12345") is None


def test_a_prefix_has_one_owner_and_goes_with_it() -> None:
    allowed = table({"10.0.0.0/24": "old", "10.0.0.7/32": "old"})
    for prefix in parse_prefixes(["10.0.0.0/24"]):
        allowed.put(prefix, "new")
    assert allowed.lookup(packed("10.0.0.1")) == "new"
    assert allowed.lookup(packed("10.0.0.7")) == "old"
    allowed.drop("old")
    assert allowed.lookup(packed("10.0.0.7")) == "new"
    allowed.drop("new")
    assert allowed.lookup(packed("10.0.0.7")) is None


def test_host_bits_are_cut_and_a_bare_address_is_one_host() -> None:
    assert parse_prefixes(["10.1.2.3/8"]) == [(4, 8, 10)]
    assert parse_prefixes(["10.1.2.3"]) == [(4, 32, 0x0A010203)]
    assert parse_prefixes(["::1"]) == [(16, 128, 1)]


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "ten", "10.0.0.0/-1", "fd00::/129"])
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Nn]etmask|IPv"):
        parse_prefixes([text])


def test_a_peer_has_a_limited_number_of_prefixes() -> None:
    with pytest.raises(ValueError, match="allowed prefixes"):
        parse_prefixes(["10.0.0.1"] * (ALLOWED_PER_PEER_MAX + 1))


# Few distinct bits, so that prefixes overlap and addresses hit them.
few_bits4 = st.integers(0, 15).map(lambda n: (n & 3) << 30 | (n >> 2) << 7 | 0x42)
few_bits6 = st.integers(0, 15).map(lambda n: (n & 3) << 126 | (n >> 2) << 63 | 0x42)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(few_bits4, st.integers(0, 32), st.sampled_from([ALICE, BOB])), max_size=12),
    st.lists(st.tuples(few_bits6, st.integers(0, 128), st.sampled_from([ALICE, BOB])), max_size=12),
    st.lists(few_bits4, max_size=8),
    st.lists(few_bits6, max_size=8),
    st.sampled_from([BOB, CAROL]),
)
def test_any_table_agrees_with_a_slow_router(
    four: list[tuple[int, int, object]],
    six: list[tuple[int, int, object]],
    ask4: list[int],
    ask6: list[int],
    dropped: object,
) -> None:
    fast: AllowedIps[object] = AllowedIps()
    slow = SlowRouter()
    routes = [(ipaddress.IPv4Address(n), size, owner) for n, size, owner in four]
    for address, size, owner in [*routes, *((ipaddress.IPv6Address(n), s, o) for n, s, o in six)]:
        text = f"{address}/{size}"
        slow.routes[ipaddress.ip_network(text, strict=False)] = owner
        for prefix in parse_prefixes([text]):
            fast.put(prefix, owner)
    fast.drop(dropped)
    slow.routes = {n: owner for n, owner in slow.routes.items() if owner is not dropped}
    for question in [n.to_bytes(4, "big") for n in ask4] + [n.to_bytes(16, "big") for n in ask6]:
        assert fast.lookup(question) is slow.lookup(question)


def test_two_thousand_owners_agree_with_a_slow_router() -> None:
    chance = random.Random(7)
    fast: AllowedIps[object] = AllowedIps()
    slow = SlowRouter()
    for number in range(2000):
        text = f"{ipaddress.IPv4Address(chance.getrandbits(32))}/{chance.randint(8, 32)}"
        slow.routes[ipaddress.ip_network(text, strict=False)] = str(number)
        for prefix in parse_prefixes([text]):
            fast.put(prefix, str(number))
    known = [int(network.network_address) for network in slow.routes]
    for _ in range(200):
        near = (chance.choice(known) ^ chance.getrandbits(12)).to_bytes(4, "big")
        assert fast.lookup(near) == slow.lookup(near)
