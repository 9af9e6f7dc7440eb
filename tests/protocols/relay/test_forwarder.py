"""The relay's core: who is bound, what is forwarded where, what a stranger gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import forwarder, registry, ticket, wire
from lanrage.protocols.relay.budget import Rate
from tests.protocols.relay.people import (
    BOOT,
    OTHER_PARTY,
    SECOND,
    UNIX_S,
    Desk,
    Person,
    data,
)

ADA = ("198.51.100.1", 4001)
BOB = ("198.51.100.2", 4002)
EVE = ("203.0.113.66", 666)
NEW = ("198.51.100.9", 4009)


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.bind(Person(1, ADA))
    made.bind(Person(2, BOB))
    return made


# --- binding -----------------------------------------------------------------------------------


def test_a_bind_says_where_the_relay_sees_the_member_and_for_how_long() -> None:
    desk, ada = Desk(), Person(1, ADA)
    challenge = desk.one(ada.ask(), ADA)
    welcome = wire.read(desk.one(ada.answer(challenge), ADA))
    assert welcome == wire.Welcome((1).to_bytes(8, "big"), BOOT, registry.SILENT_S, ADA)
    assert desk.core.members == 1


def test_a_bind_alone_leaves_nothing_behind() -> None:
    desk = Desk()
    desk.one(Person(1, ADA).ask(), ADA)
    assert desk.core.members == 0
    assert desk.core.timer() is None


def test_who_has_no_genuine_ticket_hears_nothing() -> None:
    desk, eve = Desk(), Person(1, EVE)
    forged = wire.bind(wire.Bind(bytes(8), eve.ticket(bytes(32))))
    assert desk.hand(forged, EVE) == []
    eve.expires_s = UNIX_S - ticket.SLACK_S - 1
    assert desk.hand(eve.ask(), EVE) == []
    assert desk.drops() == {"relay_ticket"}


def test_a_cookie_is_good_for_the_address_it_went_to_and_for_no_other() -> None:
    desk, ada = Desk(), Person(1, ADA)
    challenge = desk.one(ada.ask(), ADA)
    assert desk.hand(ada.answer(challenge), NEW) == []
    assert desk.hand(ada.answer(challenge), (ADA[0], ADA[1] + 1)) == []
    assert desk.drops() == {"relay_cookie"}


def test_a_cookie_does_not_live_long() -> None:
    desk, ada = Desk(), Person(1, ADA)
    challenge = desk.one(ada.ask(), ADA)
    desk.wait(registry.COOKIE_LIFE_MS / 1000 + 0.1)
    assert desk.hand(ada.answer(challenge), ADA) == []


def test_a_ticket_seen_on_the_way_is_of_no_use_to_others() -> None:
    desk, ada, eve = Desk(), Person(1, ADA), Person(6, EVE)
    challenge = desk.one(ada.ask(), EVE)
    assert desk.hand(ada.answer(challenge, eve.keys), EVE) == []
    assert desk.drops() == {"relay_forged"}


def test_an_answer_with_the_cookie_of_the_relay_before_it_restarted_is_ignored() -> None:
    desk, ada = Desk(), Person(1, ADA)
    said = wire.read(desk.one(ada.ask(), ADA))
    assert isinstance(said, wire.Challenge)
    old = wire.Bind(said.nonce, ada.ticket(), b"boot-old", said.cookie)
    assert desk.hand(wire.answer(old, ada.keys), ADA) == []


def test_a_member_moves_by_a_new_answer_and_its_data_follows(desk: Desk) -> None:
    desk.wait(1)
    desk.bind(Person(1, NEW))
    assert desk.hand(data(2, 1), BOB) == [(NEW, data(2, 1))]
    assert desk.core.members == 2
    ((to, said),) = desk.hand(data(1, 2), ADA)
    assert to == ADA
    assert wire.read(said) == wire.Stranger(BOOT)


def test_an_answer_from_before_the_move_moves_nothing_back(desk: Desk) -> None:
    ada = Person(1, ADA)
    old = ada.answer(desk.one(ada.ask(), ADA))
    desk.wait(1)
    desk.bind(Person(1, NEW))
    assert desk.hand(old, ADA) == []
    assert "relay_replayed" in desk.drops()
    assert desk.hand(data(2, 1), BOB) == [(NEW, data(2, 1))]


def test_an_answer_that_comes_twice_is_welcomed_twice() -> None:
    desk, ada = Desk(), Person(1, ADA)
    answer = ada.answer(desk.one(ada.ask(), ADA))
    assert desk.one(answer, ADA) == desk.one(answer, ADA)


def test_a_newer_member_with_the_same_number_takes_its_place_and_keeps_it(desk: Desk) -> None:
    newer = Person(1, NEW, seed=bytes([9]) * 32, expires_s=UNIX_S + 700)
    desk.wait(1)
    desk.bind(newer)
    assert desk.hand(data(2, 1), BOB) == [(NEW, data(2, 1))]
    desk.wait(1)
    ada = Person(1, ADA)
    assert desk.hand(ada.answer(desk.one(ada.ask(), ADA)), ADA) == []
    assert desk.drops() == {"relay_older_ticket"}


def test_an_address_belongs_to_whoever_proved_it_last(desk: Desk) -> None:
    desk.wait(1)
    desk.bind(Person(3, ADA))
    assert desk.core.members == 2
    assert desk.hand(data(3, 2), ADA) == [(BOB, data(3, 2))]
    assert desk.hand(data(2, 1), BOB) == []


def test_the_last_of_a_party_may_be_followed_at_its_address_by_one_of_the_same_party() -> None:
    desk = Desk()
    desk.bind(Person(1, ADA))
    desk.bind(Person(3, ADA))
    desk.bind(Person(2, BOB))
    assert desk.hand(data(2, 3), BOB) == [(ADA, data(2, 3))]


# --- staying, leaving --------------------------------------------------------------------------


def test_a_beat_is_answered_and_keeps_a_member_bound(desk: Desk) -> None:
    ada = Person(1, ADA)
    for counter in range(5):
        desk.wait(registry.SILENT_S * 0.6)
        reply = desk.one(wire.beat(wire.Beat(BOOT, counter), ada.keys), ADA)
        assert wire.kind_of(reply) == wire.BEATEN
        assert wire.is_sealed(reply, ada.keys)
        assert wire.read(reply) == wire.Beat(BOOT, counter)
    assert desk.core.members == 1  # bob was silent


def test_a_member_that_sends_data_alone_stays_and_a_silent_one_goes(desk: Desk) -> None:
    for _ in range(5):
        desk.wait(registry.SILENT_S * 0.6)
        desk.hand(data(1, 2), ADA)
    assert desk.core.members == 1
    assert desk.hand(data(1, 2), ADA) == []


def test_nobody_stays_longer_than_the_ticket(desk: Desk) -> None:
    for _ in range(0, ticket.LIFE_S + ticket.SLACK_S + 10, 10):
        desk.hand(data(1, 2), ADA)
        desk.wait(10)
    assert desk.core.members == 0


def test_a_forged_beat_is_not_answered(desk: Desk) -> None:
    eve = Person(6, EVE)
    assert desk.hand(wire.beat(wire.Beat(BOOT, 1), eve.keys), ADA) == []
    assert desk.drops() == {"relay_forged"}


def test_who_is_not_bound_is_told_so_at_once_but_not_again_and_again(desk: Desk) -> None:
    beat = wire.beat(wire.Beat(BOOT, 1), Person(5, EVE).keys)
    for said in (data(5, 1), beat):
        assert wire.read(desk.one(said, EVE)) == wire.Stranger(BOOT)
    replies = [desk.hand(data(5, 1), EVE) for _ in range(100)]
    assert sum(map(len, replies)) <= registry.STRANGERS.burst
    desk.wait(1)
    assert len(desk.hand(data(5, 1), EVE)) == 1


# --- forwarding --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(wire.RELAYED))
def test_a_datagram_goes_to_the_member_with_its_number_as_it_came(desk: Desk, kind: int) -> None:
    said = data(1, 2, kind=kind, fill=7)
    assert desk.hand(said, ADA) == [(BOB, said)]


def test_a_batch_for_one_member_leaves_as_the_very_same_bytes(desk: Desk) -> None:
    batch = b"".join(data(1, 2, size=1000, fill=each) for each in range(20)) + data(1, 2, size=33)
    desk.core.receive(batch, 1000, ADA, desk.now_ns)
    (run,) = desk.core.take_outgoing()
    assert run.buffers[0] is batch
    assert (run.address, run.size, run.count) == (BOB, 1000, 21)
    assert desk.core.packets == 21
    assert desk.core.bytes == 20_033


def test_a_mixed_batch_is_split_by_receiver_in_order(desk: Desk) -> None:
    desk.bind(Person(3, NEW))
    receivers = [2, 3, 3, 2, 3, 2]
    parts = [data(1, to, fill=at) for at, to in enumerate(receivers)] + [data(1, 3, size=40)]
    left = desk.hand(b"".join(parts), ADA, size=100)
    for receiver, address in ((2, BOB), (3, NEW)):
        wanted = [part for part in parts if wire.ends(wire.number_of(part))[1] == receiver]
        assert [each for to, each in left if to == address] == wanted
    assert len(left) == len(parts)


def test_what_several_send_to_one_leaves_in_one_run() -> None:
    desk = Desk()
    for number in range(1, 11):
        desk.bind(Person(number, ("198.51.100.1", 4000 + number)))
    for number in range(2, 11):
        desk.core.receive(data(number, 1), 100, ("198.51.100.1", 4000 + number), desk.now_ns)
    (run,) = desk.core.take_outgoing()
    assert run.count == 9


def test_one_bad_datagram_in_a_batch_harms_no_other(desk: Desk) -> None:
    good, spoofed, short = data(1, 2), data(3, 2), data(1, 2, size=31)
    assert desk.hand(good + spoofed + good + short, ADA, size=100) == [(BOB, good)] * 2
    assert desk.drops() == {"relay_spoofed", "relay_garbage"}


def test_a_number_that_is_not_the_senders_is_dropped(desk: Desk) -> None:
    assert desk.hand(data(2, 1), ADA) == []
    assert desk.hand(data(2, 1) * 5, ADA, size=100) == []
    assert desk.core.drops == {"relay_spoofed": 6}


def test_a_number_reaches_only_its_own_party(desk: Desk) -> None:
    desk.bind(Person(3, EVE, party=OTHER_PARTY, seed=bytes([6]) * 32))
    assert desk.hand(data(3, 1), EVE) == []
    assert desk.hand(data(1, 3), ADA) == []
    assert desk.core.drops == {"relay_no_receiver": 2}


def test_both_families_mix() -> None:
    desk = Desk()
    six: Address = ("2001:db8::5", 4001)
    desk.bind(Person(1, six))
    desk.bind(Person(2, BOB))
    assert desk.hand(data(1, 2), six) == [(BOB, data(1, 2))]
    assert desk.hand(data(2, 1), BOB) == [(six, data(2, 1))]


# --- budgets -----------------------------------------------------------------------------------


def test_a_flooding_member_is_held_to_its_budget_and_the_others_are_not() -> None:
    desk = Desk(Rate(1_000_000, 100_000))
    for number, address in ((1, ADA), (2, BOB), (3, NEW)):
        desk.bind(Person(number, address))
    forwarded = 0
    for _ in range(1000):
        desk.wait(0.001)
        forwarded += sum(len(each) for _, each in desk.hand(data(1, 2, 1000) * 10, ADA, 1000))
    assert 1_000_000 <= forwarded <= 1_110_000
    assert desk.core.drops["relay_budget"] > 8000
    assert desk.hand(data(3, 2), NEW) == [(BOB, data(3, 2))]


def test_a_flood_of_small_packets_counts_more_than_its_bytes() -> None:
    desk = Desk(Rate(1_000_000, 100_000))
    desk.bind(Person(1, ADA))
    desk.bind(Person(2, BOB))
    left = sum(len(desk.hand(data(1, 2, 40), ADA)) for _ in range(1000))
    assert left == 100_000 // registry.PACKET_BYTES_MIN


def test_who_wastes_many_reads_is_named_and_who_is_merely_held_back_is_not() -> None:
    desk = Desk(Rate(1_000_000, 100_000))
    desk.bind(Person(1, ADA))
    desk.bind(Person(2, BOB))
    for _ in range(2 * forwarder.FLOOD_READS):
        desk.wait(0.001)  # four times the budget: a download that has not noticed yet
        desk.hand(data(1, 2, 1000) * 4, ADA, 1000)
    assert desk.core.drops["relay_budget"] > 4000
    assert desk.core.take_floods() == []
    for _ in range(2 * forwarder.FLOOD_READS):
        desk.hand(data(2, 1), BOB)
    assert desk.core.take_floods() == [BOB]
    assert desk.core.take_floods() == []


def test_questions_of_one_source_are_limited_and_do_not_cost_others_theirs() -> None:
    desk, eve = Desk(), Person(6, EVE)
    answered = sum(len(desk.hand(eve.ask(), EVE)) for _ in range(1000))
    assert answered == registry.ASKING.burst
    desk.bind(Person(1, ADA))


def test_curve_multiplications_are_limited_in_all() -> None:
    desk = Desk()
    refused = 0
    for at in range(registry.DERIVING.burst + 20):
        eve = Person(6, (f"203.0.{at // 250}.{at % 250}", 666))
        challenge = desk.one(eve.ask(), eve.address)
        answer = eve.answer(challenge)
        forged = answer[:-1] + bytes([answer[-1] ^ 1])
        refused += len(desk.hand(forged, eve.address))
    assert refused == 0
    assert desk.core.drops["relay_deriving"] == 20


def test_more_members_than_the_table_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MEMBERS_MAX", 2)
    desk = Desk()
    desk.bind(Person(1, ADA))
    desk.bind(Person(2, BOB))
    late = Person(3, NEW)
    assert desk.hand(late.answer(desk.one(late.ask(), NEW)), NEW) == []
    desk.wait(1)
    desk.bind(Person(1, EVE))  # who is bound may still move
    assert desk.core.members == 2


# --- strangers ---------------------------------------------------------------------------------


CONTROL = st.builds(
    lambda kind, body: (wire.HEADER + bytes([kind]) + body).ljust(wire.SIZES[kind], b"\0")[
        : wire.SIZES[kind]
    ],
    st.sampled_from(sorted(wire.SIZES)),
    st.binary(max_size=208),
)
RELAYED = st.builds(
    lambda kind, number, rest: bytes([kind]) + number.to_bytes(3, "big") + rest,
    st.sampled_from(sorted(wire.RELAYED)),
    st.integers(0, (1 << 24) - 1),
    st.binary(min_size=20, max_size=200),
)
GENUINE = st.sampled_from([Person(each, EVE).ask() for each in (1, 2, 3)])


@given(st.lists(st.binary(max_size=300) | CONTROL | RELAYED | GENUINE, max_size=20), st.data())
def test_a_stranger_never_gets_more_bytes_than_it_sent_and_reaches_nobody(
    parts: list[bytes], draw: st.DataObject
) -> None:
    desk = Desk()
    desk.bind(Person(1, ADA))
    desk.bind(Person(2, BOB))
    for part in parts:
        size = draw.draw(st.integers(1, max(1, len(part))))
        left = desk.hand(part, EVE, size)
        assert all(to == EVE for to, _ in left)
        assert sum(len(each) for _, each in left) <= len(part)
    assert desk.core.members == 2


@given(st.lists(st.binary(max_size=300) | CONTROL | RELAYED, max_size=20), st.data())
def test_no_bytes_from_a_members_address_raise_or_move_anything(
    parts: list[bytes], draw: st.DataObject
) -> None:
    desk = Desk()
    desk.bind(Person(1, ADA))
    desk.bind(Person(2, BOB))
    for part in parts:
        size = draw.draw(st.integers(1, max(1, len(part))))
        for to, _ in desk.hand(part, ADA, size):
            assert to in (ADA, BOB)
    assert desk.hand(data(2, 1), BOB) == [(ADA, data(2, 1))]
    assert len(desk.core.drops) < 30


def test_the_timer_sleeps_when_there_is_nobody(desk: Desk) -> None:
    assert desk.core.timer() is not None
    desk.wait(registry.SILENT_S + 2 * forwarder.SWEEP_NS / SECOND)
    assert desk.core.timer() is None
