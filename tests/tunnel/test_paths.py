"""The path core on its own: what it refuses to believe, what it spends, when it wakes.

How two of them find each other through routers is told in tests/sim.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from events.peer import Candidate
from lanrage.protocols import endpoint, probe, stun
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.protocols.relay import wire
from lanrage.tunnel import outlet, prober, reach, ways
from lanrage.tunnel.messages import (
    Doubted,
    Lost,
    Mapped,
    Opened,
    Probing,
    Switched,
    Unmapped,
    Unreachable,
)
from lanrage.tunnel.paths import BoundRelay, Paths

MS = 1_000_000
S = 1000 * MS
T0 = 50 * S
OWN, PEER, STRANGER = bytes([1] * 32), bytes([2] * 32), bytes([3] * 32)
EPOCH = b"their-ep"
AWAY = ("203.0.114.9", 40_000)
LAN = ("192.168.1.9", 51_820)
SERVER = ("198.51.101.1", 3478)
SEEN = ("8.8.4.4", 41_000)


def public(private_key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def keys(own: bytes, peer: bytes) -> probe.Keys:
    derived = probe.derive(own, public(peer))
    assert derived is not None
    return derived


THEIRS = keys(PEER, OWN)


def paths(*, peer: bool = True) -> Paths:
    made = Paths(private_key=OWN, random=random.Random(1).randbytes)
    if peer:
        made.put_peer("peer", public(PEER))
    return made


def listed(*addresses: Address) -> list[Candidate]:
    return [Candidate("mapped", endpoint.text(address)) for address in addresses]


def answer(core: Paths, now_ns: int, *, at: Sequence[Place] = (), late_ns: int = 0) -> int:
    """Have the peer answer what was just sent to it; `at` limits where it can be reached."""
    answered = 0
    for to, datagram in core.take_outgoing():
        arrived = probe.open_probe(datagram, THEIRS)
        if arrived is not None and arrived.type == probe.PING and (not at or to in at):
            core.receive(probe.pong(THEIRS, arrived, SEEN), to, now_ns + late_ns)
            answered += 1
    return answered


def drive(core: Paths, now_ns: int, until_ns: int, *, at: Sequence[Place] = ()) -> None:
    """Let time pass; the peer answers at `at` after 20 ms, nowhere if empty."""
    while (due := core.timer()) is not None and due <= until_ns:
        now_ns = max(now_ns, due)
        core.handle_timer(now_ns)
        if at:
            answer(core, now_ns, at=at, late_ns=20 * MS)
        else:
            core.take_outgoing()


def opened(*addresses: Address, at: Sequence[Place] = ()) -> Paths:
    core = paths()
    core.put_candidates("peer", listed(*addresses), T0)
    answer(core, T0, at=at, late_ns=20 * MS)
    drive(core, T0 + 20 * MS, T0 + 2 * S, at=at or addresses)
    core.take_notices()
    core.take_outgoing()
    return core


# --- opening ------------------------------------------------------------------------------------


def test_probing_and_opening_are_told_with_how_long_it_took() -> None:
    core = paths()
    core.put_candidates("peer", listed(AWAY), T0)
    assert core.best("peer") is None
    assert answer(core, T0, late_ns=20 * MS) == 1
    assert core.best("peer") == AWAY
    probing, told = core.take_notices()
    assert probing == Probing(peer="peer", addresses=(endpoint.text(AWAY),))
    assert isinstance(told, Opened)
    assert (told.path.address, told.path.rtt_us, told.took_ms) == (endpoint.text(AWAY), 20_000, 20)
    assert core.quality("peer")[:2] == (20_000, 0)


def test_all_candidates_are_pinged_at_0_100_200_400_ms_then_each_500_ms() -> None:
    core = paths()
    core.put_candidates("peer", listed(AWAY, LAN), T0)
    sent = {0: core.take_outgoing()}
    now_ns = T0
    while (due := core.timer()) is not None and due < T0 + 5 * S:
        now_ns = due
        core.handle_timer(now_ns)
        sent[(now_ns - T0) // MS] = core.take_outgoing()
    assert list(sent) == [0, 100, 200, 400, 900, 1400, 1900, 2400, 2900, 3400, 3900, 4400, 4900]
    assert all({to for to, _ in each} == {AWAY, LAN} for each in sent.values())


def test_the_same_list_again_changes_nothing_and_a_new_one_is_probed_at_once() -> None:
    core = paths()
    core.put_candidates("peer", listed(AWAY), T0)
    core.take_outgoing()
    core.take_notices()
    core.put_candidates("peer", listed(AWAY), T0 + 10 * MS)
    assert not core.take_outgoing()
    assert not core.take_notices()
    core.put_candidates("peer", listed(AWAY, LAN), T0 + 60 * MS)
    assert {to for to, _ in core.take_outgoing()} == {AWAY, LAN}


def test_after_success_three_more_pings_give_the_other_side_its_turn() -> None:
    core = paths()
    core.put_candidates("peer", listed(AWAY), T0)
    answer(core, T0, late_ns=20 * MS)
    core.take_outgoing()
    sent = 0
    while (due := core.timer()) is not None and due < T0 + 900 * MS:
        core.handle_timer(due)
        sent += answer(core, due, late_ns=20 * MS)
    assert sent == 3


def test_a_ping_from_an_unknown_address_is_answered_and_tried_back_at_once() -> None:
    core = paths()
    core.receive(probe.ping(THEIRS, EPOCH, 1), AWAY, T0)
    (pong_to, pong), (ping_to, ping) = core.take_outgoing()
    assert pong_to == ping_to == AWAY
    told = probe.open_probe(pong, THEIRS)
    assert told is not None
    assert told.observed == AWAY
    assert core.best("peer") is None  # a ping proves nothing
    arrived = probe.open_probe(ping, THEIRS)
    assert arrived is not None
    core.receive(probe.pong(THEIRS, arrived, SEEN), AWAY, T0 + 20 * MS)
    assert core.best("peer") == AWAY


def test_unreachable_is_told_once_and_slower_probing_goes_on() -> None:
    core = paths()
    core.put_candidates("peer", listed(AWAY), T0)
    drive(core, T0, T0 + 5 * S)
    told = [each for each in core.take_notices() if isinstance(each, Unreachable)]
    assert [(each.tried, each.after_ms) for each in told] == [((endpoint.text(AWAY),), 5000)]
    assert "none of 1 addresses answered" in told[0].reason
    core.take_outgoing()
    due = core.timer()
    times = []
    while due is not None and due < T0 + 150 * S:
        core.handle_timer(due)
        times += [(due - T0) // S for _ in core.take_outgoing()]
        due = core.timer()
    assert [b - a for a, b in pairwise(times)] == [2, 4, 8, 16, 30, 30, 30]
    assert not core.take_notices()


def test_their_probes_without_answers_to_ours_have_words_of_their_own() -> None:
    core = paths()
    core.put_candidates("peer", listed(AWAY), T0)
    core.receive(probe.ping(THEIRS, EPOCH, 1), AWAY, T0 + 100 * MS)
    drive(core, T0, T0 + 5 * S)
    told = [each for each in core.take_notices() if isinstance(each, Unreachable)]
    assert "their probes arrive here" in told[0].reason


# --- belief -------------------------------------------------------------------------------------


def test_a_pong_counts_only_with_the_right_key_sequence_epoch_and_source() -> None:
    core = paths()
    core.put_candidates("peer", listed(AWAY), T0)
    ((_, ping),) = core.take_outgoing()
    arrived = probe.open_probe(ping, THEIRS)
    assert arrived is not None
    other = probe.Probe(probe.PING, arrived.epoch, arrived.sequence + 1, None)
    stale = probe.Probe(probe.PING, b"old-one.", arrived.sequence, None)
    strange = keys(STRANGER, OWN)
    core.receive(probe.pong(strange, arrived, SEEN), AWAY, T0 + MS)
    core.receive(probe.pong(THEIRS, other, SEEN), AWAY, T0 + MS)
    core.receive(probe.pong(THEIRS, stale, SEEN), AWAY, T0 + MS)
    core.receive(probe.pong(THEIRS, arrived, SEEN), LAN, T0 + MS)
    forged = bytearray(probe.pong(THEIRS, arrived, SEEN))
    forged[-1] ^= 1
    core.receive(bytes(forged), AWAY, T0 + MS)
    assert core.best("peer") is None
    assert core.drops == {
        "probe_unknown": 1,
        "pong_unexpected": 2,
        "pong_source": 1,
        "probe_forged": 1,
    }
    core.receive(probe.pong(THEIRS, arrived, SEEN), AWAY, T0 + MS)
    assert core.best("peer") == AWAY
    core.receive(probe.pong(THEIRS, arrived, SEEN), AWAY, T0 + 2 * MS)
    assert core.drops["pong_unexpected"] == 3


def test_a_replayed_ping_is_neither_answered_nor_tried() -> None:
    core = paths()
    ping = probe.ping(THEIRS, EPOCH, 1)
    core.receive(ping, AWAY, T0)
    core.take_outgoing()
    core.receive(ping, ("203.0.114.66", 6666), T0 + MS)
    assert not core.take_outgoing()
    assert core.drops == {"probe_replayed": 1}


def test_a_dropped_member_is_a_stranger() -> None:
    core = opened(AWAY)
    core.drop_peer("peer")
    core.receive(probe.ping(THEIRS, EPOCH, 1), AWAY, T0 + 3 * S)
    assert not core.take_outgoing()
    assert core.best("peer") is None
    assert core.timer() is None


def test_a_new_key_of_a_member_replaces_the_old_one() -> None:
    core = opened(AWAY)
    core.put_peer("peer", public(STRANGER))
    assert core.best("peer") is None
    core.receive(probe.ping(THEIRS, EPOCH, 1), AWAY, T0 + 3 * S)
    core.receive(probe.ping(keys(STRANGER, OWN), EPOCH, 1), AWAY, T0 + 3 * S)
    assert core.drops["probe_unknown"] == 1
    assert {to for to, _ in core.take_outgoing()} == {AWAY}


@pytest.mark.parametrize("bad", [bytes(32), public(OWN), b"short"])
def test_a_useless_key_makes_no_member(bad: bytes) -> None:
    core = paths(peer=False)
    core.put_peer("peer", bad)
    core.put_candidates("peer", listed(AWAY), T0)
    assert not core.take_outgoing()
    assert core.drops == {"peer_refused": 1}


@pytest.mark.parametrize(
    "refused",
    [
        "127.0.0.1:51820",
        "[::1]:51820",
        "224.0.0.5:5",
        "0.0.0.0:9",
        "255.255.255.255:9",
        "10.66.3.4:51820",
        "[fd66::1]:51820",
        "8.8.8.8:0",
        "router.local:80",
        "[ff02::1]:9",
        "nonsense",
    ],
)
def test_addresses_that_no_member_can_have_are_never_probed(refused: str) -> None:
    core = paths()
    core.put_own_networks(["fd66::/64"])
    core.put_candidates("peer", [Candidate("host", refused)], T0)
    assert not core.take_outgoing()
    assert core.timer() is None
    assert core.drops == {"candidate_refused": 1}
    source = endpoint.parse(refused)
    if source is not None:
        core.receive(probe.ping(THEIRS, EPOCH, 1), source, T0)
        assert not core.take_outgoing()


def test_a_hostile_list_is_cut_and_strangers_get_few_probes() -> None:
    core = paths()
    rng = random.Random(2)
    now_ns, sent = T0, 0
    for _ in range(100):  # each 200 ms another list of 200 victims, for 20 s
        victims = [(f"9.{rng.randrange(256)}.{rng.randrange(256)}.1", 53) for _ in range(200)]
        core.put_candidates("peer", listed(*victims), now_ns)
        first = core.take_outgoing()
        assert len({to for to, _ in first}) <= ways.LISTED_MAX
        sent += len(first)
        now_ns += 200 * MS
        core.handle_timer(now_ns)
        sent += len(core.take_outgoing())
    assert sent <= prober.PROBE_BURST + 20 * prober.PROBES_PER_S
    assert core.drops["probe_budget"] > 0


def test_all_members_together_stay_within_the_shared_budget() -> None:
    core = paths(peer=False)
    for number in range(64):
        core.put_peer(str(number), public(bytes([number + 10] * 32)))
        core.put_candidates(str(number), listed(*((f"9.0.{number}.{n}", 5) for n in range(16))), T0)
    sent = len(core.take_outgoing())
    for second in range(1, 21):
        core.handle_timer(T0 + second * S)
        sent += len(core.take_outgoing())
    assert sent <= outlet.BUDGET_BURST + 20 * outlet.BUDGET_PER_S


def test_pings_with_a_thousand_sources_keep_the_ways_few_and_the_good_one() -> None:
    core = opened(AWAY)
    for number in range(1000):
        source = (f"9.1.{number // 250}.{number % 250 + 1}", 7)
        core.receive(probe.ping(THEIRS, EPOCH, number), source, T0 + 2 * S + number * MS)
    answered = {to for to, _ in core.take_outgoing()}
    assert len(answered) <= prober.PONG_BURST + prober.PONGS_PER_S + 1
    assert core.best("peer") == AWAY
    assert len(core._reaches["peer"].ways.of) <= ways.LISTED_MAX + ways.SEEN_MAX


# --- a path's life ------------------------------------------------------------------------------


def test_beats_come_ten_times_a_second_with_data_and_rarely_without() -> None:
    core = opened(AWAY)
    now_ns = T0 + 2 * S
    sent = 0
    for step in range(100):
        core.note_data("peer", now_ns + step * 100 * MS)
        drive(core, now_ns + step * 100 * MS, now_ns + (step + 1) * 100 * MS, at=[AWAY])
    sequence = core._reaches["peer"].prober.sequence
    drive(core, now_ns + 10 * S, now_ns + 20 * S, at=[AWAY])
    assert 90 <= sequence <= 115
    assert core._reaches["peer"].prober.sequence - sequence <= 9
    sequence = core._reaches["peer"].prober.sequence
    drive(core, now_ns + 20 * S, now_ns + 80 * S, at=[AWAY])
    sent = core._reaches["peer"].prober.sequence - sequence
    assert 3 <= sent <= 4


def test_data_after_a_rest_brings_the_next_beat_forward() -> None:
    core = opened(AWAY)
    drive(core, T0 + 2 * S, T0 + 6 * S, at=[AWAY])
    due = core.timer()
    assert due is not None
    assert due > T0 + 15 * S
    core.note_data("peer", T0 + 7 * S)
    assert core.timer() == T0 + 7 * S


def test_silence_of_the_used_address_switches_to_another_that_answers() -> None:
    core = opened(AWAY, LAN, at=[AWAY])
    assert core.best("peer") == AWAY
    for step in range(40):
        now_ns = T0 + 2 * S + step * 100 * MS
        core.note_data("peer", now_ns)
        drive(core, now_ns, now_ns + 100 * MS, at=[LAN])
    doubted, told = core.take_notices()
    assert isinstance(doubted, Doubted)
    assert doubted.silent_ms < 500
    assert isinstance(told, Switched)
    assert (told.old.address, told.new.address) == (endpoint.text(AWAY), endpoint.text(LAN))
    assert "silent" in told.reason
    assert core.best("peer") == LAN


def test_silence_everywhere_loses_the_path_and_probing_begins_again() -> None:
    core = opened(AWAY)
    for step in range(40):
        now_ns = T0 + 2 * S + step * 100 * MS
        core.note_data("peer", now_ns)
        drive(core, now_ns, now_ns + 100 * MS)
    doubted, lost, probing = core.take_notices()
    assert isinstance(doubted, Doubted)
    assert doubted.second is None
    assert isinstance(lost, Lost)
    assert re.match(r"no answer for \d\.\d s, and there is no other", lost.reason)
    assert isinstance(probing, Probing)
    assert core.best("peer") is None
    assert core.quality("peer") == (0, 0, 0)


def test_a_single_lost_beat_is_nothing() -> None:
    core = opened(AWAY)
    core.note_data("peer", T0 + 3 * S)
    due = core.timer()
    assert due is not None
    core.handle_timer(due)
    core.take_outgoing()  # lost
    for step in range(50):
        now_ns = due + step * 100 * MS
        core.note_data("peer", now_ns)
        drive(core, now_ns, now_ns + 100 * MS, at=[AWAY])
    assert not core.take_notices()
    assert core.quality("peer")[1] > 0


def pong_after(core: Paths, way: Address, sent_ns: int, rtt_ms: float) -> None:
    """One measured round trip on `way`, through the member's own state."""
    member = core._reaches["peer"]
    member._ping(member.ways.of[way], sent_ns)
    ((_, ping),) = core.take_outgoing()
    arrived = probe.open_probe(ping, THEIRS)
    assert arrived is not None
    core.receive(probe.pong(THEIRS, arrived, SEEN), way, sent_ns + int(rtt_ms * MS))


