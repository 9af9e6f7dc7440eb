"""`lanrage doctor` on computers behind real routers: what it finds, how fast, and how it ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from lanrage.doctor.run import Report
from lanrage.lab.lab import Lab
from lanrage.lab.player import Control, Player, wait_until_connected
from lanrage.lab.topology import Home, Router, Server, Topology, two_homes

pytestmark = pytest.mark.root

DOCTOR = (sys.executable, "-m", "lanrage", "doctor")
DOCTOR_S_MAX = 10.0

# A router with NAT-PMP, PCP and UPnP, as far as a question that changes nothing goes.
OPENS_PORTS = """
import selectors, socket
wan = socket.inet_aton("203.0.113.10")
waiting = selectors.DefaultSelector()
for port in (5351, 1900):
    each = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    each.bind(("0.0.0.0", port))
    waiting.register(each, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in waiting.select():
        asked, who = key.fileobj.recvfrom(2000)
        if asked == b"\\0\\0":
            answer = b"\\0\\x80\\0\\0" + bytes(4) + wan
        elif asked[:2] == b"\\x02\\0":
            answer = b"\\x02\\x80\\0\\0" + bytes(20)
        else:
            answer = b"HTTP/1.1 200 OK\\r\\nST: urn:x:InternetGatewayDevice:1\\r\\n\\r\\n"
        key.fileobj.sendto(answer, who)
"""


def examined(program: subprocess.Popen[bytes]) -> tuple[int, Report]:
    out, _ = program.communicate(timeout=30)
    return program.returncode, msgspec.json.decode(out, type=Report)


def by_check(report: Report) -> dict[str, str]:
    return {each.check: each.status for each in report.checks}


def test_each_router_is_found_out_and_only_what_stops_play_fails(tmp_path: Path) -> None:
    kinds = {
        "pc1": Router(),
        "pc2": Router(kind="symmetric"),
        "pc3": Router(kind="udp-blocked"),
        "pc4": Router(kind="https-only"),
    }
    homes = tuple(
        Home(name=f"r{name}", computers=(name,), router=router) for name, router in kinds.items()
    )
    with Lab(Topology(homes=homes, servers=(Server(name="control"),))) as lab:
        control = Control(lab.computer("control"), tmp_path / "control")
        control.start()
        router = lab.computer("rpc1").popen(
            [sys.executable, "-c", OPENS_PORTS], stdout=subprocess.PIPE
        )
        assert router.stdout is not None
        assert router.stdout.readline() == b"ready\n"
        began = time.monotonic()
        asked = {
            name: lab.computer(name).popen(
                [*DOCTOR, "--json", "--state", str(tmp_path / name), "--control", control.url],
                stdout=subprocess.PIPE,
            )
            for name in kinds
        }
        said = {name: examined(each) for name, each in asked.items()}
        took = time.monotonic() - began
    assert took < DOCTOR_S_MAX
    statuses = {name: by_check(report) for name, (_, report) in said.items()}
    whole = {name: report.checks for name, (_, report) in said.items()}
    assert {name: code for name, (code, _) in said.items()} == {
        **dict.fromkeys(("pc1", "pc2", "pc3"), 0),
        "pc4": 1,
    }, whole
    wanted = ("UDP", "router", "port opening")
    assert {name: tuple(each[w] for w in wanted) for name, each in statuses.items()} == {
        "pc1": ("ok", "ok", "ok"),
        "pc2": ("ok", "warn", "warn"),
        "pc3": ("warn", "warn", "warn"),
        "pc4": ("fail", "warn", "warn"),
    }, whole
    assert statuses["pc1"]["control"] == statuses["pc1"]["clock"] == "ok"
    opening = next(each for each in whole["pc1"] if each.check == "port opening")
    assert opening.found == "the router speaks PCP, NAT-PMP, UPnP"
    assert all(each.fix for checks in whole.values() for each in checks if each.status != "ok")


def test_without_any_network_it_ends_soon_and_says_so(tmp_path: Path) -> None:
    with Lab(two_homes()) as lab:
        alice = lab.computer("alice")
        assert alice.run(["ip", "link", "set", "eth0", "down"]).returncode == 0
        began = time.monotonic()
        command = [*DOCTOR, "--state", str(tmp_path), "--server", "203.0.113.2:8667"]
        done = alice.run([*command, "--control", "203.0.113.2:8667"])
        assert time.monotonic() - began < DOCTOR_S_MAX
    assert done.returncode == 1
    assert "fail  addresses" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_in_a_party_each_pair_is_forecast_beside_what_it_uses(tmp_path: Path) -> None:
    with Lab(two_homes()) as lab:
        control = Control(lab.computer("control"), tmp_path / "control")
        control.start()
        players = [Player(lab.computer(each), tmp_path / each) for each in ("alice", "carol")]
        for player in players:
            player.start("--control", control.url)
        players[1].must("join", players[0].create("Friday"))
        wait_until_connected(players, 20.0)
        program = lab.computer("alice").popen(
            [*DOCTOR, "--json", "--state", str(players[0].state)], stdout=subprocess.PIPE
        )
        code, report = examined(program)
        for player in players:
            player.stop()
    assert code == 0, report
    assert by_check(report)["UDP port"] == by_check(report)["interface"] == "ok"
    assert [(each.name, each.now, each.as_expected) for each in report.pairs] == [
        ("carol", "direct", True)
    ]
