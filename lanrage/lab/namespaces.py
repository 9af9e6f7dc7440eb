"""Network namespaces: made, entered, configured and found again after a crash.

A namespace of a lab is called `lr<pid>-<n>-<node>`: the process that made it, the number of the
lab within that process, and the node's name. Beside it `/run/lanrage-lab/<pid>-<n>/` holds the
lab's description and logs, and the start time of that process, so that a number used again by
another process is not taken for the owner. Whatever belongs to a dead owner is swept.

Changing namespace concerns one thread only (setns(2)), so code runs inside one in a thread of its
own, which ends afterwards. Sockets and TUN descriptors stay in the namespace they were made in.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lanrage.refusal import Refusal

T = TypeVar("T")

NAMESPACES = Path("/run/netns")  # where iproute2 keeps names
LABS = Path("/run/lanrage-lab")
CLONE_NEWNET = 0x40000000
TOOL_S_MAX = 20.0
KILL_S_MAX = 5.0  # for one process
KILL_ROUNDS_MAX = 10
_NAME = re.compile(r"lr(\d+-\d+)-[a-z0-9-]+")
_PACKAGES = {"ip": "iproute2", "nft": "nftables"}


class ToolFailed(RuntimeError):
    """A system tool did not do what the lab needs; carries what it said."""


def missing() -> Refusal | None:
    """Why no lab can be built here, or None."""
    if os.geteuid() != 0:
        return Refusal(
            code="not_root",
            what="Cannot build the lab",
            why="making network namespaces needs root",
            fix="Run the same command with sudo.",
        )
    for tool, package in _PACKAGES.items():
        if shutil.which(tool) is None:
            return Refusal(
                code="tool_missing",
                what="Cannot build the lab",
                why=f"the program `{tool}` is not installed",
                fix=f"Install it: apt-get install {package}",
            )
    if not Path("/dev/net/tun").exists():
        return Refusal(
            code="no_tun",
            what="Cannot build the lab",
            why="/dev/net/tun does not exist",
            fix="Load it: modprobe tun (in a container, allow the device).",
        )
    return None


def tool(argv: Sequence[str], text: str = "") -> str:
    """Run a system tool with `text` on its stdin; its stdout, or `ToolFailed`."""
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, timeout=TOOL_S_MAX, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip() or f"exit status {done.returncode}"
        raise ToolFailed(f"{' '.join(argv)}: {said}")
    return done.stdout


def create(names: Iterable[str]) -> None:
    tool(["ip", "-batch", "-"], "".join(f"netns add {name}\n" for name in names))


def ip_batch(name: str, lines: Iterable[str]) -> None:
    """Run `ip` commands, one a line, inside the namespace."""
    tool(["ip", "-n", name, "-batch", "-"], "\n".join(lines) + "\n")


def exec_argv(name: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` inside; `ip` replaces itself, so the pid is the program's.

    Besides the network it gives the program a /sys of its own, as `ip netns exec` does.
    """
    return ["ip", "netns", "exec", name, *argv]


def inside(name: str, work: Callable[[], T]) -> T:
    """`work()`, run in a thread that has entered the namespace. Raises what it raises."""

    def body() -> T:
        _enter(name)
        return work()

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(body).result()


def _enter(name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(NAMESPACES / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), name)
    finally:
        os.close(descriptor)


def write_sysctls(name: str, values: dict[str, str]) -> None:
    """Set `net.*` values; /proc/sys/net shows those of the thread's own namespace."""

    def work() -> None:
        for key, value in values.items():
            Path("/proc/sys", key.replace(".", "/")).write_text(value)

    inside(name, work)


def processes_in(names: Iterable[str]) -> list[int]:
    """The pids of every process whose network is one of these namespaces."""
    wanted: set[tuple[int, int]] = set()
    for name in names:
        with contextlib.suppress(OSError):
            status = os.stat(NAMESPACES / name)
            wanted.add((status.st_dev, status.st_ino))
    found = []
    for entry in os.listdir("/proc") if wanted else ():
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            status = os.stat(f"/proc/{entry}/ns/net")
            if (status.st_dev, status.st_ino) in wanted:
                found.append(int(entry))
    return found


def _kill(pids: Iterable[int]) -> None:
    """SIGKILL, and wait until they are gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], KILL_S_MAX)
            finally:
                os.close(handle)


def destroy(names: Sequence[str]) -> None:
    """Kill what runs in these namespaces and remove them. Those already gone are no error."""
    for _ in range(KILL_ROUNDS_MAX):  # again, for what was being started meanwhile
        pids = processes_in(names)
        if not pids:
            break
        _kill(pids)
    for name in names:
        if (NAMESPACES / name).exists():
            with contextlib.suppress(ToolFailed):  # two sweeps may meet
                tool(["ip", "netns", "del", name])


def started_at(pid: int) -> str | None:
    """When that process started, in the kernel's ticks; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def name_of(lab: str, node: str) -> str:
    return f"lr{lab}-{node}"


def of_lab(lab: str) -> list[str]:
    """The existing namespaces of the lab `<pid>-<n>`."""
    if not NAMESPACES.is_dir():
        return []
    return sorted(name for name in os.listdir(NAMESPACES) if name.startswith(name_of(lab, "")))


def labs() -> list[str]:
    """Every lab, alive or dead, that left a trace, as `<pid>-<n>`."""
    found = set(os.listdir(LABS)) if LABS.is_dir() else set()
    for name in os.listdir(NAMESPACES) if NAMESPACES.is_dir() else ():
        if match := _NAME.fullmatch(name):
            found.add(match[1])
    return sorted(lab for lab in found if re.fullmatch(r"\d+-\d+", lab))


def is_alive(lab: str) -> bool:
    """Whether the process that made this lab still runs."""
    try:
        recorded = (LABS / lab / "owner").read_text()
    except OSError:
        return False
    return started_at(int(lab.partition("-")[0])) == recorded


def remove(lab: str) -> None:
    """Everything of one lab: processes, namespaces, folder. The folder goes last, so that a
    removal cut short is found again."""
    destroy(of_lab(lab))
    shutil.rmtree(LABS / lab, ignore_errors=True)


def sweep() -> list[str]:
    """Remove what dead processes left behind; their labs."""
    dead = [lab for lab in labs() if not is_alive(lab)]
    for lab in dead:
        remove(lab)
    return dead


def claim(lab: str) -> Path:
    """The folder of a new lab of this process. It appears with its owner in it, or another
    process that starts a lab in this instant would sweep it."""
    folder, draft = LABS / lab, LABS / f"{lab}.new"
    draft.mkdir(mode=0o700, parents=True, exist_ok=True)
    LABS.chmod(0o700)
    (draft / "owner").write_text(started_at(os.getpid()) or "")
    draft.rename(folder)
    return folder
