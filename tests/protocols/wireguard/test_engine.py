"""Packets through two engines: what arrives, what is dropped and under which name."""

import pytest

from lanrage.protocols.endpoint import Via
from lanrage.protocols.wireguard.constants import (
    MILLISECOND,
    OUTGOING_MAX,
    QUEUED_PACKETS_MAX,
    SECOND,
)
from lanrage.protocols.wireguard.engine import Engine, SessionDown, SessionUp

from .test_noise import LOW_ORDER
from .wire import INNER_A, INNER_B, WALL_OFFSET_NS, A, B, Pair, Wire, engine, ipv4, ipv6, pair

PSK = bytes(range(32))


def numbered(count: int, size: int = 40) -> list[bytes]:
    return [ipv4(INNER_A, INNER_B, n.to_bytes(4, "big") + bytes(size - 4)) for n in range(count)]


def dropped(core: Engine) -> dict[str, int]:
    return {reason: count for reason, count in core.drops.items() if count}


def test_the_first_packet_starts_a_handshake_and_arrives_after_one_round_trip() -> None:
    both = pair()
    packet = ipv4(INNER_A, INNER_B, b"first")
    both.wire.send(A, both.to_b, [packet])
    both.wire.run(0.06)
    assert both.wire.received[B] == [packet]
    assert [(s.source, len(s.datagram)) for s in both.wire.sent] == [(A, 148), (B, 92), (A, 64)]
    assert both.wire.notices == {
        A: [SessionUp(both.to_b, 40 * MILLISECOND)],
        B: [SessionUp(both.to_a, 40 * MILLISECOND)],
    }


@pytest.mark.parametrize("starter", [A, B])
def test_either_side_may_start_and_both_may_send(starter: tuple[str, int]) -> None:
    both = pair(psk_a=PSK, psk_b=PSK)
    to_b, to_a = ipv4(INNER_A, INNER_B, b"to b"), ipv4(INNER_B, INNER_A, b"to a")
    if starter == A:
        both.wire.send(A, both.to_b, [to_b])
        both.wire.run(0.1)
        both.wire.send(B, both.to_a, [to_a])
    else:
        both.wire.send(B, both.to_a, [to_a])
        both.wire.run(0.1)
        both.wire.send(A, both.to_b, [to_b])
    both.wire.run(0.1)
    assert both.wire.received == {A: [to_a], B: [to_b]}


def test_another_preshared_key_gives_no_session_on_either_side() -> None:
    both = pair(psk_a=PSK, psk_b=bytes(32))
    both.wire.send(A, both.to_b, numbered(3))
    both.wire.send(B, both.to_a, [ipv4(INNER_B, INNER_A)])
    both.wire.run(200)
    assert not both.to_b.has_session
    assert not both.to_a.has_session
    assert both.wire.received == {A: [], B: []}
    assert both.wire.notices == {A: [], B: []}
    assert both.a.drops["bad_response"] > 0


def test_a_batch_arrives_in_order_whole_and_trimmed() -> None:
    both = pair()
    both.connect()
    packets = [p for size in (4, 5, 16, 27, 1400) for p in numbered(9, size)]
    datagrams = both.a.seal(both.to_b, packets, both.wire.now_ns)
    assert all((len(d) - 32) % 16 == 0 or len(d) == 32 + 1420 for d in datagrams)
    assert both.b.receive(datagrams, A, both.wire.now_ns) == [(both.to_a, packets)]
    views = [memoryview(d) for d in both.a.seal(both.to_b, packets, both.wire.now_ns)]
    assert both.b.receive(views, A, both.wire.now_ns) == [(both.to_a, packets)]


def test_padding_stops_at_the_mtu() -> None:
    both = pair()
    both.connect()
    both.a.mtu = 1300
    for size, padded in ((1279, 1280), (1289, 1296), (1297, 1300), (1300, 1300), (1301, 1301)):
        (datagram,) = both.a.seal(
            both.to_b, [ipv4(INNER_A, INNER_B, bytes(size - 20))], both.wire.now_ns
        )
        assert len(datagram) - 32 == padded


