"""XChaCha20-Poly1305 against the draft's vectors; who gets a cookie, and what it is good for."""

import random

import pytest

from lanrage.protocols.endpoint import Via
from lanrage.protocols.wireguard.constants import (
    BUCKETS_MAX,
    LOAD_HANDSHAKES_PER_SECOND,
    MILLISECOND,
    SECOND,
)
from lanrage.protocols.wireguard.cookie import (
    CookieJar,
    Doorkeeper,
    hchacha20,
    xchacha_open,
    xchacha_seal,
)

HOME = ("192.0.2.7", 4000)
PUBLIC_KEY = bytes(range(32))


def doorkeeper() -> Doorkeeper:
    return Doorkeeper(PUBLIC_KEY, random.Random(1).randbytes)


def body() -> bytes:
    return b"\x01\x00\x00\x00\xaa\xbb\xcc\xdd" + bytes(108)


def test_hchacha20_gives_the_subkey_of_the_draft() -> None:
    # draft-irtf-cfrg-xchacha-03 section 2.2.1
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    assert hchacha20(bytes(range(32)), nonce).hex() == (
        "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    )


def test_xchacha20_poly1305_seals_as_the_draft_does() -> None:
    # draft-irtf-cfrg-xchacha-03 appendix A.3.1
    plain = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you "
        b"only one tip for the future, sunscreen would be it."
    )
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
    sealed = xchacha_seal(key, nonce, plain, associated)
    assert sealed.hex() == (
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
        "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
        "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52e"
        "c0875924c1c7987947deafd8780acf49"
    )
    assert xchacha_open(key, nonce, sealed, associated) == plain
    assert xchacha_open(key, nonce, sealed, b"") is None


def test_mac1_needs_our_public_key_and_every_byte() -> None:
    door = doorkeeper()
    stamped = CookieJar(PUBLIC_KEY).stamp(body(), 0)
    assert door.has_mac1(stamped)
    assert not door.has_mac1(CookieJar(bytes(32)).stamp(body(), 0))
    for at in (0, 50, len(stamped) - 17):
        changed = bytearray(stamped)
        changed[at] ^= 0x80
        assert not door.has_mac1(bytes(changed))


def test_a_cookie_makes_a_mac2_that_counts_for_its_address_only() -> None:
    door, jar = doorkeeper(), CookieJar(PUBLIC_KEY)
    first = jar.stamp(body(), 0)
    assert first[-16:] == bytes(16)
    assert not door.has_mac2(first, HOME, 0)
    reply = door.reply(first, HOME, 0)
    assert len(reply) == 64
    assert reply[:8] == b"\x03\x00\x00\x00\xaa\xbb\xcc\xdd"
    assert jar.put_reply(reply, 0)
    second = jar.stamp(body(), SECOND)
    assert door.has_mac2(second, HOME, SECOND)
    assert not door.has_mac2(second, (HOME[0], HOME[1] + 1), SECOND)
    assert not door.has_mac2(second, ("192.0.2.8", HOME[1]), SECOND)


def test_a_cookie_ends_with_its_secret_after_120_seconds_and_5_sooner_for_its_holder() -> None:
    door, jar = doorkeeper(), CookieJar(PUBLIC_KEY)
    assert jar.put_reply(door.reply(jar.stamp(body(), 0), HOME, 0), 0)
    in_use = jar.stamp(body(), 115 * SECOND - 1)
    assert in_use[-16:] != bytes(16)
    assert door.has_mac2(in_use, HOME, 120 * SECOND - 1)
    assert not door.has_mac2(in_use, HOME, 120 * SECOND)
    assert jar.stamp(body(), 115 * SECOND)[-16:] == bytes(16)


def test_only_a_reply_to_the_last_message_is_taken_and_only_once() -> None:
    door, jar = doorkeeper(), CookieJar(PUBLIC_KEY)
    old = jar.stamp(body(), 0)
    newest = jar.stamp(body()[::-1], 0)
    assert not jar.put_reply(door.reply(old, HOME, 0), 0)
    reply = door.reply(newest, HOME, 0)
    assert not jar.put_reply(reply[:-1] + bytes([reply[-1] ^ 1]), 0)
    assert jar.put_reply(reply, 0)
    assert not jar.put_reply(reply, 0)
    assert not CookieJar(PUBLIC_KEY).put_reply(reply, 0)


def test_load_begins_with_too_many_messages_in_a_second_and_is_held_for_one() -> None:
    door = doorkeeper()
    calm = [door.under_load(n * MILLISECOND) for n in range(LOAD_HANDSHAKES_PER_SECOND)]
    assert not any(calm)
    assert door.under_load(500 * MILLISECOND)
    assert door.under_load(1499 * MILLISECOND)
    assert not door.under_load(1500 * MILLISECOND)


def test_an_address_has_five_at_once_and_twenty_a_second() -> None:
    door = doorkeeper()
    assert [door.allows(HOME, 0) for _ in range(6)] == [True] * 5 + [False]
    assert not door.allows(HOME, 49 * MILLISECOND)
    assert door.allows(HOME, 50 * MILLISECOND)
    assert not door.allows(HOME, 50 * MILLISECOND)
    allowed = sum(door.allows(HOME, SECOND + n * MILLISECOND) for n in range(10_000))
    assert 200 <= allowed <= 205


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("not an address", "nor this", False),
    ],
)
def test_ipv4_counts_by_address_and_ipv6_by_64_bits(one: str, other: str, same: bool) -> None:
    door = doorkeeper()
    while door.allows((one, 1), 0):
        pass
    assert door.allows((other, 2), 0) is not same


def test_senders_behind_one_relay_do_not_share_a_limit_and_cookies_are_not_exchanged() -> None:
    bob, carol = (Via("relay", "192.0.2.7:3478", number) for number in (1, 2))
    door, jar = doorkeeper(), CookieJar(PUBLIC_KEY)
    assert [door.allows(bob, 0) for _ in range(6)] == [True] * 5 + [False]
    assert door.allows(carol, 0)
    assert jar.put_reply(door.reply(jar.stamp(body(), 0), bob, 0), 0)
    stamped = jar.stamp(body(), SECOND)
    assert door.has_mac2(stamped, bob, SECOND)
    assert not door.has_mac2(stamped, carol, SECOND)


def test_the_table_of_addresses_is_bounded_and_empties_itself() -> None:
    door = doorkeeper()
    for number in range(BUCKETS_MAX):
        assert door.allows((f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1), 0)
    assert not door.allows(HOME, 0)
    assert door.allows(HOME, SECOND)
