"""Which languages for opening ports the home router speaks. Read-only: nothing is opened.

NAT-PMP is asked for the router's outside address (RFC 6886 §3.2), PCP to announce itself (RFC 6887
§14.1), and UPnP routers are searched by SSDP, at the gateway first and then by multicast.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import msgspec

from lanrage.protocols import portmap

WAIT_S = 1.2
TRIES_S = (0.0, 0.4)
ANSWER_MAX = 2_000
SSDP_PORT = 1900
SSDP_GROUP = "239.255.255.250"
_SEARCH = (
    b"M-SEARCH * HTTP/1.1\r\n"
    b"HOST: 239.255.255.250:1900\r\n"
    b'MAN: "ssdp:discover"\r\n'
    b"MX: 1\r\n"
    b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
)
_PCP_ANNOUNCE_BYTES = 24


class Spoken(msgspec.Struct, frozen=True):
    methods: tuple[str, ...]  # of "PCP", "NAT-PMP", "UPnP"
    outside: str  # the router's own outside address, where NAT-PMP told it
    refused: str  # why it opens none although it speaks, in words


class _Ear(asyncio.DatagramProtocol):
    def __init__(self, gateway: str) -> None:
        self.gateway = gateway
        self.methods: set[str] = set()
        self.outside = ""
        self.refused = ""

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr[0] == self.gateway and addr[1] == portmap.PORT:
            self._port_mapping(data)
        elif b"InternetGatewayDevice" in data[:ANSWER_MAX]:
            self.methods.add("UPnP")

    def _port_mapping(self, data: bytes) -> None:
        if len(data) >= _PCP_ANNOUNCE_BYTES and data[:2] == b"\x02\x80":
            self.methods.add("PCP")
            return
        match portmap.parse(data):
            case portmap.External(host=host):
                self.methods.add("NAT-PMP")
                self.outside = host
            case portmap.Denied(method="nat-pmp", reason=reason):
                # A router with PCP alone answers version 0 with "unsupported version".
                self.refused = reason


async def spoken(gateway: str, wait_s: float = WAIT_S) -> Spoken:
    """Asks for `wait_s` seconds. Raises OSError if this computer cannot send to it."""
    loop = asyncio.get_running_loop()
    transport, ear = await loop.create_datagram_endpoint(
        lambda: _Ear(gateway), local_addr=("0.0.0.0", 0)
    )
    try:
        own = _source(gateway)
        for at_s in TRIES_S:
            await asyncio.sleep(at_s)
            transport.sendto(portmap.EXTERNAL_REQUEST, (gateway, portmap.PORT))
            transport.sendto(_announce(own), (gateway, portmap.PORT))
            for host in (gateway, SSDP_GROUP):
                transport.sendto(_SEARCH, (host, SSDP_PORT))
        await asyncio.sleep(wait_s - sum(TRIES_S))
    finally:
        transport.close()
    order = [each for each in ("PCP", "NAT-PMP", "UPnP") if each in ear.methods]
    return Spoken(tuple(order), ear.outside, "" if order else ear.refused)


def _announce(own: str) -> bytes:
    mapped = bytes(10) + b"\xff\xff" + socket.inet_aton(own)
    return bytes((2, 0, 0, 0)) + bytes(4) + mapped


def _source(gateway: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        with contextlib.suppress(OSError):
            route.connect((gateway, portmap.PORT))
        return str(route.getsockname()[0])
