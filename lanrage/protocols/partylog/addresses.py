"""Virtual addresses, computed from a member's number, so that every member has the same map.

IPv4: 10.66.0.0/16 without last octets 0 and 255, which some games and stacks take for network and
broadcast addresses. IPv6: a ULA prefix (RFC 4193) derived from the party id, so that parties do
not collide on one computer.
"""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Final

NETWORK: Final = "10.66.0.0/16"
NUMBERS_MAX: Final = 254 * 256
_HOSTS: Final = 254  # last octets 1..254


def address(number: int) -> str:
    """10.66.0.1 for the founder (number 1), 10.66.0.2 for the next, ..."""
    assert 1 <= number <= NUMBERS_MAX
    third, fourth = divmod(number - 1, _HOSTS)
    return f"10.66.{third}.{fourth + 1}"


def network6(party: str) -> str:
    """The party's /64."""
    return str(ipaddress.IPv6Network((_prefix(party), 64)))


def address6(party: str, number: int) -> str:
    assert 1 <= number <= NUMBERS_MAX
    return str(ipaddress.IPv6Address(_prefix(party) + number))


def _prefix(party: str) -> int:
    # fd, 40 bits of "global id", subnet 0.
    global_id = hashlib.sha256(b"lanrage ula v1" + party.encode()).digest()[:5]
    return int.from_bytes(b"\xfd" + global_id + bytes(10), "big")
