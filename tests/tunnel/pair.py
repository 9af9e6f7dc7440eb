"""Two network namespaces joined by a cable, and tunnels in them: ours and Debian's wireguard-go."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import re
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 20.0
CLONE_NEWNET = 0x40000000
STANDALONE = (
    "import sys; from pathlib import Path; from lanrage.tunnel.standalone import run\n"
    "said = run(Path(sys.argv[1]), rekey_after_ns=int(sys.argv[2]))\n"
    "sys.exit(said if isinstance(said, int) else print(said, file=sys.stderr) or 1)"
)
REKEY_AFTER_NS = 120_000_000_000


@dataclass
class Side:
    """One end: its namespace, its outside address, its tunnel's name, keys and addresses."""

    namespace: str
    interface: str
    outside: str
    inside: str
    inside6: str
    port: int = 51820
    private: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @property
    def public(self) -> bytes:
        return X25519PrivateKey.from_private_bytes(self.private).public_key().public_bytes_raw()

    def command(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *command]

    def run(self, *command: str) -> str:
        done = subprocess.run(
            self.command(*command), capture_output=True, text=True, timeout=WITHIN_S, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and what it starts, is in the namespace meanwhile."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as home:
            with open(f"/run/netns/{self.namespace}") as there:
                assert libc.setns(there.fileno(), CLONE_NEWNET) == 0
            try:
                yield
            finally:
                assert libc.setns(home.fileno(), CLONE_NEWNET) == 0

    def interfaces(self) -> set[str]:
        return {link["ifname"] for link in json.loads(self.run("ip", "-j", "link"))}


class Pair:
    """Sides `a` and `b`. Whatever was started here ends with it."""

    def __init__(self, folder: Path) -> None:
        name = f"lrt-{os.getpid()}"
        self.folder = folder
        self.a = Side(f"{name}-a", f"lrt{os.getpid()}a", "192.0.2.1", "10.9.0.1", "fd99::1")
        self.b = Side(f"{name}-b", f"lrt{os.getpid()}b", "192.0.2.2", "10.9.0.2", "fd99::2")
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Pair:
        self._delete()
        for side in (self.a, self.b):
            subprocess.run(["ip", "netns", "add", side.namespace], check=True)
        peer = ["peer", "name", "up0", "netns", self.b.namespace]
        self.a.run("ip", "link", "add", "up0", "type", "veth", *peer)
        for side in (self.a, self.b):
            side.run("ip", "addr", "add", f"{side.outside}/24", "dev", "up0")
            side.run("ip", "link", "set", "up0", "up")
            side.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            process.kill()
            process.communicate(timeout=WITHIN_S)
        self._delete()

    def _delete(self) -> None:
        for side in (self.a, self.b):
            if Path("/run/netns", side.namespace).exists():
                subprocess.run(["ip", "netns", "del", side.namespace], check=True)
            Path(f"/var/run/wireguard/{side.interface}.sock").unlink(missing_ok=True)

    def start(self, side: Side, *command: str, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            side.command(*command), stderr=subprocess.PIPE, text=True, cwd=ROOT, **options
        )
        self._started.append(process)
        return process

    # --- tunnels --------------------------------------------------------------------------------

    def config(self, side: Side, *, psk: bytes = b"", endpoint: bool = True) -> Path:
        other = self.b if side is self.a else self.a
        text = f"[Interface]\nPrivateKey = {_text(side.private)}\nListenPort = {side.port}\n"
        text += f"Address = {side.inside}/24, {side.inside6}/64\n[Peer]\n"
        text += f"PublicKey = {_text(other.public)}\n"
        text += f"AllowedIPs = {other.inside}/32, {other.inside6}/128\n"
        text += f"PresharedKey = {_text(psk)}\n" if psk else ""
        text += f"Endpoint = {other.outside}:{other.port}\n" if endpoint else ""
        path = self.folder / f"{side.interface}.conf"
        path.write_text(text)
        return path

    def start_ours(
        self, side: Side, config: Path, *, rekey_after_ns: int = REKEY_AFTER_NS
    ) -> subprocess.Popen[str]:
        """Our tunnel, once it said that it is up."""
        ours = self.start(side, sys.executable, "-c", STANDALONE, str(config), str(rekey_after_ns))
        assert "UDP port" in read_line(ours)
        return ours

    def start_theirs(self, side: Side, config: Path) -> subprocess.Popen[str]:
        """wireguard-go with the same configuration."""
        theirs = self.start(side, "wireguard-go", "-f", side.interface, env={
            **os.environ, "LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1",
        }, stdout=subprocess.DEVNULL)  # fmt: skip
        socket = Path(f"/var/run/wireguard/{side.interface}.sock")
        wait_until(socket.exists)
        bare = [line for line in config.read_text().splitlines() if "Address" not in line]
        stripped = config.with_suffix(".setconf")
        stripped.write_text("\n".join(bare) + "\n")
        side.run("wg", "setconf", side.interface, str(stripped))
        for address in (f"{side.inside}/24", f"{side.inside6}/64"):
            side.run("ip", "addr", "add", address, "dev", side.interface, *_nodad(address))
        side.run("ip", "link", "set", side.interface, "mtu", "1420", "up")
        return theirs


def _nodad(address: str) -> list[str]:
    return ["nodad"] if ":" in address else []


def ping(side: Side, address: str, *options: str) -> tuple[int, int]:
    """Packets transmitted and received."""
    done = subprocess.run(
        side.command("ping", "-q", *options, address),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = re.search(r"(\d+) packets transmitted, (\d+) received", done.stdout)
    assert found, done.stdout + done.stderr
    return int(found[1]), int(found[2])


def read_line(process: subprocess.Popen[str]) -> str:
    """The next line on stderr, within the limit."""
    assert process.stderr is not None
    ready, _, _ = select.select([process.stderr], [], [], WITHIN_S)
    assert ready, "it says nothing"
    return process.stderr.readline()


def wait_until(is_so: Any) -> None:
    """Another program's doing that nothing announces."""
    end = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)  # a file or interface that comes or goes tells nobody


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()