def test_a_faster_way_must_be_10_ms_and_a_third_better_and_the_old_one_settled() -> None:
    other = ("203.0.114.10", 40_001)
    core = opened(AWAY, other, at=[AWAY])
    member = core._reaches["peer"]
    assert member.best is not None
    member.best.rtt_ns = 60 * MS
    pong_after(core, other, T0 + 3 * S, 10)  # much better, but too early
    assert core.best("peer") == AWAY
    member.best.rtt_ns = 20 * MS
    member.ways.of[other].forget()
    pong_after(core, other, T0 + 9 * S, 11)  # 45 % but only 9 ms better
    assert core.best("peer") == AWAY
    member.best.rtt_ns = 60 * MS
    member.ways.of[other].forget()
    pong_after(core, other, T0 + 10 * S, 45)  # 15 ms but only a quarter better
    assert core.best("peer") == AWAY
    member.ways.of[other].forget()
    pong_after(core, other, T0 + 11 * S, 39)
    assert core.best("peer") == other
    (told,) = core.take_notices()
    assert isinstance(told, Switched)
    assert told.reason == "faster: 39.0 ms instead of 60.0 ms"


def test_the_same_network_is_preferred_as_soon_as_it_is_proven() -> None:
    core = opened(AWAY, LAN, at=[AWAY])
    pong_after(core, LAN, T0 + 3 * S, 0.4)
    assert core.best("peer") == LAN
    (told,) = core.take_notices()
    assert isinstance(told, Switched)
    assert told.reason.startswith("same network")


