"""Power given up for good, seen from outside."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.tunnel.pair import ROOT, WITHIN_S

pytestmark = pytest.mark.root

NOTHING = {"CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"}


def status_after(call: str) -> dict[str, str]:
    """/proc/self/status of a process that made this call."""
    code = (
        f"from lanrage.tunnel.privileges import *; {call}; print(open('/proc/self/status').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=WITHIN_S, check=True, cwd=ROOT,
    )  # fmt: skip
    lines = [line.partition(":") for line in done.stdout.splitlines()]
    return {key: value.strip() for key, _, value in lines}


@pytest.mark.parametrize("uid", [0, 12345])
def test_dropping_all_leaves_a_user_and_no_capability(uid: int) -> None:
    status = status_after(f"drop_all({uid}, {uid})")
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(uid)}
    assert {key: int(status[key], 16) for key in NOTHING} == dict.fromkeys(NOTHING, 0)
    assert status["NoNewPrivs"] == "1"


def test_what_is_kept_is_kept_across_the_change_of_user() -> None:
    status = status_after("keep_only((CAP_NET_ADMIN, CAP_NET_RAW), NOBODY, NOBODY)")
    assert int(status["CapEff"], 16) == 1 << 12 | 1 << 13
    assert status["Groups"] == ""


def test_what_is_gone_cannot_be_had_again() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        status_after("drop_all(12345, 12345); os.setresuid(0, 0, 0)")
    status = status_after("drop_all(0, 0); keep_only((CAP_NET_ADMIN,), 0, 0)")
    assert int(status["CapEff"], 16) == 0
