"""Asking several addresses at once when they start to answer."""

from __future__ import annotations

import sys
import time

import msgspec
import pytest

from lanrage.lab.lab import Lab
from lanrage.lab.topology import two_homes

pytestmark = pytest.mark.root


def test_each_address_is_told_when_it_first_answered_and_silence_is_zero() -> None:
    with Lab(two_homes(one_way_ms=10.0)) as lab:
        began_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        there, nobody = "203.0.113.2", "203.0.113.77"
        argv = [sys.executable, "-m", "lanrage.lab.first", there, nobody, "--timeout-ms", "300"]
        done = lab.computer("alice").run(argv)
        ready, found = done.stdout.splitlines()
        assert ready == "ready"
        answered = msgspec.json.decode(found, type=dict[str, int])
        assert answered[nobody] == 0
        assert (
            began_ns + 20_000_000 <= answered[there] <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        )
        assert done.returncode == 1
