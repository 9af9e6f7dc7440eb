"""Gossip's rules: chains become equal, signals arrive, and nobody can be made to shout."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from lanrage import circle
from lanrage.circle import ALONE_NS, USUAL_NS, WANT_NS, Asked, Circle, Notice, S
from lanrage.control.notices import Diverged, Records, SignalArrived
from lanrage.protocols import gossip, partylog
from lanrage.protocols.partylog import Chain
from tests.protocols import party as p
from tests.protocols.party import ADA, BOB, CAT, Device

STORY = p.story()


def chain_of(records: Iterable[bytes]) -> Chain:
    chain = partylog.extend(partylog.EMPTY, records)
    assert isinstance(chain, Chain)
    return chain


class Member:
    def __init__(self, device: Device, records: Iterable[bytes], control: bool) -> None:
        self.peer = device.peer
        self.records = list(records)
        self.control = control
        self.heard: list[Notice] = []
        self.circle = Circle(device.peer, lambda n: bytes([len(device.name)] * n))


class Room:
    """Members whose datagrams arrive at once, unless `lost`."""

    def __init__(self, *members: Member) -> None:
        self.now_ns = 5 * S
        self.members = {each.peer: each for each in members}
        self.lost: set[tuple[str, str]] = set()
        self.sent: list[tuple[str, str, gossip.Frame | None]] = []
        for each in members:
            self.know(each)

    def know(self, member: Member) -> None:
        member.circle.know(chain_of(member.records), member.control, self.now_ns)

    def meet(self, *pairs: tuple[Member, Member]) -> None:
        for member in self.members.values():
            others = [b for a, b in pairs if a is member] + [a for a, b in pairs if b is member]
            member.circle.connect([each.peer for each in others], self.now_ns)
        self.settle()

    def settle(self) -> None:
        while sum(self._carry(each) for each in self.members.values()):
            pass

    def _carry(self, member: Member) -> bool:
        outgoing, notices = member.circle.take_outgoing(), member.circle.take_notices()
        for to, datagram in outgoing:
            self.sent.append((member.peer, to, gossip.decode(datagram)))
            if (member.peer, to) not in self.lost:
                self.members[to].circle.receive(member.peer, datagram, self.now_ns)
        for notice in notices:
            if isinstance(notice, Asked):
                member.circle.give(notice.peer, notice.after, member.records[notice.after :])
                continue
            member.heard.append(notice)
            if isinstance(notice, Records):
                assert notice.after == len(member.records)
                member.records += notice.records
                self.know(member)
        return bool(outgoing or notices)

    def run(self, seconds: int) -> None:
        end_ns = self.now_ns + seconds * S
        while True:
            dues = [each.circle.timer() for each in self.members.values()]
            due_ns = min((due for due in dues if due is not None), default=end_ns)
            if due_ns >= end_ns:
                break
            self.now_ns = max(self.now_ns, due_ns)
            for each in self.members.values():
                each.circle.handle_timer(self.now_ns)
            self.settle()
        self.now_ns = end_ns

    def spoken(self, kind: type) -> int:
        return sum(isinstance(frame, kind) for _, _, frame in self.sent)


def long_story(count: int) -> list[bytes]:
    records = [*STORY]
    chain = chain_of(records)
    for number in range(count):
        name = f"Friday {number}"
        records.append(partylog.rename_party(ADA.signer, chain, name=name, at_ms=p.NOON + number))
        chain = p.added(chain, records[-1])
    return records


def test_who_has_less_gets_the_rest_when_the_tunnel_comes_up() -> None:
    records = long_story(100)
    ada, bob = Member(ADA, records, False), Member(BOB, records[:3], False)
    room = Room(ada, bob)
    room.meet((ada, bob))
    assert bob.records == records
    assert room.spoken(gossip.Records) > 2
    assert ada.heard == []


def test_a_new_record_travels_on_through_a_third() -> None:
    ada, bob, cat = (Member(each, STORY, False) for each in (ADA, BOB, CAT))
    room = Room(ada, bob, cat)
    room.meet((ada, bob), (bob, cat))
    ada.records = long_story(1)
    room.know(ada)
    room.settle()
    assert cat.records == bob.records == ada.records


def test_lost_datagrams_are_asked_for_again() -> None:
    ada, bob = Member(ADA, long_story(2), False), Member(BOB, STORY, False)
    room = Room(ada, bob)
    room.lost = {(ADA.peer, BOB.peer)}
    room.meet((ada, bob))
    room.lost.clear()
    room.run(ALONE_NS // S + 1)
    assert bob.records == ada.records
    bob.circle._others[ADA.peer].heads = None  # then a Want that gets lost is repeated
    ada.records = long_story(5)
    room.lost = {(BOB.peer, ADA.peer)}
    room.know(ada)
    room.settle()
    room.lost.clear()
    room.run(WANT_NS // S + 1)
    assert bob.records == ada.records


@pytest.mark.parametrize(("control", "period_ns"), [(False, ALONE_NS), (True, USUAL_NS)])
def test_heads_are_told_more_often_without_control(control: bool, period_ns: int) -> None:
    ada, bob = Member(ADA, STORY, control), Member(BOB, STORY, control)
    room = Room(ada, bob)
    room.meet((ada, bob))
    before = room.spoken(gossip.Heads)
    room.run(3 * period_ns // S + 1)
    assert room.spoken(gossip.Heads) - before == 6
    assert ada.circle.control_elsewhere is control


def test_a_split_history_is_told_once_and_not_taken() -> None:
    fork = [*STORY, p.rename_party(chain_of(STORY), ADA, "Sunday")]
    longer = [*STORY, *long_story(3)[len(STORY) :]]
    for mine, theirs in ((longer, fork), (longer[:-2], fork), (fork, longer)):
        ada, bob = Member(ADA, mine, False), Member(BOB, theirs, False)
        room = Room(ada, bob)
        room.meet((ada, bob))
        room.run(100)
        told = [each for member in (ada, bob) for each in member.heard]
        assert told
        assert all(isinstance(each, Diverged) for each in told)
        assert len(ada.heard) <= 1
        assert (ada.records, bob.records) == (mine, theirs)


def test_records_that_nobody_asked_for_are_not_read() -> None:
    ada, bob = Member(ADA, STORY, False), Member(BOB, STORY[:2], False)
    room = Room(bob, ada)
    bob.circle.connect([ADA.peer], room.now_ns)
    frame = gossip.encode(gossip.Records(2, tuple(STORY[2:4])))
    bob.circle.receive(ADA.peer, frame, room.now_ns)
    assert bob.circle.take_notices() == []
    assert bob.circle.drops == {"gossip_unasked": 1}


def signals(member: Member) -> list[Notice]:
    return [each for each in member.heard if isinstance(each, SignalArrived)]


def trio() -> tuple[list[bytes], tuple[Device, Device, Device]]:
    """Records after which three known devices are members, and which."""
    devices = {each.peer: each for each in (ADA, BOB, CAT, p.DAN)}
    for length in range(len(STORY), 0, -1):
        members = [devices[each] for each in chain_of(STORY[:length]).members if each in devices]
        if len(members) >= 3:
            return STORY[:length], (members[0], members[1], members[2])
    raise AssertionError("the story never has three members")


def test_a_signal_goes_directly_where_there_is_a_tunnel() -> None:
    records, (one, two, _) = trio()
    a, b = Member(one, records, True), Member(two, records, True)
    room = Room(a, b)
    room.meet((a, b))
    assert a.circle.signal(b.peer, b"sealed")
    room.settle()
    assert signals(b) == [SignalArrived(a.peer, b"sealed")]
    assert not a.circle.signal(b.peer, bytes(gossip.SIGNAL_MAX + 1))


def test_without_a_tunnel_and_control_a_third_passes_it_on_once() -> None:
    records, three = trio()
    a, b, c = (Member(each, records, False) for each in three)
    room = Room(a, b, c)
    room.meet((a, b), (b, c))
    assert a.circle.signal(c.peer, b"sealed")
    room.settle()
    assert signals(c) == [SignalArrived(a.peer, b"sealed")]
    assert signals(b) == []
    # What was passed on is not passed on again, and the same again is known.
    frame = gossip.Signal(b"x" * 8, a.peer, c.peer, 1, b"sealed")
    b.circle.receive(a.peer, gossip.encode(frame), room.now_ns)
    assert b.circle.drops["gossip_not_passed"] == 1
    for _ in range(2):
        repeated = gossip.encode(msgspec.structs.replace(frame, id=b"y" * 8))
        c.circle.receive(b.peer, repeated, room.now_ns)
    room.settle()
    assert len(signals(c)) == 2


def test_with_control_nothing_is_passed_on() -> None:
    records, three = trio()
    a, b, c = (Member(each, records, True) for each in three)
    room = Room(a, b, c)
    room.meet((a, b), (b, c))
    assert not a.circle.signal(c.peer, b"sealed")


def test_nobody_speaks_in_anothers_name() -> None:
    records, three = trio()
    a, b, c = (Member(each, records, False) for each in three)
    room = Room(a, b, c)
    room.meet((a, b), (b, c))
    forged = gossip.Signal(b"z" * 8, c.peer, a.peer, 0, b"sealed")
    a.circle.receive(b.peer, gossip.encode(forged), room.now_ns)
    assert a.circle.take_notices() == []


def test_a_member_that_floods_is_not_answered() -> None:
    ada, bob = Member(ADA, STORY, False), Member(BOB, STORY, False)
    room = Room(ada, bob)
    room.meet((ada, bob))
    want = gossip.encode(gossip.Want(0))
    for _ in range(1_000):
        ada.circle.receive(BOB.peer, want, room.now_ns)
    assert len(ada.circle.take_notices()) <= circle.FRAMES_BURST
    assert ada.circle.drops["gossip_flood"] > 900


def test_only_members_with_a_tunnel_are_heard() -> None:
    ada = Member(ADA, STORY, False)
    Room(ada)
    ada.circle.receive(BOB.peer, gossip.encode(gossip.Want(0)), 0)
    ada.circle.receive("", b"\xc1", 0)
    assert ada.circle.drops == {"gossip_stranger": 2}
    assert not ada.circle.take_notices()


def test_who_is_in_no_party_takes_no_records() -> None:
    nobody = Member(ADA, [], False)
    room = Room(nobody)
    nobody.circle.connect([BOB.peer], room.now_ns)
    nobody.circle.receive(BOB.peer, gossip.encode(gossip.Heads(9, "ab", False)), room.now_ns)
    assert [each for _, each in nobody.circle.take_outgoing()][1:] == []
