"""See scenario.py."""

from __future__ import annotations

import sys
from multiprocessing import Pool

from tests.sim.scenario import play

CHUNK = 10


def main(words: list[str]) -> int:
    if words[:1] == ["seed"]:
        print(play(int(words[1])))
        return 0
    first = int(words[1]) if len(words) > 1 else 0
    seeds = range(first, first + int(words[0]))
    failed, gap_ms = 0, 0
    with Pool() as pool:
        for outcome in pool.imap_unordered(play, seeds, CHUNK):
            gap_ms = max(gap_ms, outcome.gap_ms)
            if outcome.failures:
                failed += 1
                print(outcome, flush=True)
    print(f"{len(seeds)} seeds, {failed} failed, longest standstill {gap_ms} ms")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["10000"]))
