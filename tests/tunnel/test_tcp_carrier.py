"""The member's TCP tunnel against the relay's real front, over loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lanrage.protocols.relay import backlog, wire
from lanrage.relay.visitor import Visitor
from lanrage.tunnel.loop import Loop, now_ns
from lanrage.tunnel.tcp import ADDRESS_NS, OPEN_NS, TcpCarrier
from tests.relay.door import (
    BIND,
    PATIENCE_S,
    WELCOME,
    Door,
    data,
    door,
    probe,
    relay_socket,
    sequence_of,
)

MS = 1_000_000
SIZE = 500
STILL_NS = 100 * MS


class Member:
    """A carrier in its loop, and the relay's socket in the same loop."""

    def __init__(
        self,
        url: str,
        pin: str,
        relay: socket.socket | None = None,
        addresses: tuple[str, ...] = (),
    ) -> None:
        self.loop = Loop()
        self.said: list[str | None] = []
        self.arrived: list[bytes] = []
        self.at_relay: list[bytes] = []
        self.source: tuple[str, int] | None = None
        self.relay = relay
        self.tick: Callable[[int], int | None] = lambda _now: None
        if relay is not None:
            self.loop.add(relay.fileno(), self._on_relay)
        self.carrier = TcpCarrier(
            self.loop,
            url,
            pin,
            addresses=addresses,
            deliver=lambda datagrams, _now: self.arrived.extend(datagrams),
            changed=lambda why, _now: self.said.append(why),
        )

    def _on_relay(self, _now: int, _busy: bool) -> None:
        assert self.relay is not None
        while True:
            try:
                datagram, self.source = self.relay.recvfrom(2048)
            except BlockingIOError:
                return
            if datagram == BIND:
                self.relay.sendto(WELCOME, self.source)
            else:
                self.at_relay.append(datagram)

    def until(self, holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
        end_ns = now_ns() + int(within_s * 1e9)

        def timer() -> int:
            now = now_ns()
            if holds():
                raise SystemExit
            assert now < end_ns, (self.said, len(self.arrived), len(self.at_relay))
            due = [end_ns, self.carrier.timer(), self.tick(now)]
            return min(each for each in due if each is not None)

        with pytest.raises(SystemExit):
            self.loop.run(timer, self.carrier.handle_timer)

    def open(self) -> None:
        self.until(lambda: bool(self.said))
        assert self.said == [None]
        self.carrier.send([BIND], now_ns(), urgent=True)
        self.until(lambda: self.arrived == [WELCOME])
        self.arrived.clear()

    def answer(self, datagram: bytes) -> None:
        assert self.relay is not None
        assert self.source is not None
        self.relay.sendto(datagram, self.source)

    def refused(self) -> str:
        self.until(lambda: bool(self.said))
        assert self.carrier.timer() is None
        (why,) = self.said
        assert why is not None
        return why


@pytest.fixture
def relay() -> Iterator[socket.socket]:
    with relay_socket() as made:
        yield made


@pytest.fixture
def front(relay: socket.socket, tmp_path: Path) -> Iterator[Door]:
    with door(relay.getsockname()[1], tmp_path) as opened:
        yield opened


@pytest.fixture
def member(relay: socket.socket, front: Door) -> Iterator[Member]:
    made = Member(front.url, front.pin, relay)
    made.open()
    yield made
    made.carrier.close()


def test_the_pace_of_a_game_passes_both_ways_without_loss(member: Member) -> None:
    count, every_ns, sent = 300, 5 * MS, 0
    began = now_ns()

    def tick(now: int) -> int | None:
        nonlocal sent
        while sent < count and now >= began + sent * every_ns:
            member.carrier.send([data(sent)], now, urgent=False)
            member.answer(data(sent, 0x2001))
            sent += 1
        return began + sent * every_ns if sent < count else None

    member.tick = tick
    member.until(lambda: len(member.at_relay) == len(member.arrived) == count)
    assert member.at_relay == [data(each) for each in range(count)]
    assert member.arrived == [data(each, 0x2001) for each in range(count)]
    assert member.carrier.count_drops() == {}


def stall(member: Member, front: Door) -> int:
    """Send until the network takes nothing more for a while; how many were sent."""
    front.pause()
    sent, taken, moved_ns = 0, b"", now_ns()

    def tick(now: int) -> int:
        nonlocal sent, taken, moved_ns
        if taken is not member.carrier._unsent or not taken:
            taken, moved_ns = member.carrier._unsent, now
        member.carrier.send([data(sent, size=SIZE)], now, urgent=False)
        sent += 1
        return now + MS // 4

    member.tick = tick
    member.until(
        lambda: (
            now_ns() - moved_ns > STILL_NS and member.carrier.count_drops().get("tcp_full", 0) > 0
        )
    )
    member.tick = lambda _now: None
    return sent


def test_while_nobody_reads_the_newest_wait_and_a_probe_overtakes_them(
    member: Member, front: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "DATA_AGE_NS", 60_000 * MS)  # whatever else this computer does
    sent = stall(member, front)
    member.carrier.send([probe(1)], now_ns(), urgent=True)
    front.resume()
    member.until(lambda: bool(member.at_relay) and member.at_relay[-1] == data(sent - 1, size=SIZE))
    kinds = [each[0] for each in member.at_relay]
    waited = kinds[kinds.index(wire.PROBE) + 1 :]
    assert backlog.PER_NUMBER_MAX // 2 < len(waited) <= backlog.PER_NUMBER_MAX
    newest = [sequence_of(each) for each in member.at_relay[-len(waited) :]]
    assert newest == list(range(sent - len(waited), sent))


def test_what_waited_too_long_is_never_sent(member: Member, front: Door) -> None:
    sent = stall(member, front)
    stalled_ns = now_ns()
    member.tick = lambda _now: stalled_ns + 2 * backlog.DATA_AGE_NS
    member.until(lambda: now_ns() > stalled_ns + 2 * backlog.DATA_AGE_NS)

    def tick(now: int) -> int:
        member.carrier.send([data(sent)], now, urgent=False)
        return now + MS

    member.tick = tick
    front.resume()
    member.until(lambda: bool(member.at_relay) and member.at_relay[-1] == data(sent))
    old = sum(1 for each in member.at_relay if len(each) == SIZE)
    assert old * SIZE < 1 << 19  # what the network had taken already
    drops = member.carrier.count_drops()
    assert drops["tcp_old"] > 0
    assert old + drops["tcp_old"] + drops["tcp_full"] >= sent


def test_another_certificate_is_refused_before_anything_is_said(front: Door) -> None:
    pin = ("0" if front.pin[0] != "0" else "1") + front.pin[1:]
    member = Member(front.url, pin)
    assert member.refused() == "its certificate is not the one that we were told"
    assert member.carrier._websocket is None


def test_without_a_pin_a_self_signed_certificate_is_not_trusted(front: Door) -> None:
    assert "not trusted: self-signed" in Member(front.url, "").refused()


@pytest.mark.parametrize(
    "url",
    [
        "ws://127.0.0.1:9/",
        "wss://relay.example.org/",
        "wss://[::1/",
        "wss://127.0.0.1:99999/",
        "wss://127.0.0.1:9/#",
        "wss://user@127.0.0.1:9/",
        "127.0.0.1:9",
        "",
    ],
)
def test_only_numeric_addresses_and_tls_are_dialled(url: str) -> None:
    assert Member(url, "").refused() == "its address or its pin cannot be used"


@pytest.mark.parametrize("host", [".example.org", "a..b", "x" * 64, "\xe9.org", "", "user@host"])
def test_a_name_that_no_certificate_can_have_is_not_dialled(host: str) -> None:
    member = Member(f"wss://{host}:9/", "", addresses=("127.0.0.1",))
    assert member.refused() == "its address or its pin cannot be used"


@pytest.mark.parametrize("pin", ["0" * 63, "\xe9" * 64, "G" * 64])
def test_a_pin_that_is_none_is_not_ignored(pin: str) -> None:
    member = Member("wss://127.0.0.1:9/", pin)
    assert member.refused() == "its address or its pin cannot be used"


def test_where_nothing_listens_it_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert Member(f"wss://127.0.0.1:{port}/", "").refused() == "nothing listens there"


def test_the_next_address_is_tried(relay: socket.socket, front: Door) -> None:
    url = f"wss://relay.example.org:{front.port}/"
    member = Member(url, front.pin, relay, addresses=("127.0.0.2", "127.0.0.1"))
    member.open()
    member.carrier.close()


def test_an_address_that_is_silent_has_its_time_and_all_have_theirs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        member = Member(f"wss://127.0.0.1:{port}/", "", addresses=("127.0.0.1", "127.0.0.1"))
        started = now_ns()
        first = member.carrier.timer()
        assert first is not None
        assert first <= started + ADDRESS_NS
        member.carrier.handle_timer(started + ADDRESS_NS)
        assert member.said == []
        member.carrier.handle_timer(started + OPEN_NS)
    assert member.said == ["it took too long to accept"]


def test_a_server_that_never_speaks_tls_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        member = Member(f"wss://127.0.0.1:{silent.getsockname()[1]}/", "")
        member.until(lambda: member.carrier._state != 0)
        member.carrier.handle_timer(now_ns() + OPEN_NS)
    assert member.said == ["it took too long to finish TLS"]


def test_a_server_of_another_kind_is_refused(front: Door) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        member = Member(f"wss://127.0.0.1:{other.getsockname()[1]}/", "")
        accepted, _ = other.accept()
        with accepted:
            accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            assert member.refused().startswith("no TLS connection")


def test_a_message_that_is_no_datagram_ends_it(member: Member, front: Door) -> None:
    def rude(visitor: Visitor) -> None:
        visitor._websocket.send_text(b"hello")
        visitor._say()

    member.said.clear()
    front.do(rude)
    assert member.refused() == "it sent something unintelligible"


def test_it_opens_again_after_the_server_was_gone(relay: socket.socket, tmp_path: Path) -> None:
    port = relay.getsockname()[1]
    with door(port, tmp_path) as first:
        member = Member(first.url, first.pin, relay)
        member.open()
        member.said.clear()
    assert member.refused() in ("it hung up", "connection reset by peer")
    member.carrier.send([data(1)], now_ns(), urgent=False)
    assert member.carrier.count_drops()["tcp_not_open"] == 1
    with door(port, tmp_path, port=first.port):
        again = Member(first.url, first.pin, relay)
        again.open()
        again.carrier.close()


def test_closing_is_final_and_silent(member: Member) -> None:
    member.said.clear()
    member.carrier.close()
    member.carrier.close()
    member.carrier.handle_timer(now_ns() + OPEN_NS)
    assert member.carrier.timer() is None
    assert member.said == []
