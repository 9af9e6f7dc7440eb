"""Standard WireGuard peers through the relay's core; the real engines are at both ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import guests, wire
from lanrage.protocols.wireguard.engine import Engine
from tests.protocols.relay.answering import public
from tests.protocols.relay.people import UNIX_S, Desk, Person

MEMBER_AT = ("198.51.100.1", 4001)
PHONE_AT = ("203.0.113.5", 51_820)
EVE_AT = ("203.0.113.66", 666)
RELAY_AT = ("192.0.2.1", 3478)
PHONE_SEED = bytes([8]) * 32
SIZES = {1: 148, 2: 92, 3: 64, 4: 32}


def engine(seed: bytes, peer: bytes, endpoint: Address | None) -> Engine:
    made = Engine(
        seed,
        random=lambda size: bytes([seed[0], size]) * (size // 2) + bytes(size % 2),
        wall_offset_ns=UNIX_S * 1_000_000_000,
        roaming=True,
    )
    made.put_peer(peer, allowed=["10.9.0.0/24"], endpoint=endpoint)
    return made


class Scene:
    """A member, bound; a phone that knows nothing but the relay's address and the member's key."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.person = Person(7, MEMBER_AT)
        self.desk.bind(self.person)
        self.member = engine(self.person.seed, public(PHONE_SEED), None)
        self.phone = engine(PHONE_SEED, public(self.person.seed), RELAY_AT)
        self.numbers: set[int] = set()
        self.arrived: list[bytes] = []

    def initiation(self) -> bytes:
        (peer,) = self.phone.peers.values()
        self.phone.seal(peer, [b"\x45" + bytes(27)], self.desk.now_ns)
        ((_, datagram),) = self.phone.take_outgoing()
        return datagram

    def to_member(self, relayed: bytes) -> list[bytes]:
        """What the member answers, stamped for the number it came from."""
        sender, receiver = wire.ends(wire.number_of(relayed))
        self.numbers.add(sender)
        assert receiver == self.person.number
        back = wire.number(receiver, sender)
        packets = self.member.receive([wire.unstamp(relayed)], RELAY_AT, self.desk.now_ns)
        self.arrived += [packet for _, each in packets for packet in each]
        return [wire.stamp(each, back) for _, each in self.member.take_outgoing()]


def message(kind: int, receiver: bytes = bytes(4)) -> bytes:
    head = bytes([kind, 0, 0, 0]) + receiver
    return head.ljust(SIZES[kind], b"\0")


def test_an_initiation_reaches_the_member_it_was_made_for_with_a_guests_number() -> None:
    scene = Scene()
    scene.desk.bind(Person(8, ("198.51.100.2", 4002)))
    ((to, relayed),) = scene.desk.hand(scene.initiation(), PHONE_AT)
    assert to == MEMBER_AT
    assert wire.ends(wire.number_of(relayed)) == (wire.GUEST_MIN, 7)


def test_a_response_and_what_follows_go_to_and_fro() -> None:
    scene = Scene()
    ((_, relayed),) = scene.desk.hand(scene.initiation(), PHONE_AT)
    (answer,) = scene.to_member(relayed)
    ((to, response),) = scene.desk.hand(answer, MEMBER_AT)
    assert to == PHONE_AT
    assert response[:4] == b"\2\0\0\0"
    assert scene.phone.receive([response], RELAY_AT, scene.desk.now_ns) is not None
    for _, datagram in scene.phone.take_outgoing():
        ((to, relayed),) = scene.desk.hand(datagram, PHONE_AT)
        assert to == MEMBER_AT
        assert wire.ends(wire.number_of(relayed)) == (wire.GUEST_MIN, 7)
    assert scene.desk.core.guests == 1
    long = wire.stamp(bytes([4, 0, 0, 0]) + bytes(996), wire.number(7, wire.GUEST_MIN))
    assert (
        scene.desk.hand(long * 3, MEMBER_AT, size=1000)
        == [
            (PHONE_AT, wire.unstamp(long)),
        ]
        * 3
    )


