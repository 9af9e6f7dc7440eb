"""`lanrage demo` from the outside: what it says, what a browser of this computer finds, the end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from lanrage.lab import namespaces
from lanrage.lab.player import LANRAGE
from tests.e2e.stage import refusal_of

pytestmark = pytest.mark.root


class Demo:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [*LANRAGE, "demo", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout is not None
        self.story: dict[str, Any] = json.loads(self.process.stdout.readline())

    @property
    def labs(self) -> list[str]:
        return [lab for lab in namespaces.labs() if lab.startswith(f"{self.process.pid}-")]

    def get(self, path: str) -> tuple[int, bytes]:
        parts = urlsplit(self.story["dashboard"])
        token = parts.fragment.removeprefix("token=")
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    demo = Demo()
    yield demo
    if demo.process.poll() is None:
        demo.end(signal.SIGINT)


def test_every_story_is_readable_where_the_demo_says(demo: Demo) -> None:
    for state in demo.story["states"].values():
        told = subprocess.run(
            [*LANRAGE, "events", "--state", state], capture_output=True, text=True, timeout=30
        )
        assert told.returncode == 0, told.stderr
        for kind in ("peer.joined", "nat.mapped", "path.opened", "tunnel.established"):
            assert kind in told.stdout


def test_four_members_are_connected_and_their_story_is_told(demo: Demo) -> None:
    members = {member["name"]: member for member in demo.story["members"]}
    assert set(members) == {"alice", "bob", "carol", "dave"}
    assert all(member["state"] == "connected" for member in members.values())
    assert all(member["address"].startswith("10.66.") for member in members.values())
    assert members["bob"]["path"]["address"].startswith("192.168.1.")
    assert members["carol"]["path"]["address"].startswith("203.0.113.20:")
    assert (members["dave"]["path"]["kind"], members["carol"]["path"]["kind"]) == (
        "relay",
        "direct",
    )
    assert members["carol"]["rtt_ms"] >= 40
    assert all(pair["pings"] == "4/4" for pair in demo.story["pairs"])
    assert len(demo.story["pairs"]) == 6


def test_the_dashboard_opens_from_the_host(demo: Demo) -> None:
    status, page = demo.get("/")
    assert status == 200
    assert b"<html" in page.lower()
    status, body = demo.get("/api/status")
    assert status == 200
    assert {peer["name"] for peer in json.loads(body)["peers"]} == {"bob", "carol", "dave"}


def test_ctrl_c_ends_it_without_a_trace(demo: Demo) -> None:
    labs = demo.labs
    assert len(labs) == 1
    assert demo.end(signal.SIGINT) == 0
    assert demo.labs == []
    assert namespaces.of_lab(labs[0]) == []


def test_a_node_that_dies_ends_the_demo_with_one_line_and_without_a_trace() -> None:
    demo = Demo()
    (lab,) = demo.labs
    bob = f"{namespaces.name_of(lab, 'bob')}"
    for pid in namespaces.processes_in([bob]):
        os.kill(pid, signal.SIGKILL)
    demo.process.communicate(timeout=30)
    assert demo.process.returncode == 1
    assert namespaces.of_lab(lab) == []


def test_without_root_there_is_one_line() -> None:
    mapped = ["unshare", "--user", "--map-user=1000", *LANRAGE, "demo", "--no-browser"]
    done = subprocess.run(mapped, capture_output=True, text=True, timeout=30, check=False)
    assert "root" in refusal_of(done)
