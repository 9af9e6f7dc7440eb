"""A party of three in two homes, 40 ms apart there and back, with nodes run as a user would.

Alice (`pa1`) and bob (`pb1`) share a home, carol (`pa2`) has another. The tests stand on one lab
and leave the party as they found it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from lanrage.lab.player import LANRAGE, Player, ping_report, send_over_tcp
from tests.e2e.stage import (
    CONNECT_S_MAX,
    Stage,
    homes,
    refusal_of,
    stage,
    wait_until_all_connected,
)

pytestmark = pytest.mark.root

MEGABYTE = 1 << 20


class Party:
    def __init__(self, built: Stage) -> None:
        self.stage = built
        self.alice = built.start("pa1", "alice")
        self.bob = built.start("pb1", "bob")
        self.carol = built.start("pa2", "carol")
        self.link = self.alice.create("Friday night")
        self.bob.must("join", self.link)
        self.carol.must("join", self.alice.invite())
        self.all = (self.alice, self.bob, self.carol)
        wait_until_all_connected(*self.all)


@pytest.fixture(scope="module")
def party() -> Iterator[Party]:
    with stage(homes("port-restricted", "port-restricted")) as built:
        yield Party(built)


def rows(player: Player, *options: str) -> list[dict[str, object]]:
    return [
        msgspec.json.decode(line) for line in player.must("events", "--json", *options).splitlines()
    ]


def test_members_of_two_homes_meet_directly_and_of_one_home_on_its_lan(party: Party) -> None:
    to_bob, to_carol = party.alice.peer("bob"), party.alice.peer("carol")
    assert to_bob is not None
    assert to_bob.path is not None
    assert (to_bob.path.kind, to_bob.path.address.split(":")[0]) == ("direct", "192.168.1.11")
    assert to_carol is not None
    assert to_carol.path is not None
    assert (to_carol.path.kind, to_carol.path.address.split(":")[0]) == ("direct", "203.0.113.20")
    assert to_bob.why
    assert to_carol.why


def test_every_member_computes_the_same_addresses(party: Party) -> None:
    known = []
    for player in party.all:
        status = player.status()
        table = {peer.name: peer.address for peer in status.peers}
        known.append(table | {player.name: status.node.address})
    assert known[0] == known[1] == known[2]
    assert len(set(known[0].values())) == 3
    assert all(address.startswith("10.66.") for address in known[0].values())


@pytest.mark.parametrize(("one", "other", "rtt_ms"), [(0, 1, 0.0), (0, 2, 40.0), (2, 1, 40.0)])
def test_ping_and_tcp_pass_between_members(
    party: Party, one: int, other: int, rtt_ms: float
) -> None:
    sender, receiver = party.all[one], party.all[other]
    address = receiver.address()
    report = sender.ping(address, count=10)
    assert report.received == 10
    assert rtt_ms <= min(report.rtts_ms) < rtt_ms + 20.0
    send_over_tcp(sender.computer, receiver.computer, address, MEGABYTE)


def test_the_story_can_be_read(party: Party) -> None:
    types = [row["type"] for row in rows(party.carol)]
    for first, later in (
        ("session.started", "party.entered"),
        ("party.entered", "peer.candidates"),
        ("peer.candidates", "path.opened"),
        ("path.probing", "path.opened"),
    ):
        assert types.index(first) < types.index(later)
    words = party.carol.must("events", "--type", "path.*")
    assert "alice" in words, "a filter must not cost the names"
    assert "{" not in words


def test_status_is_readable_and_complete(party: Party) -> None:
    words = party.bob.must("status")
    assert "Friday night" in words
    assert "alice" in words
    assert "carol" in words
    document = msgspec.json.decode(party.bob.must("status", "--json"))
    assert set(document) >= {"node", "party", "peers"}
    assert document["party"]["head"]["length"] >= 4


def test_a_new_name_reaches_everybody(party: Party) -> None:
    party.carol.must("rename", "caroline")
    for player in (party.alice, party.bob):
        player.wait(lambda p: p.peer("caroline") is not None, 10, "the new name")
    party.carol.must("rename", "carol")
    for player in (party.alice, party.bob):
        player.wait(lambda p: p.peer("carol") is not None, 10, "the old name")


def test_replay_and_export_give_the_live_state_byte_for_byte(party: Party) -> None:
    live = party.alice.get("/api/state")
    state = msgspec.json.decode(live)
    until = str(state["seq"])
    for seed in ("0", "4711"):
        replay = [*LANRAGE, "replay", str(party.alice.state), "--until", until]
        done = party.alice.computer.run(["env", f"PYTHONHASHSEED={seed}", *replay])
        assert done.stdout.encode().rstrip(b"\n") == live
    file = party.stage.lab.folder / "alice.jsonl"
    session = party.alice.status().node.session
    party.alice.must("export", "--session", session, "-o", str(file))
    exported = party.alice.must("replay", str(file), "--until", until)
    assert exported.encode().rstrip(b"\n") == live


def test_used_damaged_and_revoked_invites_are_refused_and_change_nothing(party: Party) -> None:
    dave = party.stage.start("pb2", "dave")
    try:
        used = party.link
        revoked = msgspec.json.decode(party.alice.must("invite", "--json"))
        party.alice.must("invite", "revoke", revoked["id"])
        half = party.alice.invite()
        damaged = half[:-10] + ("A" if half[-10] != "A" else "B") + half[-9:]
        for link, word in (
            (used, "used"),
            (revoked["invite"], "revoked"),
            (damaged, ""),
            (half[: len(half) // 2], ""),
            ("https://example.org/#nothing", ""),
            ("", ""),
        ):
            assert word in refusal_of(dave.command("join", link))
        assert dave.status().party is None
        assert len(party.alice.status().peers) == 2
    finally:
        dave.stop()


def test_an_invite_of_a_party_that_this_control_does_not_know_is_refused(party: Party) -> None:
    """As from a control server whose disk was replaced while nobody was there who could bring the
    party back, or a link sent to the wrong people."""
    erin, frank = party.stage.start("pb2", "erin"), party.stage.start("other", "frank")
    try:
        link = erin.create("Another party")
        erin.stop()
        party.stage.restart_control("state-control-new")
        assert "party" in refusal_of(frank.command("join", link))
        assert frank.status().party is None
    finally:
        party.stage.restart_control("state-control")
        frank.stop()
    for player in party.all:
        player.wait(has_control, CONNECT_S_MAX, "control is back")


def has_control(player: Player) -> bool:
    party = player.status().party
    return party is not None and bool(party.control_connected)


def test_tunnels_go_on_while_control_is_dead_and_everybody_resumes(party: Party) -> None:
    steady = party.alice.start_ping(party.carol.address(), 400, 20)
    party.stage.control.kill()
    for player in party.all:
        player.wait(lambda p: not has_control(p), 10, "control is missed")
    assert party.alice.sees("bob", "carol")
    assert "out of reach" in party.bob.must("status")
    renaming = party.bob.start_command("rename", "robert")
    party.stage.control.start()
    for player in party.all:
        player.wait(has_control, CONNECT_S_MAX, "control is back")
    renaming.communicate(timeout=30)
    assert renaming.returncode == 0, "what was asked meanwhile is done afterwards"
    party.carol.wait(lambda p: p.peer("robert") is not None, 10, "bob's new name")
    party.bob.must("rename", "bob")
    report = ping_report(steady)
    assert (report.received, report.sent) == (400, 400)


def test_a_node_killed_in_the_middle_keeps_its_events_and_comes_back(party: Party) -> None:
    carol = party.carol
    address = carol.address()
    acknowledged = list(carol.events)
    carol.kill()
    assert not carol.has_interface()
    kept = rows(carol)  # from the log itself: no node runs
    assert [row["id"] for row in kept[: len(acknowledged)]] == [e.id for e in acknowledged]
    carol.start("--control", party.stage.control.url, "--api", "127.0.0.1:8666")
    wait_until_all_connected(*party.all)
    assert carol.address() == address
    assert party.alice.ping(address).received == 4


def test_a_second_node_and_taken_resources_are_refused_in_one_line(party: Party) -> None:
    alice = party.alice
    control = ["--control", party.stage.control.url]
    elsewhere = ["--state", str(party.stage.lab.folder / "state-second")]
    free = ["--listen", "0", "--interface", "other0", "--api", "127.0.0.1:0"]
    taken = {
        "state directory": (["--state", str(alice.state)], free),
        "interface": (elsewhere, ["--listen", "0", "--api", "127.0.0.1:0"]),
        "port": (elsewhere, ["--interface", "other0", "--api", "127.0.0.1:0"]),
        "api": (elsewhere, ["--interface", "other0", "--listen", "0", "--api", "127.0.0.1:8666"]),
    }
    for what, (state, options) in taken.items():
        done = alice.computer.run([*LANRAGE, "up", *state, *control, *options])
        assert refusal_of(done), what
        assert not alice.has_interface("other0"), what
    assert alice.sees("bob", "carol")


def test_without_root_there_is_one_line(party: Party) -> None:
    state = party.stage.lab.folder / "state-nobody"
    mapped = ["unshare", "--user", "--map-user=1000", *LANRAGE, "up", "--state", str(state)]
    assert "root" in refusal_of(party.alice.computer.run(mapped))
    assert not state.exists()


def test_a_race_for_one_invite_has_one_winner(party: Party) -> None:
    racers = party.stage.start("pb2", "grace"), party.stage.start("other", "heidi")
    try:
        link = party.alice.invite()
        racing = [each.start_command("join", link) for each in racers]
        for process in racing:
            process.communicate(timeout=30)
        assert sorted(each.returncode for each in racing) == [0, 1]
        first_won = racing[0].returncode == 0
        winner, loser = racers if first_won else reversed(racers)
        assert loser.status().party is None
        wait_until_all_connected(*party.all, winner)
        winner.must("leave")
        for player in party.all:
            player.wait(lambda p: p.peer(winner.name) is None, 10, "who left is gone")
        assert winner.status().party is None
    finally:
        for player in racers:
            player.stop()


def test_who_is_kicked_is_cut_off(party: Party) -> None:
    ivan = party.stage.start("pb2", "ivan")
    try:
        ivan.must("join", party.alice.invite())
        wait_until_all_connected(*party.all, ivan)
        address = ivan.address()
        refusal_of(party.bob.command("kick", "ivan"))
        party.alice.must("kick", "ivan")
        ivan.wait_for_event("party.exited", 10)
        for player in party.all:
            player.wait(lambda p: p.peer("ivan") is None, 10, "ivan is out")
            assert player.ping(address, count=2).received == 0
        assert ivan.status().party is None
    finally:
        ivan.stop()
    wait_until_all_connected(*party.all)


def test_an_orderly_end_leaves_nothing_and_says_so(party: Party) -> None:
    bob = party.bob
    assert bob.stop() == 0
    assert not bob.has_interface()
    assert rows(bob)[-1]["type"] == "session.ended"
    bob.start("--control", party.stage.control.url, "--api", "127.0.0.1:8666")
    wait_until_all_connected(*party.all)
