"""From `lanrage join` to the first answered ping, 40 ms round trip between homes and to control.

A host waits in one home. Again and again a fresh node, already up in the other home, joins with a
fresh invite; the clock starts with the `lanrage join` process and stops when the host's virtual
address answers the first of a row of pings 10 ms apart. Then the guest leaves, its node ends and
its state is gone, so every join starts from nothing.

    python -m bench.join [JOINS]
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import msgspec

from lanrage.lab import namespaces
from lanrage.lab.lab import Lab
from lanrage.lab.player import Control, NodeFailed, Player, ping_report
from lanrage.lab.topology import two_homes

ONE_WAY_MS = 20.0
PING_INTERVAL_MS = 10.0
PINGS_MAX = 1_500


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds since `lanrage join` was started."""

    first_ping_ms: float
    command_ms: float  # when the command itself was done
    stages_ms: dict[str, int]  # first event of a type, by the guest's own log


class Result(msgspec.Struct, frozen=True, kw_only=True):
    round_trip_ms: float
    joins: tuple[Join, ...]
    median_ms: float
    p95_ms: float
    failures: int


STAGES = ("nat.mapped", "party.entered", "path.probing", "path.opened", "tunnel.established")


def join_once(lab: Lab, control: Control, host: Player, number: int) -> Join:
    guest = Player(lab.computer("carol"), lab.folder / f"state-{number}", f"guest{number}")
    guest.start("--control", control.url)
    link = host.invite()
    pinging = guest.start_ping(host.address(), PINGS_MAX, PING_INTERVAL_MS, "--until-answer")
    started_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    started_ms = time.time_ns() // 1_000_000
    guest.must("join", link)
    command_ms = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - started_ns) / 1e6
    report = ping_report(pinging)
    if not report.received:
        raise NodeFailed(f"guest {number} never got an answer")
    guest.wait_for_event("tunnel.established", 10)
    at_ms = {event.type: event.at for event in reversed(guest.events)}
    guest.must("leave")
    guest.stop()
    return Join(
        first_ping_ms=(report.first_answer_ns - started_ns) / 1e6,
        command_ms=command_ms,
        stages_ms={stage: at_ms[stage] - started_ms for stage in STAGES if stage in at_ms},
    )


def measure(joins: int) -> Result:
    done: list[Join] = []
    failures = 0
    with Lab(two_homes(ONE_WAY_MS)) as lab:
        control = Control(lab.computer("control"), lab.folder / "state-control")
        control.start()
        host = Player(lab.computer("alice"), lab.folder / "state-alice")
        host.start("--control", control.url)
        host.create("Bench")
        for number in range(joins):
            try:
                done.append(join_once(lab, control, host, number))
                print(f"join {number + 1}: {done[-1].first_ping_ms:.0f} ms", file=sys.stderr)
            except NodeFailed as failure:
                failures += 1
                print(f"join {number + 1}: {failure}", file=sys.stderr)
    times_ms = sorted(join.first_ping_ms for join in done)
    return Result(
        round_trip_ms=2 * ONE_WAY_MS,
        joins=tuple(done),
        median_ms=statistics.median(times_ms),
        p95_ms=times_ms[max(0, -(-len(times_ms) * 95 // 100) - 1)],
        failures=failures,
    )


def main(joins: int = 20) -> dict[str, Any]:
    refused = namespaces.missing()
    if refused is not None:
        raise SystemExit(str(refused))
    result = measure(joins)
    print(
        f"{len(result.joins)} joins at {result.round_trip_ms:g} ms: first answered ping after "
        f"{result.median_ms:.0f} ms (median), {result.p95_ms:.0f} ms (p95), "
        f"{result.failures} failed"
    )
    figures: dict[str, Any] = msgspec.to_builtins(result)
    return figures


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:]))
