"""STUN at a relay: how the world sees whoever asks, and what its router lets in (RFC 5780).

The relay's own port answers, so that a member learns it on its tunnel's socket; so does the next
number. What must come from where nobody ever sent to leaves from a third port, or from a second
address of this server, if the operator has one: then the same two numbers are open there, too.
"""

from __future__ import annotations

import socket
import time
from functools import partial
from typing import Final

from lanrage.control.limits import STUN_BURST, STUN_PER_S, Buckets, network
from lanrage.protocols import stun
from lanrage.protocols.endpoint import Address
from lanrage.refusal import Refusal
from lanrage.tunnel import udp
from lanrage.tunnel.loop import Loop
from lanrage.tunnel.udp import UdpPort

SOURCES_MAX: Final = 4096


class Reflector:
    """`shown` is our address as members see it, empty if that is not known."""

    def __init__(
        self, main: UdpPort, following: UdpPort, third: UdpPort, shown: str, second: SecondAddress
    ) -> None:
        self._main = main
        self._following = following
        self._third = third
        self._second = second
        self._alternate = (shown, following.port) if shown else None
        self._buckets = Buckets(STUN_PER_S, STUN_BURST, SOURCES_MAX)

    def watch(self, loop: Loop) -> None:
        """All but the main port, which whoever owns it reads."""
        for port in (self._following, *self._second.ports):
            for receiver in port.sockets:
                loop.add(receiver.fileno(), partial(self._on_port, port, receiver))

    def answer(self, port: UdpPort, datagram: bytes, source: Address) -> None:
        if not self._buckets.take(network(source[0]), time.monotonic()):
            return
        reply = stun.respond(
            datagram, source, alternate=self._alternate, other=self._second.address
        )
        if reply is None:
            return
        out = self._third if reply.from_third_socket else port
        if reply.from_other_ip:
            out = self._across(port, changes_port=reply.from_third_socket)
        out.send(source, [reply.datagram])

    def _across(self, port: UdpPort, *, changes_port: bool) -> UdpPort:
        ours: tuple[UdpPort, ...] = (self._main, self._following)
        here, there = ours, self._second.ports
        if port in there:
            here, there = there, here
        number = here.index(port)
        return there[1 - number if changes_port else number]

    def _on_port(self, port: UdpPort, receiver: socket.socket, now: int, busy: bool) -> None:
        received = port.receive(receiver)
        if received is not None:
            data, size, source = received
            self.answer(port, data[:size], source)


class SecondAddress:
    """Both numbers at another address of this server; or nothing."""

    def __init__(self, ports: tuple[UdpPort, ...] = ()) -> None:
        self.ports = ports
        self.address: Address | None = None
        if ports:
            self.address = ports[1].sockets[0].getsockname()[:2]


def second_address(host: str, main: UdpPort, following: UdpPort) -> SecondAddress | Refusal:
    """Raises nothing: an address that is not ours is a refusal. Empty `host`: none."""
    if not host:
        return SecondAddress()
    ports: list[UdpPort] = []
    for number in (main.port, following.port):
        made = udp.open_port(number, host)
        if isinstance(made, Refusal):
            return made
        ports.append(made)
    return SecondAddress(tuple(ports))
