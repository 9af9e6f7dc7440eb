"""This computer's own addresses, and word of every change, from Linux's rtnetlink (RFC 3549).

One dump of links says which interfaces are up, running and not loopback; one dump of addresses
gives theirs. A subscribed socket then wakes us when either changes, so nothing is ever polled.
Changes come in bursts (a cable plugged in is a dozen messages), so a watch waits a moment and
reports only lists that differ.

Left out: loopback, the tunnel's own interface, interfaces that are down or without carrier,
IPv6 link-local (useless without a scope), and IPv6 addresses that are tentative, failed or
deprecated (RFC 4862).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address

ADDRESSES_MAX = 12
DEBOUNCE_S = 0.25
DUMP_TRIES = 5
RECEIVE_BYTES = 1 << 16
TIMEOUT_S = 2.0

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLM_F_DUMP_INTR = 0x10
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100

IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x8, 0x40
IFLA_IFNAME = 3
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
UNUSABLE = 0x08 | 0x20 | 0x40  # IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE
SCOPE_LINK = 253  # and above: link, host, nowhere

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index


def addresses(exclude_interface: str) -> tuple[str, ...]:
    """Addresses of this computer that others may try, IPv4 first, each kind in numeric order.

    Raises OSError if the kernel cannot be asked.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(TIMEOUT_S)
        netlink.bind((0, 0))
        usable = _usable_links(netlink, exclude_interface)
        found = set(_usable_addresses(netlink, usable))
    parsed = sorted((ip_address(text) for text in found), key=lambda ip: (ip.version, int(ip)))
    return tuple(str(ip) for ip in parsed[:ADDRESSES_MAX])


def _usable_links(netlink: socket.socket, exclude_interface: str) -> set[int]:
    usable: set[int] = set()
    for body in _dump(netlink, RTM_GETLINK, RTM_NEWLINK, _LINK.pack(0, 0, 0, 0, 0)):
        _, _, index, flags, _ = _LINK.unpack_from(body)
        name = _attributes(body[_LINK.size :]).get(IFLA_IFNAME, b"").rstrip(b"\0").decode()
        runs = flags & (IFF_UP | IFF_RUNNING | IFF_LOOPBACK) == IFF_UP | IFF_RUNNING
        if runs and name != exclude_interface:
            usable.add(index)
    return usable


def _usable_addresses(netlink: socket.socket, links: set[int]) -> Iterator[str]:
    for body in _dump(netlink, RTM_GETADDR, RTM_NEWADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
        _, _, flags, scope, index = _ADDRESS.unpack_from(body)
        values = _attributes(body[_ADDRESS.size :])
        if IFA_FLAGS in values:  # 32 bits of flags; the header holds only the first eight
            flags = int.from_bytes(values[IFA_FLAGS], sys.byteorder)
        # Of a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is always ours.
        own = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
        if own is not None and index in links and not flags & UNUSABLE and scope < SCOPE_LINK:
            yield str(ip_address(own))


def _dump(netlink: socket.socket, ask: int, answer: int, body: bytes) -> list[bytes]:
    """Bodies of all `answer` messages. A dump that a change cut across is asked for again."""
    for sequence in range(1, DUMP_TRIES + 1):
        header = _HEADER.pack(
            _HEADER.size + len(body), ask, NLM_F_REQUEST | NLM_F_DUMP, sequence, 0
        )
        netlink.send(header + body)
        bodies, interrupted = _collect(netlink, answer, sequence)
        if not interrupted:
            break
    return bodies


def _collect(netlink: socket.socket, answer: int, sequence: int) -> tuple[list[bytes], bool]:
    bodies: list[bytes] = []
    interrupted = False
    while True:
        for type_, flags, number, body in _messages(netlink.recv(RECEIVE_BYTES)):
            if number != sequence:
                continue
            interrupted |= bool(flags & NLM_F_DUMP_INTR)
            if type_ == NLMSG_DONE:
                return bodies, interrupted
            if type_ == NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", body)[0], "rtnetlink dump refused")
            if type_ == answer:
                bodies.append(body)


def _messages(received: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(received):
        length, type_, flags, sequence, _ = _HEADER.unpack_from(received, at)
        if length < _HEADER.size:
            return
        yield type_, flags, sequence, received[at + _HEADER.size : at + length]
        at += length + -length % 4


def _attributes(packed: bytes) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(packed):
        length, number = struct.unpack_from("=HH", packed, at)
        if length < 4:
            break
        values[number & 0x3FFF] = packed[at + 4 : at + length]
        at += length + -length % 4
    return values


class AddressWatch:
    """`async for found in AddressWatch("lanrage0")`: the list now, then each different one.

    Needs a running event loop. `close` ends it; an iteration under way then ends as well.
    """

    def __init__(self, exclude_interface: str) -> None:
        self._exclude = exclude_interface
        self._known: tuple[str, ...] | None = None
        self._closed = False
        self._changed = asyncio.Event()
        self._changed.set()
        self._loop = asyncio.get_running_loop()
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._netlink.setblocking(False)
        self._netlink.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
        self._loop.add_reader(self._netlink, self._drain)

    def _drain(self) -> None:
        """What a message says does not matter: the lists are read again. Lost ones (ENOBUFS)
        are changes too."""
        try:
            self._netlink.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            pass
        self._changed.set()

    def __aiter__(self) -> AddressWatch:
        return self

    async def __anext__(self) -> tuple[str, ...]:
        while True:
            await self._changed.wait()
            if self._known is not None and not self._closed:
                await asyncio.sleep(DEBOUNCE_S)
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            found = addresses(self._exclude)
            if found != self._known:
                self._known = found
                return found

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._netlink)
            self._netlink.close()
            self._changed.set()