def test_transport_counters_and_bytes_are_counted_as_sent_and_received() -> None:
    both = pair()
    both.connect()
    sent, received = both.to_b.tx_bytes, both.to_a.rx_bytes
    packets = both.to_a.rx_packets
    datagrams = both.a.seal(both.to_b, numbered(5), both.wire.now_ns)
    both.b.receive(datagrams, A, both.wire.now_ns)
    total = sum(map(len, datagrams))
    assert both.to_b.tx_bytes - sent == both.to_a.rx_bytes - received == total
    assert both.to_a.rx_packets - packets == 5


def test_copies_within_and_across_batches_are_dropped() -> None:
    both = pair()
    both.connect()
    packets = numbered(6)
    d = both.a.seal(both.to_b, packets, both.wire.now_ns)
    shuffled = [d[0], d[1], d[1], d[4], d[2], d[0], d[4], d[5]]
    ((_, opened),) = both.b.receive(shuffled, A, both.wire.now_ns)
    assert opened == [packets[n] for n in (0, 1, 4, 2, 5)]
    assert both.b.receive([*d[:3], *d[4:]], A, both.wire.now_ns) == []
    assert both.b.receive([d[3]], A, both.wire.now_ns) == [(both.to_a, [packets[3]])]
    assert dropped(both.b) == {"replayed": 8}


def test_a_forged_datagram_in_a_batch_costs_only_itself() -> None:
    both = pair()
    both.connect()
    packets = numbered(4)
    d = both.a.seal(both.to_b, packets, both.wire.now_ns)
    forged = bytearray(d[1])
    forged[-1] ^= 1
    batch = [d[0], bytes(forged), d[2], d[1], d[3][:31], b"", d[3]]
    opened = [p for _, some in both.b.receive(batch, A, both.wire.now_ns) for p in some]
    assert opened == [packets[n] for n in (0, 2, 1, 3)]
    assert dropped(both.b) == {"forged": 1, "bad_length": 2}


def test_a_forged_counter_far_ahead_does_not_move_the_window() -> None:
    both = pair()
    both.connect()
    d = both.a.seal(both.to_b, numbered(2), both.wire.now_ns)
    ahead = d[0][:8] + (2**50).to_bytes(8, "little") + d[0][16:]
    assert both.b.receive([ahead, d[0], d[1]], A, both.wire.now_ns) == [(both.to_a, numbered(2))]


def test_two_peers_in_one_batch_are_told_apart() -> None:
    hub, wire = engine("hub"), Wire()
    wire.add(B, hub)
    sealed: list[bytes] = []
    peers = []
    for number in (1, 3):
        address, inner = (f"192.0.2.{number + 10}", 1), bytes((10, 66, 0, number))
        core = engine(f"spoke {number}")
        wire.add(address, core)
        peers.append(hub.put_peer(core.public_key, allowed=[f"10.66.0.{number}"]))
        to_hub = core.put_peer(hub.public_key, allowed=["10.66.0.2"], endpoint=B)
        wire.send(address, to_hub, [ipv4(inner, INNER_B)])
        wire.run(0.2)
        sealed += core.seal(to_hub, [ipv4(inner, INNER_B)] * 2, wire.now_ns)
    mixed = [sealed[0], sealed[2], sealed[3], sealed[1]]
    got = [(peer, len(packets)) for peer, packets in hub.receive(mixed, A, wire.now_ns)]
    assert got == [(peers[0], 1), (peers[1], 2), (peers[0], 1)]


