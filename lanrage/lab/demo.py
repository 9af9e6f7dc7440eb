"""`lanrage demo`: a party of four on this computer, with real packets and real home routers.

Alice and bob share a home, carol and dave have their own. The routers are port-restricted, the
usual kind, but for dave's, which is symmetric: so he reaches the others through the relay beside
control. It is 40 ms from home to home and back. Alice creates the party, the others join with her
links. When every pair is connected they ping each other, send a few megabytes over TCP, and the
dashboard of alice stays open for the browser of this computer until Ctrl-C.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
import webbrowser
from collections.abc import Sequence

import msgspec

from lanrage.lab import namespaces, topology
from lanrage.lab.doorway import Doorway
from lanrage.lab.lab import Lab
from lanrage.lab.player import (
    Control,
    NodeFailed,
    Player,
    Relay,
    send_over_tcp,
    wait_until_connected,
)
from lanrage.lab.switch import Line
from lanrage.lab.topology import Home, Router, Server, Topology
from lanrage.refusal import Refusal
from projections.lobby import PathView

PLAYERS = ("alice", "bob", "carol", "dave")
ONE_WAY_MS = 20.0
CONNECT_S_MAX = 30.0
TRANSFER_BYTES = 4 << 20


class MemberStory(msgspec.Struct, frozen=True, kw_only=True):
    """One member: how alice reaches it, and how long it took from `join` to all connected."""

    name: str
    address: str
    state: str
    path: PathView | None
    rtt_ms: float
    connect_ms: int


class PairStory(msgspec.Struct, frozen=True, kw_only=True):
    pair: tuple[str, str]
    rtt_ms: float
    pings: str  # "4/4"
    tcp_mbit_s: float


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What `lanrage demo --json` prints when ready."""

    dashboard: str
    states: dict[str, str]  # name -> state directory, for `lanrage events --state`
    members: tuple[MemberStory, ...]
    pairs: tuple[PairStory, ...]


def run(*, browser: bool, json: bool) -> Refusal | int:
    """`lanrage demo`: its exit status, or why it failed."""
    refused = namespaces.missing()
    if refused is not None:
        return refused
    try:
        _perform(browser and not json, json)
    except KeyboardInterrupt:
        return 0
    except (NodeFailed, namespaces.ToolFailed, OSError) as failure:
        return Refusal("demo_failed", "The demo failed", str(failure), "")
    return 0


def _perform(browse: bool, as_json: bool) -> None:
    description = homes()
    _tell(topology.draw(description))
    with Lab(description) as lab:
        doorway = Doorway()
        try:
            players = _gather(lab, doorway)
            story = _meet(lab, players)
            doorway.open_to(lab.computer("alice"))
            _present(story, as_json)
            if browse and _has_display():
                webbrowser.open(story.dashboard)
            _stay(players)
        finally:
            doorway.close()


def homes() -> Topology:
    line = Line(delay_ms=ONE_WAY_MS / 2)
    usual, hard = Router(), Router(kind="symmetric")
    return Topology(
        homes=(
            Home(name="home1", computers=("alice", "bob"), router=usual, line=line),
            Home(name="home2", computers=("carol",), router=usual, line=line),
            Home(name="home3", computers=("dave",), router=hard, line=line),
        ),
        servers=(Server(name="control", line=line), Server(name="relay", line=line)),
    )


def _gather(lab: Lab, doorway: Doorway) -> list[Player]:
    """Control, the relay and four nodes, all up; nobody in a party yet."""
    control = Control(lab.computer("control"), lab.folder / "state-control")
    control.start()
    _tell(f"\ncontrol server at {control.url}")
    relay = Relay(lab.computer("relay"), lab.folder / "state-relay", control)
    relay.start()
    _tell(f"relay at {relay.name}")
    players = [Player(lab.computer(name), lab.folder / f"state-{name}") for name in PLAYERS]
    for player in players:
        port = doorway.port if player.name == "alice" else 8666
        player.start("--control", control.url, "--api", f"127.0.0.1:{port}")
        _tell(f"{player.name} is up")
    return players


