"""The lab's wire as one process: a TAP device in every attached namespace and the switch between.

`python -m lanrage.lab.wire` reads a `Plan` from the first line of stdin, makes the devices, answers
"ready", and from then on answers every line (`Change` or `Ask`) with one of its own. The end of
stdin ends it, and the devices with it: the death of whoever built the lab leaves no wire behind.

It waits in select(2), not epoll: there are a dozen descriptors, and select's timeout counts in
microseconds where epoll's rounds up to milliseconds, which is jitter in a simulated line.

Meant for functional tests. TAP, not veth: frames come whole and with computed checksums.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import random
import select
import struct
import subprocess
import sys
import time
from typing import TypeAlias

import msgspec

from lanrage.lab.namespaces import inside
from lanrage.lab.switch import Counters, Line, Switch

FRAME_MAX = 65_536
READS_MAX = 64  # frames taken from one device before the others get their turn
ANSWER_S_MAX = 10.0
_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000


class Port(msgspec.Struct, frozen=True, kw_only=True):
    namespace: str
    device: str
    up: Line
    down: Line


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    ports: tuple[Port, ...]
    seed: int


class Change(msgspec.Struct, frozen=True, kw_only=True, tag="change"):
    port: int
    up: Line | None = None
    down: Line | None = None


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag="ask"):
    """The counters of one port."""

    port: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    up: Counters
    down: Counters


Order: TypeAlias = Change | Ask


class Wire:
    """The running process, seen from whoever started it."""

    def __init__(self, plan: Plan) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lanrage.lab.wire"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the lab, which ends the wire last
        )
        try:
            self._say(msgspec.json.encode(plan))
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def change(self, port: int, up: Line | None = None, down: Line | None = None) -> None:
        """In force when this returns."""
        self._say(msgspec.json.encode(Change(port=port, up=up, down=down)))

    def counters(self, port: int) -> tuple[Counters, Counters]:
        """(up, down) of one port since the start."""
        answer = msgspec.json.decode(self._say(msgspec.json.encode(Ask(port=port))), type=Answer)
        return answer.up, answer.down

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _say(self, line: bytes) -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(line + b"\n")
        stdin.flush()
        readable, _, _ = select.select([stdout], [], [], ANSWER_S_MAX)
        answer = stdout.readline() if readable else b""
        if not answer:
            raise RuntimeError("the lab's wire process ended or hangs")
        return answer


def open_tap(port: Port) -> int:
    """A TAP device in that namespace, as long as the descriptor is open."""

    def work() -> int:
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(
            tap, _TUNSETIFF, struct.pack("16sH22x", port.device.encode(), _IFF_TAP | _IFF_NO_PI)
        )
        return tap

    return inside(port.namespace, work)


def obey(switch: Switch, order: Order) -> bytes:
    if isinstance(order, Change):
        switch.change(order.port, order.up, order.down)
        return b"{}"
    up, down = switch.counters(order.port)
    return msgspec.json.encode(Answer(up=up, down=down))


def run(switch: Switch, taps: list[int], orders: int, answers: int) -> None:
    """Carry frames until `orders` ends."""
    port_of = {tap: port for port, tap in enumerate(taps)}
    waiting = [orders, *taps]
    pending = b""
    decoder = msgspec.json.Decoder[Order](Order)
    while True:
        next_ns = switch.next_ns()
        wait_s = None if next_ns is None else max(0, next_ns - time.monotonic_ns()) / 1e9
        ready, _, _ = select.select(waiting, [], [], wait_s)
        for descriptor in ready:
            if descriptor != orders:
                _take(switch, port_of[descriptor], descriptor)
                continue
            chunk = os.read(orders, FRAME_MAX)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                os.write(answers, obey(switch, decoder.decode(line)) + b"\n")
        for port, frame in switch.due(time.monotonic_ns()):
            with contextlib.suppress(OSError):  # the device is down or its queue is full
                os.write(taps[port], frame)


def _take(switch: Switch, port: int, tap: int) -> None:
    now_ns = time.monotonic_ns()
    for _ in range(READS_MAX):
        try:
            frame = os.read(tap, FRAME_MAX)
        except OSError:  # nothing more, or the device is down
            return
        switch.accept(port, frame, now_ns)


def main() -> None:
    orders, answers = sys.stdin.fileno(), sys.stdout.fileno()
    text = b""
    while not text.endswith(b"\n"):  # unbuffered: what follows belongs to `run`
        byte = os.read(orders, 1)
        if not byte:
            return
        text += byte
    plan = msgspec.json.decode(text, type=Plan)
    taps = [open_tap(port) for port in plan.ports]
    switch = Switch([(p.up, p.down) for p in plan.ports], random.Random(plan.seed).random)
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    gc.disable()  # nothing here makes cycles
    os.write(answers, b"ready\n")
    run(switch, taps, orders, answers)


if __name__ == "__main__":
    main()
