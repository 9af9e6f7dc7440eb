"""A node in a computer of the lab, driven as a person or a program would drive it.

Commands go through the command line, views and the event stream through the API. Nothing here
reaches into a node: what a test or the demo can see, a user can see.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from events.base import Stored
from lanrage.api_client import messages
from lanrage.lab.lab import Computer
from lanrage.lab.ping import Report
from projections.lobby import PeerView, Status

LANRAGE = (sys.executable, "-m", "lanrage")
CONTROL_PORT = 8667
RELAY_PORT = 3478
READY_S_MAX = 20.0
COMMAND_S_MAX = 30.0
CONNECT_INTERVAL_S = 0.05
RECHECK_S = 0.25  # the status may follow the event that changes it by a moment


class NodeFailed(RuntimeError):
    """A program of the lab did not do its part; says which and what it said."""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of `lanrage up --json`."""

    peer: str
    api: str
    dashboard: str
    ready: bool = True


class Player:
    """One computer, one state directory; the node in it may be started again and again."""

    def __init__(self, computer: Computer, state: Path, name: str = "") -> None:
        self.computer = computer
        self.name = name or computer.name
        self.state = state
        self.ready: Ready | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.events: list[Stored] = []
        self._news = threading.Condition()

    def launch(self, *options: str) -> subprocess.Popen[bytes]:
        """`lanrage up` in that computer, without waiting for it."""
        argv = [*LANRAGE, "up", "--json", "--name", self.name, *options]
        self.process = self.computer.popen(
            argv, log=f"{self.name}-node", stdout=subprocess.PIPE, env=self._environment()
        )
        return self.process

    def start(self, *options: str, follow: bool = True) -> Ready:
        """`lanrage up`, until it is ready; then its events are followed."""
        process = self.launch(*options)
        line = first_line(process, READY_S_MAX)
        if not line:
            process.kill()
            process.wait()
            raise NodeFailed(f"{self.name}: the node did not start: {self.last_words()}")
        self.ready = msgspec.json.decode(line, type=Ready)
        if follow:
            threading.Thread(target=self._follow, daemon=True).start()
        return self.ready

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the node to end; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=COMMAND_S_MAX)

    def kill(self) -> None:
        """kill -9, and gone when this returns."""
        self.stop(signal.SIGKILL)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`lanrage WORDS` on this player's computer."""
        argv = ["env", f"LANRAGE_STATE={self.state}", *LANRAGE, *words]
        return self.computer.run(argv, timeout_s=COMMAND_S_MAX)

    def start_command(self, *words: str) -> subprocess.Popen[bytes]:
        """As `command`, without waiting."""
        argv = ["env", f"LANRAGE_STATE={self.state}", *LANRAGE, *words]
        return self.computer.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def must(self, *words: str) -> str:
        """As `command`; its stdout, or `NodeFailed` with what it said."""
        done = self.command(*words)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise NodeFailed(f"{self.name}: lanrage {words[0]}: {said}")
        return done.stdout

    def create(self, party: str) -> str:
        """The new party's invite link."""
        return _invite_of(self.must("create", party, "--json"))

    def invite(self, *options: str) -> str:
        return _invite_of(self.must("invite", "--json", *options))

    def get(self, path: str) -> bytes:
        """A view of the API."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: object) -> bytes:
        """An intent, as the page posts it: at once, with no command to be started first."""
        return self._ask("POST", path, msgspec.json.encode(body))

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        with contextlib.closing(self._connect()) as connection:
            response = self._request(connection, path, method, body)
            answer = response.read()
        if response.status != 200:
            raise NodeFailed(f"{self.name}: {method} {path} answered {response.status}")
        return answer

    def status(self) -> Status:
        return msgspec.json.decode(self.get("/api/status"), type=Status)

    def peer(self, name: str) -> PeerView | None:
        """How this player sees the member of that name."""
        return next((peer for peer in self.status().peers if peer.name == name), None)

    def sees(self, *names: str, state: str = "connected") -> bool:
        """Whether the other members are exactly these, all in that state."""
        peers = self.status().peers
        return {peer.name for peer in peers} == set(names) and all(
            peer.state == state for peer in peers
        )

    def types(self) -> list[str]:
        """Of all events seen so far, in order."""
        with self._news:
            return [event.type for event in self.events]

    def wait(self, met: Callable[[Player], bool], timeout_s: float, what: str) -> None:
        """Until `met(self)`, asked again whenever this player's log grows; else `NodeFailed`."""
        deadline_s = time.monotonic() + timeout_s
        while not met(self):
            with self._news:
                self._news.wait(RECHECK_S)
            if self.process is not None and self.process.poll() is not None:
                raise NodeFailed(f"{self.name}: the node ended: {self.last_words()}")
            if time.monotonic() > deadline_s:
                newest = ", ".join(self.types()[-5:])
                raise NodeFailed(
                    f"{self.name}: not within {timeout_s:g} s: {what} (newest events: {newest})"
                )

    def wait_for_event(self, kind: str, timeout_s: float, after: int = 0) -> Stored:
        """The first event of that type behind position `after`."""
        found: list[Stored] = []

        def met(_player: Player) -> bool:
            with self._news:
                found.extend(e for e in self.events if e.seq > after and e.type == kind)
            return bool(found)

        self.wait(met, timeout_s, f"event {kind}")
        return found[0]

    def ping(self, address: str, count: int = 4, interval_ms: float = 50.0) -> Report:
        return ping_report(self.start_ping(address, count, interval_ms))

    def start_ping(
        self, address: str, count: int, interval_ms: float, *options: str
    ) -> subprocess.Popen[bytes]:
        """A ping that runs meanwhile; see `ping_report`."""
        argv = [sys.executable, "-m", "lanrage.lab.ping", address, *options]
        pace = ["--count", str(count), "--interval-ms", str(interval_ms)]
        return self.computer.popen([*argv, *pace], log="ping", stdout=subprocess.PIPE)

    def has_interface(self, interface: str = "lanrage0") -> bool:
        return self.computer.run(["ip", "link", "show", interface]).returncode == 0

    def address(self) -> str:
        """This player's own in the party, such as 10.66.0.2."""
        return self.status().node.address.partition("/")[0]

    def last_words(self) -> str:
        """The last line the node wrote to stderr."""
        text = self.computer.log_file(f"{self.name}-node").read_text(errors="replace")
        return text.strip().rpartition("\n")[2] or "it said nothing"

    def _environment(self) -> dict[str, str]:
        return {"LANRAGE_STATE": os.fspath(self.state)}

    def _connect(self) -> http.client.HTTPConnection:
        assert self.ready is not None
        port = urlsplit(self.ready.api).port
        assert port is not None
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=COMMAND_S_MAX)
        inner = self.computer.socket(socket.SOCK_STREAM)
        inner.settimeout(COMMAND_S_MAX)
        inner.connect(("127.0.0.1", port))
        connection.sock = inner
        return connection

    def _request(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
    ) -> http.client.HTTPResponse:
        assert self.ready is not None
        token = urlsplit(self.ready.dashboard).fragment.removeprefix("token=")
        headers = {"Authorization": f"Bearer {token}"}
        if body is not None:
            headers |= {"Content-Type": "application/json", "Origin": self.ready.api}
        connection.request(method, path, body, headers)
        return connection.getresponse()

    def _follow(self) -> None:
        """Fill `events` until the node ends. Positions are gapless, so none is doubled."""
        path = f"/api/events/stream?after={len(self.events)}"
        broken = contextlib.suppress(OSError, http.client.HTTPException)
        with broken, contextlib.closing(self._connect()) as connection:
            connection.sock.settimeout(None)
            for data in messages(self._request(connection, path)):
                self._take(msgspec.json.decode(data, type=Stored))
        with self._news:
            self._news.notify_all()

    def _take(self, event: Stored) -> None:
        with self._news:
            if event.seq == len(self.events) + 1:
                self.events.append(event)
            self._news.notify_all()


