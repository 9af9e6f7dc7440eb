"""What a 60-per-second stream feels when paths break: longest standstill and packets lost.

Anna and ben have ordinary routers and reach each other directly; cleo and dan have symmetric ones
and need a relay. It is 40 ms from anybody to anybody and back, and there are two relays. Streams
run in both directions through the party's own interface while something is broken on purpose; what
counts is the worse direction. The standstill is the longest time between two arrivals, the pace of
17 ms included.

    direct cut         the Internet drops UDP between anna's and ben's homes; relays are known
    back to direct     it does not any more; the direct path is found and takes over
    relay killed       kill -9 of the relay that cleo and dan use; the other one is known
    only relay back    the same without another: from when it runs again to the next packet
    home moved         anna's provider gives her another address
    control restarted  kill -9 and start

    python -m bench.failover [REPETITIONS]
"""

from __future__ import annotations

import itertools
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from bench.matrix import p95
from lanrage.lab import namespaces
from lanrage.lab.lab import Lab
from lanrage.lab.player import Control, NodeFailed, Player, Relay, wait_until_connected
from lanrage.lab.switch import Line
from lanrage.lab.topology import Home, Router, Server, Topology

ONE_WAY_MS = 20.0
PACE_S = 1 / 60
PORT = 27_015
BEFORE_S = 1.0
AFTER_S = 4.0
TAIL_S = 1.0  # what is under way when the stream ends may still arrive
READY_S_MAX = 30.0
UPGRADE_S_MAX = 60.0  # other ways are looked at each 30 s
RECENT = 12  # events that may be about the blow itself
NUMBER = struct.Struct("!Q")


class Blow(msgspec.Struct, frozen=True, kw_only=True):
    """One thing broken once; the worse of both directions."""

    gap_ms: float
    lost: int
    sent: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    blows: tuple[Blow, ...]
    gap_p95_ms: float
    lost_max: int


