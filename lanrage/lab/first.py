"""When do these addresses start to answer? ICMP echo to all of them at once, at a fixed pace.

`python -m lanrage.lab.first ADDRESS...` prints "ready" when it begins, and when all have answered
or the time is up one JSON document: for each address when the first answer came (CLOCK_BOOTTIME in
ns), 0 if none did. Needs root (a raw socket).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Sequence

import msgspec

from lanrage.lab.ping import echo_request, reply_sequence

INTERVAL_NS = 20_000_000
_PACKET_MAX = 65_536


def first_answers(addresses: Sequence[str], timeout_ms: int) -> dict[str, int]:
    """An address without a route yet, or an interface not there yet, counts as a lost packet."""
    answered = dict.fromkeys(addresses, 0)
    identifier = os.getpid() & 0xFFFF
    start_ns = due_ns = _now_ns()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.setblocking(False)
        while not all(answered.values()):
            now_ns = _now_ns()
            if now_ns - start_ns > timeout_ms * 1_000_000:
                break
            if now_ns >= due_ns:
                due_ns += INTERVAL_NS
                _ask(raw, [each for each in addresses if not answered[each]], identifier)
                continue
            readable, _, _ = select.select([raw], [], [], (due_ns - now_ns) / 1e9)
            if readable:
                _take(raw, answered, identifier)
    return answered


def _ask(raw: socket.socket, addresses: Sequence[str], identifier: int) -> None:
    for address in addresses:
        with contextlib.suppress(OSError):
            raw.sendto(echo_request(identifier, 0, bytes(48)), (address, 0))


def _take(raw: socket.socket, answered: dict[str, int], identifier: int) -> None:
    packet, (source, _) = raw.recvfrom(_PACKET_MAX)
    if reply_sequence(packet, identifier) is not None and answered.get(source) == 0:
        answered[source] = _now_ns()


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def main() -> int:
    parser = argparse.ArgumentParser(prog="first")
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--timeout-ms", type=int, default=15_000)
    asked = parser.parse_args()
    print("ready", flush=True)
    answered = first_answers(asked.addresses, asked.timeout_ms)
    sys.stdout.buffer.write(msgspec.json.encode(answered) + b"\n")
    return 0 if all(answered.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