def test_a_source_that_is_not_the_peers_own_is_dropped() -> None:
    both = pair()
    both.b.put_peer(engine("third").public_key, allowed=["10.66.0.3/32", "fd00::3/128"])
    both.connect()
    bad = [
        ipv4(bytes((10, 66, 0, 3)), INNER_B),
        ipv4(bytes((10, 66, 0, 9)), INNER_B),
        ipv6(bytes.fromhex("fd" + "00" * 14 + "03"), bytes(16)),
    ]
    good = ipv4(INNER_A, INNER_B)
    for packet in bad:
        datagrams = both.a.seal(both.to_b, [packet, good, packet], both.wire.now_ns)
        assert both.b.receive(datagrams, A, both.wire.now_ns) == [(both.to_a, [good])]
    assert dropped(both.b) == {"spoofed": 6}


def test_what_is_no_whole_ip_packet_is_dropped() -> None:
    both = pair()
    both.connect()
    whole = ipv4(INNER_A, INNER_B, b"x" * 12)
    bad = [
        b"\x00",
        b"\x45" * 19,
        b"\x55" + whole[1:],  # version 5
        whole[:2] + (len(whole) + 1).to_bytes(2, "big") + whole[4:],  # longer than the message
        whole[:2] + (19).to_bytes(2, "big") + whole[4:],  # shorter than its header
        b"\x60" + bytes(38),  # half an IPv6 header
        ipv6(bytes(16), bytes(16), b"x" * 8)[:-8],  # longer than the message
    ]
    both.a.mtu = 0  # no padding, which would fill up what is missing
    for packet in bad:
        both.b.receive(both.a.seal(both.to_b, [packet], both.wire.now_ns), A, both.wire.now_ns)
    assert dropped(both.b) == {"bad_inner": len(bad)}
    assert both.wire.received[B] == []


def test_ipv6_packets_go_both_ways() -> None:
    both = pair()
    both.a.put_peer(both.b.public_key, allowed=["fd00::2/128"])
    both.b.put_peer(both.a.public_key, allowed=["fd00::/64", "10.66.0.1"])
    both.connect()
    here, there = bytes.fromhex("fd" + "00" * 14 + "01"), bytes.fromhex("fd" + "00" * 14 + "02")
    packet = ipv6(here, there, b"hello six")
    assert both.a.route(there) is both.to_b
    both.wire.send(A, both.to_b, [packet])
    both.wire.run(0.1)
    assert both.wire.received[B] == [packet]


def test_packets_that_wait_are_bounded_and_the_oldest_give_way() -> None:
    both = pair()
    packets = numbered(QUEUED_PACKETS_MAX + 10)
    for packet in packets:
        both.wire.send(A, both.to_b, [packet])
    both.wire.run(0.1)
    assert both.wire.received[B] == packets[10:]
    assert dropped(both.a) == {"queue_full": 10}


def test_without_an_endpoint_packets_wait_and_setting_one_starts_at_once() -> None:
    both = pair(endpoints=False)
    packets = numbered(2)
    both.wire.send(A, both.to_b, packets)
    both.wire.run(1)
    assert both.wire.sent == []
    both.a.set_endpoint(both.to_b, B, both.wire.now_ns)
    both.wire.run(0.1)
    # B has no endpoint for A and answers where it was asked from.
    assert both.wire.received[B] == packets
    assert both.to_a.has_session
    assert both.to_a.endpoint is None


def test_without_an_endpoint_a_live_session_waits_too() -> None:
    both = pair()
    both.connect()
    both.a.set_endpoint(both.to_b, None, both.wire.now_ns)
    packets = numbered(3)
    both.wire.send(A, both.to_b, packets)
    assert both.wire.received[B] == []
    both.a.set_endpoint(both.to_b, B, both.wire.now_ns)
    both.wire.run(0.1)
    assert both.wire.received[B] == packets
    assert len(both.of_kind(1)) == 1


