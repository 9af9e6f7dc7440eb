"""What the outside can do: replay, flood, forge, and send garbage."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanrage.protocols.wireguard import noise
from lanrage.protocols.wireguard.constants import (
    DROP_REASONS,
    LOAD_HANDSHAKES_PER_SECOND,
    MILLISECOND,
    SECOND,
)
from lanrage.protocols.wireguard.cookie import CookieJar
from lanrage.protocols.wireguard.engine import Engine

from .test_noise import LOW_ORDER
from .wire import INNER_A, INNER_B, WALL_OFFSET_NS, A, B, Pair, engine, ipv4, pair

CHANCE = random.Random(3)


def initiation(
    to: Engine,
    *,
    sender: Engine | None = None,
    unix_ns: int = WALL_OFFSET_NS + SECOND,
    jar: CookieJar | None = None,
) -> bytes:
    """An initiation as an attacker (or a peer whose key is known to the test) would make it."""
    private = random.Random("first").randbytes(32) if sender is None else CHANCE.randbytes(32)
    identity = noise.Identity(private)
    shared = identity.shared(to.public_key)
    assert shared is not None
    message, _ = noise.initiate(
        identity,
        to.public_key,
        shared,
        sender=7,
        ephemeral=CHANCE.randbytes(32),
        timestamp=noise.tai64n(unix_ns),
    )
    return (jar or CookieJar(to.public_key)).stamp(message, 0)


def known() -> Pair:
    """`initiation(both.b)` comes from the key of `both.a`."""
    both = pair()
    if both.a.public_key != engine("first").public_key:
        both = pair(smaller="b")
    return both


def reasons(core: Engine) -> dict[str, int]:
    return {reason: count for reason, count in core.drops.items() if count}


def test_a_replayed_or_older_initiation_is_not_answered() -> None:
    both = known()
    stamp_ns = WALL_OFFSET_NS + SECOND
    message = initiation(both.b, unix_ns=stamp_ns)
    both.b.receive([message], A, SECOND)
    assert len(both.b.take_outgoing()) == 1
    both.b.receive([message], A, 9 * SECOND)
    both.b.receive([initiation(both.b, unix_ns=stamp_ns)], A, 10 * SECOND)
    both.b.receive([initiation(both.b, unix_ns=stamp_ns - SECOND)], A, 11 * SECOND)
    assert both.b.take_outgoing() == []
    assert reasons(both.b) == {"replayed_initiation": 3}
    both.b.receive([initiation(both.b, unix_ns=stamp_ns + SECOND)], A, 12 * SECOND)
    assert len(both.b.take_outgoing()) == 1


def test_initiations_of_one_peer_are_20_ms_apart() -> None:
    both = known()
    for number, at_ms in enumerate((1000, 1019, 1020, 1039, 1041)):
        message = initiation(both.b, unix_ns=WALL_OFFSET_NS + number * SECOND)
        both.b.receive([message], A, at_ms * MILLISECOND)
    assert len(both.b.take_outgoing()) == 3
    assert reasons(both.b) == {"early_initiation": 2}


def test_a_stranger_is_not_answered() -> None:
    both = pair()
    both.b.receive([initiation(both.b, sender=engine("stranger"))], A, SECOND)
    assert both.b.take_outgoing() == []
    assert reasons(both.b) == {"unknown_peer": 1}


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_low_order_ephemeral_is_not_answered(point: str) -> None:
    both = known()
    low = bytes.fromhex(point)
    message = initiation(both.b)
    forged = CookieJar(both.b.public_key).stamp(message[:8] + low + message[40:-32], 0)
    assert both.b.receive([forged], A, SECOND) == []
    assert both.b.take_outgoing() == []
    assert reasons(both.b) == {"bad_initiation": 1}

    both.wire.send(A, both.to_b, [ipv4(INNER_A, INNER_B)])
    asked = both.of_kind(1)[0].datagram
    response = struct.pack("<II", 2, 9) + asked[4:8] + low + bytes(16)
    both.a.receive([CookieJar(both.a.public_key).stamp(response, 0)], B, both.wire.now_ns)
    assert both.a.take_outgoing() == []
    assert reasons(both.a) == {"bad_response": 1}
    both.wire.run(0.2)
    assert both.to_b.has_session, "and the true response is still welcome"


def test_a_flood_costs_no_curve_multiplication_and_no_session() -> None:
    both = known()
    both.connect()
    flood = [initiation(both.b, sender=engine("stranger")) for _ in range(20)]
    start_ns, sent, got = both.wire.now_ns, 0, 0
    worked = both.b.handshakes_worked
    for number in range(10_000):  # 5,000 a second for 2 s, from ever new addresses
        now_ns = start_ns + number * SECOND // 5000
        source = (f"198.51.{number >> 8 & 255}.{number & 255}", 1 + number % 60_000)
        both.b.receive([flood[number % len(flood)]], source, now_ns)
        if number % 50 == 0:
            sent += 1
            data = both.a.seal(both.to_b, [ipv4(INNER_A, INNER_B)], now_ns)
            got += len(both.b.receive(data, A, now_ns))
    assert got == sent
    assert both.b.handshakes_worked - worked <= LOAD_HANDSHAKES_PER_SECOND
    replies = both.b.take_outgoing()
    assert {len(datagram) for _, datagram in replies} == {64}, "smaller than what was asked"
    assert both.b.drops["no_cookie"] >= 9_900


def test_under_load_a_cookie_opens_the_door_20_times_a_second() -> None:
    both = known()
    jar = CookieJar(both.b.public_key)
    now_ns = SECOND
    for _ in range(LOAD_HANDSHAKES_PER_SECOND + 1):
        both.b.receive([initiation(both.b, sender=engine("stranger"))], B, now_ns)
    worked = both.b.handshakes_worked
    both.b.take_outgoing()
    both.b.receive([initiation(both.b, jar=jar)], A, now_ns)
    ((to, reply),) = both.b.take_outgoing()
    assert to == A
    assert both.b.handshakes_worked == worked
    assert jar.put_reply(reply, now_ns)
    for number in range(10):
        message = initiation(both.b, jar=jar, unix_ns=WALL_OFFSET_NS + number * SECOND)
        both.b.receive([message], A, now_ns)
    assert both.b.handshakes_worked == worked + 5
    assert both.b.drops["rate_limited"] == 5
    both.b.receive([initiation(both.b, jar=jar)], ("192.0.2.1", 9), now_ns)
    assert both.b.handshakes_worked == worked + 5, "a cookie is good for one address"


def test_an_engine_that_is_sent_a_cookie_uses_it_with_its_next_try() -> None:
    both = known()
    for _ in range(LOAD_HANDSHAKES_PER_SECOND + 1):
        both.b.receive([initiation(both.b, sender=engine("stranger"))], B, both.wire.now_ns)
    both.b.take_outgoing()
    both.wire.send(A, both.to_b, [ipv4(INNER_A, INNER_B)])
    both.wire.run(4)
    assert [s.kind for s in both.wire.sent] == [1, 3]
    # The load goes on until the retry comes.
    for _ in range(LOAD_HANDSHAKES_PER_SECOND + 1):
        both.b.receive([initiation(both.b, sender=engine("other"))], B, both.wire.now_ns + SECOND)
    both.b.take_outgoing()
    both.wire.run(1.5)
    retry = both.of_kind(1, A)[-1].datagram
    assert retry[-16:] != bytes(16)
    assert both.to_b.has_session


def test_a_forged_cookie_is_not_taken() -> None:
    both = pair()
    both.wire.send(A, both.to_b, [ipv4(INNER_A, INNER_B)])
    index = both.of_kind(1)[0].datagram[4:8]
    forged = b"\x03\x00\x00\x00" + index + bytes(56)
    both.a.receive([forged, b"\x03\x00\x00\x00" + bytes(60)], B, both.wire.now_ns)
    assert reasons(both.a) == {"bad_cookie": 1, "unknown_index": 1}


def test_reserved_bytes_make_another_type() -> None:
    both = known()
    for at in (1, 2, 3):
        message = bytearray(initiation(both.b))
        message[at] = 1
        both.b.receive([bytes(message)], A, SECOND)
    both.connect()
    datagram = bytearray(both.a.seal(both.to_b, [ipv4(INNER_A, INNER_B)], both.wire.now_ns)[0])
    datagram[2] = 9
    assert both.b.receive([bytes(datagram)], A, both.wire.now_ns) == []
    assert reasons(both.b) == {"unknown_type": 4}


def test_a_response_is_taken_once() -> None:
    both = pair()
    both.connect()
    response = both.of_kind(2)[0].datagram
    both.a.receive([response], B, both.wire.now_ns)
    assert reasons(both.a) == {"unknown_index": 1}
    assert both.a.take_outgoing() == []


def messages(core: Engine, live: list[bytes]) -> st.SearchStrategy[bytes]:
    """Garbage, garbage shaped like each message, and true messages with something changed."""
    heads = st.sampled_from([b"\x01", b"\x02", b"\x03", b"\x04"]).map(lambda t: t + bytes(3))
    sizes = st.sampled_from([0, 12, 28, 60, 88, 144, 200])
    shaped = st.builds(
        lambda head, size, seed: head + random.Random(seed).randbytes(size),
        heads,
        sizes,
        st.integers(0, 2**16),
    )
    stamped = st.builds(
        lambda head, size, seed: CookieJar(core.public_key).stamp(
            head + random.Random(seed).randbytes(size), 0
        ),
        heads,
        st.sampled_from([56, 112]),
        st.integers(0, 2**16),
    )

    def change(datagram: bytes, at: int, flip: int, keep: int) -> bytes:
        changed = bytearray(datagram)
        changed[at % len(changed)] ^= flip
        return bytes(changed[: keep % (len(changed) + 1)]) if keep % 3 == 0 else bytes(changed)

    changed = st.builds(
        change,
        st.sampled_from(live),
        st.integers(0, 147),
        st.integers(0, 255),
        st.integers(0, 300),
    )
    return st.one_of(st.binary(max_size=200), shaped, stamped, changed)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_bytes_raise_and_none_but_true_ones_pass(data: st.DataObject) -> None:
    both = known()
    both.connect()
    live = [s.datagram for s in both.wire.sent if s.to == B]
    live += both.a.seal(both.to_b, [ipv4(INNER_A, INNER_B, b"true")] * 3, both.wire.now_ns)
    true = {ipv4(INNER_A, INNER_B, b"true"), ipv4(INNER_A, INNER_B, b"hello")}
    batches = data.draw(st.lists(st.lists(messages(both.b, live), max_size=6), max_size=8))
    for batch in batches:
        for peer, packets in both.b.receive(batch, A, both.wire.now_ns):
            assert peer is both.to_a
            assert true.issuperset(packets)
        both.wire.now_ns += SECOND
        both.b.handle_timer(both.wire.now_ns)
    assert set(both.b.drops) == set(DROP_REASONS)
    assert len(both.b.take_outgoing()) <= 100
    # And the session lives.
    both.wire.received[B].clear()
    both.wire.send(A, both.to_b, [ipv4(INNER_A, INNER_B, b"still here")])
    both.wire.run(0.1)
    assert both.wire.received[B] == [ipv4(INNER_A, INNER_B, b"still here")]
