"""ICMP echo (RFC 792) in a page, because the lab must not depend on a `ping` being installed.

`python -m lanrage.lab.ping ADDRESS` prints one JSON document when done. It sends at a fixed
pace without waiting for answers, so it can also tell when an address *starts* to answer.
Needs root (a raw socket).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import select
import socket
import struct
import sys
import time

import msgspec

_ECHO_REPLY = 0
_ECHO_REQUEST = 8
_PACKET_MAX = 65_536


class Report(msgspec.Struct, frozen=True, kw_only=True):
    sent: int
    received: int
    rtts_ms: tuple[float, ...]  # in the order of the answers
    first_answer_ns: int  # CLOCK_BOOTTIME when the first answer came; 0 if none did
    longest_gap_ms: float  # between answers; shows an interruption

    @property
    def rtt_ms(self) -> float:
        """The median."""
        ordered = sorted(self.rtts_ms)
        return ordered[len(ordered) // 2] if ordered else float("nan")


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    remainder = int.from_bytes(data) % 0xFFFF
    return ~(remainder or (0xFFFF if any(data) else 0)) & 0xFFFF


def echo_request(identifier: int, sequence: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, identifier, sequence)
    total = checksum(head + payload)
    return struct.pack("!BBHHH", _ECHO_REQUEST, 0, total, identifier, sequence) + payload


def reply_sequence(packet: bytes, identifier: int) -> int | None:
    """The sequence number, if this IPv4 packet is an answer to one of ours."""
    head = (packet[0] & 0xF) * 4
    if len(packet) < head + 8:
        return None
    kind, code, _, number, sequence = struct.unpack_from("!BBHHH", packet, head)
    if (kind, code, number) != (_ECHO_REPLY, 0, identifier):
        return None
    return int(sequence)


class _Row:
    """A row of echo requests at a fixed pace, and the answers to them."""

    def __init__(self, address: str, count: int, interval_ms: float, wait_ms: float) -> None:
        self._address = address
        self._count = count
        self._interval_ns = int(interval_ms * 1e6)
        self._start_ns = _now_ns()
        self._end_ns = self._start_ns + (count - 1) * self._interval_ns + int(wait_ms * 1e6)
        self._identifier = os.getpid() & 0xFFFF
        self._sent = 0
        self._sent_ns: dict[int, int] = {}
        self._rtts_ms: list[float] = []
        self._answers_ns: list[int] = []

    @property
    def answers(self) -> int:
        return len(self._answers_ns)

    def step(self, raw: socket.socket) -> bool:
        """Send what is due or take one answer; False when there is nothing more to wait for."""
        now_ns = _now_ns()
        all_sent = self._sent == self._count
        due_ns = self._end_ns if all_sent else self._start_ns + self._sent * self._interval_ns
        if now_ns >= due_ns:
            if not all_sent:
                self._send(raw, now_ns)
            return not all_sent
        readable, _, _ = select.select([raw], [], [], (due_ns - now_ns) / 1e9)
        if readable:
            self._take(raw.recv(_PACKET_MAX))
        return self.answers < self._count

    def report(self) -> Report:
        gaps_ns = [later - sooner for sooner, later in itertools.pairwise(self._answers_ns)]
        return Report(
            sent=self._sent,
            received=self.answers,
            rtts_ms=tuple(round(rtt, 3) for rtt in self._rtts_ms),
            first_answer_ns=self._answers_ns[0] if self._answers_ns else 0,
            longest_gap_ms=max(gaps_ns, default=0) / 1e6,
        )

    def _send(self, raw: socket.socket, now_ns: int) -> None:
        sequence = self._sent & 0xFFFF
        self._sent_ns[sequence] = now_ns
        self._sent += 1
        with contextlib.suppress(OSError):  # no route or no interface yet
            raw.sendto(echo_request(self._identifier, sequence, bytes(48)), (self._address, 0))

    def _take(self, packet: bytes) -> None:
        sequence = reply_sequence(packet, self._identifier)
        if sequence is None or sequence not in self._sent_ns:
            return
        self._answers_ns.append(_now_ns())
        self._rtts_ms.append((self._answers_ns[-1] - self._sent_ns.pop(sequence)) / 1e6)


def ping(
    address: str, count: int, interval_ms: float, wait_ms: float, until_answer: bool = False
) -> Report:
    """Send `count` echo requests, then wait `wait_ms` for what is still missing.

    With `until_answer` it stops at the first answer. An address without a route yet, or an
    interface not there yet, counts as a lost packet.
    """
    row = _Row(address, count, interval_ms, wait_ms)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.setblocking(False)
        while row.step(raw):
            if until_answer and row.answers:
                break
    return row.report()


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def main() -> int:
    parser = argparse.ArgumentParser(prog="ping")
    parser.add_argument("address")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--interval-ms", type=float, default=200.0)
    parser.add_argument("--wait-ms", type=float, default=1000.0)
    parser.add_argument("--until-answer", action="store_true")
    asked = parser.parse_args()
    report = ping(asked.address, asked.count, asked.interval_ms, asked.wait_ms, asked.until_answer)
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    return 0 if report.received else 1


if __name__ == "__main__":
    sys.exit(main())
