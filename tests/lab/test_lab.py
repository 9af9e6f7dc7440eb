"""Labs with real packets: routers behave as named, lines as described, nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from lanrage.lab import namespaces
from lanrage.lab.lab import Computer, Lab
from lanrage.lab.ping import Report
from lanrage.lab.player import send_over_tcp
from lanrage.lab.switch import Line
from lanrage.lab.topology import Home, Kind, Router, Server, Topology, two_homes

pytestmark = pytest.mark.root

KINDS: tuple[Kind, ...] = ("port-restricted", "remapped", "address-restricted", "full-cone")
ANSWER_S_MAX = 2.0
SILENCE_S = 0.3
MEGABYTE = 1 << 20
Address = tuple[str, int]


def ping(sender: Computer, address: str, *options: str) -> Report:
    done = sender.run([sys.executable, "-m", "lanrage.lab.ping", address, *options])
    return msgspec.json.decode(done.stdout, type=Report)


class Udp:
    """A socket of this process in a computer of the lab."""

    def __init__(self, computer: Computer, port: int = 0) -> None:
        self.socket = computer.socket(socket.SOCK_DGRAM)
        self.socket.bind(("0.0.0.0", port))
        self.address: Address = (computer.address, self.socket.getsockname()[1])

    def send(self, to: Address) -> None:
        self.socket.sendto(b"hello", to)

    def hears(self, within_s: float = ANSWER_S_MAX) -> Address | None:
        self.socket.settimeout(within_s)
        try:
            return self.socket.recvfrom(100)[1]  # type: ignore[no-any-return]
        except TimeoutError:
            return None


def kinds_lab() -> Topology:
    """One home of each kind, and two servers."""
    every: tuple[Kind, ...] = (*KINDS, "symmetric", "udp-blocked", "https-only")
    return Topology(
        homes=tuple(
            Home(name=f"home{n}", computers=(f"pc{n}",), router=Router(kind=kind))
            for n, kind in enumerate(every)
        ),
        servers=(Server(name="one"), Server(name="two")),
    )


HOME_OF = {home.router.kind: home for home in kinds_lab().homes}


@pytest.fixture(scope="module")
def kinds() -> Iterator[Lab]:
    assert namespaces.missing() is None
    with Lab(kinds_lab()) as lab:
        yield lab


class Meeting:
    """A player behind a router of some kind, and sockets of two servers."""

    def __init__(self, lab: Lab, kind: Kind) -> None:
        home = HOME_OF[kind]
        self.router_address = lab.computer(home.name).address
        self.player = Udp(lab.computer(home.computers[0]))
        self.one = Udp(lab.computer("one"))
        self.one_again = Udp(lab.computer("one"))
        self.two = Udp(lab.computer("two"))

    def mapped_at(self, server: Udp) -> Address:
        self.player.send(server.address)
        heard = server.hears()
        assert heard is not None
        return heard


@pytest.mark.parametrize("kind", KINDS)
def test_mapping_is_the_same_towards_every_destination(kinds: Lab, kind: Kind) -> None:
    meeting = Meeting(kinds, kind)
    mapped = meeting.mapped_at(meeting.one)
    assert mapped[0] == meeting.router_address
    assert meeting.mapped_at(meeting.two) == mapped
    assert meeting.mapped_at(meeting.one_again) == mapped
    port_kept = mapped[1] == meeting.player.address[1]
    assert port_kept == (kind != "remapped")


def test_a_symmetric_router_maps_anew_towards_every_destination(kinds: Lab) -> None:
    meeting = Meeting(kinds, "symmetric")
    servers = (meeting.one, meeting.one_again, meeting.two)
    assert len({meeting.mapped_at(server) for server in servers}) == 3


@pytest.mark.parametrize(
    ("kind", "other_port_passes", "other_address_passes"),
    [
        ("port-restricted", False, False),
        ("remapped", False, False),
        ("symmetric", False, False),
        ("address-restricted", True, False),
        ("full-cone", True, True),
    ],
)
def test_filtering_is_as_the_kind_says(
    kinds: Lab, kind: Kind, other_port_passes: bool, other_address_passes: bool
) -> None:
    meeting = Meeting(kinds, kind)
    mapped = meeting.mapped_at(meeting.one)
    meeting.one.send(mapped)
    assert meeting.player.hears() == meeting.one.address
    meeting.one_again.send(mapped)
    heard = meeting.player.hears(ANSWER_S_MAX if other_port_passes else SILENCE_S)
    assert heard == (meeting.one_again.address if other_port_passes else None)
    meeting.two.send(mapped)
    heard = meeting.player.hears(ANSWER_S_MAX if other_address_passes else SILENCE_S)
    assert heard == (meeting.two.address if other_address_passes else None)


def test_a_stray_packet_does_not_cost_the_port(kinds: Lab) -> None:
    """An accepted stray would own the tuple, and the player's mapping would get another port."""
    meeting = Meeting(kinds, "port-restricted")
    expected = (meeting.router_address, meeting.player.address[1])
    meeting.one.send(expected)
    assert meeting.player.hears(SILENCE_S) is None
    assert meeting.mapped_at(meeting.one) == expected


