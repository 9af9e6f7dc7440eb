"""The few things rtnetlink is asked for: link state and limits, addresses, routes (rtnetlink(7)).

One request, one acknowledgement, on a socket that lives as long as the request: these happen a
few times in the life of a tunnel. A failure is an errno, never an exception.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

RTM_NEWLINK, RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE = 16, 20, 21, 24
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
NLMSG_ERROR = 2
IFLA_MTU, IFLA_GSO_MAX_SEGS, IFLA_GSO_MAX_SIZE = 4, 40, 41
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 0x02
RTA_DST, RTA_OIF = 1, 4
RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_LINK, RTN_UNICAST = 254, 3, 253, 1
IFF_UP, IFF_NOARP = 0x1, 0x80

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
ANSWER_WITHIN_S = 2.0  # the kernel answers within the call; this only bounds a surprise

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def set_link(
    index: int, *, up: bool, noarp: bool = True, mtu: int = 0, gso_max_bytes: int = 0
) -> int:
    """Errno, 0 for success. `mtu` and `gso_max_bytes` of 0 leave things as they are."""
    flags = (IFF_UP if up else 0) | (IFF_NOARP if noarp else 0)
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, flags, IFF_UP | IFF_NOARP)
    if mtu:
        body += _attribute(IFLA_MTU, struct.pack("=I", mtu))
    if gso_max_bytes:
        body += _attribute(IFLA_GSO_MAX_SIZE, struct.pack("=I", gso_max_bytes))
    return _talk(RTM_NEWLINK, 0, body)


def add_address(index: int, address: Interface) -> int:
    return _talk(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, _address_body(index, address))


def drop_address(index: int, address: Interface) -> int:
    return _talk(RTM_DELADDR, 0, _address_body(index, address))


def add_route(index: int, network: Network) -> int:
    """A route through the interface in the main table; it vanishes with the interface."""
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    scope = RT_SCOPE_LINK if network.version == 4 else 0
    body = _ROUTE.pack(
        family, network.prefixlen, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0
    )
    body += _attribute(RTA_DST, network.network_address.packed)
    body += _attribute(RTA_OIF, struct.pack("=I", index))
    return _talk(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body)


def _address_body(index: int, address: Interface) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    flags = IFA_F_NODAD if address.version == 6 else 0  # nobody on this link could answer
    body = _ADDRESS.pack(family, address.network.prefixlen, flags, 0, index)
    body += _attribute(IFA_LOCAL, address.ip.packed) + _attribute(IFA_ADDRESS, address.ip.packed)
    if address.version == 4 and address.network.prefixlen < 31:
        body += _attribute(IFA_BROADCAST, address.network.broadcast_address.packed)
    return body


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def _talk(kind: int, flags: int, body: bytes) -> int:
    size = _HEADER.size + len(body)
    request = _HEADER.pack(size, kind, flags | NLM_F_REQUEST | NLM_F_ACK, 1, 0) + body
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as talker:
            talker.settimeout(ANSWER_WITHIN_S)
            talker.bind((0, 0))
            talker.send(request)
            answer = talker.recv(65_536)
    except OSError as failure:
        return failure.errno or -1
    _, answer_kind, *_ = _HEADER.unpack_from(answer)
    assert answer_kind == NLMSG_ERROR, answer_kind
    (code,) = struct.unpack_from("=i", answer, _HEADER.size)
    return -int(code)
