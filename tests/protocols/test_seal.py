"""Signals: only who they are for can open them, and only who they name can have sent them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols import seal
from lanrage.protocols.partylog import Invalid
from lanrage.protocols.seal import Signal
from tests.protocols import party
from tests.protocols.party import ADA, BOB, CAT, Device

DATA = Path(__file__).parent.parent / "data" / "control"
PARTY = party.founded().party
OTHER_PARTY = party.founded(CAT).party
NONCE = bytes(range(12))
EXAMPLE = Signal(7, (("host", "192.0.2.7:51820"), ("mapped", "[2001:db8::7]:51820")))


def sealed(signal: Signal = EXAMPLE, sender: Device = ADA, to: Device = BOB) -> bytes:
    return seal.seal(
        signal,
        signer=sender.signer,
        private_key=sender.private,
        party=PARTY,
        to=to.peer,
        to_public=to.wireguard,
        nonce=NONCE,
    )


def opened(
    box: bytes,
    *,
    by: Device = BOB,
    sender: Device = ADA,
    party: str = PARTY,
    sender_public: bytes | None = None,
) -> Signal | Invalid:
    return seal.open_signal(
        box,
        private_key=by.private,
        party=party,
        sender=sender.peer,
        sender_public=sender.wireguard if sender_public is None else sender_public,
        to=by.peer,
    )


def code(result: Signal | Invalid) -> str:
    assert isinstance(result, Invalid), result
    return result.code


def test_a_signal_opens_for_the_one_it_is_for() -> None:
    assert opened(sealed()) == EXAMPLE


def test_the_bytes_on_the_wire_stay_as_they_were() -> None:
    golden = bytes.fromhex((DATA / "signal-v1.txt").read_text())
    assert sealed() == golden
    assert opened(golden) == EXAMPLE


def test_nobody_else_opens_it_and_it_holds_in_one_party_and_direction_only() -> None:
    box = sealed()
    assert code(opened(box, by=CAT)) == "sealed"
    assert code(opened(box, party=OTHER_PARTY)) == "sealed"
    assert code(opened(box, sender=CAT)) == "sealed"
    assert code(opened(box, by=ADA, sender=BOB)) == "sealed"


def test_a_member_who_knows_the_key_cannot_speak_for_the_other_side() -> None:
    # Bob shares the key with Ada, so he can seal what Ada would; but he cannot sign as her.
    key = seal._key(BOB.private, ADA.wireguard)
    assert key is not None
    aad = seal._aad(PARTY, ADA.peer, BOB.peer)
    payload = msgspec.msgpack.encode(EXAMPLE)
    text = BOB.signer.sign(aad + payload) + payload
    forged = b"\x01" + NONCE + ChaCha20Poly1305(key).encrypt(NONCE, text, aad)
    assert code(opened(forged)) == "signature"


def test_every_changed_bit_is_noticed() -> None:
    good = sealed()
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1
        assert code(opened(bytes(bad))) == ("version" if at == 0 else "sealed"), at


def test_a_key_of_small_order_is_an_answer_not_an_exception() -> None:
    assert code(opened(sealed(), sender_public=bytes(32))) == "sealed"
    assert code(opened(sealed(), sender_public=b"short")) == "sealed"


@pytest.mark.parametrize(
    "signal",
    [
        Signal(-1, ()),
        Signal(1, (("host", "192.0.2.7:1"),) * 33),
        Signal(1, (("host", "$(reboot):1"),)),
        Signal(1, (("<b>", "192.0.2.7:1"),)),
        Signal(1, (("host", "1" * 65),)),
    ],
)
def test_signed_nonsense_of_a_member_is_refused(signal: Signal) -> None:
    assert code(opened(sealed(signal))) == "malformed"


@settings(max_examples=200)
@given(st.binary(max_size=9_000))
def test_any_bytes_are_an_answer(box: bytes) -> None:
    assert isinstance(opened(box), Invalid)
    assert isinstance(opened(b"\x01" + box), Invalid)


_addresses = st.from_regex(r"[0-9a-f.:\[\]]{3,64}", fullmatch=True)


@settings(max_examples=50)
@given(
    generation=st.integers(0, 1 << 53),
    candidates=st.lists(st.tuples(st.sampled_from(["host", "mapped"]), _addresses), max_size=32),
)
def test_any_signal_opens_again(generation: int, candidates: list[tuple[str, str]]) -> None:
    signal = Signal(generation, tuple(candidates))
    box = sealed(signal)
    assert len(box) <= seal.SEALED_MAX
    assert opened(box) == signal
