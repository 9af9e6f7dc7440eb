"""The relay's messages byte by byte: golden files, round trips, and that nothing raises."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import wire
from tests.protocols.relay.answering import keys_of, public

GOLDEN = Path(__file__).parents[2] / "data" / "relay"
MEMBER, RELAY = bytes([1]) * 32, bytes([2]) * 32
MEMBERS = keys_of(MEMBER, RELAY, relay=False)
RELAYS = keys_of(RELAY, MEMBER, relay=True)
NONCE, BOOT, COOKIE = b"a nonce.", b"boot one", b"sixteen of them!"
TICKET = bytes(range(wire.TICKET_BYTES))
ASKED = wire.Bind(NONCE, TICKET)
ANSWERED = wire.Bind(NONCE, TICKET, BOOT, COOKIE)
CHALLENGED = wire.Challenge(NONCE, BOOT, COOKIE)
WELCOMED = wire.Welcome(NONCE, BOOT, 60, ("198.51.100.7", 40_000))
WELCOMED6 = wire.Welcome(NONCE, BOOT, 60, ("2001:db8::7", 40_000))
BEAT = wire.Beat(BOOT, 258)
STRANGER = wire.Stranger(BOOT)

MESSAGES: dict[str, tuple[bytes, wire.Message]] = {
    "bind": (wire.bind(ASKED), ASKED),
    "challenge": (wire.challenge(CHALLENGED), CHALLENGED),
    "answer": (wire.answer(ANSWERED, MEMBERS), ANSWERED),
    "welcome": (wire.welcome(WELCOMED, RELAYS), WELCOMED),
    "welcome-ipv6": (wire.welcome(WELCOMED6, RELAYS), WELCOMED6),
    "beat": (wire.beat(BEAT, MEMBERS), BEAT),
    "beaten": (wire.beaten(BEAT, RELAYS), BEAT),
    "stranger": (wire.stranger(STRANGER), STRANGER),
}
SEALED = {"answer": RELAYS, "welcome": MEMBERS, "beat": RELAYS, "beaten": MEMBERS}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_the_bytes_it_has_always_been(name: str) -> None:
    made, message = MESSAGES[name]
    golden = bytes.fromhex((GOLDEN / f"{name}.hex").read_text())
    assert made == golden
    assert wire.read(golden) == message


@pytest.mark.parametrize("name", SEALED)
def test_a_seal_breaks_with_any_changed_byte_and_counts_for_its_direction_alone(name: str) -> None:
    made, _ = MESSAGES[name]
    receiver = SEALED[name]
    other = RELAYS if receiver is MEMBERS else MEMBERS
    assert wire.is_sealed(made, receiver)
    assert not wire.is_sealed(made, other)
    for at in range(0, len(made), 5):
        changed = bytearray(made)
        changed[at] ^= 0x80
        assert not wire.is_sealed(bytes(changed), receiver)


def test_all_messages_of_a_bind_have_one_size_and_a_stranger_is_the_shortest() -> None:
    assert len({len(MESSAGES[name][0]) for name in ("bind", "challenge", "answer", "welcome")}) == 1
    assert len(MESSAGES["beat"][0]) == len(MESSAGES["beaten"][0])
    assert len(MESSAGES["stranger"][0]) <= wire.RELAYED_MIN


def test_both_ends_derive_the_same_keys_and_nobody_from_a_point_of_low_order() -> None:
    assert (MEMBERS.sending, MEMBERS.receiving) == (RELAYS.receiving, RELAYS.sending)
    assert wire.derive(MEMBER, bytes(32), relay=False) is None
    third = wire.derive(bytes([3]) * 32, public(RELAY), relay=False)
    assert third != MEMBERS


ENDS = st.integers(1, wire.GUEST_MAX)


@given(ENDS, ENDS)
def test_a_number_names_both_ends(sender: int, receiver: int) -> None:
    number = wire.number(sender, receiver)
    assert 0 < number < 1 << 24
    assert wire.ends(number) == (sender, receiver)


@given(st.sampled_from([1, 2, 3, 4]), st.binary(min_size=28, max_size=100), ENDS, ENDS)
def test_a_stamp_comes_off_again(kind: int, rest: bytes, sender: int, receiver: int) -> None:
    number = wire.number(sender, receiver)
    for datagram in (bytes([kind, 0, 0, 0]) + rest, wire.PROBE_MAGIC + rest):
        stamped = wire.stamp(datagram, number)
        assert len(stamped) == len(datagram)
        assert wire.is_relayed(stamped)
        assert not wire.is_relayed(datagram)
        assert wire.number_of(stamped) == number
        assert wire.unstamp(stamped) == datagram


@given(st.binary(max_size=300))
def test_no_bytes_raise(datagram: bytes) -> None:
    assert wire.read(datagram) is None
    wire.is_relayed(datagram)


@given(st.sampled_from(sorted(MESSAGES)), st.integers(0, 207), st.integers(0, 255))
def test_a_message_with_any_byte_changed_raises_nothing(name: str, at: int, byte: int) -> None:
    changed = bytearray(MESSAGES[name][0])
    changed[at % len(changed)] = byte
    said = wire.read(bytes(changed))
    assert said is None or isinstance(said, wire.Message)


@given(st.ip_addresses().map(str), st.integers(0, 65_535))
def test_any_address_can_be_told(host: str, port: int) -> None:
    observed: Address = (host, port)
    said = wire.welcome(wire.Welcome(NONCE, BOOT, 1, observed), RELAYS)
    assert wire.read(said) == wire.Welcome(NONCE, BOOT, 1, observed)


def test_keys_show_nothing_of_themselves() -> None:
    assert repr(MEMBERS) == "Keys()"
