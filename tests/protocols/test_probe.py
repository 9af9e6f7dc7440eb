"""Probes: golden bytes, directions that never pass for each other, and nothing forged believed."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols import endpoint, probe, stun
from lanrage.protocols.endpoint import Address

DATA = Path(__file__).parents[1] / "data" / "probe"
ONE, TWO, THREE = bytes([1] * 32), bytes([2] * 32), bytes([3] * 32)
EPOCH = b"epoch-01"
SOURCE = ("203.0.113.7", 40123)
SOURCE6 = ("2001:db8::7", 40123)


def public(private_key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def keys(own: bytes, peer: bytes) -> probe.Keys:
    derived = probe.derive(own, public(peer))
    assert derived is not None
    return derived


ALICE, BOB = keys(ONE, TWO), keys(TWO, ONE)


def opened(datagram: bytes, with_keys: probe.Keys) -> probe.Probe:
    found = probe.open_probe(datagram, with_keys)
    assert found is not None
    return found


def test_ping_and_pongs_are_the_bytes_we_always_sent() -> None:
    ping = probe.ping(ALICE, EPOCH, 7)
    arrived = opened(ping, BOB)
    written = {
        "ping": ping,
        "pong-ipv4": probe.pong(BOB, arrived, SOURCE),
        "pong-ipv6": probe.pong(BOB, arrived, SOURCE6),
    }
    for name, datagram in written.items():
        assert datagram.hex() == (DATA / f"{name}.hex").read_text().strip(), name


def test_a_pong_is_as_long_as_its_ping_and_tells_where_that_came_from() -> None:
    ping = probe.ping(ALICE, EPOCH, 7)
    arrived = opened(ping, BOB)
    assert arrived == probe.Probe(probe.PING, EPOCH, 7, None)
    for source in (SOURCE, SOURCE6):
        pong = probe.pong(BOB, arrived, source)
        assert len(pong) == len(ping) == probe.SIZE
        assert opened(pong, ALICE) == probe.Probe(probe.PONG, EPOCH, 7, source)


def test_the_hint_names_the_sender_to_the_receiver_only() -> None:
    hint = probe.hint(probe.ping(ALICE, EPOCH, 1))
    assert hint == BOB.receiving_hint
    assert hint != ALICE.receiving_hint
    assert hint not in {keys(THREE, ONE).receiving_hint, keys(THREE, TWO).receiving_hint}


def test_our_own_ping_thrown_back_at_us_fails() -> None:
    assert probe.open_probe(probe.ping(ALICE, EPOCH, 1), ALICE) is None


def test_another_member_cannot_make_a_probe_of_this_pair() -> None:
    assert probe.open_probe(probe.ping(keys(THREE, TWO), EPOCH, 1), BOB) is None


def test_every_changed_bit_is_noticed() -> None:
    ping = probe.ping(ALICE, EPOCH, 7)
    for bit in range(len(ping) * 8):
        changed = bytearray(ping)
        changed[bit // 8] ^= 1 << bit % 8
        assert probe.open_probe(bytes(changed), BOB) is None, bit


@pytest.mark.parametrize(
    "bad", [bytes(32), b"\x01" + bytes(31), public(ONE), b"short", bytes([255] * 32)]
)
def test_a_useless_public_key_gives_no_keys_and_no_exception(bad: bytes) -> None:
    derived = probe.derive(ONE, bad)
    assert derived is None or bad == bytes([255] * 32)


def test_probes_wireguard_and_stun_are_told_apart_by_their_first_bytes() -> None:
    ping = probe.ping(ALICE, EPOCH, 7)
    assert probe.is_probe(ping)
    assert not stun.is_stun(ping)
    assert int.from_bytes(ping[:4], "little") not in (1, 2, 3, 4)
    assert not probe.is_probe(stun.request(bytes(12)))


def test_a_ping_is_admitted_once_in_any_order() -> None:
    window = probe.Window()
    order = [5, 3, 9, 3, 5, 4, 2000, 9, 1999, 977, 976, 2000]
    admitted = [n for n in order if window.admit(probe.Probe(probe.PING, EPOCH, n, None))]
    assert admitted == [5, 3, 9, 4, 2000, 1999, 977]


def test_an_epoch_that_ended_stays_refused() -> None:
    window = probe.Window()
    first, second = b"epoch-01", b"epoch-02"
    assert window.admit(probe.Probe(probe.PING, first, 1, None))
    assert window.admit(probe.Probe(probe.PING, second, 1, None))
    assert not window.admit(probe.Probe(probe.PING, first, 2, None))
    assert window.admit(probe.Probe(probe.PING, second, 2, None))


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_the_window_admits_no_sequence_twice(sequences: list[int]) -> None:
    window = probe.Window()
    admitted = [n for n in sequences if window.admit(probe.Probe(probe.PING, EPOCH, n, None))]
    assert len(admitted) == len(set(admitted))


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_raise(datagram: bytes) -> None:
    assert probe.open_probe(datagram, BOB) is None
    assert probe.open_probe(probe.MAGIC + datagram[:60].ljust(60, b"\0"), BOB) is None


@settings(deadline=None)
@given(
    host=st.ip_addresses().map(str).filter(lambda text: "%" not in text),
    port=st.integers(1, 65535),
)
def test_every_endpoint_survives_its_text_and_its_pong(host: str, port: int) -> None:
    address: Address = (host, port)
    assert endpoint.parse(endpoint.text(address)) == address
    arrived = opened(probe.ping(ALICE, EPOCH, 1), BOB)
    assert opened(probe.pong(BOB, arrived, address), ALICE).observed == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.2.3.4",
        "1.2.3.4:0",
        "1.2.3.4:65536",
        "1.2.3.4:-1",
        "host:1",
        "::1:80",
        "[::1]",
        "[1.2.3.4]:5",
        "[fe80::1%eth0]:5",
        "1.2.3.4:٣",
        "1.2.3.4:99999999999999999999",
        "1.2.3.4 :5",
        "01.2.3.4:5",
    ],
)
def test_what_is_no_endpoint_is_none(text: str) -> None:
    assert endpoint.parse(text) is None


@pytest.mark.parametrize(
    ("host", "usable"),
    [
        ("192.168.1.10", True),
        ("8.8.8.8", True),
        ("100.64.0.1", True),
        ("169.254.3.4", True),
        ("2001:4860::1", True),
        ("fd00::1", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("0.1.2.3", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("250.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("ff02::1", False),
        ("fe80::1", False),
        ("::ffff:1.2.3.4", False),
        ("nonsense", False),
    ],
)
def test_only_addresses_another_computer_can_own_are_unicast(host: str, usable: bool) -> None:
    assert endpoint.is_unicast((host, 51820)) is usable
    assert not endpoint.is_unicast((host, 0))