def test_a_path_switch_goes_on_with_the_session() -> None:
    both = pair()
    both.connect()
    elsewhere = ("198.51.100.9", 7)
    both.wire.engines[elsewhere] = both.b
    both.wire.received[elsewhere], both.wire.notices[elsewhere] = [], []
    both.a.set_endpoint(both.to_b, elsewhere, both.wire.now_ns)
    both.wire.send(A, both.to_b, numbered(2))
    both.wire.run(0.1)
    assert both.wire.received[elsewhere] == numbered(2)
    assert len(both.of_kind(1)) == 1


def test_roaming_follows_authentic_packets_only() -> None:
    both = pair(roaming=True)
    both.connect()
    elsewhere = ("198.51.100.9", 7)
    d = both.a.seal(both.to_b, numbered(2), both.wire.now_ns)
    forged = d[0][:-1] + bytes([d[0][-1] ^ 1])
    both.b.receive([forged], elsewhere, both.wire.now_ns)
    assert both.to_a.endpoint == A
    both.b.receive([d[0]], elsewhere, both.wire.now_ns)
    assert both.to_a.endpoint == elsewhere
    both.b.receive([d[0]], A, both.wire.now_ns)
    assert both.to_a.endpoint == elsewhere, "a replay does not move it"


def test_without_roaming_only_the_path_core_moves_an_endpoint() -> None:
    both = pair()
    both.connect()
    elsewhere = ("198.51.100.9", 7)
    assert both.b.receive(both.a.seal(both.to_b, numbered(1), 2 * SECOND), elsewhere, 2 * SECOND)
    assert both.to_a.endpoint == A


def test_one_peer_may_roam_where_the_others_do_not() -> None:
    both = pair()
    both.connect()
    relayed = Via("relay", "192.0.2.99:3478", 1)
    both.b.put_peer(both.a.public_key, allowed=both.to_a.allowed, roaming=True)
    assert both.b.receive(both.a.seal(both.to_b, numbered(1), 2 * SECOND), relayed, 2 * SECOND)
    assert both.to_a.endpoint == relayed
    both.b.put_peer(both.a.public_key, allowed=both.to_a.allowed)
    both.b.receive(both.a.seal(both.to_b, numbered(1), 2 * SECOND), A, 2 * SECOND)
    assert both.to_a.endpoint == relayed


def test_while_there_is_a_second_place_everything_of_the_engine_goes_there_too() -> None:
    both = pair()
    relayed = Via("relay", "192.0.2.99:3478", 1)
    both.a.set_endpoint(both.to_b, B, SECOND, relayed)
    both.a.seal(both.to_b, numbered(2), SECOND)
    sent = both.a.take_outgoing()
    assert [(place, datagram[0]) for place, datagram in sent] == [(B, 1), (relayed, 1)]
    both.b.receive([sent[0][1]], A, SECOND)
    ((_, response),) = both.b.take_outgoing()
    both.a.receive([response], B, SECOND)
    queued = both.a.take_outgoing()
    assert [place for place, _ in queued] == [B, relayed] * 2
    for _, datagram in queued:
        both.b.receive([datagram], A, SECOND)
    assert dropped(both.b) == {"replayed": 2}
    both.a.set_endpoint(both.to_b, B, SECOND)
    assert both.to_b.second is None


def test_a_keepalive_with_an_endpoint_starts_a_handshake_at_once() -> None:
    both = pair(endpoints=False)
    peer = both.a.put_peer(both.b.public_key, allowed=["10.66.0.2/32"], keepalive_s=25, endpoint=B)
    assert peer is both.to_b
    due_ns = both.a.timer()
    assert due_ns is not None
    assert due_ns <= both.wire.now_ns
    both.wire.run(0.1)
    assert peer.has_session


def test_changing_a_peer_keeps_its_session() -> None:
    both = pair()
    both.connect()
    both.a.put_peer(both.b.public_key, allowed=["10.66.0.0/24"], preshared_key=PSK, keepalive_s=5)
    assert both.a.route(bytes((10, 66, 0, 77))) is both.to_b
    assert both.to_b.allowed == ("10.66.0.0/24",)
    assert both.to_b.keepalive_s == 5
    both.wire.send(A, both.to_b, numbered(1))
    both.wire.run(0.1)
    assert both.wire.received[B] == numbered(1)
    assert len(both.of_kind(1)) == 1


