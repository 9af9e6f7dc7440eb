"""The STUN side of control: three UDP sockets that tell senders where they are seen from.

Main is on the same number as the WebSocket's port, alternate on the next, the third on any: it is
never announced, and answers "change port" requests (see `lanrage.protocols.stun`). A reply leaves
from the address its request was sent to, also where this computer has several: the kernel tells
which by packet information, and takes it back when sending.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from ipaddress import IPv6Address
from typing import Any, Final

from lanrage.control import limits
from lanrage.protocols import stun
from lanrage.protocols.endpoint import Address

DATAGRAM_MAX: Final = 1_500
READ_MAX: Final = 64  # datagrams in one go, so that others get their turn
_ANCILLARY: Final = socket.CMSG_SPACE(20)
_IP_PKTINFO: Final = 8  # Linux; Python 3.11 does not name it
_PKTINFO4: Final = struct.Struct("=I4s4s")  # interface, address to answer from, address asked

Ancillary = list[tuple[int, int, bytes]]


class Responder:
    def __init__(self, sockets: list[socket.socket], loop: asyncio.AbstractEventLoop) -> None:
        self._main, self._alternate, self._third = sockets
        self._loop = loop
        self._buckets = limits.Buckets(limits.STUN_PER_S, limits.STUN_BURST, limits.SOURCES_MAX)
        for each in sockets:
            loop.add_reader(each.fileno(), self._read, each)

    @classmethod
    def start(cls, family: socket.AddressFamily, host: str, port: int) -> Responder:
        """Raises OSError where a port is taken."""
        sockets: list[socket.socket] = []
        try:
            sockets.append(_bound(family, host, port))
            sockets.append(_bound(family, host, port + 1))
            sockets.append(_bound(family, host, 0))
        except OSError:
            for each in sockets:
                each.close()
            raise
        return cls(sockets, asyncio.get_running_loop())

    def close(self) -> None:
        for each in (self._main, self._alternate, self._third):
            self._loop.remove_reader(each.fileno())
            each.close()

    def _read(self, receiver: socket.socket) -> None:
        for _ in range(READ_MAX):
            try:
                datagram, ancillary, _, sender = receiver.recvmsg(DATAGRAM_MAX, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for something sent earlier
            self._answer(receiver, datagram, ancillary, sender)

    def _answer(
        self, receiver: socket.socket, datagram: bytes, ancillary: Ancillary, sender: Any
    ) -> None:
        source = _plain(sender)
        if not self._buckets.take(limits.network(source[0]), time.monotonic()):
            return
        asked = _asked(ancillary)
        alternate = (asked, self._alternate.getsockname()[1]) if asked else None
        reply = stun.respond(datagram, source, alternate=alternate)
        if reply is None:
            return
        out = self._third if reply.from_third_socket else receiver
        try:
            out.sendmsg([reply.datagram], _answer_from(ancillary), 0, sender)
        except OSError:
            return  # unreachable, or its queue is full: a client asks again


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            opened.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        opened.bind((host, port))
    except OSError:
        opened.close()
        raise
    return opened


def _plain(sender: Any) -> Address:
    """An IPv4 sender at a socket for both is written as IPv4."""
    host, port = str(sender[0]).partition("%")[0], int(sender[1])
    mapped = IPv6Address(host).ipv4_mapped if ":" in host else None
    return (str(mapped) if mapped else host), port


def _asked(ancillary: Ancillary) -> str:
    """Our address that the datagram was sent to; empty where the kernel did not say."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return _plain((str(IPv6Address(data[:16])), 0))[0]
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return socket.inet_ntoa(_PKTINFO4.unpack(data)[2])
    return ""


def _answer_from(ancillary: Ancillary) -> Ancillary:
    answer: Ancillary = []
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            answer.append((level, kind, data[:16] + bytes(4)))
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            asked = _PKTINFO4.unpack(data)[2]
            answer.append((level, kind, _PKTINFO4.pack(0, asked, bytes(4))))
    return answer