@pytest.mark.parametrize("kind", ["udp-blocked", "https-only"])
def test_blocked_udp_does_not_pass(kinds: Lab, kind: Kind) -> None:
    meeting = Meeting(kinds, kind)
    meeting.player.send(meeting.one.address)
    assert meeting.one.hears(SILENCE_S) is None


@pytest.mark.parametrize(
    ("kind", "port", "passes"),
    [("udp-blocked", 7001, True), ("https-only", 7002, False), ("https-only", 443, True)],
)
def test_tcp_passes_where_the_kind_says(kinds: Lab, kind: Kind, port: int, passes: bool) -> None:
    server = kinds.computer("one")
    with server.socket(socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((server.address, port))
        listener.listen()
        player = kinds.computer(HOME_OF[kind].computers[0])
        with player.socket(socket.SOCK_STREAM) as client:
            client.settimeout(ANSWER_S_MAX if passes else SILENCE_S)
            assert (client.connect_ex((server.address, port)) == 0) == passes


def test_punching_joins_two_port_restricted_homes_and_not_two_symmetric_ones() -> None:
    for kind, joined in (("port-restricted", True), ("symmetric", False)):
        with Lab(two_homes(0.0, kind)) as lab:  # type: ignore[arg-type]
            server = Udp(lab.computer("control"))
            pair = [Udp(lab.computer(name)) for name in ("alice", "carol")]
            mapped = []
            for player in pair:
                player.send(server.address)
                mapped.append(server.hears())
            for _ in range(2):
                for player, other in zip(pair, reversed(mapped), strict=True):
                    assert other is not None
                    player.send(other)
            heard = [player.hears(SILENCE_S) for player in pair]
            assert heard == (list(reversed(mapped)) if joined else [None, None])


def test_a_router_behind_a_carrier_maps_twice() -> None:
    carrier = Home(name="isp", lan="100.64.0.0/24", router=Router(kind="remapped"))
    home = Home(name="home1", computers=("alice",), uplink="isp")
    with Lab(Topology(homes=(carrier, home), servers=(Server(name="one"),))) as lab:
        server, player = Udp(lab.computer("one")), Udp(lab.computer("alice"))
        player.send(server.address)
        heard = server.hears()
        assert heard is not None
        assert heard[0] == lab.computer("isp").address
        server.send(heard)
        assert player.hears() == server.address


def test_a_router_that_forgets_its_mappings_gives_new_ones() -> None:
    with Lab(Topology(homes=kinds_lab().homes[4:5], servers=(Server(name="one"),))) as lab:
        server, player = Udp(lab.computer("one")), Udp(lab.computer("pc4"))
        player.send(server.address)
        before = server.hears()
        lab.forget_mappings("home4")
        player.send(server.address)
        assert server.hears() != before


@pytest.fixture(scope="module")
def far() -> Iterator[Lab]:
    with Lab(two_homes(one_way_ms=20.0)) as lab:
        yield lab


def test_twenty_ms_one_way_are_forty_there_and_back(far: Lab) -> None:
    report = ping(far.computer("alice"), far.computer("control").address, "--interval-ms", "50")
    assert report.received == 4
    assert 40.0 <= min(report.rtts_ms) < 48.0


def test_players_of_one_home_are_near_each_other(far: Lab) -> None:
    report = ping(far.computer("alice"), far.computer("bob").address, "--interval-ms", "20")
    assert report.received == 4
    assert min(report.rtts_ms) < 10.0


def test_loss_and_blackholes_can_be_switched_while_it_runs(far: Lab) -> None:
    alice, control = far.computer("alice"), far.computer("control").address
    options = ("--count", "200", "--interval-ms", "5", "--wait-ms", "200")
    far.change("home1", up=Line(loss=0.2))
    try:
        assert 120 <= ping(alice, control, *options).received <= 190
        far.cut("home1")
        lost_before = far.counters("home1")[0].lost
        assert ping(alice, control, "--count", "2", "--wait-ms", "200").received == 0
        assert far.counters("home1")[0].lost - lost_before >= 2
    finally:
        far.mend("home1")
    assert ping(alice, control, "--count", "2", "--until-answer").received == 1


def test_a_line_with_a_rate_carries_no_more(far: Lab) -> None:
    """A megabyte at 8 Mbit/s is a second; without a limit the wire is far faster than that."""
    alice, control = far.computer("alice"), far.computer("control")
    far.change("home1", up=Line(rate_mbit=8.0))
    try:
        limited_s = send_over_tcp(alice, control, control.address, MEGABYTE)
    finally:
        far.mend("home1")
    assert 0.9 < limited_s < 5.0
    assert send_over_tcp(alice, control, control.address, MEGABYTE) < limited_s


def test_a_lab_has_no_way_out(far: Lab) -> None:
    """Nothing of the machine that runs the lab can be reached from inside."""
    routes = far.computer("home1").run(["ip", "route"]).stdout
    assert "default" not in routes
    report = ping(far.computer("alice"), "198.51.100.1", "--count", "2", "--wait-ms", "100")
    assert report.received == 0


def test_two_labs_live_side_by_side_and_end_apart() -> None:
    with Lab(two_homes(0.0)) as first:
        with Lab(two_homes(0.0)) as second:
            assert first.id != second.id
            second_id = second.id
        assert namespaces.of_lab(second_id) == []
        report = ping(first.computer("alice"), "203.0.113.2", "--count", "2", "--until-answer")
        assert report.received == 1
        assert namespaces.sweep() == []
    assert namespaces.of_lab(first.id) == []


def test_an_exception_inside_leaves_nothing() -> None:
    class Oops(Exception):
        pass

    seen: list[Lab] = []
    with pytest.raises(Oops), Lab(two_homes(0.0)) as lab:  # noqa: PT012
        seen.append(lab)
        lab.computer("alice").popen(["sleep", "1000"])
        raise Oops
    assert_gone(seen[0].id, [])


HOLD = """
import os, sys, time
from lanrage.lab.lab import Lab
from lanrage.lab.topology import two_homes
with Lab(two_homes(0.0)) as lab:
    program = lab.computer("alice").popen(["sleep", "1000"])
    print(lab.id, lab._wire.pid, program.pid, flush=True)
    time.sleep(1000)
"""


def hold_a_lab() -> tuple[subprocess.Popen[str], str, list[int]]:
    """A process with an open lab; the lab, and its processes."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    lab, *pids = holder.stdout.readline().split()
    return holder, lab, [int(pid) for pid in pids]


def assert_gone(lab: str, pids: list[int]) -> None:
    assert namespaces.of_lab(lab) == []
    assert not (namespaces.LABS / lab).exists()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            ended, _, _ = select.select([handle], [], [], 5.0)
            os.close(handle)
            assert ended, f"{pid} still runs"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_the_lab_down(number: signal.Signals) -> None:
    holder, lab, pids = hold_a_lab()
    os.kill(holder.pid, number)
    holder.communicate(timeout=20)
    assert_gone(lab, pids)


def test_what_a_killed_owner_left_is_swept_at_the_next_start() -> None:
    holder, lab, pids = hold_a_lab()
    assert namespaces.is_alive(lab)
    holder.kill()
    holder.communicate(timeout=20)
    assert not namespaces.is_alive(lab)
    assert namespaces.of_lab(lab) != []
    with Lab(two_homes(0.0)):
        assert_gone(lab, pids)


def test_a_pid_used_again_by_another_process_does_not_keep_a_dead_lab() -> None:
    """As if the owner had been this process's pid at another time."""
    lab = f"{os.getpid()}-99999"
    folder = namespaces.claim(lab)
    namespaces.create([f"lr{lab}-alice"])
    assert namespaces.is_alive(lab)
    (folder / "owner").write_text("1")
    assert lab in namespaces.sweep()
    assert_gone(lab, [])