def _meet(lab: Lab, players: Sequence[Player]) -> Story:
    alice, *guests = players
    link = alice.create("Friday night")
    _tell("alice created the party Friday night")
    took_ms = {alice.name: 0}
    present = [alice]
    for guest in guests:
        started_s = time.monotonic()
        guest.must("join", link)
        _tell(f"{guest.name} joined with a link")
        present.append(guest)
        wait_until_connected(present, CONNECT_S_MAX)
        took_ms[guest.name] = round((time.monotonic() - started_s) * 1000)
        _tell(f"{guest.name} is connected to {' and '.join(p.name for p in present[:-1])}")
        link = alice.invite()
    pairs = [_try_pair(one, other) for i, one in enumerate(players) for other in players[i + 1 :]]
    return _story(alice, took_ms, pairs)


def _try_pair(one: Player, other: Player) -> PairStory:
    address = other.address()
    report = one.ping(address)
    if not report.received:
        raise NodeFailed(f"{one.name} gets no answer from {other.name} at {address}")
    took_s = send_over_tcp(one.computer, other.computer, address, TRANSFER_BYTES)
    _tell(f"{one.name} and {other.name}: ping {report.rtt_ms:.1f} ms, TCP works")
    return PairStory(
        pair=(one.name, other.name),
        rtt_ms=report.rtt_ms,
        pings=f"{report.received}/{report.sent}",
        tcp_mbit_s=round(TRANSFER_BYTES * 8 / took_s / 1e6, 1),
    )


def _story(alice: Player, took_ms: dict[str, int], pairs: Sequence[PairStory]) -> Story:
    assert alice.ready is not None
    status = alice.status()
    rtt_ms = {pair.pair[1]: pair.rtt_ms for pair in pairs if pair.pair[0] == alice.name}
    members = [
        MemberStory(
            name=alice.name,
            address=alice.address(),
            state="connected",
            path=None,
            rtt_ms=0.0,
            connect_ms=0,
        )
    ]
    members.extend(
        MemberStory(
            name=peer.name,
            address=peer.address.partition("/")[0],
            state=peer.state,
            path=peer.path,
            rtt_ms=rtt_ms[peer.name],
            connect_ms=took_ms[peer.name],
        )
        for peer in status.peers
    )
    return Story(
        dashboard=alice.ready.dashboard,
        states={name: os.fspath(alice.state.parent / f"state-{name}") for name in took_ms},
        members=tuple(members),
        pairs=tuple(pairs),
    )


def _present(story: Story, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(story).decode(), flush=True)
        return
    print(
        f"\n{'member':<8} {'address':<12} {'path from alice':<32} {'ping':>8} {'connected in':>13}"
    )
    for member in story.members:
        path = f"{member.path.kind} {member.path.address}" if member.path else "-"
        ping = f"{member.rtt_ms:.1f} ms" if member.path else "-"
        took = f"{member.connect_ms} ms" if member.path else "-"
        print(f"{member.name:<8} {member.address:<12} {path:<32} {ping:>8} {took:>13}")
    print()
    for pair in story.pairs:
        print(
            f"{pair.pair[0]} - {pair.pair[1]}: {pair.pings} pings answered, {pair.rtt_ms:.1f} ms, "
            f"{pair.tcp_mbit_s:g} Mbit/s over TCP"
        )
    print(f"\nThe story of alice:     lanrage events --state {story.states['alice']}")
    print(f"The dashboard of alice: {story.dashboard}\nCtrl-C ends the demo.", flush=True)


def _stay(players: Sequence[Player]) -> None:
    """Until Ctrl-C, or until a node ends by itself."""
    handles = {os.pidfd_open(p.process.pid): p for p in players if p.process is not None}
    try:
        ended, _, _ = select.select(list(handles), [], [])
    finally:
        for handle in handles:
            os.close(handle)
    player = handles[ended[0]]
    raise NodeFailed(f"the node of {player.name} ended: {player.last_words()}")


def _has_display() -> bool:
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(shown) and shutil.which("xdg-open") is not None


def _tell(text: str) -> None:
    """Progress, beside the outcome on stdout."""
    print(text, file=sys.stderr, flush=True)
