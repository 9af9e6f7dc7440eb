"""The relay's process with the packets: a plain epoll loop around `Forwarder`, and STUN beside it.

Started by run.py on a socketpair, on which it gets one `Plan`, answers with `Ready` or `Failed`,
and then says once a second, if anything changed, how busy it is. The end of the socketpair is its
own.
It touches no disk, keeps no log, and is nobody with no capability once its ports are bound.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from functools import partial
from typing import Final

import msgspec

from lanrage.protocols.relay import wire
from lanrage.protocols.relay.budget import Rate
from lanrage.protocols.relay.forwarder import BURST_SHARE, MEMBER_RATE, Forwarder
from lanrage.refusal import Refusal
from lanrage.relay.reflector import Reflector, second_address
from lanrage.relay.sieve import Sieve
from lanrage.tunnel import privileges, udp
from lanrage.tunnel.framing import Unframer, frame
from lanrage.tunnel.loop import Loop, now_ns
from lanrage.tunnel.process import settle_memory

TURN_BATCHES_MAX: Final = 64
LOOPBACK: Final = "127."  # members over TCP come from there
TELL_NS: Final = 1_000_000_000
STUN_REQUEST: Final = b"\0"  # the first byte, modern or classic; nothing else begins with it


class Plan(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Holds secrets: it is sent over the socketpair and never shown."""

    host: str  # numeric; empty for all addresses
    port: int
    shown: str  # our address as members see it, for STUN; empty: not known
    alternate: str = ""  # a second address of this server, for STUN alone
    private_key: bytes
    ticket_key: bytes
    boot: bytes
    member_bytes_per_s: int = MEMBER_RATE.per_s

    def __repr__(self) -> str:
        return f"Plan(host={self.host!r}, port={self.port})"


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    port: int


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    refusal: Refusal


class Busy(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Counts since the start."""

    members: int
    guests: int
    bytes: int
    packets: int
    drops: dict[str, int]


Said = Ready | Failed | Busy


class Forward:
    """The process's life, after the plan was read."""

    def __init__(
        self,
        parent: socket.socket,
        plan: Plan,
        main: udp.UdpPort,
        inner: udp.UdpPort,
        reflector: Reflector,
    ) -> None:
        self._parent = parent
        self._main = main
        self._inner = inner
        self._reflector = reflector
        self._forwarder = Forwarder(
            private_key=plan.private_key,
            ticket_key=plan.ticket_key,
            boot=plan.boot,
            random=os.urandom,
            wall_offset_ns=_wall_offset_ns(),
            now_ns=now_ns(),
            member_rate=Rate(plan.member_bytes_per_s, plan.member_bytes_per_s // BURST_SHARE),
        )
        self._ports = [main] if inner is main else [main, inner]
        self._sieve = Sieve([each for port in self._ports for each in port.sockets])
        self._due_ns = 0
        self._said: Busy | None = None

    def run(self) -> None:
        loop = Loop(spins=False)
        loop.add(self._parent.fileno(), self._on_parent)
        for port in self._ports:
            for receiver in port.sockets:
                loop.add(receiver.fileno(), partial(self._on_port, port, receiver))
        self._reflector.watch(loop)
        loop.run(lambda: self._due_ns, self._on_timer)

    def _on_parent(self, now: int, busy: bool) -> None:
        try:
            more = self._parent.recv(4096)
        except ConnectionError:  # it ended with something of ours unread
            more = b""
        if not more:
            sys.exit(0)

    def _on_port(self, port: udp.UdpPort, receiver: socket.socket, now: int, busy: bool) -> None:
        core = self._forwarder
        for _ in range(TURN_BATCHES_MAX if busy else 1):
            received = port.receive(receiver)
            if received is None:
                break
            data, size, source = received
            if data[:1] == STUN_REQUEST:
                self._reflector.answer(port, data[:size], source)
            else:
                core.receive(data, size, source, now)
        for run in core.take_outgoing():
            out = self._inner if run.address[0].startswith(LOOPBACK) else self._main
            out.send_run(run.address, run.buffers, run.size, run.count)
        for flooding in core.take_floods():
            self._sieve.block(flooding, now)

    def _on_timer(self, now: int) -> None:
        self._due_ns = now + TELL_NS
        core = self._forwarder
        self._sieve.expire(now)
        core.handle_timer(now, _wall_offset_ns())
        busy = Busy(
            members=core.members,
            guests=core.guests,
            bytes=core.bytes,
            packets=core.packets,
            drops={**core.drops, **self._inner.drops, **self._main.drops},
        )
        if busy != self._said:
            self._said = busy
            tell(self._parent, busy)


def _wall_offset_ns() -> int:
    return time.time_ns() - now_ns()


def tell(parent: socket.socket, said: Said) -> None:
    try:
        parent.sendall(frame(said))
    except ConnectionError:
        sys.exit(0)  # the parent is gone


def main(arguments: list[str]) -> int:
    parent = socket.socket(fileno=int(arguments[0]))
    plan = _read(parent)
    if plan is None:
        return 1
    opened = _open(plan)
    if isinstance(opened, Refusal):
        tell(parent, Failed(refusal=opened))
        return 1
    main_port, inner, reflector = opened
    # The first exchange imports more of its library, which nobody may not be allowed to read.
    wire.derive(plan.private_key, bytes([9] + [0] * 31), relay=True)
    if os.geteuid() == 0:
        privileges.keep_only((), privileges.NOBODY, privileges.NOBODY)
    settle_memory()
    tell(parent, Ready(port=main_port.port))
    Forward(parent, plan, main_port, inner, reflector).run()
    return 0


def _open(plan: Plan) -> tuple[udp.UdpPort, udp.UdpPort, Reflector] | Refusal:
    """The relay's own port, the one where the TCP front finds it (the same, unless that one has an
    address alone), and those that STUN needs besides."""
    ports: list[udp.UdpPort] = []
    for number in (plan.port, plan.port + 1 if plan.port else 0, 0):
        made = udp.open_port(number, plan.host)
        if isinstance(made, Refusal):
            return made
        ports.append(made)
    main, following, third = ports
    second = second_address(plan.alternate, main, following)
    if isinstance(second, Refusal):
        return second
    inner: udp.UdpPort | Refusal = main
    if plan.host and not plan.host.startswith(LOOPBACK):
        inner = udp.open_port(main.port, f"{LOOPBACK}0.0.1")
    if isinstance(inner, Refusal):
        return inner
    return main, inner, Reflector(main, following, third, plan.shown, second)


def _read(parent: socket.socket) -> Plan | None:
    unframer = Unframer(msgspec.msgpack.Decoder(Plan))
    while data := parent.recv(4096):
        plans = unframer.feed(data)
        if plans:
            return plans[0]
        if plans is None:
            return None
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