def test_a_member_that_started_again_is_checked_at_once() -> None:
    core = opened(AWAY)
    core.receive(probe.ping(THEIRS, EPOCH, 1), AWAY, T0 + 3 * S)
    core.take_outgoing()
    due = core.timer()
    assert due is not None
    assert due > T0 + 4 * S
    core.receive(probe.ping(THEIRS, b"epoch-02", 1), ("203.0.114.9", 40_007), T0 + 4 * S)
    assert core.timer() == T0 + 4 * S


# --- our own mapping ----------------------------------------------------------------------------


def stun_answer(datagram: bytes, mapped: Address) -> bytes:
    reply = stun.respond(datagram, mapped, alternate=None)
    assert reply is not None
    return reply.datagram


def test_a_mapping_is_told_once_and_again_when_it_changes() -> None:
    core = paths(peer=False)
    server = endpoint.text(SERVER)
    core.put_servers([server], T0)
    now_ns = T0
    told = []
    for mapped in (SEEN, SEEN, ("8.8.4.4", 41_001)):
        ((to, request),) = core.take_outgoing()
        assert to == SERVER
        core.receive(stun_answer(request, mapped), SERVER, now_ns + 30 * MS)
        told += core.take_notices()
        due = core.timer()
        assert due is not None
        assert 20 * S <= due - now_ns <= 26 * S
        now_ns = due
        core.handle_timer(now_ns)
    assert told == [
        Mapped(server=server, address="8.8.4.4:41000", rtt_us=30_000),
        Mapped(server=server, address="8.8.4.4:41001", rtt_us=30_000),
    ]


