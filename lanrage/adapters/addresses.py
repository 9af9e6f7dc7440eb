"""This computer's own addresses, and word of every change, from Linux's rtnetlink (RFC 3549).

One dump of links says which interfaces are up, running and not loopback; one dump of addresses
gives theirs.

Left out: loopback, the tunnel's own interface, interfaces that are down or without carrier,
IPv6 link-local (useless without a scope), and IPv6 addresses that are tentative, failed or
deprecated (RFC 4862).
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address

from lanrage.adapters.rtnetlink import (
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_LINK,
    Watch,
    attributes,
    dump,
    talker,
)

ADDRESSES_MAX = 12

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22

IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x8, 0x40
IFLA_IFNAME = 3
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
UNUSABLE = 0x08 | 0x20 | 0x40  # IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE
SCOPE_LINK = 253  # and above: link, host, nowhere

_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index


def addresses(exclude_interface: str) -> tuple[str, ...]:
    """Addresses of this computer that others may try, IPv4 first, each kind in numeric order.

    Raises OSError if the kernel cannot be asked.
    """
    with talker() as netlink:
        usable = _usable_links(netlink, exclude_interface)
        found = set(_usable_addresses(netlink, usable))
    parsed = sorted((ip_address(text) for text in found), key=lambda ip: (ip.version, int(ip)))
    return tuple(str(ip) for ip in parsed[:ADDRESSES_MAX])


def _usable_links(netlink: socket.socket, exclude_interface: str) -> set[int]:
    usable: set[int] = set()
    for body in dump(netlink, RTM_GETLINK, RTM_NEWLINK, _LINK.pack(0, 0, 0, 0, 0)):
        _, _, index, flags, _ = _LINK.unpack_from(body)
        name = attributes(body[_LINK.size :]).get(IFLA_IFNAME, b"").rstrip(b"\0").decode()
        runs = flags & (IFF_UP | IFF_RUNNING | IFF_LOOPBACK) == IFF_UP | IFF_RUNNING
        if runs and name != exclude_interface:
            usable.add(index)
    return usable


def _usable_addresses(netlink: socket.socket, links: set[int]) -> Iterator[str]:
    for body in dump(netlink, RTM_GETADDR, RTM_NEWADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
        _, _, flags, scope, index = _ADDRESS.unpack_from(body)
        values = attributes(body[_ADDRESS.size :])
        if IFA_FLAGS in values:  # 32 bits of flags; the header holds only the first eight
            flags = int.from_bytes(values[IFA_FLAGS], sys.byteorder)
        # Of a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is always ours.
        own = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
        if own is not None and index in links and not flags & UNUSABLE and scope < SCOPE_LINK:
            yield str(ip_address(own))


class AddressWatch(Watch[tuple[str, ...]]):
    """`async for found in AddressWatch("lanrage0")`: the list now, then each different one."""

    def __init__(self, exclude_interface: str) -> None:
        async def read() -> tuple[str, ...]:
            return addresses(exclude_interface)

        super().__init__(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, read)
