"""What an idle node costs: a party of three, nobody sends anything for a minute.

CPU and memory are read from /proc for the node and its tunnel process together, of every member;
the worst of the three is the figure. Memory is resident set size, summed although the two
processes share most of the interpreter's pages; the proportional size is beside it.

    python -m bench.idle [SECONDS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lanrage.lab import namespaces
from lanrage.lab.lab import Lab
from lanrage.lab.player import Control, Player, wait_until_connected
from lanrage.lab.topology import two_homes

CONNECT_S_MAX = 30.0
SETTLE_S = 10.0  # what the joining left to do
CHILDREN_S_MAX = 60.0  # the classic NAT test is a process of its own, once


class Member(msgspec.Struct, frozen=True, kw_only=True):
    cpu_percent: float  # of one core, all its processes
    rss_mb: float
    pss_mb: float
    wakeups_per_s: float  # voluntary context switches
    processes: dict[str, float]  # CPU percent of each


class Result(msgspec.Struct, frozen=True, kw_only=True):
    seconds: float
    members: dict[str, Member]
    cpu_percent_max: float
    rss_mb_max: float


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    ran_ns: int
    switches: int
    rss_kb: int
    pss_kb: int
    name: str


def processes_of(player: Player) -> list[int]:
    """The node and its children."""
    assert player.process is not None
    found = [player.process.pid]
    for pid in found:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def snapshot(pid: int) -> Snapshot:
    proc = Path(f"/proc/{pid}")
    rollup = (proc / "smaps_rollup").read_text().splitlines()
    sizes = {line.split()[0]: int(line.split()[1]) for line in rollup[1:]}
    words = (proc / "cmdline").read_text().split("\0")
    return Snapshot(
        ran_ns=sum(_ran_ns(thread) for thread in (proc / "task").iterdir()),
        switches=sum(_voluntary_switches(thread) for thread in (proc / "task").iterdir()),
        rss_kb=sizes["Rss:"],
        pss_kb=sizes["Pss:"],
        name=" ".join(words[1:4]).strip(),
    )


def _ran_ns(thread: Path) -> int:
    """Exact, where the ticks of /proc/PID/stat are sampled and miss what runs for microseconds."""
    return int((thread / "schedstat").read_text().split()[0])


def _voluntary_switches(thread: Path) -> int:
    lines = (thread / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary"))


def measure(seconds: float) -> Result:
    with Lab(two_homes()) as lab:
        control = Control(lab.computer("control"), lab.folder / "state-control")
        control.start()
        players = [
            Player(lab.computer(name), lab.folder / f"state-{name}")
            for name in ("alice", "bob", "carol")
        ]
        for player in players:
            player.start("--control", control.url, follow=False)
        players[0].create("Quiet")
        for guest in players[1:]:
            guest.must("join", players[0].invite())
        wait_until_connected(players, CONNECT_S_MAX)
        print("all connected; waiting", file=sys.stderr)
        _settle(players)
        before = {p.name: {pid: snapshot(pid) for pid in processes_of(p)} for p in players}
        began_s = time.monotonic()
        time.sleep(seconds)
        took_s = time.monotonic() - began_s
        members = {p.name: _member(before[p.name], took_s) for p in players}
        wait_until_connected(players, 0)
    return Result(
        seconds=took_s,
        members=members,
        cpu_percent_max=max(member.cpu_percent for member in members.values()),
        rss_mb_max=max(member.rss_mb for member in members.values()),
    )


def _settle(players: Sequence[Player]) -> None:
    """Until only node and tunnel are left of each."""
    time.sleep(SETTLE_S)
    deadline_s = time.monotonic() + CHILDREN_S_MAX
    while any(len(processes_of(player)) > 2 for player in players):
        assert time.monotonic() < deadline_s, "a node keeps another process"
        time.sleep(1.0)


def _member(before: dict[int, Snapshot], took_s: float) -> Member:
    after = {pid: snapshot(pid) for pid in before}
    cpu = {
        after[pid].name: (after[pid].ran_ns - before[pid].ran_ns) / took_s / 1e7 for pid in before
    }
    switches = sum(after[pid].switches - before[pid].switches for pid in before)
    return Member(
        cpu_percent=round(sum(cpu.values()), 2),
        rss_mb=round(sum(each.rss_kb for each in after.values()) / 1024, 1),
        pss_mb=round(sum(each.pss_kb for each in after.values()) / 1024, 1),
        wakeups_per_s=round(switches / took_s, 1),
        processes={name: round(percent, 2) for name, percent in cpu.items()},
    )


def main(seconds: float = 60.0) -> dict[str, Any]:
    refused = namespaces.missing()
    if refused is not None:
        raise SystemExit(str(refused))
    result = measure(seconds)
    for name, member in result.members.items():
        print(
            f"{name}: {member.cpu_percent:.2f} % of a core, RSS {member.rss_mb:.0f} MB "
            f"(PSS {member.pss_mb:.0f} MB), {member.wakeups_per_s:.0f} wake-ups/s"
        )
        for process, percent in member.processes.items():
            print(f"  {percent:5.2f} %  {process}")
    figures: dict[str, Any] = msgspec.to_builtins(result)
    return figures


if __name__ == "__main__":
    main(*(float(number) for number in sys.argv[1:]))
