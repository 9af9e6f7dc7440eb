"""A UDP endpoint, as a pair of numeric address and port, and as the text that logs and people see.

`("192.0.2.1", 51820)` is written `192.0.2.1:51820`, `("fd00::1", 51820)` is `[fd00::1]:51820`.
Never a host name and never a scope: whoever resolves names does it before. Of two spellings of
one IPv6 address only the shortest is used, so endpoints can be compared and used as keys.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, TypeAlias

Address: TypeAlias = tuple[str, int]


class Via(NamedTuple):
    """A place that is not simply an address: somebody, or something, passes it on.

    `carrier` says who: "relay" (a relay over UDP), "tcp" (the same over WebSocket), "friend" (a
    member that reaches both), "port" (directly, but from another socket of ours than the main one).
    `name` is the relay's name, the friend's peer id, or "<socket> ip:port". `number` is the session
    number stamped on what we send there (see protocols/relay); 0 for "port".
    """

    carrier: str
    name: str
    number: int


Place: TypeAlias = Address | Via  # where datagrams for a member go, and where they come from


def text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse(written: str) -> Address | None:
    """The endpoint written as `ip:port` or `[ip6]:port`, or None if it is anything else."""
    host, colon, port = written.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port[:6]) <= 65535:
        return None
    try:
        if host.startswith("[") and host.endswith("]"):
            parsed: IPv4Address | IPv6Address = IPv6Address(host[1:-1])
        else:
            parsed = IPv4Address(host)
    except AddressValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.scope_id is not None:
        return None
    return str(parsed), int(port)


def is_unicast(address: Address) -> bool:
    """Whether another computer could own this address: no loopback, group, broadcast or zero.

    IPv6 link-local addresses mean nothing without an interface, and an IPv4 address in IPv6
    clothes would be a second spelling of another endpoint, so both count as unusable.
    """
    host, port = address
    try:
        parsed = ip_address(host)
    except ValueError:
        return False
    if not 1 <= port <= 65535 or parsed.is_multicast or parsed.is_unspecified:
        return False
    if parsed.is_loopback or parsed.is_reserved:
        return False
    if isinstance(parsed, IPv6Address):
        return parsed.ipv4_mapped is None and not parsed.is_link_local
    return int(parsed) >> 24 != 0
