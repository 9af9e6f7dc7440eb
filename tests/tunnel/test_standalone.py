"""`lanrage tunnel` against Debian's wireguard-go, over a cable between two namespaces."""

from __future__ import annotations

import base64
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tunnel.pair import (
    ROOT,
    STANDALONE,
    WITHIN_S,
    Pair,
    Side,
    ping,
    read_line,
    wait_until,
)

pytestmark = pytest.mark.root

PSK = bytes(range(32))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with Pair(tmp_path) as made:
        yield made


def iperf(pair: Pair, server: Side, client: Side, *options: str) -> dict[str, float]:
    """The closing sums of one short run."""
    listening = pair.start(server, "iperf3", "-s", "-1", "--forceflush", stdout=subprocess.PIPE)
    assert listening.stdout is not None
    while "listening" not in listening.stdout.readline():
        pass
    said = json.loads(client.run("iperf3", "-J", "-c", server.inside, *options))
    assert "error" not in said, said
    listening.wait(WITHIN_S)
    end = said["end"]
    return end["sum"] if "sum" in end else end["sum_received"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("psk", [b"", PSK], ids=["plain", "psk"])
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_it_carries_ping_tcp_and_udp_both_ways_whoever_starts(
    pair: Pair, psk: bytes, first: str
) -> None:
    pair.start_ours(pair.a, pair.config(pair.a, psk=psk, endpoint=first == "ours"))
    pair.start_theirs(pair.b, pair.config(pair.b, psk=psk, endpoint=first == "theirs"))
    starter, other = (pair.a, pair.b) if first == "ours" else (pair.b, pair.a)
    assert ping(starter, other.inside, "-c", "3", "-i", "0.05") == (3, 3)
    assert ping(other, starter.inside6, "-c", "3", "-i", "0.05") == (3, 3)
    assert ping(pair.a, pair.b.inside, "-c", "3", "-i", "0.05", "-s", "1392") == (3, 3)
    for reverse in ([], ["-R"]):
        tcp = iperf(pair, pair.b, pair.a, "-n", "20M", *reverse)
        assert tcp["bytes"] > 15e6  # the end of it is still on its way
        udp = iperf(pair, pair.b, pair.a, "-u", "-b", "10M", "-t", "1", "-l", "1200", *reverse)
        assert udp["packets"] > 1000
        assert udp["lost_percent"] < 10  # its socket's buffer holds 90 of them


def test_two_of_ours_carry_bulk_without_a_retransmission_storm(pair: Pair) -> None:
    for side in (pair.a, pair.b):
        pair.start_ours(side, pair.config(side))
    for reverse in ([], ["-R"]):
        said = iperf(pair, pair.b, pair.a, "-n", "50M", *reverse)
        assert said["bytes"] > 40e6
        udp = iperf(pair, pair.b, pair.a, "-u", "-b", "40M", "-t", "1", "-l", "1200", *reverse)
        assert udp["lost_percent"] < 1
    sent = json.loads(_serve_and_send(pair))["end"]["sum_sent"]
    assert sent["retransmits"] < 200


def _serve_and_send(pair: Pair) -> str:
    listening = pair.start(pair.b, "iperf3", "-s", "-1", "--forceflush", stdout=subprocess.PIPE)
    assert listening.stdout is not None
    while "listening" not in listening.stdout.readline():
        pass
    return pair.a.run("iperf3", "-J", "-6", "-n", "50M", "-c", pair.b.inside6)


def test_a_way_too_narrow_for_whole_datagrams_is_slow_but_not_dead(pair: Pair) -> None:
    for side in (pair.a, pair.b):
        side.run("ip", "link", "set", "up0", "mtu", "1300")
        pair.start_ours(side, pair.config(side))
    assert ping(pair.a, pair.b.inside, "-c", "3", "-i", "0.05", "-s", "1392") == (3, 3)
    assert iperf(pair, pair.b, pair.a, "-n", "20M")["bytes"] > 10e6


def test_no_packet_is_lost_when_sessions_are_renewed(pair: Pair) -> None:
    pair.start_ours(pair.a, pair.config(pair.a), rekey_after_ns=3_000_000_000)
    pair.start_theirs(pair.b, pair.config(pair.b))
    assert ping(pair.a, pair.b.inside, "-c", "1") == (1, 1)
    pinging = pair.start(
        pair.a, "ping", "-q", "-i", "0.02", "-c", "500", pair.b.inside, stdout=subprocess.PIPE
    )
    handshakes: set[str] = set()
    while pinging.poll() is None:
        handshakes.add(pair.b.run("wg", "show", pair.b.interface, "latest-handshakes"))
        time.sleep(0.2)  # `wg show` can only be asked
    assert "500 packets transmitted, 500 received" in pinging.communicate()[0]
    assert len(handshakes) >= 3, "there were not two renewals"


def test_wg_show_tells_what_is_there(pair: Pair) -> None:
    pair.start_ours(pair.a, pair.config(pair.a, psk=PSK))
    pair.start_theirs(pair.b, pair.config(pair.b, psk=PSK))
    assert ping(pair.a, pair.b.inside, "-c", "2", "-i", "0.05") == (2, 2)
    own, peer = pair.a.run("wg", "show", pair.a.interface, "dump").splitlines()
    assert own.split("\t") == [
        base64.b64encode(pair.a.private).decode(),
        base64.b64encode(pair.a.public).decode(),
        "51820",
        "off",
    ]
    key, psk, endpoint, allowed, handshake, rx, tx, keepalive = peer.split("\t")
    assert key == base64.b64encode(pair.b.public).decode()
    assert psk == base64.b64encode(PSK).decode()
    assert (endpoint, allowed, keepalive) == ("192.0.2.2:51820", "10.9.0.2/32,fd99::2/128", "off")
    assert abs(int(handshake) - time.time()) < 30
    theirs = pair.b.run("wg", "show", pair.b.interface, "transfer").split()
    assert [int(rx), int(tx)] == [int(theirs[2]), int(theirs[1])]


def test_wg_set_changes_a_running_tunnel(pair: Pair) -> None:
    ours = pair.start_ours(pair.a, pair.config(pair.a, endpoint=False))
    pair.start_theirs(pair.b, pair.config(pair.b, endpoint=False))
    key = base64.b64encode(pair.b.public).decode()
    wg = ("wg", "set", pair.a.interface, "peer", key)
    pair.a.run(*wg, "endpoint", "192.0.2.2:51820", "persistent-keepalive", "25")
    assert ping(pair.a, pair.b.inside, "-c", "2", "-i", "0.05") == (2, 2)
    pair.a.run(*wg, "remove")
    assert pair.a.run("wg", "show", pair.a.interface, "peers") == ""
    assert ours.poll() is None


def test_garbage_from_outside_changes_nothing(pair: Pair) -> None:
    pair.start_ours(pair.a, pair.config(pair.a))
    pair.start_theirs(pair.b, pair.config(pair.b))
    assert ping(pair.a, pair.b.inside, "-c", "1") == (1, 1)
    chance = random.Random(7)
    with pair.b.entered():
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with stranger:
        for kind in range(300):
            head = bytes([kind % 6, 0, 0, 0]) if kind % 2 else b""
            junk = head + chance.randbytes(chance.choice([0, 1, 31, 64, 92, 148, 1400]))
            stranger.sendto(junk, (pair.a.outside, pair.a.port))
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(f"/var/run/wireguard/{pair.a.interface}.sock")
        visitor.sendall(b"set=1\npublic_key=zz\nhello\n\n")
        assert visitor.recv(100).startswith(b"errno=")
    assert ping(pair.a, pair.b.inside, "-c", "20", "-i", "0.01") == (20, 20)


def refused(pair: Pair, config: Path) -> str:
    """The one line that our tunnel ends with, having left nothing."""
    before = pair.a.interfaces()
    done = subprocess.run(
        pair.a.command(sys.executable, "-c", STANDALONE, str(config), "0"),
        capture_output=True, text=True, timeout=WITHIN_S, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert pair.a.interfaces() == before
    assert not Path(f"/var/run/wireguard/{pair.a.interface}.sock").exists()
    return done.stderr


def test_an_interface_name_in_use_is_refused(pair: Pair) -> None:
    pair.a.run("ip", "link", "add", pair.a.interface, "type", "veth", "peer", "name", "x0")
    assert "an interface with this name exists" in refused(pair, pair.config(pair.a))


def test_a_persistent_tap_device_of_somebody_else_is_not_taken_over(pair: Pair) -> None:
    pair.a.run("ip", "tuntap", "add", pair.a.interface, "mode", "tap")
    assert "an interface with this name exists" in refused(pair, pair.config(pair.a))


def test_a_port_in_use_is_refused(pair: Pair) -> None:
    with pair.a.entered():
        squatter = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with squatter:
        squatter.bind(("", pair.a.port))
        assert "UDP port 51820: another program uses it" in refused(pair, pair.config(pair.a))


def test_a_wrong_key_is_refused_with_its_line(pair: Pair) -> None:
    config = pair.config(pair.a)
    config.write_text(config.read_text().replace("PrivateKey = ", "PrivateKey = x"))
    assert "line 2: this key is not 44 characters" in refused(pair, config)


def test_a_key_that_nobody_can_have_is_refused(pair: Pair) -> None:
    config = pair.config(pair.a)
    config.write_text(
        config.read_text().replace(
            base64.b64encode(pair.b.public).decode(), base64.b64encode(bytes(32)).decode()
        )
    )
    assert "low order" in refused(pair, config)


def test_the_command_runs_it_and_refuses_in_one_line(pair: Pair) -> None:
    config = pair.config(pair.a)
    command = (sys.executable, "-m", "lanrage", "tunnel", str(config))
    ours = pair.start(pair.a, *command)
    assert "10.9.0.1/24, fd99::1/64, UDP port 51820, 1 peer" in read_line(ours)
    assert pair.a.run("wg", "show", pair.a.interface, "listen-port") == "51820\n"
    second = pair.start(pair.a, *command)
    assert second.wait(WITHIN_S) == 1
    assert second.communicate()[1].count("\n") == 1
    ours.send_signal(signal.SIGINT)
    assert ours.wait(WITHIN_S) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_nothing_left(pair: Pair, number: signal.Signals) -> None:
    ours = pair.start_ours(pair.a, pair.config(pair.a))
    ours.send_signal(number)
    assert ours.wait(WITHIN_S) == 0
    assert ours.communicate()[1] == ""
    assert pair.a.interface not in pair.a.interfaces()
    assert not Path(f"/var/run/wireguard/{pair.a.interface}.sock").exists()


def test_killed_it_leaves_no_interface_and_starts_again(pair: Pair) -> None:
    ours = pair.start_ours(pair.a, pair.config(pair.a))
    ours.kill()
    ours.wait(WITHIN_S)
    wait_until(lambda: pair.a.interface not in pair.a.interfaces())
    pair.start_ours(pair.a, pair.config(pair.a))
    assert pair.a.run("wg", "show", pair.a.interface, "listen-port") == "51820\n"
