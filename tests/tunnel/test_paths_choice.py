"""What ranks above what, who follows whom, and what is void on another network."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lanrage.protocols import probe
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.protocols.relay import wire
from lanrage.tunnel import reach, reasons, way
from lanrage.tunnel.messages import Doubted, Lost, Switched, Trusted, Unreachable
from lanrage.tunnel.paths import BoundRelay, Paths
from lanrage.tunnel.way import Way, second_of, standbys_of
from tests.tunnel.test_paths import (
    AWAY,
    EPOCH,
    LAN,
    MS,
    OWN,
    PEER,
    RELAY,
    SEEN,
    STRANGER,
    T0,
    THEIRS,
    S,
    answer,
    drive,
    feed_until,
    keys,
    listed,
    opened,
    public,
    relayed,
    via,
)

OTHER = BoundRelay("198.51.101.8:3478", "relay", 30 * MS)
RELAYED = Via("relay", "r", 4098)


def measured(place: Place, *, rtt_ms: int = 40, lost: int = 0, answered: int = 20) -> Way:
    made = Way(place, "mapped")
    for _ in range(answered):
        made.note_answer(T0, T0 + rtt_ms * MS)
    for _ in range(lost):
        made.note_outcome(False)
    return made


# --- measured ways ------------------------------------------------------------------------------


def test_tiers_rank_direct_relay_friend_tcp_and_the_picked_relay_first() -> None:
    places: list[Place] = [Via(carrier, "x", 1) for carrier in ("relay", "friend", "tcp")]
    picked = Way(Via("relay", "y", 1), "relay", picked=True)
    ways = [Way(AWAY, "mapped"), picked, *(Way(place, "x") for place in places)]
    assert [each.rank for each in ways] == sorted({each.rank for each in ways})


def test_a_direct_way_that_loses_a_quarter_ranks_behind_tcp_until_it_loses_little_again() -> None:
    lossy = measured(AWAY, answered=15, lost=5)
    tcp = measured(Via("tcp", "r", 1), rtt_ms=200)
    assert lossy.shunned
    assert tcp.is_above(lossy, T0 + S)
    for _ in range(30):
        lossy.note_outcome(True)
    assert lossy.loss_permille == 100
    assert lossy.shunned  # better, but not good
    for _ in range(5):
        lossy.note_outcome(True)
    assert not lossy.shunned
    assert lossy.is_above(tcp, T0 + S)


def test_few_lost_pings_shun_nothing() -> None:
    assert not measured(AWAY, answered=8, lost=7).shunned


def test_a_shunned_way_is_left_only_for_one_that_is_known_to_be_clean() -> None:
    lossy = measured(AWAY, answered=10, lost=10)
    assert not measured(RELAYED, answered=3).is_above(lossy, T0 + S)
    assert not measured(RELAYED, answered=16, lost=3).is_above(lossy, T0 + S)
    assert measured(RELAYED, answered=16).is_above(lossy, T0 + S)


def test_a_way_left_for_silence_rests_twice_as_long_each_time_and_at_most_32_s() -> None:
    made = measured(AWAY)
    holds = []
    for _ in range(8):
        made.demote(T0, S)
        assert not made.proven_ns
        holds.append((made.held_ns - T0) // S)
        made.note_answer(T0, T0 + MS)
        assert not made.is_above(measured(RELAYED), made.held_ns - 1)
        assert made.is_above(measured(RELAYED), made.held_ns)
    assert holds == [1, 2, 4, 8, 16, 32, 32, 32]
    made.demote(T0, 60 * S)  # it had worked for a minute
    assert made.held_ns - T0 == S


def test_an_answer_is_overdue_after_round_trip_jitter_and_20_ms_but_never_before_60_ms() -> None:
    assert measured(AWAY, rtt_ms=1).late_ns == 60 * MS
    assert measured(AWAY, rtt_ms=100).late_ns // MS == 120
    assert measured(AWAY, rtt_ms=100, answered=1).late_ns > 150 * MS
    shaky = measured(AWAY, rtt_ms=100)
    shaky.note_answer(T0, T0 + 140 * MS)
    assert shaky.late_ns > 150 * MS


def test_the_second_way_is_rather_one_that_breaks_for_other_reasons() -> None:
    now_ns = T0 + S
    best, sibling, relay = measured(AWAY), measured(SEEN), measured(RELAYED, rtt_ms=90)
    assert second_of([best, sibling, relay], best, now_ns, True) is relay
    assert standbys_of([best, sibling, relay], best) == [relay, sibling]
    relay.unanswered, relay.asking_ns = 1, now_ns - 500 * MS
    assert second_of([best, sibling, relay], best, now_ns, True) is sibling
    assert second_of([best, sibling, relay], best, now_ns + 5 * S, True) is None
    assert second_of([best, sibling, relay], best, now_ns + 5 * S, False) is sibling


def test_loss_and_jitter_count_in_a_comparison_within_a_rank() -> None:
    bad, good = measured(AWAY, rtt_ms=40, answered=18, lost=4), measured(SEEN, rtt_ms=42)
    assert good.why_cheaper(bad, settled=True).startswith("steadier")
    assert not good.why_cheaper(bad, settled=False)
    assert not bad.why_cheaper(good, settled=True)


# --- picks, policy, checks ----------------------------------------------------------------------


def test_the_relay_that_control_picked_is_used_as_soon_as_it_is_proven() -> None:
    core = relayed(RELAY, OTHER)
    core.put_picks({"peer": OTHER.name}, T0)
    core.put_candidates("peer", listed(AWAY), T0)
    answer(core, T0, at=[via(RELAY)], late_ns=20 * MS)
    assert core.best("peer") == via(RELAY)
    drive(core, T0 + 20 * MS, T0 + S, at=[via(RELAY), via(OTHER)])
    assert core.best("peer") == via(OTHER)
    told = [each for each in core.take_notices() if isinstance(each, Switched)]
    assert [each.reason for each in told] == ["the relay nearest to both: 20.0 ms, was 20.0 ms"]


def test_consent_to_port_search_is_said_in_every_ping() -> None:
    core = opened(AWAY)
    core.put_policy(volunteer=True, port_search=True)
    core.check("peer", T0 + 3 * S)
    core.handle_timer(T0 + 3 * S)
    arrived = probe.open_probe(core.take_outgoing()[0][1], THEIRS)
    assert arrived is not None
    assert (arrived.used, arrived.searching) == (True, True)


def test_a_check_asks_at_once_and_silence_is_doubt_at_once() -> None:
    core = opened(AWAY)
    drive(core, T0 + 2 * S, T0 + 8 * S, at=[AWAY])
    core.check("peer", T0 + 9 * S)
    assert core.timer() == T0 + 9 * S
    drive(core, T0 + 9 * S, T0 + 12 * S)
    kinds = [type(each) for each in core.take_notices()][:2]
    assert kinds == [Doubted, Lost]


def test_relays_alone_are_no_reason_to_look_for_a_member() -> None:
    core = relayed(RELAY)
    assert not core.take_outgoing()
    assert core.timer() is None
    core.receive(probe.ping(THEIRS, EPOCH, 1), via(RELAY), T0)
    assert via(RELAY) in {to for to, _ in core.take_outgoing()}


def test_a_ping_through_a_relay_that_does_not_forward_to_us_is_no_way() -> None:
    core = relayed(RELAY)
    core.receive(probe.ping(THEIRS, EPOCH, 1), via(OTHER), T0)
    assert not core.take_outgoing()
    assert core.drops == {"probe_via_unknown": 1}


# --- another network ----------------------------------------------------------------------------


def test_on_another_network_everything_is_proven_anew_and_data_goes_on_meanwhile() -> None:
    core = relayed(RELAY)
    core.put_candidates("peer", listed(AWAY), T0)
    drive(core, T0, T0 + 2 * S, at=[AWAY, via(RELAY)])
    core.take_notices()
    core.change_network("address gone", T0 + 3 * S)
    assert core.best("peer") == AWAY
    assert {to for to, _ in core.take_outgoing()} == {AWAY, via(RELAY)}
    core.check("peer", T0 + 3 * S)
    feed_until(core, T0 + 3 * S, T0 + 3 * S + 150 * MS, at=[via(RELAY)])
    assert core.second("peer", T0 + 3 * S + 150 * MS) == via(RELAY)
    feed_until(core, T0 + 3 * S + 150 * MS, T0 + 5 * S, at=[via(RELAY)])
    assert core.best("peer") == via(RELAY)
    feed_until(core, T0 + 5 * S, T0 + 12 * S, at=[via(RELAY), AWAY])
    assert core.best("peer") == AWAY
    told = [type(each) for each in core.take_notices()]
    assert told == [Doubted, Switched, Switched]


# --- doubt --------------------------------------------------------------------------------------


def test_a_doubt_that_passes_is_told_only_if_it_lasted_and_at_most_once_in_ten_seconds() -> None:
    core = opened(AWAY)
    now_ns, told = T0 + 2 * S, []
    for step in range(16):  # a second of answers, then 0.4 s of none
        feed_until(core, now_ns, now_ns + S, at=[AWAY])
        feed_until(core, now_ns + S, now_ns + S + 400 * MS)
        now_ns += S + 400 * MS
        told += [(type(each), step) for each in core.take_notices()]
    assert [kind for kind, _ in told] == [Doubted, Trusted, Doubted, Trusted]
    assert told[2][1] - told[0][1] == 8


def test_a_follower_does_not_go_down_to_where_the_leader_only_was_a_moment_ago() -> None:
    follower = Paths(private_key=PEER, random=bytes)
    follower.put_self(2, T0)
    follower.put_peer("peer", public(OWN), 1)
    follower.put_relays([RELAY], T0)
    follower.put_candidates("peer", listed(AWAY), T0)
    theirs, relay = keys(OWN, PEER), Via("relay", RELAY.name, wire.number(2, 1))

    def pong(now_ns: int) -> None:
        for to, datagram in follower.take_outgoing():
            arrived = probe.open_probe(datagram, theirs)
            if arrived is not None and arrived.type == probe.PING:
                follower.receive(probe.pong(theirs, arrived, SEEN), to, now_ns)

    pong(T0 + 20 * MS)
    assert follower.best("peer") == AWAY
    for step in range(1, 20):
        now_ns = T0 + step * 100 * MS
        follower.receive(probe.ping(theirs, b"leader-1", step, used=True), relay, now_ns)
        follower.handle_timer(now_ns)
        pong(now_ns + 20 * MS)
        assert (follower.best("peer") == relay) == (step >= 11), step


# --- friends ------------------------------------------------------------------------------------


def friends() -> Paths:
    """A core with a friend that is reached directly, and a member that is not reached."""
    core = relayed()
    core.put_peer("friend", public(STRANGER), 3)
    core.put_candidates("friend", listed(SEEN), T0)
    _friend_answers(core, T0 + 20 * MS)
    core.put_candidates("peer", listed(AWAY), T0 + 20 * MS)
    core.take_outgoing()
    return core


def _friend_answers(core: Paths, now_ns: int) -> None:
    strangers = keys(STRANGER, OWN)
    for to, datagram in core.take_outgoing():
        arrived = probe.open_probe(datagram, strangers)
        if arrived is not None and to == SEEN:
            core.receive(probe.pong(strangers, arrived, SEEN), to, now_ns)


FRIEND = Via("friend", "friend", wire.number(1, 2))


def test_a_friend_carries_and_is_left_when_it_is_not_reached_directly_any_more() -> None:
    core = friends()
    now_ns = T0 + 20 * MS
    while core.best("peer") is None and now_ns < T0 + 4 * S:
        now_ns = max(now_ns, core.timer() or now_ns)
        core.handle_timer(now_ns)
        answer(core, now_ns, at=[FRIEND], late_ns=20 * MS)
    assert core.best("peer") == FRIEND
    assert now_ns >= T0 + S
    core.drop_peer("friend")
    assert core.best("peer") is None


def test_nobody_is_asked_to_pass_on_whose_direct_way_is_not_proven() -> None:
    core = friends()
    stranger = Via("friend", "somebody", wire.number(1, 2))
    core.receive(probe.ping(THEIRS, EPOCH, 1), stranger, T0 + S)
    assert core.drops == {"probe_source": 1}
    core.receive(probe.ping(THEIRS, EPOCH, 2), FRIEND, T0 + S)
    assert FRIEND in {to for to, _ in core.take_outgoing()}


# --- words --------------------------------------------------------------------------------------

CONE: tuple[Address, ...] = (("9.9.9.9", 1),)
HARD: tuple[Address, ...] = (("9.9.9.9", 1), ("9.9.9.9", 2))


def evidence(
    *,
    heard: bool = False,
    vary: bool = False,
    silent: bool = False,
    theirs: tuple[Address, ...] = CONE,
    relays: int = 0,
) -> reasons.Evidence:
    return reasons.Evidence(heard, vary, silent, theirs, tried=2, relays=relays)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (evidence(heard=True), "a firewall on the way to them drops it"),
        (evidence(vary=True, theirs=HARD), "both routers use another port"),
        (evidence(vary=True), "our router uses another port"),
        (evidence(theirs=HARD), "their router uses another port"),
        (evidence(silent=True), "seems to block UDP"),
        (evidence(theirs=()), "only know their address in their own network"),
        (evidence(), "none of 2 addresses answered"),
    ],
)
def test_each_piece_of_evidence_has_its_words(given: reasons.Evidence, words: str) -> None:
    ask: Callable[[reasons.Evidence], str]
    for ask in (reasons.unreachable, lambda given: reasons.indirect("relay", given)):
        assert words in ask(given)


def test_why_says_nothing_of_a_direct_path_and_blames_udp_for_tcp() -> None:
    assert opened(LAN).why("peer") == ""
    assert "no UDP" in reasons.indirect("tcp", evidence())
    assert "needs a relay" in reasons.unreachable(evidence(vary=True))
    assert "perhaps not running" in reasons.unreachable(evidence(vary=True, relays=1))


def test_why_speaks_of_a_relayed_and_of_an_unreached_member() -> None:
    core = relayed(RELAY)
    core.put_candidates("peer", listed(AWAY, (AWAY[0], 7)), T0)
    assert "their router uses another port" in core.why("peer")
    answer(core, T0, at=[via(RELAY)], late_ns=20 * MS)
    assert core.why("peer").startswith("their router uses another port")
    assert "relay" not in core.why("peer")
    drive(core, T0 + S, T0 + 20 * S)
    assert any(isinstance(each, Unreachable) for each in core.take_notices())


def test_every_named_limit_that_others_rely_on() -> None:
    assert reach.LOST_NS + reach.FAST_BEAT_NS <= 2300 * MS
    assert reach.FAST_BEAT_NS + way.LATE_MIN_NS <= 200 * MS


def test_a_relayed_pair_goes_on_looking_for_a_direct_way_even_after_a_doubt() -> None:
    core = relayed(RELAY)
    core.put_candidates("peer", listed(AWAY), T0)
    drive(core, T0, T0 + 9 * S, at=[via(RELAY)])
    feed_until(core, T0 + 9 * S, T0 + 10 * S, at=[via(RELAY)])
    feed_until(core, T0 + 10 * S, T0 + 10 * S + 900 * MS)  # doubt, and all ways are asked
    feed_until(core, T0 + 11 * S, T0 + 20 * S, at=[via(RELAY)])
    drive(core, T0 + 20 * S, T0 + 60 * S, at=[via(RELAY)])
    tried: list[int] = []
    while (due := core.timer()) is not None and due < T0 + 160 * S:
        core.handle_timer(due)
        for to, datagram in core.take_outgoing():
            tried += [(due - T0) // S] * (to == AWAY)
            arrived = probe.open_probe(datagram, THEIRS)
            if to == via(RELAY) and arrived is not None:
                core.receive(probe.pong(THEIRS, arrived, SEEN), to, due + 20 * MS)
    assert len(tried) >= 3
    drive(core, T0 + 160 * S, T0 + 200 * S, at=[via(RELAY), AWAY])
    assert core.best("peer") == AWAY
