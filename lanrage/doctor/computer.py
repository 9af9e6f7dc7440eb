"""Checks of this computer alone: what LANrage needs of it, and what makes it slower than it could.

All are instant. `status` is that of the running node, or None; a port or an interface that the node
itself uses is no obstacle.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from lanrage import state_dir
from lanrage.doctor.finding import Finding, fail, ok, warn
from projections.lobby import Status

PYTHON_MIN = (3, 11)
LINUX_USO = (6, 2)  # TUNSETOFFLOAD with TUN_F_USO4 and TUN_F_USO6
UDP_SEGMENT, UDP_GRO = 103, 104  # linux/udp.h; Python does not name them
INTERFACE = "lanrage0"
PORT = 26666


class Place(msgspec.Struct, frozen=True):
    """Where to look. Tests look elsewhere."""

    state: Path
    status: Status | None = None
    tun: Path = Path("/dev/net/tun")
    interfaces: Path = Path("/sys/class/net")
    port: int = PORT


def python(_: Place) -> Finding:
    version = platform.python_version()
    if sys.version_info[:2] < PYTHON_MIN:
        return fail("Python", version, "Install Python 3.11 or newer.")
    return ok("Python", version)


def linux(_: Place) -> Finding:
    if platform.system() != "Linux":
        return fail("Linux", f"this is {platform.system()}", "LANrage runs on Linux only.")
    return ok("Linux", f"{platform.release()} {platform.machine()}")


def root(_: Place) -> Finding:
    if os.geteuid() == 0:
        return ok("root", "yes")
    if shutil.which("sudo"):
        return ok("root", "not now, but sudo is there: `sudo lanrage up`")
    return warn("root", "no, and no sudo", "Start `lanrage up` as root: it makes an interface.")


def tun(place: Place) -> Finding:
    if place.tun.exists():
        return ok("TUN device", str(place.tun))
    fix = "Load it: modprobe tun (in a container, allow the device)."
    return fail("TUN device", f"{place.tun} does not exist", fix)


def interface(place: Place) -> Finding:
    name = place.status.node.interface if place.status else ""
    if name:
        return ok("interface", f"{name}, of the running LANrage")
    if not (place.interfaces / INTERFACE).exists():
        return ok("interface", f"{INTERFACE} is free")
    fix = "Stop what made it, or use another: `lanrage up --interface NAME`."
    return fail("interface", f"{INTERFACE} exists, and not by a LANrage of this folder", fix)


def port(place: Place) -> Finding:
    if place.status and place.status.node.port:
        return ok("UDP port", f"{place.status.node.port}, of the running LANrage")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind(("0.0.0.0", place.port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else error.strerror
            fix = "Stop what uses it, or use another: `lanrage up --listen PORT`."
            return fail("UDP port", f"{place.port} {why}", fix)
    return ok("UDP port", f"{place.port} is free")


def state(place: Place) -> Finding:
    folder = place.state
    if folder.is_dir():
        mine = folder.stat().st_uid == state_dir.owner().uid or os.geteuid() == 0
        if mine and os.access(folder, os.W_OK | os.X_OK):
            return ok("state folder", str(folder))
        fix = "Give it to yourself (chown), or use another: --state DIR."
        return fail("state folder", f"{folder} belongs to somebody else", fix)
    above = next(each for each in folder.parents if each.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return ok("state folder", f"{folder} will be made")
    return fail("state folder", f"{folder} cannot be made", "Use another: --state DIR.")


def offloads(_: Place) -> Finding:
    """What lets the kernel hand over 64 KiB at a time instead of single packets."""
    missing = [name for name, works in _offloads() if not works]
    if not missing:
        return ok("kernel offloads", "UDP in runs both ways, and TUN takes them")
    fix = "A newer kernel (Linux 6.2) makes the tunnel faster; it works without."
    return warn("kernel offloads", f"no {', no '.join(missing)}", fix)


def _offloads() -> list[tuple[str, bool]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        segment, gro = (_takes(trial, each) for each in (UDP_SEGMENT, UDP_GRO))
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    uso = release is not None and (int(release[1]), int(release[2])) >= LINUX_USO
    return [("UDP_SEGMENT", segment), ("UDP_GRO", gro), ("UDP runs through TUN", uso)]


def _takes(trial: socket.socket, option: int) -> bool:
    try:
        trial.setsockopt(socket.IPPROTO_UDP, option, 1)
    except OSError:
        return False
    return True


CHECKS: tuple[Callable[[Place], Finding], ...] = (
    python,
    linux,
    root,
    tun,
    interface,
    port,
    state,
    offloads,
)
