"""Our relay beside coturn's TURN: `python -m bench relay`. Needs coturn (`turnserver`).

All on loopback, so that nothing but the servers' own work is measured; each phase is run for both
in turn, several rounds, and medians are compared: machines are shared and noisy, so only ratios
within one run mean anything. Packets per CPU second counts what arrived, and the CPU time of the
process that forwards.

    bulk      one sender, 1,200-byte packets in batches of the kernel's (UDP_SEGMENT, UDP_GRO)
    singles   the same one by one, 120 bytes
    crowd     64 senders to 64 receivers, 120 bytes, one by one in turn, as fast as they can
    games     128 members, 60 packets of 120 bytes a second each, evenly paced

Then ours alone: what `games` loses and how much later it arrives than without a relay, the memory,
and how much all that suffers while one member sends as much as it can. Whoever floods has a
computer of its own in life; here it gets the time that all others leave it.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from bench import _turn
from bench.tunnel import cpu_s, rss_mb
from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import wire
from lanrage.relay.forward import Plan, Ready, Said
from lanrage.tunnel.framing import Unframer, frame
from lanrage.tunnel.udp import SOL_UDP, UDP_GRO, UDP_SEGMENT
from tests.relay.members import RELAY_SEED, TICKET_KEY, bind

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
STREAM_S = 3.0
GAMES_S = 5.0
MEMBERS = 128
GAME_PACKETS_PER_S = 60
GAME_BYTES = 120
BULK_BYTES = 1200
BATCH = 48
HEADER_BYTES = 4
BUFFER_BYTES = 8 << 20
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
UNLIMITED = 10_000_000_000  # bytes a second
_AT = struct.Struct("=q")
_TIMESPEC = struct.Struct("=qq")
_INT = struct.Struct("=i")

FORK = multiprocessing.get_context("fork")


@dataclass
class Lane:
    """One direction of one pair: what is sent as `head`, payload to `to`, arrives at `receiver`."""

    sender: socket.socket
    receiver: socket.socket
    to: Address
    number: int  # ours; 0: a TURN channel

    def packet(self, size: int) -> bytes:
        if self.number:
            return (4 << 24 | self.number).to_bytes(4, "big") + bytes(size - HEADER_BYTES)
        length = size - HEADER_BYTES
        return _turn.FIRST_CHANNEL.to_bytes(2, "big") + length.to_bytes(2, "big") + bytes(length)


# --- servers -----------------------------------------------------------------------------------


@contextmanager
def ours(member_bytes_per_s: int = UNLIMITED) -> Iterator[tuple[int, int]]:
    """The forwarding process; its id and port."""
    near, far = socket.socketpair()
    with near:
        with far:
            command = [sys.executable, "-m", "lanrage.relay.forward", str(far.fileno())]
            process = subprocess.Popen(command, pass_fds=[far.fileno()], cwd=ROOT)
        plan = Plan(
            host="127.0.0.1",
            port=0,
            shown="",
            private_key=RELAY_SEED,
            ticket_key=TICKET_KEY,
            boot=os.urandom(8),
            member_bytes_per_s=member_bytes_per_s,
        )
        near.sendall(frame(plan))
        said = (Unframer(msgspec.msgpack.Decoder(Said)).feed(near.recv(4096)) or [None])[0]
        assert isinstance(said, Ready), said
        reading = FORK.Process(target=_read_to_end, args=(near,))
        reading.start()
        try:
            yield process.pid, said.port
        finally:
            process.terminate()
            process.wait()
            reading.terminate()
            reading.join()


@contextmanager
def coturn() -> Iterator[tuple[int, int]]:
    with tempfile.TemporaryDirectory() as folder, udp() as spare:
        port = spare.getsockname()[1]
        spare.close()
        server = _turn.start(port, Path(folder))
        try:
            yield server.pid, port
        finally:
            server.kill()
            server.wait()


SERVERS = {"ours": ours, "coturn": coturn}


def _read_to_end(near: socket.socket) -> None:
    while near.recv(65_536):
        pass


def udp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    try:
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    except PermissionError:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    return made


def lanes(kind: str, port: int, count: int, first: int = 1) -> list[Lane]:
    """Pairs of members, ready to send from the first to the second."""
    server = ("127.0.0.1", port)
    made: list[Lane] = []
    for at in range(count):
        sender, receiver = udp(), udp()
        if kind == "coturn":
            _turn.join(sender, server, receiver.getsockname())
            made.append(Lane(sender, receiver, server, 0))
            continue
        numbers = first + 2 * at, first + 2 * at + 1
        for member, end in zip(numbers, (sender, receiver), strict=True):
            bind(end, server, member)
        made.append(Lane(sender, receiver, server, wire.number(*numbers)))
    return made


def close(those: list[Lane]) -> None:
    for lane in those:
        lane.sender.close()
        lane.receiver.close()


# --- bulk and singles --------------------------------------------------------------------------


def stream(kind: str, batch: int, size: int, pairs: int = 1) -> float:
    """Packets that arrived for each CPU second of the server."""
    with SERVERS[kind]() as (pid, port):
        those = lanes(kind, port, pairs)
        sending = FORK.Process(target=_flood, args=(those, batch, size))
        for lane in those:
            lane.receiver.setsockopt(SOL_UDP, UDP_GRO, 1)
        sending.start()
        _count(those, 0.5)
        before_s = cpu_s(pid)
        packets = _count(those, STREAM_S)
        spent_s = cpu_s(pid) - before_s
        sending.terminate()
        sending.join()
        close(those)
        return packets / spent_s


def _flood(those: list[Lane], batch: int, size: int, nice: int = 0) -> None:
    os.nice(nice)
    segment = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))] if batch > 1 else []
    packets = [(lane.sender, lane.packet(size) * batch, lane.to) for lane in those]
    while True:
        for sender, packet, to in packets:
            _try(partial(sender.sendmsg, [packet], segment, 0, to))


def _try(send: Callable[[], int]) -> None:
    try:
        send()
    except ConnectionError:
        return  # an ICMP error of a server that just ended


def _count(those: list[Lane], seconds: float) -> int:
    poll = select.epoll()
    receivers = {lane.receiver.fileno(): lane.receiver for lane in those}
    for fd in receivers:
        poll.register(fd, select.EPOLLIN)
    end = time.monotonic() + seconds
    packets = 0
    while (left_s := end - time.monotonic()) > 0:
        for fd, _ in poll.poll(left_s):
            data, ancillary, _, _ = receivers[fd].recvmsg(65_535, 64)
            size = _INT.unpack_from(ancillary[0][2])[0] if ancillary else len(data)
            packets += -(-len(data) // size)
    return packets


# --- games -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Played:
    sent: int
    delays_ms: list[float]
    packets_per_cpu_s: float
    rss_mb: float

    @property
    def loss_percent(self) -> float:
        return 100 * (1 - len(self.delays_ms) / self.sent)

    @property
    def p99_ms(self) -> float:
        return statistics.quantiles(self.delays_ms, n=100)[98]


def games(kind: str, flood: int = 0) -> Played:
    """`flood`: datagrams of each send of one more member that sends without a pause."""
    if kind == "none":
        those = [Lane(one, two, two.getsockname(), 1) for one, two in pairs(MEMBERS // 2)]
        played = play(those, os.getpid())
        close(those)
        return played
    # With a flood the budget is the default one: it is what protects the others.
    server = ours(12_500_000) if flood else SERVERS[kind]()
    with server as (pid, port):
        # Every member sends: half of them to the other half, and back.
        one_way = lanes(kind, port, MEMBERS // 2 if kind == "ours" else MEMBERS)
        back = [
            Lane(lane.receiver, lane.sender, lane.to, wire.number(*wire.ends(lane.number)[::-1]))
            for lane in one_way
            if kind == "ours"
        ]
        more = lanes(kind, port, 1, first=1001) if flood else []
        flooding = [FORK.Process(target=_flood, args=(more, flood, BULK_BYTES, 19)) for _ in more]
        for each in flooding:
            each.start()
        played = play(one_way + back, pid)
        for each in flooding:
            each.terminate()
            each.join()
        close(one_way + more)
        return played


def pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
    return [(udp(), udp()) for _ in range(2 * count)]


def play(those: list[Lane], pid: int) -> Played:
    """The delay of each packet, from before it is sent to its arrival at the socket."""
    ours_end, theirs_end = FORK.Pipe()
    receiving = FORK.Process(target=_receive, args=(those, theirs_end))
    receiving.start()
    assert ours_end.recv() == "ready"
    before_s = cpu_s(pid)
    sent = _play(those)
    spent_s = cpu_s(pid) - before_s
    ours_end.send("enough")
    delays_ms: list[float] = ours_end.recv()
    receiving.join()
    return Played(sent, delays_ms, len(delays_ms) / max(spent_s, 0.01), rss_mb(pid))


def _play(those: list[Lane]) -> int:
    rounds = int(GAMES_S * GAME_PACKETS_PER_S)
    gap_ns = 1_000_000_000 // (GAME_PACKETS_PER_S * len(those))
    bodies = [lane.packet(GAME_BYTES)[: -_AT.size] for lane in those]
    due_ns = time.monotonic_ns()
    for _ in range(rounds):
        for lane, body in zip(those, bodies, strict=True):
            due_ns += gap_ns
            wait_s = (due_ns - time.monotonic_ns()) / 1e9
            if wait_s > 0.0002:
                time.sleep(wait_s)
            lane.sender.sendto(body + _AT.pack(time.time_ns()), lane.to)
    return rounds * len(those)


def _receive(those: list[Lane], end: Connection) -> None:
    poll = select.epoll()
    receivers = {lane.receiver.fileno(): lane.receiver for lane in those}
    for fd, receiver in receivers.items():
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        receiver.setblocking(False)
        poll.register(fd, select.EPOLLIN)
    poll.register(end.fileno(), select.EPOLLIN)
    end.send("ready")
    delays_ms: list[float] = []
    enough = False
    while ready := poll.poll(0.5 if enough else -1):
        for fd, _ in ready:
            if fd == end.fileno():
                enough = True
                poll.unregister(fd)
                continue
            data, ancillary, _, _ = receivers[fd].recvmsg(2048, 64)
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2][:16])
            sent_ns = _AT.unpack(data[-_AT.size :])[0]
            delays_ms.append((seconds * 1_000_000_000 + nanoseconds - sent_ns) / 1e6)
    end.send(delays_ms)


# --- all of it ---------------------------------------------------------------------------------


def main() -> dict[str, object]:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    per_cpu_s: dict[str, dict[str, list[float]]] = {}
    for number in range(ROUNDS):
        for kind in SERVERS:
            round_ = {
                "bulk": stream(kind, BATCH, BULK_BYTES),
                "singles": stream(kind, 1, GAME_BYTES),
                "crowd": stream(kind, 1, GAME_BYTES, MEMBERS // 2),
                "games": games(kind).packets_per_cpu_s,
            }
            shown = ", ".join(f"{name} {value:,.0f}" for name, value in round_.items())
            print(f"round {number + 1} {kind}: packets per CPU second: {shown}", flush=True)
            for name, value in round_.items():
                per_cpu_s.setdefault(name, {}).setdefault(kind, []).append(value)
    figures: dict[str, object] = {}
    for name, kinds in per_cpu_s.items():
        medians = {kind: statistics.median(values) for kind, values in kinds.items()}
        figures[name] = {
            **{f"{kind}_packets_per_cpu_s": round(value) for kind, value in medians.items()},
            "packets_per_cpu_s_ratio": medians["ours"] / medians["coturn"],
        }
    return {**figures, **alone()}


def alone() -> dict[str, object]:
    direct, relayed = games("none"), games("ours")
    batches, singles = games("ours", flood=BATCH), games("ours", flood=1)
    figures: dict[str, object] = {
        "members": MEMBERS,
        "loss_percent": relayed.loss_percent,
        "p99_direct_ms": direct.p99_ms,
        "p99_relayed_ms": relayed.p99_ms,
        "p99_added_ms": relayed.p99_ms - direct.p99_ms,
        "rss_mb": relayed.rss_mb,
        "flood_of_batches": {
            "loss_percent": batches.loss_percent,
            "p99_more_ms": batches.p99_ms - relayed.p99_ms,
        },
        "flood_of_singles": {
            "loss_percent": singles.loss_percent,
            "p99_more_ms": singles.p99_ms - relayed.p99_ms,
        },
    }
    print(figures, flush=True)
    return figures


if __name__ == "__main__":
    main()
