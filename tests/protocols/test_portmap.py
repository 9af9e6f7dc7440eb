"""NAT-PMP and PCP as bytes: golden requests, answers of real shape, and anything else."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanrage.protocols import portmap
from lanrage.protocols.portmap import Denied, External, Given

DATA = Path(__file__).parents[1] / "data" / "portmap"
NONCE = bytes(range(12))
SECRET = bytes(32)


def golden(name: str) -> bytes:
    return bytes.fromhex((DATA / f"{name}.hex").read_text())


def test_a_nat_pmp_request_is_the_twelve_bytes_of_rfc_6886() -> None:
    assert portmap.pmp_map("udp", 26666, 26666, 7200) == golden("nat-pmp-map-udp")
    assert portmap.pmp_map("tcp", 8667, 0, 0) == golden("nat-pmp-delete-tcp")


def test_a_pcp_request_is_the_sixty_bytes_of_rfc_6887() -> None:
    packet = portmap.pcp_map("192.168.1.20", NONCE, "udp", 26666, 26666, 7200)
    assert packet == golden("pcp-map-udp")
    assert len(packet) == 60


def pcp_answer(result: int = 0, nonce: bytes = NONCE, host: str = "198.51.100.4") -> bytes:
    head = bytes([2, 0x81, 0, result]) + (3600).to_bytes(4, "big") + (99).to_bytes(4, "big")
    ports = (26666).to_bytes(2, "big") + (40001).to_bytes(2, "big")
    address = IPv6Address(f"::ffff:{host}").packed
    return head + bytes(12) + nonce + bytes([17, 0, 0, 0]) + ports + address


def test_what_a_router_gave_is_read_in_both_languages() -> None:
    mapped = bytes.fromhex("0081 0000 00000063 682a 9c41 00000e10")
    assert portmap.parse(mapped) == Given("nat-pmp", "udp", 26666, 40001, "", 3600, 99)
    expected = Given("pcp", "udp", 26666, 40001, "198.51.100.4", 3600, 99)
    assert portmap.parse(pcp_answer(), NONCE) == expected
    external = bytes.fromhex("0080 0000 00000063 c6336404")
    assert portmap.parse(external) == External("198.51.100.4")


def test_an_answer_to_another_nonce_is_nobodys() -> None:
    assert portmap.parse(pcp_answer(), bytes(12)) is None
    assert portmap.parse(pcp_answer(result=8), bytes(12)) is None


@pytest.mark.parametrize(("result", "word"), [(2, "refuse"), (8, "room"), (200, "200")])
def test_a_refusal_is_told_in_words(result: int, word: str) -> None:
    denied = portmap.parse(pcp_answer(result=result), NONCE)
    assert isinstance(denied, Denied)
    assert word in denied.reason
    assert portmap.parse(bytes([0, 0x81, 0, 3])) == Denied("nat-pmp", "it has no connection itself")


def test_each_mapping_has_a_nonce_of_its_own_for_ever() -> None:
    first = portmap.nonce(SECRET, "udp", 26666)
    assert first == portmap.nonce(SECRET, "udp", 26666)
    others = {portmap.nonce(SECRET, "tcp", 26666), portmap.nonce(b"x" * 32, "udp", 26666)}
    assert first not in others
    assert len(first) == 12


@pytest.mark.parametrize("host", ["10.1.2.3", "100.64.0.1", "192.168.0.1", "0.0.0.0", "fd00::1"])
def test_an_outside_address_that_strangers_cannot_reach_is_known(host: str) -> None:
    assert not portmap.is_reachable(host)
    assert portmap.is_reachable("198.51.100.4")


@given(st.binary(max_size=80))
def test_no_bytes_make_it_raise(packet: bytes) -> None:
    portmap.parse(packet, NONCE)
    portmap.parse(bytes([2, 0x81]) + packet, NONCE)
    portmap.parse(bytes([0, 0x81, 0, 0]) + packet, NONCE)
