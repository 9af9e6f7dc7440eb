"""Runs every module of this folder, each in its own process, and prints one table of ratios.

A benchmark is `bench/NAME.py` with `main() -> dict[str, float]`: a name such as `tcp_forward_mbit`
to its value, where `<name>_ratio` is ours divided by theirs. It runs alone as `python -m
bench.NAME`. Results go to `bench/results/` as JSON, with what is needed to read them later.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LIMIT_S = 900  # for one benchmark
CHILD = (
    "import json, sys, importlib; print(json.dumps(importlib.import_module(sys.argv[1]).main()))"
)


def benchmarks() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def run(name: str) -> dict[str, float]:
    """Measure in a fresh process, so that one benchmark's garbage is not the next one's noise.
    Raises CalledProcessError or TimeoutExpired when it did not come to an end."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, f"bench.{name}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=LIMIT_S,
        cwd=HERE.parent,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def machine() -> dict[str, object]:
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "at": int(time.time()),
    }


def main(chosen: list[str]) -> int:
    unknown = set(chosen) - set(benchmarks())
    if unknown:
        print(f"No such benchmark: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    failed = 0
    table: dict[str, dict[str, float]] = {}
    for name in chosen or benchmarks():
        print(f"==> {name}", flush=True)
        try:
            table[name] = run(name)
        except (subprocess.SubprocessError, ValueError, IndexError) as error:
            print(f"    {name} did not finish: {error}", file=sys.stderr)
            failed = 1
    RESULTS.mkdir(exist_ok=True)
    result = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    result.write_text(json.dumps({"machine": machine(), "figures": table}, indent=2) + "\n")

    for name, figures in table.items():
        for figure, value in figures.items():
            print(f"{name:<16} {figure:<32} {value:>12.2f}")
    print(f"written to {result.relative_to(HERE.parent)}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