def test_a_silent_server_is_asked_at_growing_intervals_and_told_of_once() -> None:
    core = paths(peer=False)
    core.put_servers([endpoint.text(SERVER)], T0)
    times = [0] * len(core.take_outgoing())
    while (due := core.timer()) is not None and due <= T0 + 60 * S:
        core.handle_timer(due)
        times += [(due - T0) // MS for _ in core.take_outgoing()]
    assert times[:5] == [0, 200, 600, 1400, 3000]
    assert times[5] >= 20_000
    assert core.take_notices() == [
        Unmapped(server=endpoint.text(SERVER), reason="no answer within 5 s")
    ]


def test_a_mapping_that_stops_being_answered_is_told_and_again_when_it_returns() -> None:
    core = paths(peer=False)
    server = endpoint.text(SERVER)
    core.put_servers([server], T0)
    ((_, request),) = core.take_outgoing()
    core.receive(stun_answer(request, SEEN), SERVER, T0 + MS)
    drive(core, T0 + MS, T0 + 35 * S)
    due = core.timer()
    assert due is not None
    core.handle_timer(due)
    ((_, request),) = core.take_outgoing()
    core.receive(stun_answer(request, SEEN), SERVER, due + MS)
    kinds = [type(each) for each in core.take_notices()]
    assert kinds == [Mapped, Unmapped, Mapped]


def test_only_the_asked_server_with_the_drawn_transaction_is_believed() -> None:
    core = paths(peer=False)
    core.put_servers([endpoint.text(SERVER)], T0)
    ((_, request),) = core.take_outgoing()
    core.receive(stun_answer(request, SEEN), AWAY, T0)
    core.receive(stun_answer(stun.request(bytes(12)), SEEN), SERVER, T0)
    assert not core.take_notices()
    assert core.drops == {"stun_unknown": 2}


@pytest.mark.parametrize("useless", [("127.0.0.1", 5), ("0.0.0.0", 5), ("8.8.4.4", 0)])
def test_a_mapped_address_nobody_can_reach_is_no_mapping(useless: Address) -> None:
    core = paths(peer=False)
    core.put_servers([endpoint.text(SERVER)], T0)
    ((_, request),) = core.take_outgoing()
    core.receive(stun_answer(request, useless), SERVER, T0)
    (told,) = core.take_notices()
    assert isinstance(told, Unmapped)
    assert "nobody else can reach" in told.reason


def test_without_members_and_servers_there_is_no_timer() -> None:
    core = paths()
    assert core.timer() is None
    core.put_servers([endpoint.text(SERVER)], T0)
    assert core.timer() is not None
    core.put_servers([], T0)
    assert core.timer() is None


# --- everything else ----------------------------------------------------------------------------


def test_the_table_in_the_text_is_the_table_in_the_code() -> None:
    assert reach.__doc__ is not None
    row = re.compile(r"^    ([A-Z]+) +([A-Z]+) +([A-Z]+) +\S", re.MULTILINE)
    written = {(state, trigger): then for state, trigger, then in row.findall(reach.__doc__)}
    coded = {(a.name, t.name): then.name for (a, t), (then, _) in reach.RULES.items()}
    assert written == coded


@settings(deadline=None)
@given(st.data())
def test_no_datagram_raises_in_any_state(data: st.DataObject) -> None:
    core = opened(AWAY) if data.draw(st.booleans()) else paths()
    core.put_servers([endpoint.text(SERVER)], T0)
    valid = [probe.ping(THEIRS, EPOCH, 1), stun.request(bytes(12)), bytes(64), b"LRP1" + bytes(60)]
    now_ns = T0 + 5 * S
    for _ in range(data.draw(st.integers(1, 8))):
        datagram = bytearray(data.draw(st.sampled_from(valid)))
        for _ in range(data.draw(st.integers(0, 3))):
            datagram[data.draw(st.integers(0, len(datagram) - 1))] = data.draw(st.integers(0, 255))
        now_ns += data.draw(st.integers(0, 10 * S))
        core.receive(bytes(datagram), data.draw(st.sampled_from([AWAY, LAN, SERVER])), now_ns)
        core.handle_timer(now_ns)
        assert len(core.take_outgoing()) <= 64
    assert len(core.drops) <= 16


def test_a_server_that_is_not_asked_any_more_takes_its_answer_with_it() -> None:
    core = paths(peer=False)
    core.put_servers([endpoint.text(SERVER)], T0)
    [(_, request)] = core.take_outgoing()
    core.receive(stun_answer(request, SEEN), SERVER, T0 + MS)
    core.take_notices()
    core.put_servers([], T0 + 2 * MS)
    [told] = core.take_notices()
    assert isinstance(told, Unmapped)
    core.put_servers([], T0 + 3 * MS)
    assert core.take_notices() == []


# --- through others -----------------------------------------------------------------------------

RELAY = BoundRelay("198.51.101.7:3478", "relay", 20 * MS)
TCP = BoundRelay("198.51.101.7:3478", "tcp", 20 * MS)


def via(relay: BoundRelay) -> Via:
    return Via(relay.carrier, relay.name, wire.number(1, 2))


def relayed(*bound: BoundRelay) -> Paths:
    core = paths(peer=False)
    core.put_self(1, T0)
    core.put_peer("peer", public(PEER), 2)
    core.put_relays(bound, T0)
    return core


def test_data_goes_through_the_relay_until_a_direct_way_is_proven() -> None:
    core = relayed(RELAY)
    core.put_candidates("peer", listed(AWAY), T0)
    answer(core, T0, at=[via(RELAY)], late_ns=40 * MS)
    assert core.best("peer") == via(RELAY)
    drive(core, T0 + 50 * MS, T0 + 2 * S, at=[via(RELAY)])
    drive(core, T0 + 2 * S, T0 + 4 * S, at=[via(RELAY), AWAY])
    assert core.best("peer") == AWAY
    told = [each for each in core.take_notices() if isinstance(each, Opened | Switched)]
    assert [type(each) for each in told] == [Opened, Switched]
    assert isinstance(told[0], Opened)
    assert (told[0].path.kind, told[0].path.relay) == ("relay", RELAY.name)


def test_a_direct_way_beats_a_relay_that_beats_tcp_whatever_they_measure() -> None:
    core = relayed(TCP, RELAY)
    core.put_candidates("peer", listed(AWAY), T0)
    answer(core, T0, at=[via(TCP), via(RELAY), AWAY], late_ns=1 * MS)
    drive(core, T0 + 1 * MS, T0 + 3 * S, at=[via(TCP), via(RELAY), AWAY])
    assert core.best("peer") == AWAY
    core.put_candidates("peer", listed(("203.0.114.77", 1)), T0 + 3 * S)
    feed_until(core, T0 + 3 * S, T0 + 6 * S, at=[via(TCP), via(RELAY)])
    assert core.best("peer") == via(RELAY)


def feed_until(core: Paths, now_ns: int, until_ns: int, *, at: Sequence[Place] = ()) -> None:
    for each_ns in range(now_ns, until_ns, 50 * MS):
        core.note_data("peer", each_ns)
        drive(core, each_ns, each_ns + 50 * MS, at=at)


def test_in_doubt_everything_goes_on_the_relay_too_within_a_fifth_of_a_second() -> None:
    core = relayed(RELAY)
    core.put_candidates("peer", listed(AWAY), T0)
    drive(core, T0, T0 + 1 * S, at=[via(RELAY), AWAY])
    feed_until(core, T0 + 1 * S, T0 + 5 * S, at=[via(RELAY), AWAY])
    assert (core.best("peer"), core.second("peer", T0 + 5 * S)) == (AWAY, None)
    feed_until(core, T0 + 5 * S, T0 + 5 * S + 200 * MS, at=[via(RELAY)])
    assert core.second("peer", T0 + 5 * S + 200 * MS) == via(RELAY)
    feed_until(core, T0 + 5 * S + 200 * MS, T0 + 7 * S, at=[via(RELAY)])
    assert core.best("peer") == via(RELAY)
    assert core.second("peer", T0 + 7 * S) is None


def test_a_relay_that_is_gone_is_left_at_once_for_another() -> None:
    other = BoundRelay("198.51.101.8:3478", "relay", 30 * MS)
    core = relayed(RELAY, other)
    core.put_candidates("peer", listed(AWAY), T0)
    drive(core, T0, T0 + 1 * S, at=[via(RELAY), via(other)])
    used = core.best("peer")
    assert used in (via(RELAY), via(other))
    left = other if used == via(RELAY) else RELAY
    core.put_relays([left], T0 + 1 * S)
    assert core.best("peer") == via(left)
    core.put_relays([], T0 + 2 * S)
    assert core.best("peer") is None


def test_a_follower_takes_the_way_the_leader_uses_once_it_is_proven() -> None:
    core = paths(peer=False)
    follower = Paths(private_key=PEER, random=random.Random(2).randbytes)
    follower.put_peer("peer", public(OWN))
    member = follower._reaches["peer"]
    assert not member.lead.ours
    follower.put_candidates("peer", listed(AWAY, SEEN), T0)
    theirs = keys(OWN, PEER)

    def pong(place: Address, now_ns: int) -> None:
        for to, datagram in follower.take_outgoing():
            arrived = probe.open_probe(datagram, theirs)
            if arrived is not None and arrived.type == probe.PING and to == place:
                follower.receive(probe.pong(theirs, arrived, SEEN), to, now_ns)

    pong(AWAY, T0 + 20 * MS)
    assert follower.best("peer") == AWAY
    ping = probe.ping(theirs, b"leader-1", 1, used=True)
    follower.receive(ping, SEEN, T0 + 100 * MS)
    assert follower.best("peer") == AWAY  # not proven from here
    pong(SEEN, T0 + 140 * MS)
    assert follower.best("peer") == SEEN
    assert core.best("peer") is None


def test_friends_are_asked_to_pass_on_only_when_a_pair_does_not_succeed_by_itself() -> None:
    core = relayed()
    core.put_peer("friend", public(STRANGER), 3)
    core.put_candidates("friend", listed(SEEN), T0)
    strangers = keys(STRANGER, OWN)
    for to, datagram in core.take_outgoing():
        arrived = probe.open_probe(datagram, strangers)
        assert arrived is not None
        core.receive(probe.pong(strangers, arrived, SEEN), to, T0 + 20 * MS)
    assert core.direct_of("friend") == SEEN
    assert core.member_at(SEEN) == "friend"
    core.put_candidates("peer", listed(AWAY), T0 + 20 * MS)
    friend = Via("friend", "friend", wire.number(1, 2))
    assert friend not in {to for to, _ in core.take_outgoing()}
    tried = set()
    while (due := core.timer()) is not None and due < T0 + 3 * S:
        core.handle_timer(due)
        tried |= {to for to, _ in core.take_outgoing()}
    assert friend in tried
