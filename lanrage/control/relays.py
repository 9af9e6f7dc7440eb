"""The relays that are registered with a control server, in memory: a relay is there while its
connection is, and a moment longer, since most that go away are only started again.

A relay is named by its UDP address. One that listens on all addresses of its computer and names
none is where control sees it. If it is on control's own computer, control sees loopback: then it is
where members reach control, which every member knows best itself (see `client`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from lanrage.control.relay_messages import Facts, Load
from lanrage.protocols import endpoint

RELAYS_MAX: Final = 64
GRACE_S: Final = 3.0  # for a relay that is started again
HERE: Final = "0.0.0.0"  # in an address: where you reach control
_ELSEWHERE: Final = ("192.0.2.1", 9)  # RFC 5737; nothing is sent there


class Registered:
    """One connection of one relay."""

    def __init__(self, facts: Facts, source: str) -> None:
        self.facts: Final = facts
        self.load = Load()
        self.addresses: Final = tuple(_placed(each, source) for each in facts.addresses)
        self.relay: Final = next(
            (each for each in self.addresses if not is_here(each)), _outward(self.addresses[0])
        )
        self.tcp: Final = _tcp(facts, self.relay, all(map(is_here, self.addresses)))


class Relays:
    """`changed` is called when a relay came, was started again, or is gone for good."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._all: dict[str, Registered] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}

    def all(self) -> dict[str, Registered]:
        return self._all

    def enter(self, relay: Registered) -> bool:
        """Whether there was room. The newest connection for a name counts."""
        if relay.relay not in self._all and len(self._all) >= RELAYS_MAX:
            return False
        leaving = self._leaving.pop(relay.relay, None)
        if leaving is not None:
            leaving.cancel()
        self._all[relay.relay] = relay
        self._changed()
        return True

    def exit(self, relay: Registered) -> None:
        """Its connection ended."""
        if self._all.get(relay.relay) is not relay:
            return
        loop = asyncio.get_running_loop()
        self._leaving[relay.relay] = loop.call_later(GRACE_S, self._withdraw, relay.relay)

    def close(self) -> None:
        for leaving in self._leaving.values():
            leaving.cancel()

    def _withdraw(self, relay: str) -> None:
        del self._leaving[relay], self._all[relay]
        self._changed()


def is_here(address: str) -> bool:
    return address.startswith(f"{HERE}:")


def is_loopback(source: str) -> bool:
    parsed = ip_address(source)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _placed(written: str, source: str) -> str:
    """`written`, or where control sees the relay if it does not say."""
    address = endpoint.parse(written)
    assert address is not None
    if not ip_address(address[0]).is_unspecified:
        return endpoint.text(address)
    return endpoint.text((HERE if is_loopback(source) else _plain(source), address[1]))


def _plain(source: str) -> str:
    parsed = ip_address(source.partition("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _outward(here: str) -> str:
    """The address that this computer has towards others."""
    address = endpoint.parse(here)
    assert address is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
            host = str(probe.getsockname()[0])
        except OSError:
            host = "127.0.0.1"
    return endpoint.text((host, address[1]))


def _tcp(facts: Facts, relay: str, here: bool) -> str:
    if not facts.tcp:
        return ""
    host = facts.host or (HERE if here else relay.rpartition(":")[0])
    return f"wss://{host}:{facts.tcp}/"
