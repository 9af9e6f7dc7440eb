"""The chain's bytes as they are in people's logs: they must verify for ever.

`chain-v1.txt` has one record a line in hex, `chain-v1.json` what they add up to. Both were made by
`party.story()`; to look at them is to see the format.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from lanrage.protocols import partylog
from tests.protocols import party

DATA = Path(__file__).parent.parent / "data" / "control"
FOLD = """
import sys, msgspec
from lanrage.protocols import partylog
chain = partylog.EMPTY
for line in open(sys.argv[1]):
    chain = partylog.verify(chain, bytes.fromhex(line))
print(msgspec.json.encode(chain).decode())
"""


def golden() -> list[bytes]:
    return [bytes.fromhex(line) for line in (DATA / "chain-v1.txt").read_text().splitlines()]


def test_old_records_still_verify_to_the_same_chain() -> None:
    chain = partylog.extend(partylog.EMPTY, golden())
    expected = msgspec.json.decode((DATA / "chain-v1.json").read_bytes(), type=partylog.Chain)
    assert chain == expected


def test_the_builders_still_write_the_same_bytes() -> None:
    assert party.story() == golden()


def test_every_process_computes_the_same_bytes_of_state() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", FOLD, DATA / "chain-v1.txt"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=DATA.parent.parent.parent,
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 1_000
