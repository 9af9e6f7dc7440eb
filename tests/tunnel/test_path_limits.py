"""What the path core keeps of a member, and of servers, is bounded; and what counts as loss."""

from __future__ import annotations

from lanrage.tunnel import mapping, prober, ways
from tests.tunnel.test_paths import AWAY, LAN, MS, T0, S, answer, drive, listed, opened, paths


def test_pings_that_nobody_answers_are_kept_in_a_bounded_number() -> None:
    """A member whose many addresses were all proven goes silent and keeps sending new lists."""
    named = [(f"9.0.0.{number}", 7) for number in range(1, ways.LISTED_MAX + 1)]
    core = opened(*named)
    member = core._reaches["peer"]
    for number in range(40):
        dropped = number % ways.LISTED_MAX  # another one each time, or the list would be the same
        core.put_candidates("peer", listed(*named[:dropped], *named[dropped + 1 :]), T0 + 2 * S)
        core.handle_timer(T0 + 2 * S + number * 60 * MS)
        assert len(member.prober.pending) <= prober.PENDING_MAX
    assert len(member.prober.pending) == prober.PENDING_MAX


def test_pings_sent_before_a_way_was_open_are_not_lost_ones() -> None:
    core = paths()
    core.put_candidates("peer", listed(AWAY), T0)
    core.take_outgoing()  # the first ping finds their router still closed
    core.handle_timer(T0 + 100 * MS)
    answer(core, T0 + 100 * MS, late_ns=20 * MS)
    drive(core, T0 + 120 * MS, T0 + 60 * S, at=[AWAY])
    rtt_us, loss_permille, _ = core.quality("peer")
    assert rtt_us == 20_000
    assert loss_permille == 0


def test_no_more_servers_are_asked_than_the_limit_says() -> None:
    core = paths(peer=False)
    core.put_servers([f"198.51.101.{n}:3478" for n in range(1, mapping.SERVERS_MAX + 5)], T0)
    assert len({to for to, _ in core.take_outgoing()}) == mapping.SERVERS_MAX
    assert core.drops["stun_server_refused"] == 4


def test_a_private_address_that_is_slower_than_the_used_one_is_not_preferred() -> None:
    core = opened(AWAY)
    core.put_candidates("peer", listed(AWAY, LAN), T0 + 3 * S)
    answer(core, T0 + 3 * S, at=[LAN], late_ns=30 * MS)
    assert core.best("peer") == AWAY