def test_a_dropped_peer_is_gone_with_its_keys_and_routes() -> None:
    both = pair()
    both.connect()
    late = both.a.seal(both.to_b, numbered(1), both.wire.now_ns)
    both.b.drop_peer(both.a.public_key)
    both.b.drop_peer(both.a.public_key)
    both.wire.pump()
    assert both.wire.notices[B][-1] == SessionDown(both.to_a, "dropped")
    assert both.b.peers == {}
    assert both.b.route(INNER_A) is None
    assert both.b.receive(late, A, both.wire.now_ns) == []
    assert dropped(both.b) == {"unknown_index": 1}
    both.wire.run(600)
    assert both.b.timer() is None


def test_whoever_still_holds_a_dropped_peer_cannot_bring_it_back() -> None:
    both = pair(keepalive_s=25)
    both.wire.run(0.1)
    both.b.drop_peer(both.a.public_key)
    count = len(both.of_kind(1, B))
    both.b.set_endpoint(both.to_a, ("192.0.2.77", 1), both.wire.now_ns)
    both.wire.send(B, both.to_a, [ipv4(INNER_B, INNER_A)])
    both.wire.run(200)
    assert len(both.of_kind(1, B)) == count
    assert not both.to_a.has_session
    assert not both.to_b.has_session


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_low_order_peer_is_refused_when_it_is_put(point: str) -> None:
    core = engine("us")
    with pytest.raises(ValueError, match="low order"):
        core.put_peer(bytes.fromhex(point), allowed=[])
    assert core.peers == {}


def test_our_own_key_and_keys_of_a_wrong_size_are_refused() -> None:
    core = engine("us")
    with pytest.raises(ValueError, match="own public key"):
        core.put_peer(core.public_key, allowed=[])
    with pytest.raises(ValueError, match="32 bytes"):
        core.put_peer(bytes(31), allowed=[])
    with pytest.raises(ValueError, match="32 bytes"):
        core.put_peer(engine("them").public_key, allowed=[], preshared_key=b"short")
    with pytest.raises(ValueError, match="keepalive"):
        core.put_peer(engine("them").public_key, allowed=[], keepalive_s=65536)
    with pytest.raises(ValueError, match="32"):
        Engine(b"short", random=bytes, wall_offset_ns=0, roaming=False)
    assert core.peers == {}


def test_what_is_not_fetched_is_bounded() -> None:
    both = pair()
    both.connect()
    for _ in range(OUTGOING_MAX // 2 + 10):
        both.a.set_endpoint(both.to_b, None, both.wire.now_ns)
        both.a.seal(both.to_b, numbered(2), both.wire.now_ns)
        both.a.set_endpoint(both.to_b, B, both.wire.now_ns)
    assert len(both.a.take_outgoing()) == OUTGOING_MAX
    assert dropped(both.a) == {"outgoing_full": 20}


def test_the_last_handshake_is_told_in_both_clocks() -> None:
    both = pair()
    assert both.to_b.last_handshake_ns == 0
    both.connect()
    at_ns = SECOND + 40 * MILLISECOND
    assert both.to_b.last_handshake_ns == at_ns
    assert both.to_b.last_handshake_wall_ns == at_ns + WALL_OFFSET_NS


def test_nothing_secret_shows_in_a_repr() -> None:
    both: Pair = pair(psk_a=PSK, psk_b=PSK)
    both.connect()
    for thing in (both.a, both.to_b, both.to_b.current, both.wire.notices[A][0]):
        assert "\\x" not in repr(thing)
        assert "key" not in repr(thing).lower().replace("keepalive", "")
