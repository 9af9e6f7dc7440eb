"""Which network this computer is on: its gateway, and a name that is the same when we come back.

The name is a hash of the gateway's hardware address, salted with a secret of this device: stored
or exported it reveals nothing, and two devices give the same network different names. An address
would not do: half of all homes have their router at 192.168.1.1.

The kernel learns a gateway's hardware address when the first packet goes there, so we send one
(a byte to the discard port, RFC 863) and look a few times.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct
from ipaddress import ip_address
from typing import Final

import msgspec

from lanrage.adapters.rtnetlink import (
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV6_ROUTE,
    RTMGRP_LINK,
    Watch,
    attributes,
    dump,
    talker,
)

RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
RTN_UNICAST, RT_TABLE_MAIN = 1, 254
RTA_OIF, RTA_GATEWAY, RTA_PRIORITY = 4, 5, 6
NDA_DST, NDA_LLADDR = 1, 2
NUD_USABLE = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # REACHABLE, STALE, DELAY, PROBE, PERMANENT
DISCARD: Final = 9
NEIGHBOUR_WAITS_S: Final = (0.02, 0.05, 0.1, 0.3, 0.5)
NAME_BYTES: Final = 8

_ROUTE = struct.Struct("=BBBBBBBBI")  # family, lengths, tos, table, protocol, scope, type, flags
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type


class Network(msgspec.Struct, frozen=True):
    """`name` is empty where there is no gateway, or none that shows a hardware address."""

    name: str
    gateway: str


class _Route(msgspec.Struct, frozen=True, order=True):
    version: int  # IPv4 before IPv6: port mapping speaks to that gateway
    metric: int
    index: int
    gateway: str


def gateway() -> str:
    """The IPv4 gateway of the best default route; empty for none. Raises OSError if the kernel
    cannot be asked."""
    route = _default_route()
    return route.gateway if route is not None and route.version == 4 else ""


async def network(secret: bytes) -> Network:
    """Where we are now. Takes up to a second where the gateway does not show itself."""
    try:
        route = _default_route()
        if route is None:
            return Network("", "")
        hardware = await _hardware_of(route)
    except OSError:
        return Network("", "")
    if not hardware:
        return Network("", route.gateway)
    name = hashlib.blake2b(hardware, key=secret[:64], digest_size=NAME_BYTES).hexdigest()
    return Network(name, route.gateway)


class NetworkWatch(Watch[Network]):
    """`async for found in NetworkWatch(secret)`: the network now, then each different one."""

    def __init__(self, secret: bytes) -> None:
        groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE
        super().__init__(groups, lambda: network(secret))


def _default_route() -> _Route | None:
    found: list[_Route] = []
    with talker() as netlink:
        for body in dump(netlink, RTM_GETROUTE, RTM_NEWROUTE, _ROUTE.pack(*[0] * 9)):
            family, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
            values = attributes(body[_ROUTE.size :])
            via = values.get(RTA_GATEWAY)
            if length or table != RT_TABLE_MAIN or kind != RTN_UNICAST or via is None:
                continue
            version = 4 if family == socket.AF_INET else 6
            metric, index = _number(values, RTA_PRIORITY), _number(values, RTA_OIF)
            found.append(_Route(version, metric, index, str(ip_address(via))))
    return min(found, default=None)


async def _hardware_of(route: _Route) -> bytes:
    for wait_s in NEIGHBOUR_WAITS_S:
        known = _neighbour(route)
        if known:
            return known
        _wake(route)
        await asyncio.sleep(wait_s)
    return _neighbour(route)


def _neighbour(route: _Route) -> bytes:
    with talker() as netlink:
        for body in dump(netlink, RTM_GETNEIGH, RTM_NEWNEIGH, _NEIGHBOUR.pack(0, 0, 0, 0, 0)):
            _, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
            values = attributes(body[_NEIGHBOUR.size :])
            at, hardware = values.get(NDA_DST), values.get(NDA_LLADDR, b"")
            if index != route.index or not state & NUD_USABLE or at is None:
                continue
            if any(hardware) and str(ip_address(at)) == route.gateway:
                return hardware
    return b""


def _wake(route: _Route) -> None:
    family = socket.AF_INET if route.version == 4 else socket.AF_INET6
    target = (route.gateway, DISCARD) if route.version == 4 else _scoped(route)
    with socket.socket(family, socket.SOCK_DGRAM) as waking, contextlib.suppress(OSError):
        waking.setblocking(False)
        waking.sendto(b"\0", target)


def _scoped(route: _Route) -> tuple[str, int, int, int]:
    return (route.gateway, DISCARD, 0, route.index)


def _number(values: dict[int, bytes], key: int) -> int:
    return int(struct.unpack("=I", values[key])[0]) if len(values.get(key, b"")) == 4 else 0
