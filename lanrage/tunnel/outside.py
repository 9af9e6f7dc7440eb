"""The one way out: datagrams for a place, whatever kind of place it is.

    place                       what is sent                     from where to where
    (host, port)                as it is                         our port -> there
    Via relay, name, number     stamped with the number          our port -> the relay
    Via tcp, name, number       stamped                          a WebSocket to the relay
    Via friend, id, number      stamped                          our port -> the friend
    Via port, "7 ip:port"       as it is                         our socket 7 -> there

A direct place costs one `len` more than the port itself would; game and bulk traffic hardly ever
go elsewhere. Stamping is a slice and a concatenation for each datagram.

Extra sockets exist to try several ports of our own router. They are opened when something is sent
from them, and closed when that has not happened for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

from events.base import PeerId
from lanrage.protocols import endpoint
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.protocols.relay import wire
from lanrage.refusal import Refusal
from lanrage.tunnel import udp
from lanrage.tunnel.loop import Loop, now_ns
from lanrage.tunnel.udp import UdpPort

EXTRAS_MAX = 256
EXTRA_UNUSED_NS = 60_000_000_000  # a way in use is pinged more often than that
SWEEP_NS = 10_000_000_000
TRANSPORT = 4

OnExtra: TypeAlias = Callable[[UdpPort, int, int, bool], None]  # socket, its number, now, busy


class Carrier(Protocol):
    """A connection to a relay that is no UDP."""

    def send(self, datagrams: Sequence[bytes], now_ns: int, *, urgent: bool) -> None: ...


@dataclass(slots=True)
class _Extra:
    port: UdpPort
    used_ns: int


class Outside:
    """`direct_of` gives a member's own best address, if there is a proven one."""

    def __init__(
        self, port: UdpPort, direct_of: Callable[[PeerId], Address | None] = lambda _: None
    ) -> None:
        self.port = port
        self.drops: dict[str, int] = {}
        self._direct_of = direct_of
        self._relays: dict[str, Address] = {}
        self._carriers: dict[str, Carrier] = {}
        self._extras: dict[int, _Extra] = {}
        self._sweep_ns: int | None = None
        self._loop: Loop | None = None
        self._on_extra: OnExtra | None = None

    def watch(self, loop: Loop, on_extra: OnExtra) -> None:
        """Where what arrives at extra sockets goes."""
        self._loop, self._on_extra = loop, on_extra

    def close(self) -> None:
        for number in list(self._extras):
            self._close_extra(number)
        self.port.close()

    def put_relay(self, name: str, address: Address | None) -> None:
        """The relay's own address, while it forwards to us; None when it does not any more."""
        if address is None:
            self._relays.pop(name, None)
        else:
            self._relays[name] = address

    def put_carrier(self, name: str, carrier: Carrier | None) -> None:
        if carrier is None:
            self._carriers.pop(name, None)
        else:
            self._carriers[name] = carrier

    # --- sending --------------------------------------------------------------------------------

    def send(self, place: Place, datagrams: Sequence[bytes]) -> None:
        """In order. What cannot be sent is dropped and counted."""
        if len(place) == 2:
            self.port.send(place, datagrams)
        else:
            _SENDS[place.carrier](self, place, datagrams)

    def _send_relay(self, place: Via, datagrams: Sequence[bytes]) -> None:
        address = self._relays.get(place.name)
        if address is not None:
            return self.port.send(address, stamped(datagrams, place.number))
        if place.name in self._carriers:  # the path core will hear of it in a moment
            return self._send_tcp(place, datagrams)
        return self._drop("relay_unbound", len(datagrams))

    def _send_friend(self, place: Via, datagrams: Sequence[bytes]) -> None:
        address = self._direct_of(place.name)
        if address is None:
            return self._drop("friend_away", len(datagrams))
        return self.port.send(address, stamped(datagrams, place.number))

    def _send_tcp(self, place: Via, datagrams: Sequence[bytes]) -> None:
        carrier = self._carriers.get(place.name)
        if carrier is None:
            if place.name in self._relays:
                return self._send_relay(place, datagrams)
            return self._drop("tcp_unbound", len(datagrams))
        urgent = datagrams[0][0] != TRANSPORT  # probes and handshakes go before data
        return carrier.send(stamped(datagrams, place.number), now_ns(), urgent=urgent)

    def _send_port(self, place: Via, datagrams: Sequence[bytes]) -> None:
        number, _, written = place.name.partition(" ")
        address = endpoint.parse(written)
        extra = self._extra(int(number))
        if address is None or extra is None:
            return self._drop("no_extra_port", len(datagrams))
        return extra.send(address, datagrams)

    # --- extra sockets --------------------------------------------------------------------------

    @staticmethod
    def behind(number: int, source: Address) -> Via:
        """The place of a sender that was heard at an extra socket."""
        return Via("port", f"{number} {endpoint.text(source)}", 0)

    def timer(self) -> int | None:
        return self._sweep_ns

    def handle_timer(self, now: int) -> None:
        if self._sweep_ns is None or now < self._sweep_ns:
            return
        for number, extra in list(self._extras.items()):
            if now - extra.used_ns >= EXTRA_UNUSED_NS:
                self._close_extra(number)
        self._sweep_ns = now + SWEEP_NS if self._extras else None

    def _extra(self, number: int) -> UdpPort | None:
        now = now_ns()
        extra = self._extras.get(number)
        if extra is not None:
            extra.used_ns = now
            return extra.port
        if len(self._extras) >= EXTRAS_MAX or self._loop is None or self._on_extra is None:
            return None
        opened = udp.open_extra()
        if isinstance(opened, Refusal):
            return None
        self._extras[number] = _Extra(opened, now)
        self._loop.add(opened.sockets[0].fileno(), partial(self._on_extra, opened, number))
        if self._sweep_ns is None:
            self._sweep_ns = now + SWEEP_NS
        return opened

    def _close_extra(self, number: int) -> None:
        port = self._extras.pop(number).port
        assert self._loop is not None
        self._loop.remove(port.sockets[0].fileno())
        for reason, count in port.drops.items():
            self._drop(reason, count)
        port.close()

    def _drop(self, reason: str, count: int) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + count


_SENDS: dict[str, Callable[[Outside, Via, Sequence[bytes]], None]] = {
    "relay": Outside._send_relay,
    "tcp": Outside._send_tcp,
    "friend": Outside._send_friend,
    "port": Outside._send_port,
}


def stamped(datagrams: Sequence[bytes], number: int) -> list[bytes]:
    """With their session number, ready for a relay."""
    head = (TRANSPORT << 24 | number).to_bytes(4, "big")
    return [
        head + datagram[4:] if datagram[0] == TRANSPORT else wire.stamp(datagram, number)
        for datagram in datagrams
    ]


def unstamped(datagrams: Sequence[bytes]) -> list[bytes]:
    """What `stamped` was given."""
    head = bytes((TRANSPORT, 0, 0, 0))
    return [
        head + datagram[4:] if datagram[0] == TRANSPORT else wire.unstamp(datagram)
        for datagram in datagrams
    ]