class Control:
    """`lanrage control` on a server of the lab, for those behind strict firewalls on port 443."""

    def __init__(self, computer: Computer, state: Path, port: int = CONTROL_PORT) -> None:
        self.computer = computer
        self.state = state
        self.port = port
        self.url = f"http://{computer.address}:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def secret(self) -> Path:
        """The file that it shares with the relays."""
        return self.state.with_name("relay.secret")

    def start(self) -> None:
        """Returns when it accepts connections."""
        listen = f"0.0.0.0:{self.port}"
        self.process = self.computer.popen(
            [*LANRAGE, "control", "--listen", listen, "--relay-secret", os.fspath(self.secret)],
            log="control",
            env={"LANRAGE_STATE": os.fspath(self.state)},
        )
        deadline_s = time.monotonic() + READY_S_MAX
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                said = self.computer.log_file("control").read_text(errors="replace").strip()
                raise NodeFailed(f"the control server did not start: {said.rpartition(chr(10))[2]}")
            time.sleep(CONNECT_INTERVAL_S)

    def _answers(self) -> bool:
        with self.computer.socket(socket.SOCK_STREAM) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


class Relay:
    """`lanrage relay` on a server of the lab; with `tcp`, also WebSocket over TLS on port 443."""

    def __init__(self, computer: Computer, state: Path, control: Control, tcp: bool = True) -> None:
        self.computer = computer
        self.state = state
        self.control = control
        self.tcp = tcp
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """As members and their events call it."""
        return f"{self.computer.address}:{RELAY_PORT}"

    def start(self) -> None:
        """Returns when it forwards; control knows of it a moment later."""
        argv = [*LANRAGE, "relay", "--json", "--control", self.control.url]
        argv += ["--secret", os.fspath(self.control.secret)]
        argv += ["--tcp", "0.0.0.0:443"] if self.tcp else []
        state = {"LANRAGE_STATE": os.fspath(self.state)}
        self.process = self.computer.popen(argv, log="relay", stdout=subprocess.PIPE, env=state)
        if not first_line(self.process, READY_S_MAX):
            said = self.computer.log_file("relay").read_text(errors="replace").strip()
            raise NodeFailed(f"the relay did not start: {said.rpartition(chr(10))[2]}")

    def kill(self) -> None:
        """kill -9 of everything that it consists of, and gone when this returns."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def wait_until_connected(players: Sequence[Player], timeout_s: float) -> None:
    """Until these are the party, and each is connected to every other."""
    for player in players:
        names = [other.name for other in players if other is not player]
        what = f"connected to {' and '.join(names)}"
        player.wait(_seeing(names), timeout_s, what)


def _seeing(names: Sequence[str]) -> Callable[[Player], bool]:
    return lambda player: player.sees(*names)


def ping_report(pinging: subprocess.Popen[bytes]) -> Report:
    """What it found; waits for its end."""
    found, _ = pinging.communicate(timeout=COMMAND_S_MAX)
    return msgspec.json.decode(found, type=Report)


def first_line(process: subprocess.Popen[bytes], timeout_s: float) -> bytes:
    """Of its stdout; empty if it ended or said nothing in time."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], timeout_s)
    return process.stdout.readline() if readable else b""


