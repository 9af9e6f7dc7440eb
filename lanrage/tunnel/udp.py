"""One UDP port, on IPv4 and IPv6, that moves batches: one system call for dozens of datagrams.

UDP_SEGMENT cuts one large send into datagrams of a given size in the kernel, UDP_GRO hands
neighbours from one sender over in one read (udp(7)). Two sockets share the port number, so that
addresses stay what they are; a computer without IPv6 just has one.

Sending never blocks: a full queue loses datagrams, as a network does, and counts them.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from typing import TypeAlias

from lanrage.refusal import Refusal

Address: TypeAlias = tuple[str, int]

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
SEGMENTS_MAX = 64  # UDP_MAX_SEGMENTS of older kernels
BYTES_MAX = 65_507  # of one send
RECEIVE_BUFFER_BYTES = 4 << 20
SEND_BUFFER_BYTES = 1 << 20  # small: what waits here is delay that a game feels
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32
PORT_TRIES = 16  # to find a number that is free for both families
# Segmentation refused for this destination (its MTU is smaller, its device cannot): one by one.
ONE_BY_ONE = frozenset({errno.EINVAL, errno.EMSGSIZE, errno.EIO, errno.EOPNOTSUPP})
ANCILLARY_SIZE = socket.CMSG_SPACE(4)

_SIZE = struct.Struct("=H")
_INT = struct.Struct("=i")


class UdpPort:
    """Make one with `open_port`. One of the two sockets may be missing, not both."""

    def __init__(self, four: socket.socket | None, six: socket.socket | None) -> None:
        self.sockets = [each for each in (four, six) if each is not None]
        self.port: int = self.sockets[0].getsockname()[1]
        self._four = four
        self._six = six
        self.drops: dict[str, int] = {}

    def send(self, address: Address, datagrams: Sequence[bytes]) -> None:
        """In order. What cannot be sent is dropped and counted by the name of the error."""
        sender = self._six if ":" in address[0] else self._four
        if sender is None:
            self._drop("send_no_family", len(datagrams))
            return
        if len(datagrams) == 1:
            self._send_one(sender, address, datagrams[0])
            return
        at, count = 0, len(datagrams)
        while at < count:
            size = len(datagrams[at])
            end = at + 1
            limit = min(count, at + min(SEGMENTS_MAX, BYTES_MAX // size))
            while end < limit and len(datagrams[end]) == size:
                end += 1
            if end < limit and len(datagrams[end]) < size:
                end += 1  # the last of a run may be shorter
            self._send_run(sender, address, datagrams[at:end], size)
            at = end

    def send_run(self, address: Address, buffers: Sequence[bytes], size: int, count: int) -> None:
        """`count` datagrams of `size` bytes each but the last, end to end in buffers that may hold
        several: at most SEGMENTS_MAX and BYTES_MAX, in one call."""
        sender = self._six if ":" in address[0] else self._four
        if sender is None:
            self._drop("send_no_family", count)
        elif count == 1:
            self._send_one(sender, address, buffers[0])
        else:
            segment = [(SOL_UDP, UDP_SEGMENT, _SIZE.pack(size))]
            try:
                sender.sendmsg(buffers, segment, 0, address)
            except OSError as failure:
                if failure.errno not in ONE_BY_ONE:
                    self._drop(f"send_{name_of(failure)}", count)
                    return
                data = b"".join(buffers)
                for at in range(0, len(data), size):
                    self._send_one(sender, address, data[at : at + size])

    def receive(self, receiver: socket.socket) -> tuple[bytes, int, Address] | None:
        """One batch from one sender: its datagrams end to end, the size of each but the last,
        and where it came from. None when nothing is waiting."""
        try:
            data, ancillary, _, source = receiver.recvmsg(65_535, ANCILLARY_SIZE)
        except BlockingIOError:
            return None
        except OSError as failure:  # an ICMP error that came back for an earlier send
            self._drop(f"receive_{name_of(failure)}", 1)
            return None
        size = _INT.unpack_from(ancillary[0][2])[0] if ancillary else len(data)
        return data, size, source[:2]

    def close(self) -> None:
        for one in self.sockets:
            one.close()

    def _send_run(
        self, sender: socket.socket, address: Address, run: Sequence[bytes], size: int
    ) -> None:
        if len(run) == 1:
            self._send_one(sender, address, run[0])
            return
        segment = [(SOL_UDP, UDP_SEGMENT, _SIZE.pack(size))]
        try:
            sender.sendmsg(run, segment, 0, address)
        except OSError as failure:
            if failure.errno not in ONE_BY_ONE:
                self._drop(f"send_{name_of(failure)}", len(run))
                return
            for datagram in run:
                self._send_one(sender, address, datagram)

    def _send_one(self, sender: socket.socket, address: Address, datagram: bytes) -> None:
        try:
            sender.sendto(datagram, address)
        except OSError as failure:
            self._drop(f"send_{name_of(failure)}", 1)

    def _drop(self, reason: str, count: int) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + count  # as many reasons as errnos


def open_port(port: int, host: str = "") -> UdpPort | Refusal:
    """Bind `port` on all addresses of both families; 0 finds one that is free on both. With a
    numeric `host`, on that address alone."""
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            one = _bind(family, port, host)
            return UdpPort(one, None) if family == socket.AF_INET else UdpPort(None, one)
        except OSError as failure:
            return _refuse(port, failure)
    last: OSError | None = None
    for _ in range(1 if port else PORT_TRIES):
        try:
            four = _bind(socket.AF_INET, port)
        except OSError as failure:
            return _refuse(port, failure)
        try:
            six = _bind(socket.AF_INET6, four.getsockname()[1])
        except OSError as failure:
            if failure.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                return UdpPort(four, None)
            four.close()
            last = failure
            continue
        return UdpPort(four, six)
    assert last is not None
    return _refuse(port, last)


def open_extra() -> UdpPort | Refusal:
    """One more port, chosen by the kernel, for IPv4 alone: what routers translate."""
    try:
        return UdpPort(_bind(socket.AF_INET, 0), None)
    except OSError as failure:
        return _refuse(0, failure)


def _bind(family: socket.AddressFamily, port: int, host: str = "") -> socket.socket:
    one = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        else:
            # A router on the way may have to fragment: a tunnel over a small MTU should be slow,
            # not dead.
            one.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        one.bind((host, port))
        _buffer(one, SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        _buffer(one, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        one.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:
        one.close()
        raise
    return one


def _buffer(one: socket.socket, forced: int, polite: int, size: int) -> None:
    try:
        one.setsockopt(socket.SOL_SOCKET, forced, size)
    except OSError:
        one.setsockopt(socket.SOL_SOCKET, polite, size)


def _refuse(port: int, failure: OSError) -> Refusal:
    what = f"Cannot listen on UDP port {port}"
    if failure.errno == errno.EADDRINUSE:
        fix = "Stop the other program, or choose another port."
        return Refusal("port_taken", what, "another program uses it", fix)
    if failure.errno == errno.EACCES:
        return Refusal("port_denied", what, "ports below 1024 need root", "Choose a higher one.")
    return Refusal("port", what, os.strerror(failure.errno or 0), "")


def name_of(failure: OSError) -> str:
    """What drops are counted by: `econnrefused`."""
    return errno.errorcode.get(failure.errno or 0, "unknown").lower()
