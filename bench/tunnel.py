"""Our tunnel beside Debian's wireguard-go: `python -m bench tunnel`. Needs root.

Two namespaces joined by a cable, a tunnel process in each, iperf3 and ping through them, all on
the same cores. The two kinds take turns, several rounds, and medians are compared: machines are
shared and noisy, so only ratios within one run mean anything.

Game traffic is 960 packets a second of 120 bytes each way, evenly paced: a busy shooter.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.tunnel.pair import WITHIN_S, Pair

ROUNDS = 3
STREAM_S = 5
FLOOD_PINGS = 2000
GAME_PACKETS = 2880
GAME_PACKETS_PER_SECOND = 960
GAME_PAYLOAD_BYTES = 92  # and 28 of headers
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figures:
    """One kind of tunnel, one round."""

    forward_mbits: float
    reverse_mbits: float
    retransmits: float
    flood_rtt_ms: float
    game_cpu_percent: float  # of one core, one end
    bulk_cpu_s_per_gb: float  # one end, forward
    rss_mb: float


def measure(kind: str) -> Figures:
    with tempfile.TemporaryDirectory() as folder, Pair(Path(folder)) as pair:
        start = pair.start_ours if kind == "ours" else pair.start_theirs
        process = start(pair.a, pair.config(pair.a))
        start(pair.b, pair.config(pair.b))
        pair.a.run("ping", "-q", "-c", "3", "-i", "0.1", pair.b.inside)
        flood_rtt_ms = flood(pair)
        game_cpu_percent = game(pair, process.pid)
        before_s = cpu_s(process.pid)
        forward = stream(pair)
        spent_s = cpu_s(process.pid) - before_s
        reverse = stream(pair, "-R")
        return Figures(
            forward_mbits=forward["sum_received"]["bits_per_second"] / 1e6,
            reverse_mbits=reverse["sum_received"]["bits_per_second"] / 1e6,
            retransmits=forward["sum_sent"]["retransmits"] + reverse["sum_sent"]["retransmits"],
            flood_rtt_ms=flood_rtt_ms,
            game_cpu_percent=game_cpu_percent,
            bulk_cpu_s_per_gb=spent_s / (forward["sum_received"]["bytes"] / 1e9),
            rss_mb=rss_mb(process.pid),
        )


def flood(pair: Pair) -> float:
    said = pair.a.run("ping", "-q", "-f", "-c", str(FLOOD_PINGS), pair.b.inside)
    found = re.search(r"= [\d.]+/([\d.]+)/", said)
    assert found, said
    return float(found[1])


def game(pair: Pair, pid: int) -> float:
    """Percent of one core that one end needs, at exactly the rate named."""
    before_s, began = cpu_s(pid), time.monotonic()
    options = ["-i", "0.001", "-c", str(GAME_PACKETS), "-s", str(GAME_PAYLOAD_BYTES)]
    pair.a.run("ping", "-q", *options, pair.b.inside)
    rate = GAME_PACKETS / (time.monotonic() - began)
    share = (cpu_s(pid) - before_s) / (time.monotonic() - began)
    return 100 * share * GAME_PACKETS_PER_SECOND / rate


def stream(pair: Pair, *options: str) -> dict[str, Any]:
    listening = pair.start(pair.b, "iperf3", "-s", "-1", "--forceflush", stdout=subprocess.PIPE)
    assert listening.stdout is not None
    while "listening" not in listening.stdout.readline():
        pass
    said = pair.a.run("iperf3", "-J", "-t", str(STREAM_S), "-c", pair.b.inside, *options)
    listening.wait(WITHIN_S)
    end: dict[str, Any] = json.loads(said)["end"]
    return end


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def rss_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def main() -> dict[str, object]:
    rounds: dict[str, list[Figures]] = {"ours": [], "wireguard_go": []}
    for number in range(ROUNDS):
        for kind, done in rounds.items():
            done.append(measure(kind))
            print(f"round {number + 1} {kind}: {done[-1]}", flush=True)
    medians = {kind: median(done) for kind, done in rounds.items()}
    ours, theirs = medians["ours"], medians["wireguard_go"]
    ratios = {f"{name}_ratio": ours[name] / theirs[name] for name in ours if name != "retransmits"}
    print(f"{'median of ' + str(ROUNDS):<20}{'ours':>12}{'wireguard-go':>14}{'ratio':>8}")
    for name, value in ours.items():
        ratio = ratios.get(f"{name}_ratio")
        shown = "" if ratio is None else f"{ratio:.2f}"
        print(f"{name:<20}{value:>12.2f}{theirs[name]:>14.2f}{shown:>8}")
    return {**medians, **ratios}


def median(done: list[Figures]) -> dict[str, float]:
    return {
        name: statistics.median(asdict(figures)[name] for figures in done)
        for name in asdict(done[0])
    }


if __name__ == "__main__":
    main()
