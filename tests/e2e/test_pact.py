"""A party without any server: two homes, two codes, and what is said when a code is not good."""

from __future__ import annotations

import subprocess

import msgspec
import pytest

from lanrage.lab import namespaces
from lanrage.lab.lab import Lab
from lanrage.lab.player import Player
from tests.e2e.stage import API, homes, refusal_of, wait_until_all_connected

pytestmark = pytest.mark.root


def start(lab: Lab, computer: str, name: str) -> Player:
    player = Player(lab.computer(computer), lab.folder / f"state-{name}", name)
    player.start("--api", API, "--no-port-mapping")
    return player


def outside(lab: Lab, home: str) -> str:
    """What a page that tells one's address would tell there."""
    return lab.computer(home).address


def said(done: str, key: str) -> str:
    value: str = msgspec.json.decode(done)[key]
    return value


def test_two_homes_meet_by_two_codes_and_no_server_at_all() -> None:
    assert namespaces.missing() is None
    with Lab(homes("port-restricted", "port-restricted")) as lab:
        alice, bob = start(lab, "pa1", "alice"), start(lab, "pa2", "bob")
        alice.create("No server")
        code = said(alice.must("offer", "--json", "--public", outside(lab, "home1")), "code")
        assert len(code) <= 160
        back = said(bob.must("join", code, "--json", "--public", outside(lab, "home2")), "answer")
        assert len(back) <= 130
        assert bob.status().party is None
        assert "In" not in alice.must("accept", back)
        wait_until_all_connected(alice, bob)
        assert bob.ping(alice.address()).received == 4
        assert alice.ping(bob.address()).received == 4
        assert bob.address() == "10.66.0.2"
        assert bob.stop() == 0
        bob.start("--api", API, "--no-port-mapping")  # where alice was is remembered
        wait_until_all_connected(alice, bob)
        for player in (alice, bob):
            stored = player.get("/api/events?limit=1000").decode()
            assert code not in stored
            assert back not in stored


def refused(player: Player, *words: str) -> str:
    done: subprocess.CompletedProcess[str] = player.command(*words)
    return refusal_of(done)


def test_a_code_that_is_not_good_is_refused_in_one_line() -> None:
    with Lab(homes("port-restricted", "port-restricted")) as lab:
        alice, bob = start(lab, "pa1", "alice"), start(lab, "pa2", "bob")
        alice.create("Codes")
        assert "--public" in refused(alice, "offer")
        assert "no IP address" in refused(alice, "offer", "--public", "home")
        first = said(alice.must("offer", "--json", "--public", outside(lab, "home1")), "code")
        assert "the end of this code is missing" in refused(bob, "join", first[:80])
        wrong = first[:60] + ("A" if first[60] != "A" else "B") + first[61:]
        assert "damaged" in refused(bob, "join", wrong)
        assert "--public" in refused(bob, "join", first)
        public = ("--public", outside(lab, "home2"))
        back = said(bob.must("join", first, "--json", *public), "answer")
        assert "this is an answer" in refused(bob, "join", back)
        assert "this is an offer" in refused(alice, "accept", first)
        alice.must("offer", "--public", outside(lab, "home1"))
        assert "no answer to this computer's newest offer" in refused(alice, "accept", back)
