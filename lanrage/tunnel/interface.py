"""The virtual interface: a TAP device that takes and gives super-frames and never asks ARP.

TAP, because only TAP has the BROADCAST flag that games look for. `arp off` (IFF_NOARP), because
the other end of this link is us: the kernel then fills in our own hardware address for every
unicast destination, and the 14 bytes of Ethernet are constant. Offloads (checksums, TCP and UDP
segmentation) let one read or write carry up to 64 KiB.

The device is not persistent: it lives exactly as long as this process, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import re
import socket
import struct
from contextlib import suppress
from pathlib import Path

from lanrage.refusal import Refusal
from lanrage.tunnel import netlink

TUNSETIFF, TUNSETOFFLOAD, SIOCGIFHWADDR = 0x400454CA, 0x400454D0, 0x8927
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x8000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 0x01, 0x02, 0x04
TUN_F_USO = 0x20 | 0x40  # USO4 and USO6: Linux 6.2 and later, only as a pair
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")  # a subset of what the kernel allows
# A super-frame of at most this gives 45 packets, which fit one send of UDP_SEGMENT; the kernel's
# 64 KiB would give 47 and a second send for two of them.
GSO_MAX_BYTES = 45 * 1368 + 52
# Chatter nobody on this link would answer: link-local addresses, router solicitations, DAD.
QUIET = {"addr_gen_mode": 1, "accept_ra": 0, "autoconf": 0, "accept_dad": 0, "dad_transmits": 0}

_SYSCTL = Path("/proc/sys/net/ipv6/conf")


class Interface:
    """An open TAP device. `fd` is non-blocking; closing it removes the device."""

    def __init__(self, fd: int, name: str, mac: bytes, *, joins_udp: bool) -> None:
        self.fd = fd
        self.name = name
        self.mac = mac
        self.index = socket.if_nametoindex(name)
        self.joins_udp = joins_udp
        self.addresses: tuple[netlink.Interface, ...] = ()

    def configure(self, addresses: tuple[netlink.Interface, ...], mtu: int) -> Refusal | None:
        """Exactly these addresses, this MTU, and up. Idempotent."""
        what = f"Cannot configure the interface {self.name}"
        for address in self.addresses:
            if address not in addresses:
                netlink.drop_address(self.index, address)
        failed = netlink.set_link(self.index, up=False, mtu=mtu)
        if failed:
            return Refusal("mtu", what, f"MTU {mtu}: {os.strerror(failed)}", "Choose another MTU.")
        if any(address.version == 6 for address in addresses):
            self._sysctl("disable_ipv6", 0)
        for address in addresses:
            failed = netlink.add_address(self.index, address)
            if failed not in (0, errno.EEXIST):
                return Refusal("address", what, f"{address}: {os.strerror(failed)}", "")
        self.addresses = addresses
        failed = netlink.set_link(self.index, up=True)
        if failed:
            return Refusal("interface_up", what, os.strerror(failed), "")
        return None

    def deconfigure(self) -> None:
        netlink.set_link(self.index, up=False)
        for address in self.addresses:
            netlink.drop_address(self.index, address)
        self.addresses = ()

    def quieten(self) -> None:
        """No IPv6 noise; IPv6 itself stays off until an IPv6 address is configured."""
        for key, value in QUIET.items():
            self._sysctl(key, value)
        self._sysctl("disable_ipv6", 1)

    def close(self) -> None:
        os.close(self.fd)

    def _sysctl(self, key: str, value: int) -> None:
        with suppress(OSError):  # a container may forbid it, a kernel may not know it
            (_SYSCTL / self.name / key).write_text(str(value))


def create(name: str) -> Interface | Refusal:
    """A new TAP device, down and without an address."""
    what = f"Cannot create the interface {name}"
    if not NAME.fullmatch(name):
        return Refusal(
            "interface_name", "Cannot create the interface", "its name is not usable",
            "Use up to 15 letters, digits, '_', '.' or '-'.",
        )  # fmt: skip
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as failure:
        return Refusal("no_tun", what, f"/dev/net/tun: {failure.strerror}", "Run `modprobe tun`.")
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as failure:
        os.close(fd)
        return _refuse(name, what, failure)
    joins_udp = _offload(fd)
    interface = Interface(fd, name, _hardware_address(name), joins_udp=joins_udp)
    interface.quieten()
    netlink.set_link(interface.index, up=False, gso_max_bytes=GSO_MAX_BYTES)
    return interface


def parse(addresses: tuple[str, ...]) -> tuple[netlink.Interface, ...] | Refusal:
    """ "10.66.0.1/16" and "fd12::1/64" to addresses with their prefixes; empty text is left out."""
    try:
        return tuple(ipaddress.ip_interface(text) for text in addresses if text)
    except ValueError as failure:
        return Refusal("address", "Cannot configure the interface", str(failure), "")


def _refuse(name: str, what: str, failure: OSError) -> Refusal:
    if failure.errno == errno.EPERM:
        return Refusal("not_root", what, "this needs root", "Run it with sudo.")
    with suppress(OSError):
        socket.if_nametoindex(name)
        fix = f"Choose another with --interface, or remove it: `ip link del {name}`."
        return Refusal("interface_taken", what, "an interface with this name exists", fix)
    return Refusal("interface", what, failure.strerror or str(failure), "")


def _offload(fd: int) -> bool:
    """Switch offloads on; whether segmented UDP is among them."""
    tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6
    try:
        fcntl.ioctl(fd, TUNSETOFFLOAD, tcp | TUN_F_USO)
    except OSError:
        fcntl.ioctl(fd, TUNSETOFFLOAD, tcp)
        return False
    return True


def _hardware_address(name: str) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        answer = fcntl.ioctl(asker, SIOCGIFHWADDR, struct.pack("16s24x", name.encode()))
    return answer[18:24]