def _invite_of(document: str) -> str:
    link: str = msgspec.json.decode(document)["invite"]
    return link


def send_over_tcp(sender: Computer, receiver: Computer, address: str, size_bytes: int) -> float:
    """Send so many bytes to that address of the receiver; the seconds until all had arrived."""
    listener = receiver.socket(socket.SOCK_STREAM)
    listener.bind((address, 0))
    listener.listen()
    listener.settimeout(COMMAND_S_MAX)
    outgoing = sender.socket(socket.SOCK_STREAM)
    outgoing.settimeout(COMMAND_S_MAX)
    started_s = time.monotonic()
    outgoing.connect(listener.getsockname())
    incoming, _ = listener.accept()
    incoming.settimeout(COMMAND_S_MAX)
    content = os.urandom(size_bytes)
    pushing = threading.Thread(target=outgoing.sendall, args=(content,))
    pushing.start()
    received = bytearray()
    while len(received) < size_bytes:
        chunk = incoming.recv(1 << 20)
        if not chunk:
            break
        received += chunk
    took_s = time.monotonic() - started_s
    pushing.join()
    for each in (outgoing, incoming, listener):
        each.close()
    if received != content:
        raise NodeFailed(f"{address} received {len(received)} of {size_bytes} bytes over TCP")
    return took_s
