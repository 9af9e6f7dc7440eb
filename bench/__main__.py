"""`python -m bench [NAME...]`: runs benchmarks one after the other and prints one table.

A benchmark is `bench/NAME.py` with a `main()`; what it prints is shown as it comes. If it returns
figures (a dict, nested as it likes), they are in the table and in `bench/results/` as JSON; a name
that ends in `_ratio` is ours divided by theirs. `python -m bench.NAME` runs one alone.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LIMIT_S = 900  # for one benchmark

# In a process of its own: one benchmark's garbage must not be the next one's noise.
CHILD = """
import importlib, json, sys
figures = importlib.import_module(sys.argv[1]).main()
with open(sys.argv[2], "w") as file:
    json.dump(figures if isinstance(figures, dict) else {}, file)
"""


def benchmarks() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def run(name: str) -> dict[str, Any] | None:
    """Its figures, or None if it did not come to a good end (what it said is on the screen)."""
    print(f"==> {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "figures.json"
        command = [sys.executable, "-c", CHILD, f"bench.{name}", str(result)]
        try:
            subprocess.run(command, check=True, timeout=LIMIT_S, cwd=HERE.parent)
        except subprocess.SubprocessError as error:
            print(f"{name} did not finish: {error}", file=sys.stderr)
            return None
        figures: dict[str, Any] = json.loads(result.read_text())
        return figures


def flat(figures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def machine() -> dict[str, object]:
    """What is needed to read the figures later."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "at": int(time.time()),
    }


def main(chosen: list[str]) -> int:
    unknown = sorted(set(chosen) - set(benchmarks()))
    if unknown:
        known = ", ".join(benchmarks())
        print(f"No benchmark is called {', '.join(unknown)}. There are: {known}", file=sys.stderr)
        return 2
    outcomes = {name: run(name) for name in chosen or benchmarks()}
    table = {name: figures for name, figures in outcomes.items() if figures is not None}

    RESULTS.mkdir(exist_ok=True)
    result = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    result.write_text(json.dumps({"machine": machine(), "figures": table}, indent=2) + "\n")
    print()
    for name, figures in table.items():
        for figure, value in flat(figures):
            shown = f"{value:,.2f}" if isinstance(value, float) else str(value)
            print(f"{name:<20} {figure:<40} {shown:>14}")
    print(f"Written to {result.relative_to(HERE.parent)}")
    return 0 if len(table) == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