def test_before_it_has_proven_its_address_a_guest_gets_no_more_than_it_sent() -> None:
    scene = Scene()
    ((_, relayed),) = scene.desk.hand(scene.initiation(), PHONE_AT)
    (answer,) = scene.to_member(relayed)
    assert len(scene.desk.hand(answer, MEMBER_AT)) == 1
    assert scene.desk.hand(answer, MEMBER_AT) == []
    long = wire.stamp(bytes([4, 0, 0, 0]) + bytes(996), wire.number(7, wire.GUEST_MIN))
    assert scene.desk.hand(long, MEMBER_AT) == []
    assert scene.desk.drops() == {"guest_unproven"}


def test_from_another_address_an_index_is_worth_nothing() -> None:
    scene = Scene()
    ((_, relayed),) = scene.desk.hand(scene.initiation(), PHONE_AT)
    (answer,) = scene.to_member(relayed)
    scene.desk.hand(answer, MEMBER_AT)
    index = answer[4:8]
    assert scene.desk.hand(message(4, index), EVE_AT) == []
    assert scene.desk.hand(message(4, b"\1\2\3\4"), PHONE_AT) == []
    assert len(scene.desk.hand(message(4, index), PHONE_AT)) == 1


def test_the_same_initiation_from_elsewhere_is_another_guest_and_moves_nothing() -> None:
    scene = Scene()
    initiation = scene.initiation()
    ((_, first),) = scene.desk.hand(initiation, PHONE_AT)
    ((_, second),) = scene.desk.hand(initiation, EVE_AT)
    assert wire.number_of(first) != wire.number_of(second)
    (answer,) = scene.to_member(first)
    assert scene.desk.hand(answer, MEMBER_AT)[0][0] == PHONE_AT


def test_an_initiation_for_nobody_here_is_silence() -> None:
    scene = Scene()
    stranger = engine(PHONE_SEED, public(bytes([99]) * 32), RELAY_AT)
    (peer,) = stranger.peers.values()
    stranger.seal(peer, [b"\x45" + bytes(27)], scene.desk.now_ns)
    ((_, initiation),) = stranger.take_outgoing()
    assert scene.desk.hand(initiation, PHONE_AT) == []
    assert scene.desk.drops() == {"guest_mac1"}
    assert scene.desk.core.guests == 0


def test_new_guests_are_short_lived_and_proven_ones_stay_while_they_talk() -> None:
    scene = Scene()
    ((_, relayed),) = scene.desk.hand(scene.initiation(), PHONE_AT)
    (answer,) = scene.to_member(relayed)
    scene.desk.hand(answer, MEMBER_AT)
    beat = wire.beat(wire.Beat(b"boot-one", 1), scene.person.keys)
    scene.desk.hand(message(4, answer[4:8]), PHONE_AT)
    for _ in range(12):
        scene.desk.wait(30)
        scene.desk.hand(beat, MEMBER_AT)
        scene.desk.hand(message(4, answer[4:8]), PHONE_AT)
    assert scene.desk.core.guests == 1


def test_a_guest_that_nobody_answered_is_forgotten_soon() -> None:
    scene = Scene()
    scene.desk.hand(scene.initiation(), PHONE_AT)
    assert scene.desk.core.guests == 1
    scene.desk.wait(16)
    assert scene.desk.core.guests == 0


def test_guests_of_a_member_that_left_are_gone() -> None:
    scene = Scene()
    scene.desk.hand(scene.initiation(), PHONE_AT)
    scene.desk.wait(1)
    scene.desk.bind(Person(9, MEMBER_AT))
    scene.desk.wait(6)
    assert scene.desk.core.guests == 0


def test_inventing_senders_fills_no_table() -> None:
    scene = Scene()
    initiation = scene.initiation()
    for at in range(2000):
        scene.desk.hand(initiation, (f"203.0.{at // 250}.{at % 250}", 666))
    assert scene.desk.core.guests <= guests.NEW_MAX
    assert "guest_initiations" in scene.desk.drops()


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 4]), st.binary(min_size=28, max_size=160)), max_size=10
    )
)
def test_no_bytes_of_a_stranger_raise_or_reach_anybody(parts: list[tuple[int, bytes]]) -> None:
    scene = Scene()
    for kind, rest in parts:
        assert scene.desk.hand(bytes([kind, 0, 0, 0]) + rest, EVE_AT) == []
