"""Packets: TAP -> split -> seal -> UDP, and UDP -> open -> join -> TAP. In batches, end to end.

What costs in Python is not bytes but calls, so everything here moves lists. A super-frame is
sealed and sent as soon as it is read: the other end then works on it while we read the next.
Small frames are collected for as long as more keep coming at once.

A turn ends after `TURN_PACKETS_MAX`, so that bulk one way does not hold up the other; unless the
loop is busy it ends after one read (see loop.py).
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from lanrage.protocols.endpoint import Place
from lanrage.protocols.relay import wire
from lanrage.protocols.wireguard.constants import REKEY_AFTER
from lanrage.protocols.wireguard.engine import Engine, Peer
from lanrage.tunnel import icmp
from lanrage.tunnel.interface import Interface
from lanrage.tunnel.loop import Loop, now_ns
from lanrage.tunnel.netlink import Network
from lanrage.tunnel.offload import FRAME_MAX, IP_AT, IPV4, IPV6, Joiner, split
from lanrage.tunnel.outside import Outside
from lanrage.tunnel.udp import UdpPort, name_of

TURN_PACKETS_MAX = 64
LIMITED_BROADCAST = b"\xff\xff\xff\xff"
WIREGUARD = frozenset(bytes((kind, 0, 0, 0)) for kind in (1, 2, 3, 4))
SHORT = 512  # probes and STUN are shorter; longer datagrams are WireGuard's or nobody's


UNNUMBERED = b"\0\0\0"  # what a direct datagram has where relayed ones have their number


class Others(Protocol):
    """Who shares the UDP port with WireGuard: probes, STUN and what relays say, told apart by
    their shape; and who knows through whom a relayed datagram came."""

    def is_ours(self, datagram: bytes) -> bool: ...

    def receive(self, datagram: bytes, source: Place, now_ns: int) -> None: ...

    def unwrap(
        self, datagrams: list[bytes], source: Place, now_ns: int
    ) -> list[tuple[Place, list[bytes]]]:
        """Relayed datagrams for us, as their senders made them, by the place they came from."""
        ...


class DataPlane:
    """`settle` runs after everything that may have left something to send or to report;
    `note_data` once for every batch of a peer's packets, sent (True) or received."""

    def __init__(
        self,
        interface: Interface,
        outside: Outside,
        engine: Engine,
        *,
        settle: Callable[[int], None],
        note_data: Callable[[Peer, int, bool], None] | None = None,
        others: Others | None = None,
    ) -> None:
        self.drops: dict[str, int] = {}
        self._tap = interface.fd
        self._outside = outside
        self._engine = engine
        self._joiner = Joiner(interface.mac, udp=interface.joins_udp)
        self._settle = settle
        self._note_data = note_data
        self._others = others
        self._broadcasts = {LIMITED_BROADCAST}

    def put_networks(self, networks: Sequence[Network]) -> None:
        """Which networks the interface has an address in; for the names of drops only."""
        four = [network for network in networks if network.version == 4]
        self._broadcasts = {LIMITED_BROADCAST, *(one.broadcast_address.packed for one in four)}

    def watch(self, loop: Loop) -> None:
        loop.add(self._tap, self.on_tap)
        self._outside.watch(loop, self.on_extra)
        for receiver in self._outside.port.sockets:
            loop.add(receiver.fileno(), partial(self.on_udp, receiver))

    def on_tap(self, now: int, busy: bool) -> None:
        """Frames from this computer: to their peers."""
        collected: list[bytes] = []
        to: Peer | None = None
        budget = TURN_PACKETS_MAX if busy else 1
        while budget > 0:
            try:
                frame = os.read(self._tap, FRAME_MAX)
            except BlockingIOError:
                break
            except OSError as failure:  # somebody deleted it
                print(f"tunnel: the interface is gone: {failure.strerror}", file=sys.stderr)
                sys.exit(1)
            packets, peer = self._sort(frame)
            budget -= len(packets) or 1
            if peer is None:
                continue
            if peer is not to and to is not None and collected:
                self._send(to, collected, now)
                collected = []
            to = peer
            collected += packets
            if len(packets) > 1:
                self._send(to, collected, now)
                collected = []
        if to is not None and collected:
            self._send(to, collected, now)
        self._settle(now)

    def on_udp(self, receiver: socket.socket, now: int, busy: bool) -> None:
        """Datagrams from outside: WireGuard's to this computer, the others to their core."""
        budget = TURN_PACKETS_MAX if busy else 1
        port = self._outside.port
        while budget > 0:
            received = port.receive(receiver)
            if received is None:
                break
            budget -= self._take(*received, now)
        self._settle(now)

    def on_extra(self, extra: UdpPort, number: int, now: int, busy: bool) -> None:
        """The same from a socket that was opened to get through a router."""
        received = extra.receive(extra.sockets[0])
        if received is not None:
            data, size, source = received
            self._take(data, size, Outside.behind(number, source), now)
        self._settle(now)

    def take(self, datagrams: list[bytes], source: Place, now: int) -> None:
        """The same from a carrier that is no socket of ours."""
        self._demultiplex(datagrams, source, now)
        self._settle(now)

    def _take(self, data: bytes, size: int, source: Place, now: int) -> int:
        if len(data) <= size:
            datagrams = [data]
            numbered = data[1:4] != UNNUMBERED
        else:
            datagrams = [data[at : at + size] for at in range(0, len(data), size)]
            numbered = any(data[at::size].strip(b"\0") for at in (1, 2, 3))
        if numbered or size <= SHORT:
            self._demultiplex(datagrams, source, now)
        else:
            self._receive(datagrams, source, now)
        return len(datagrams)

    def _sort(self, frame: bytes) -> tuple[list[bytes], Peer | None]:
        """The packets of a frame and whose they are; nothing, and counted, if nobody's."""
        if len(frame) < IP_AT + 20:
            self._drop("frame_too_short")
            return [], None
        if frame[10] & 1:  # the Ethernet group bit; LAN discovery is not fanned out yet
            self._drop("multicast")
            return [], None
        kind = frame[22:24]
        if kind == IPV4:
            destination = frame[IP_AT + 16 : IP_AT + 20]
        elif kind == IPV6:
            destination = frame[IP_AT + 24 : IP_AT + 40]
        else:
            self._drop("not_ip")
            return [], None
        peer = self._engine.route(destination)
        if peer is None:
            self._refuse(frame, destination)
            return [], None
        return split(frame), peer

    def _refuse(self, frame: bytes, destination: bytes) -> None:
        if destination in self._broadcasts:  # with `arp off` they have our own Ethernet address
            self._drop("broadcast")
            return
        self._drop("no_member")
        for packet in split(frame)[:1]:
            error = icmp.unreachable(packet)
            if error is not None:
                self._deliver([error])

    def _send(self, peer: Peer, packets: Sequence[bytes], now: int) -> None:
        datagrams = self._engine.seal(peer, packets, now)
        if datagrams and peer.endpoint is not None:
            self._outside.send(peer.endpoint, datagrams)
            if peer.second is not None:
                self._outside.send(peer.second, datagrams)
        if self._note_data is not None:
            self._note_data(peer, now, True)

    def _demultiplex(self, datagrams: list[bytes], source: Place, now: int) -> None:
        wireguard: list[bytes] = []
        relayed: list[bytes] = []
        for datagram in datagrams:
            if datagram[:4] in WIREGUARD:
                wireguard.append(datagram)
            elif self._others is None:
                self._drop("unknown_datagram")
            elif self._others.is_ours(datagram):
                self._others.receive(datagram, source, now)
            elif wire.is_relayed(datagram):
                relayed.append(datagram)
            else:
                self._drop("unknown_datagram")
        if wireguard:
            self._receive(wireguard, source, now)
        if relayed and self._others is not None:
            for place, unwrapped in self._others.unwrap(relayed, source, now):
                self._demultiplex(unwrapped, place, now)

    def _receive(self, datagrams: list[bytes], source: Place, now: int) -> None:
        for peer, packets in self._engine.receive(datagrams, source, now):
            if self._note_data is not None:
                self._note_data(peer, now, False)
            self._deliver(packets)

    def _deliver(self, packets: Sequence[bytes]) -> None:
        for parts in self._joiner.join(packets):
            try:
                os.writev(self._tap, parts)
            except OSError as failure:  # EIO: the interface is down
                self._drop(f"interface_{name_of(failure)}", len(parts) - 1)

    def _drop(self, reason: str, count: int = 1) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + count


def new_engine(private_key: bytes, *, roaming: bool, rekey_after_ns: int = REKEY_AFTER) -> Engine:
    """An engine on this computer's clocks and randomness."""
    return Engine(
        private_key,
        random=os.urandom,
        wall_offset_ns=time.time_ns() - now_ns(),
        roaming=roaming,
        rekey_after_ns=rekey_after_ns,
    )
