"""The handshake byte by byte, against a specification's oracle and against golden bytes."""

import json
from hashlib import blake2s, sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from lanrage.protocols.wireguard import noise
from lanrage.protocols.wireguard.constants import CONSTRUCTION, IDENTIFIER, SECOND

from .noise_oracle import IkPsk2, public

DATA = Path(__file__).parents[2] / "data" / "wireguard"

INITIATOR, RESPONDER = sha256(b"initiator").digest(), sha256(b"responder").digest()
EPHEMERAL_1, EPHEMERAL_2 = sha256(b"first").digest(), sha256(b"second").digest()
PSK = sha256(b"preshared").digest()
TIMESTAMP = noise.tai64n(1_700_000_000 * SECOND)

# What netsh tries: every point whose secret with any key is zero (cr.yp.to/ecdh.html).
LOW_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def first_message() -> tuple[bytes, noise.Initiation]:
    us = noise.Identity(INITIATOR)
    shared = us.shared(public(RESPONDER))
    assert shared is not None
    return noise.initiate(
        us, public(RESPONDER), shared, sender=0x01020304, ephemeral=EPHEMERAL_1, timestamp=TIMESTAMP
    )


def second_message(datagram: bytes) -> tuple[bytes, noise.SessionKeys]:
    them = noise.Identity(RESPONDER)
    announced = noise.read_static(them, datagram)
    assert announced is not None
    assert announced.public_key == public(INITIATOR)
    shared = them.shared(announced.public_key)
    assert shared is not None
    authenticated = noise.read_timestamp(announced, shared)
    assert authenticated is not None
    assert authenticated.timestamp == TIMESTAMP
    answer = noise.respond(
        authenticated, sender=0x0A0B0C0D, ephemeral=EPHEMERAL_2, preshared_key=PSK
    )
    assert answer is not None
    return answer


def test_the_oracle_reproduces_the_public_vector_of_this_suite() -> None:
    vector = json.loads((DATA / "cacophony_ikpsk2.json").read_text())
    given = {k: bytes.fromhex(v) for k, v in vector.items() if isinstance(v, str)}
    oracle = IkPsk2(
        prologue=given["prologue"],
        psk=given["psk"],
        statics=(given["initiator_static"], given["responder_static"]),
    )
    first, second, third, fourth = (
        (bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]
    )
    assert oracle.first(given["initiator_ephemeral"], first[0]) == first[1]
    assert oracle.second(given["responder_ephemeral"], second[0]) == second[1]
    assert oracle.symmetric.h == given["handshake_hash"]
    for key, (payload, sealed) in zip(oracle.split(), (third, fourth), strict=True):
        assert ChaCha20Poly1305(key).encrypt(bytes(12), payload, None) == sealed


def test_both_messages_and_both_keys_are_what_the_oracle_says() -> None:
    oracle = IkPsk2(prologue=IDENTIFIER, psk=PSK, statics=(INITIATOR, RESPONDER))
    message, initiation = first_message()
    assert message[:8] == bytes((1, 0, 0, 0, 4, 3, 2, 1))
    assert message[8:] == oracle.first(EPHEMERAL_1, TIMESTAMP)

    response, theirs = second_message(message + bytes(32))
    assert response[:12] == bytes((2, 0, 0, 0, 0xD, 0xC, 0xB, 0xA, 4, 3, 2, 1))
    assert response[12:] == oracle.second(EPHEMERAL_2, b"")

    ours = noise.consume_response(noise.Identity(INITIATOR), initiation, response + bytes(32), PSK)
    assert ours is not None
    assert [ours.send, ours.receive] == oracle.split()
    assert [theirs.receive, theirs.send] == oracle.split()


def test_the_messages_are_the_golden_bytes() -> None:
    golden = json.loads((DATA / "handshake.json").read_text())
    message, _ = first_message()
    response, keys = second_message(message + bytes(32))
    assert message.hex() == golden["initiation"]
    assert response.hex() == golden["response"]
    assert keys.receive.hex() == golden["initiator_to_responder"]
    assert keys.send.hex() == golden["responder_to_initiator"]


def test_the_first_chaining_key_and_hash_are_the_published_ones() -> None:
    chaining_key = blake2s(CONSTRUCTION).digest()
    assert chaining_key.hex() == "60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36"
    start = blake2s(chaining_key + IDENTIFIER).hexdigest()
    assert start == "2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3"


def test_another_preshared_key_makes_no_session() -> None:
    message, initiation = first_message()
    response, _ = second_message(message + bytes(32))
    us = noise.Identity(INITIATOR)
    assert noise.consume_response(us, initiation, response + bytes(32), bytes(32)) is None


@pytest.mark.parametrize("at", [9, 45, 100])
def test_a_changed_byte_of_an_initiation_is_refused(at: int) -> None:
    message, _ = first_message()
    changed = bytearray(message + bytes(32))
    changed[at] ^= 1
    them = noise.Identity(RESPONDER)
    announced = noise.read_static(them, bytes(changed))
    if announced is None:
        assert at < 88  # ephemeral or static
        return
    shared = them.shared(announced.public_key)
    assert shared is not None
    assert noise.read_timestamp(announced, shared) is None


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_low_order_point_never_raises_and_never_passes(point: str) -> None:
    low = bytes.fromhex(point)
    us = noise.Identity(INITIATOR)
    assert us.shared(low) is None
    message, initiation = first_message()
    assert (
        noise.read_static(noise.Identity(RESPONDER), message[:8] + low + message[40:] + bytes(32))
        is None
    )
    response, _ = second_message(message + bytes(32))
    forged = response[:12] + low + response[44:] + bytes(32)
    assert noise.consume_response(us, initiation, forged, PSK) is None
    received = noise.Authenticated(low, TIMESTAMP, 1, low, bytes(32), bytes(32))
    assert noise.respond(received, sender=1, ephemeral=EPHEMERAL_2, preshared_key=PSK) is None


def test_timestamps_are_tai64n_and_coarse() -> None:
    # 2^62 + 10 s is TAI at the Unix epoch.
    assert noise.tai64n(0).hex() == "400000000000000a00000000"
    assert noise.tai64n(SECOND + (1 << 24) + 5).hex() == "400000000000000b01000000"
    assert noise.tai64n(-5).hex() == "400000000000000a00000000"


def test_a_clock_that_stands_still_gives_greater_timestamps_all_the_same() -> None:
    stamp = noise.tai64n(SECOND - 1)
    for _ in range(200):
        later = noise.later_tai64n(stamp)
        assert later > stamp
        assert int.from_bytes(later[8:], "big") < SECOND
        stamp = later
