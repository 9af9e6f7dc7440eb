"""RFC 5780's tests against routers and servers of a few lines, under a clock of our own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanrage.protocols import stun
from lanrage.protocols.behaviour import (
    BASE,
    FRESH,
    GIVE_UP_NS,
    PADDING,
    TESTS_MAX,
    Behaviour,
    Send,
    Survey,
)
from lanrage.protocols.endpoint import Address

PUBLIC, INSIDE = "198.51.100.7", "192.168.1.10"
ONE, TWO = ("203.0.113.2", 3478), ("203.0.113.3", 3478)
SECOND_IP = "203.0.113.9"
THIRD_PORT = 41_000
RTT_NS = 20_000_000


def draws() -> Callable[[int], bytes]:
    numbers = itertools.count()
    return lambda size: next(numbers).to_bytes(size, "big")


@dataclass
class Router:
    """Mapping and filtering in the words of RFC 4787, "none" for none of it."""

    mapping: str
    filtering: str
    hairpin: bool = False
    table: dict[tuple[object, ...], Address] = field(default_factory=dict)
    sent_to: dict[int, set[Address]] = field(default_factory=lambda: {BASE: set(), FRESH: set()})

    def outside(self, socket: int, to: Address) -> Address:
        self.sent_to[socket].add(to)
        if self.mapping == "none":
            return INSIDE, 5_000 + socket
        minds = {"independent": (), "address": (to[0],), "port": to}[self.mapping]
        return self.table.setdefault((socket, *minds), (PUBLIC, 40_000 + len(self.table)))

    def inside(self, at: Address) -> int:
        known = {address: int(str(key[0])) for key, address in self.table.items()}
        return known[at] if self.mapping != "none" else at[1] - 5_000

    def lets_in(self, socket: int, source: Address) -> bool:
        if self.filtering in ("independent", "none"):
            return True
        sent = self.sent_to[socket]
        return source in sent or (self.filtering == "address" and source[0] in {a for a, _ in sent})


@dataclass
class World:
    router: Router
    second_ip: str = ""  # the servers' second address
    says: Callable[[bytes, Address], bytes] | None = None  # instead of the truth
    sent: list[Send] = field(default_factory=list)

    def answer(self, send: Send, now_ns: int, survey: Survey) -> None:
        self.sent.append(send)
        source = self.router.outside(send.socket, send.to)
        if send.to[0] == PUBLIC:
            if self.router.hairpin and send.to in self.router.table.values():
                inner = self.router.inside(send.to)
                survey.take(inner, send.datagram, source, now_ns)
            return
        reply = self._reply(send, source)
        if reply is None:
            return
        datagram, from_ = reply
        if self.router.lets_in(send.socket, from_):
            survey.take(send.socket, datagram, from_, now_ns + RTT_NS)

    def _reply(self, send: Send, source: Address) -> tuple[bytes, Address] | None:
        if send.to[0] not in (ONE[0], TWO[0], self.second_ip) or send.to[1] not in (3478, 3479):
            return None
        message = stun.parse(send.datagram)
        assert message is not None
        change = message.get(stun.CHANGE_REQUEST) or 0
        if change & stun.CHANGE_IP and not self.second_ip:
            return None
        host = self.second_ip if change & stun.CHANGE_IP else send.to[0]
        port = THIRD_PORT if change & stun.CHANGE_PORT else send.to[1]
        if self.says is not None:
            return self.says(send.datagram, source), send.to
        attributes = [
            (0x0020, stun.XOR_MAPPED_ADDRESS.pack(source, message.transaction)),
        ]
        if self.second_ip:
            other = stun.OTHER_ADDRESS.pack((self.second_ip, 3479), message.transaction)
            attributes.append((stun.OTHER_ADDRESS.number, other))
        answer = stun.encode(0x0101, message.transaction, attributes, fingerprint=True)
        return answer, (host, port)


def surveyed(world: World, *servers: Address, tcp_works: bool | None = True) -> Behaviour:
    survey = Survey(servers or (ONE, TWO), own=[INSIDE], draw=draws())
    now_ns = 1_000
    while (wake_ns := survey.wake_ns()) is not None:
        now_ns = max(now_ns, wake_ns)
        for send in survey.due(now_ns):
            world.answer(send, now_ns, survey)
    assert now_ns <= 2 * GIVE_UP_NS + 1_000
    return survey.behaviour(tcp_works=tcp_works)


@pytest.mark.parametrize("mapping", ["none", "independent", "address", "port"])
@pytest.mark.parametrize("filtering", ["independent", "address", "port"])
def test_with_a_second_address_everything_is_told_apart(mapping: str, filtering: str) -> None:
    said = surveyed(World(Router(mapping, filtering), second_ip=SECOND_IP), ONE)
    expected = "none" if (mapping, filtering) == ("none", "independent") else filtering
    assert (said.mapping, said.filtering) == (mapping, expected)


@pytest.mark.parametrize("mapping", ["none", "independent", "address", "port"])
@pytest.mark.parametrize("filtering", ["independent", "address", "port"])
def test_with_one_address_each_the_cautious_reading_is_taken(mapping: str, filtering: str) -> None:
    said = surveyed(World(Router(mapping, filtering)))
    cautious = "address" if filtering == "independent" else filtering
    assert (said.mapping, said.filtering) == (mapping, cautious)
    told = any("no server here has a second address" in each for each in said.evidence)
    assert told == (cautious == "address")


@pytest.mark.parametrize("hairpin", [True, False])
def test_hairpin_is_what_comes_back(hairpin: bool) -> None:
    said = surveyed(World(Router("independent", "port", hairpin=hairpin)))
    assert said.hairpin == ("yes" if hairpin else "no")


def test_a_servers_second_port_is_no_server_of_its_own() -> None:
    world = World(Router("independent", "port"))
    surveyed(world, ONE, (ONE[0], ONE[1] + 1), TWO)
    assert {send.to[1] for send in world.sent if send.socket == FRESH and send.to[0] != PUBLIC} == {
        ONE[1]
    }


def test_without_nat_there_is_no_hairpin_to_test() -> None:
    world = World(Router("none", "none"))
    assert surveyed(world).hairpin == ""
    assert not [send for send in world.sent if send.to[0] == INSIDE]


def test_one_server_shows_its_two_ports_and_says_what_that_leaves_open() -> None:
    assert surveyed(World(Router("port", "port")), ONE).mapping == "port"
    said = surveyed(World(Router("address", "port")), ONE)
    assert said.mapping == "independent"
    assert any("one address asked" in each for each in said.evidence)


@pytest.mark.parametrize(
    ("tcp_works", "kind", "words"),
    [(True, "blocked", "works"), (False, "", "no server over TCP"), (None, "", "no answer")],
)
def test_silence_is_blocked_only_while_tcp_works(
    tcp_works: bool | None, kind: str, words: str
) -> None:
    world = World(Router("independent", "port"))
    elsewhere = ("203.0.113.77", 3478)
    said = surveyed(world, elsewhere, tcp_works=tcp_works)
    assert (said.mapping, said.filtering, said.server) == (kind, kind, "")
    assert words in " ".join(said.evidence)


def test_with_no_server_nothing_is_claimed() -> None:
    survey = Survey((), own=[], draw=draws())
    assert survey.wake_ns() is None
    assert survey.behaviour(tcp_works=True).mapping == ""


def refusing(request: bytes, _: Address) -> bytes:
    message = stun.parse(request)
    assert message is not None
    unknown = stun.UNKNOWN_ATTRIBUTES.pack((3,), message.transaction)
    attributes = [(stun.UNKNOWN_ATTRIBUTES.number, unknown)]
    return stun.encode(stun.BINDING_ERROR, message.transaction, attributes, fingerprint=False)


def ignoring(request: bytes, source: Address) -> bytes:
    message = stun.parse(request)
    assert message is not None
    mapped = stun.XOR_MAPPED_ADDRESS.pack(source, message.transaction)
    return stun.encode(0x0101, message.transaction, [(0x0020, mapped)], fingerprint=False)


def test_a_server_that_ignores_a_change_proves_nothing() -> None:
    said = surveyed(World(Router("independent", "independent"), says=ignoring))
    assert (said.mapping, said.filtering) == ("independent", "")
    assert any("does not do that" in each for each in said.evidence)


def test_a_server_that_refuses_everything_says_nothing() -> None:
    assert surveyed(World(Router("independent", "port"), says=refusing)).mapping == ""


def test_only_the_server_that_was_asked_may_answer() -> None:
    survey = Survey((ONE,), own=[INSIDE], draw=draws())
    send = next(send for send in survey.due(0) if send.socket == BASE)
    answer = ignoring(send.datagram, (PUBLIC, 40_000))
    survey.take(BASE, answer, TWO, RTT_NS)
    survey.take(FRESH, answer, send.to, RTT_NS)
    survey.take(BASE, answer[:4] + bytes(4) + answer[8:], send.to, RTT_NS)
    assert survey.behaviour(tcp_works=None).server == ""
    survey.take(BASE, answer, send.to, RTT_NS)
    said = survey.behaviour(tcp_works=None)
    assert (said.server, said.mapped) == ("203.0.113.2:3478", f"{PUBLIC}:40000")
    assert said.rtts_us == (("203.0.113.2:3478", RTT_NS // 1000),)


def test_a_repeated_question_is_timed_from_the_try_that_was_answered() -> None:
    survey = Survey((ONE,), own=[INSIDE], draw=draws())
    survey.due(0)
    wake_ns = survey.wake_ns()
    assert wake_ns
    again = next(send for send in survey.due(wake_ns) if send.socket == BASE)
    survey.take(BASE, ignoring(again.datagram, (PUBLIC, 1)), again.to, wake_ns + RTT_NS)
    assert survey.behaviour(tcp_works=None).rtts_us[0][1] == RTT_NS // 1000


def test_the_fresh_socket_asks_nothing_but_main_ports_until_hairpin() -> None:
    world = World(Router("independent", "port"), second_ip=SECOND_IP)
    surveyed(world)
    assert {send.to for send in world.sent if send.socket == FRESH} == {
        *(ONE, TWO),
        (PUBLIC, 40_000),
    }


def test_no_answer_of_ours_is_longer_than_the_question() -> None:
    survey = Survey((ONE,), own=[INSIDE], draw=draws())
    for send in survey.due(0):
        reply = stun.respond(send.datagram, (PUBLIC, 40_000), alternate=("203.0.113.2", 3479))
        assert reply is None or len(reply.datagram) <= len(send.datagram)
    assert len(PADDING) % 4 == 0


@given(st.lists(st.tuples(st.sampled_from([BASE, FRESH]), st.binary(max_size=120)), max_size=20))
def test_any_bytes_are_survived(datagrams: list[tuple[int, bytes]]) -> None:
    survey = Survey((ONE,), own=[INSIDE], draw=draws())
    requests = {send.socket: send.datagram for send in survey.due(0)}
    for socket, datagram in datagrams:
        survey.take(socket, datagram, ONE, 1)
        survey.take(socket, requests[socket][:20] + datagram, ONE, 1)
    survey.behaviour(tcp_works=None)


def test_a_hostile_server_cannot_make_us_ask_without_end() -> None:
    ports = itertools.count(1_024)

    def naming(request: bytes, source: Address) -> bytes:
        message = stun.parse(request)
        assert message is not None
        other = stun.OTHER_ADDRESS.pack(("203.0.113.3", next(ports)), message.transaction)
        mapped = stun.XOR_MAPPED_ADDRESS.pack(source, message.transaction)
        attributes = [(0x0020, mapped), (stun.OTHER_ADDRESS.number, other)]
        return stun.encode(0x0101, message.transaction, attributes, fingerprint=False)

    world = World(Router("independent", "port"), says=naming)
    surveyed(world)
    assert len({(send.socket, send.to, send.datagram[:19]) for send in world.sent}) <= TESTS_MAX