class Stream:
    """Numbered packets from one member to another, at the pace of a game."""

    def __init__(self, sender: Player, receiver: Player) -> None:
        address = receiver.address()
        self._incoming = receiver.computer.socket(socket.SOCK_DGRAM)
        self._incoming.bind((address, PORT))
        self._incoming.settimeout(0.2)
        self._outgoing = sender.computer.socket(socket.SOCK_DGRAM)
        self._to = (address, PORT)
        self._stop = threading.Event()
        self.sent = 0
        self.arrived: list[tuple[int, float]] = []  # number, when
        self._threads = [threading.Thread(target=run) for run in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def end(self) -> Blow:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._incoming.close()
        self._outgoing.close()
        times = sorted(at for _, at in self.arrived)
        gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
        numbers = {number for number, _ in self.arrived}
        longest_s = max(gaps, default=float("inf"))
        return Blow(
            gap_ms=round(1000 * longest_s, 1), lost=self.sent - len(numbers), sent=self.sent
        )

    def silent_ms(self, since_s: float) -> float:
        """Until the next arrival."""
        later = [at for _, at in self.arrived if at >= since_s]
        return round(1000 * (min(later, default=float("inf")) - since_s), 1)

    def _send(self) -> None:
        due_s = time.monotonic()
        while not self._stop.is_set():
            self._outgoing.sendto(NUMBER.pack(self.sent), self._to)
            self.sent += 1
            due_s += PACE_S
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _receive(self) -> None:
        until_s = float("inf")
        while time.monotonic() < until_s:
            if self._stop.is_set():
                until_s = min(until_s, time.monotonic() + TAIL_S)
            try:
                self.arrived.append((NUMBER.unpack(self._incoming.recv(64))[0], time.monotonic()))
            except TimeoutError:
                continue


def topology() -> Topology:
    line = Line(delay_ms=ONE_WAY_MS / 2)
    homes = [
        Home(
            name=f"{name}r",
            computers=(name,),
            line=line,
            router=Router(kind="port-restricted" if name in ("anna", "ben") else "symmetric"),
        )
        for name in ("anna", "ben", "cleo", "dan")
    ]
    servers = tuple(Server(name=name, line=line) for name in ("control", "relay1", "relay2"))
    return Topology(homes=tuple(homes), servers=servers)


class Party:
    """The four of them, connected."""

    def __init__(self, lab: Lab, after_s: float = AFTER_S) -> None:
        self.lab = lab
        self.after_s = after_s
        self.control = Control(lab.computer("control"), lab.folder / "state-control")
        self.control.start()
        self.relays = [
            Relay(lab.computer(name), lab.folder / f"state-{name}", self.control, tcp=False)
            for name in ("relay1", "relay2")
        ]
        for relay in self.relays:
            relay.start()
        self.anna, self.ben, self.cleo, self.dan = (
            Player(lab.computer(name), lab.folder / f"state-{name}")
            for name in ("anna", "ben", "cleo", "dan")
        )
        everybody = (self.anna, self.ben, self.cleo, self.dan)
        for player in everybody:
            player.start("--control", self.control.url)
        self.anna.create("Failover")
        for guest in everybody[1:]:
            guest.must("join", self.anna.invite())
        wait_until_connected(everybody, READY_S_MAX)

    # --- one blow each --------------------------------------------------------------------------

    def cut_direct(self) -> Blow:
        self._until(self.anna, self.ben, "direct", READY_S_MAX)
        return self._feel(self.anna, self.ben, lambda: self.lab.block("anna", "ben"))

    def mend_direct(self) -> Blow:
        """After `cut_direct`."""
        self._until(self.anna, self.ben, "relay", READY_S_MAX)

        def mend() -> None:
            self.lab.unblock("anna", "ben")
            self._until(self.anna, self.ben, "direct", UPGRADE_S_MAX)

        return self._feel(self.anna, self.ben, mend)

    def kill_relay(self) -> Blow:
        relay = self._relay_in_use()
        blow = self._feel(self.cleo, self.dan, relay.kill)
        relay.start()
        self._until_bound(relay)
        return blow

    def kill_only_relay(self) -> Blow:
        relay = self._relay_in_use()
        other = next(each for each in self.relays if each is not relay)
        other.kill()
        time.sleep(AFTER_S)  # until nobody counts on it any more

        def restart() -> None:
            relay.kill()
            relay.start()

        blow = self._feel(self.cleo, self.dan, restart, from_back=True)
        other.start()
        self._until_bound(other)
        return blow

    def move_home(self) -> Blow:
        self._until(self.anna, self.ben, "direct", UPGRADE_S_MAX)
        return self._feel(self.anna, self.ben, lambda: self.lab.move("annar"))

    def restart_control(self) -> Blow:
        def restart() -> None:
            self.control.kill()
            self.control.start()

        return self._feel(self.anna, self.ben, restart)

    # --- what they share ------------------------------------------------------------------------

    def _feel(
        self, one: Player, other: Player, blow: Callable[[], Any], from_back: bool = False
    ) -> Blow:
        """With `from_back` nothing can flow until the blow is over, and the clock starts there."""
        streams = [Stream(one, other), Stream(other, one)]
        try:
            time.sleep(BEFORE_S)
            blow()
            back_s = time.monotonic()
            time.sleep(self.after_s)
        finally:
            felt = [stream.end() for stream in streams]
        if from_back:
            felt = [
                msgspec.structs.replace(each, gap_ms=stream.silent_ms(back_s))
                for each, stream in zip(felt, streams, strict=True)
            ]
        return max(felt, key=lambda each: (each.gap_ms, each.lost))

    def _until(self, one: Player, other: Player, kind: str, timeout_s: float) -> None:
        for me, them in ((one, other), (other, one)):
            me.wait(_uses(them, kind), timeout_s, f"a {kind} path to {them.name}")

    def _relay_in_use(self) -> Relay:
        self._until(self.cleo, self.dan, "relay", READY_S_MAX)
        peer = self.cleo.peer("dan")
        assert peer is not None
        assert peer.path is not None
        return next(each for each in self.relays if each.name == peer.path.address)

    def _until_bound(self, relay: Relay) -> None:
        """Until cleo and dan have it again."""
        for player in (self.cleo, self.dan):
            known = list(player.events)[-RECENT:]
            after = known[0].seq if known else 0
            player.wait(_has_bound(relay.name, after), READY_S_MAX, f"{relay.name} is back")
        time.sleep(BEFORE_S)


def _has_bound(relay: str, after: int) -> Callable[[Player], bool]:
    """Whether its newest word about that relay, behind that position, is good."""

    def met(player: Player) -> bool:
        told = [
            event.type
            for event in list(player.events)
            if event.seq >= after and event.stream == f"relay/{relay}"
        ]
        return bool(told) and told[-1] in ("relay.bound", "relay.measured")

    return met


def _uses(them: Player, kind: str) -> Callable[[Player], bool]:
    def met(player: Player) -> bool:
        peer = player.peer(them.name)
        return peer is not None and peer.path is not None and peer.path.kind == kind

    return met


CASES: tuple[tuple[str, str, float], ...] = (  # what, how, target for the standstill in ms
    ("direct cut", "cut_direct", 300),
    ("back to direct", "mend_direct", 300),
    ("relay killed", "kill_relay", 300),
    ("only relay back", "kill_only_relay", 2000),
    ("home moved", "move_home", 2500),
    ("control restarted", "restart_control", 300),
)


def measure(repetitions: int, cases: Sequence[str] = ()) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    with Lab(topology()) as lab:
        party = Party(lab)
        felt: dict[str, list[Blow]] = {}
        for number in range(repetitions):
            for what, how, _ in CASES:
                if cases and what not in cases:
                    continue
                blow: Blow = getattr(party, how)()
                felt.setdefault(what, []).append(blow)
                told = f"{blow.gap_ms:.0f} ms, {blow.lost} of {blow.sent} lost"
                print(f"{number + 1} {what}: {told}", file=sys.stderr, flush=True)
    for what, blows in felt.items():
        rows[what] = Row(
            blows=tuple(blows),
            gap_p95_ms=p95(blow.gap_ms for blow in blows),
            lost_max=max(blow.lost for blow in blows),
        )
    return rows


def main(repetitions: int = 5) -> dict[str, Any]:
    refused = namespaces.missing()
    if refused is not None:
        raise SystemExit(str(refused))
    try:
        rows = measure(repetitions)
    except NodeFailed as failure:
        raise SystemExit(str(failure)) from failure
    print(f"\n{'':<20}{'standstill p95':>16}{'target':>10}{'lost, worst':>14}")
    for what, _, target_ms in CASES:
        row = rows[what]
        print(f"{what:<20}{row.gap_p95_ms:>13.0f} ms{target_ms:>7.0f} ms{row.lost_max:>14}")
    return {
        what.replace(" ", "_"): {"gap_p95_ms": row.gap_p95_ms, "lost_max": row.lost_max}
        for what, row in rows.items()
    }


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:]))
