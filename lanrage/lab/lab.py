"""A lab that runs: `with Lab(topology) as lab: lab.computer("alice").popen([...])`.

Whatever happens inside, everything is gone afterwards: on an exception, on SIGINT, on SIGTERM and
SIGHUP (their default action becomes an exception while a lab is open), and after kill -9 at the
next start of any lab, which sweeps what dead owners left. Building is: namespaces, the wire with
its devices, then one batch of `ip` commands, one ruleset and a few sysctls for each namespace.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any

import msgspec

from lanrage.lab import namespaces, topology
from lanrage.lab.firewall import ruleset
from lanrage.lab.switch import Counters, Line
from lanrage.lab.topology import Home, Leg, Topology
from lanrage.lab.wire import Plan, Port, Wire

STOP_S_MAX = 5.0
# With br_netfilter loaded a bridge itself carries out a DNAT into its own LAN, and sends nothing
# back through the port it came in by: a computer could not hairpin to itself.
_BRIDGED = "net.bridge.bridge-nf-call-iptables"
_ROUTED = {_BRIDGED: "0"} if Path("/proc/sys", _BRIDGED.replace(".", "/")).exists() else {}
_serials = itertools.count(1)


class Computer:
    """One namespace and the programs started in it."""

    def __init__(self, name: str, namespace: str, address: str, logs: Path) -> None:
        self.name = name
        self.namespace = namespace
        self.address = address
        self._logs = logs
        self._programs: list[subprocess.Popen[bytes]] = []
        self._sockets: list[socket.socket] = []

    def popen(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        log: str = "",
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program; what it prints goes to `log_file(log)` unless `stdout` or `stderr`
        take it.

        It is a process group of its own (Ctrl-C on a terminal does not reach it) and is killed
        with the lab. `log` defaults to the program's name.
        """
        words = [os.fspath(word) for word in argv]
        with open(self.log_file(log or Path(words[0]).name), "ab") as file:
            program = subprocess.Popen(
                namespaces.exec_argv(self.namespace, words),
                stdin=stdin,
                stdout=file if stdout is None else stdout,
                stderr=file if stderr is None else stderr,
                env=None if env is None else {**os.environ, **env},
                start_new_session=True,
            )
        self._programs.append(program)
        return program

    def run(
        self, argv: Sequence[str | os.PathLike[str]], *, timeout_s: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; never raises for its exit status."""
        words = [os.fspath(word) for word in argv]
        return subprocess.run(
            namespaces.exec_argv(self.namespace, words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def socket(self, kind: socket.SocketKind, family: int = socket.AF_INET) -> socket.socket:
        """A socket of this process in that computer's network; closed with the lab, since an open
        one would keep the namespace."""
        made = namespaces.inside(self.namespace, lambda: socket.socket(family, kind))
        self._sockets = [each for each in self._sockets if each.fileno() >= 0] + [made]
        return made

    def log_file(self, log: str) -> Path:
        return self._logs / f"{self.name}-{log}.log"

    def stop(self) -> None:
        """SIGTERM to every program still running, SIGKILL to those that do not listen."""
        while self._sockets:
            self._sockets.pop().close()
        running = [program for program in self._programs if program.poll() is None]
        for program in running:
            program.terminate()
        for program in running:
            try:
                program.wait(timeout=STOP_S_MAX)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
        for pipe in (pipe for p in self._programs for pipe in (p.stdin, p.stdout, p.stderr)):
            if pipe is not None:
                pipe.close()
        self._programs.clear()


class Lab:
    def __init__(self, description: Topology) -> None:
        wrong = topology.problem(description)
        assert wrong is None, wrong
        self.topology = description
        self.id = f"{os.getpid()}-{next(_serials)}"
        self.folder = namespaces.LABS / self.id
        self._legs = topology.legs(description)
        self._wire: Wire | None = None
        self._computers: dict[str, Computer] = {}
        self._moves: dict[str, int] = {}
        self._old_signals: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Lab:
        self._take_signals()
        try:
            namespaces.sweep()
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def computer(self, name: str) -> Computer:
        """A computer, server or router (by its home's name)."""
        return self._computers[name]

    def change(self, node: str, up: Line | None = None, down: Line | None = None) -> None:
        """New conditions on the line of a server or home, from now on."""
        self._running_wire().change(self._port_of(node), up, down)

    def cut(self, node: str) -> None:
        """Nothing passes that line any more, in either direction."""
        self.change(node, Line(loss=1.0), Line(loss=1.0))

    def mend(self, node: str) -> None:
        """The line as the topology describes it."""
        line = self._legs[self._port_of(node)].line
        self.change(node, line, line)

    def counters(self, node: str) -> tuple[Counters, Counters]:
        """Frames that went (up, down) the line of a server or home."""
        return self._running_wire().counters(self._port_of(node))

    def forget_mappings(self, home: str) -> None:
        """The router loses its NAT table, as when it restarts. Needs `conntrack`."""
        nat = ("map ip lrnat cone", "set ip lrnat taken", "set ip lrnat owners")
        learnt = (*nat, "set ip lrflt seen")
        self._tell_router(home, "".join(f"flush {each}\n" for each in learnt))
        done = self.computer(home).run(["conntrack", "-F"])
        if done.returncode != 0:
            raise namespaces.ToolFailed(f"conntrack -F: {done.stderr.strip()}")

    def move(self, home: str) -> str:
        """Its provider gives the home a new public address, which is returned; the old one is
        nobody's any more, and the NAT table is forgotten."""
        leg = self._legs[self._port_of(home)]
        self._moves[home] = self._moves.get(home, 0) + 1
        old, new = self.computer(home).address, topology.moved(leg, self._moves[home])
        for other in self._legs:
            if other is not leg:
                neighbour = f"{new} lladdr {leg.mac} dev {other.device}"
                namespaces.ip_batch(self._namespace(other.node), [f"neighbour replace {neighbour}"])
        bits = self.topology.public.partition("/")[2]
        namespaces.ip_batch(
            self._namespace(home),
            [
                f"address del {old}/{bits} dev {leg.device}",
                f"address add {new}/{bits} brd + dev {leg.device}",
                *self._neighbours(leg),  # they went with the last address
            ],
        )
        self.computer(home).address = new
        router = topology.home_of(self.topology, home).router
        self._tell_router(home, ruleset(router, new))
        self.forget_mappings(home)
        return new

    def block(self, one: str, other: str) -> None:
        """From now on the Internet drops UDP between these two homes (or the homes of these
        computers), in both directions; everything else passes. Names addresses as they are now."""
        self._put_gone("add", one, other)

    def unblock(self, one: str, other: str) -> None:
        self._put_gone("delete", one, other)

    def _put_gone(self, verb: str, one: str, other: str) -> None:
        homes = [topology.leg_of(self.topology, name).node for name in (one, other)]
        assert homes[0] != homes[1], "they share a way to the Internet"
        for home, far in (homes, reversed(homes)):
            lines = f"{verb} element ip lrflt gone {{ {self.computer(far).address} }}\n"
            network = topology.lan6_of(self.topology, topology.home_of(self.topology, far))
            if network is not None:
                lines += f"{verb} element ip6 lrflt6 gone {{ {network} }}\n"
            self._tell_router(home, lines)

    def _tell_router(self, home: str, rules: str) -> None:
        namespaces.tool(namespaces.exec_argv(self._namespace(home), ["nft", "-f", "-"]), rules)

    def forward(self, home: str, ports: str, computer: str) -> None:
        """What a host sets up in a router: these ports ("8667-8668") lead to that computer."""
        to = self.computer(computer).address
        rules = (
            f'insert rule ip lrnat c_pre iifname "wan" meta l4proto {{ tcp, udp }} '
            f"th dport {ports} dnat to {to}\n"
            'insert rule ip lrflt c_fwd iifname "wan" ct status dnat accept\n'
        )
        self._tell_router(home, rules)

    def close(self) -> None:
        """Undo everything. Signals wait until it is done."""
        previous = signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        )
        try:
            with contextlib.suppress(Exception):
                for computer in self._computers.values():
                    computer.stop()
            if self._wire is not None:
                self._wire.close()
                self._wire = None
            namespaces.remove(self.id)
            self._give_signals_back()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)

    def _build(self) -> None:
        namespaces.claim(self.id)
        (self.folder / "topology.json").write_bytes(msgspec.json.encode(self.topology))
        for name in topology.node_names(self.topology):
            self._computers[name] = Computer(
                name, self._namespace(name), topology.address_of(self.topology, name), self.folder
            )
        namespaces.create(computer.namespace for computer in self._computers.values())
        ports = [
            Port(namespace=self._namespace(g.node), device=g.device, up=g.line, down=g.line)
            for g in self._legs
        ]
        self._wire = Wire(Plan(ports=tuple(ports), seed=self.topology.seed))
        for leg in self._legs:
            namespaces.ip_batch(self._namespace(leg.node), self._leg_commands(leg))
        for home in self.topology.homes:
            self._build_home(home)

    def _build_home(self, home: Home) -> None:
        router = self._namespace(home.name)
        namespaces.ip_batch(router, self._router_commands(home))
        network6 = topology.lan6_of(self.topology, home)
        namespaces.write_sysctls(
            router,
            {
                "net.ipv4.ip_forward": "1",
                "net.ipv4.conf.all.send_redirects": "0",
                "net.ipv4.conf.lan.send_redirects": "0",
                "net.netfilter.nf_conntrack_udp_timeout": str(home.router.udp_timeout_s),
                "net.netfilter.nf_conntrack_udp_timeout_stream": str(
                    home.router.udp_stream_timeout_s
                ),
                **({"net.ipv6.conf.all.forwarding": "1"} if network6 else {}),
                **_ROUTED,
            },
        )
        self._tell_router(home.name, ruleset(home.router, self.computer(home.name).address))
        gateway = topology.lan_of(self.topology, home)[1]
        inner = [h.name for h in self.topology.homes if h.uplink == home.name]
        for name in [*home.computers, *inner]:
            device = "eth0" if name in home.computers else "wan"
            address = f"{self._computers[name].address}/{self._lan_bits(home)}"
            namespaces.ip_batch(
                self._namespace(name),
                [
                    "link set lo up",
                    f"address add {address} brd + dev {device}",
                    f"link set {device} up",
                    f"route add default via {gateway}",
                    *self._computer6_commands(home, name),
                ],
            )

    def _computer6_commands(self, home: Home, name: str) -> list[str]:
        network6 = topology.lan6_of(self.topology, home)
        if network6 is None or name not in home.computers:
            return []
        address6 = topology.address6_of(self.topology, name)
        return [
            f"address add {address6}/64 dev eth0 nodad",
            f"route add default via {network6[1]}",
        ]

    def _router_commands(self, home: Home) -> list[str]:
        gateway = topology.lan_of(self.topology, home)[1]
        lines = [
            "link set lo up",
            "link add lan type bridge stp_state 0 forward_delay 0",
            f"address add {gateway}/{self._lan_bits(home)} brd + dev lan",
            "link set lan up",
        ]
        network6 = topology.lan6_of(self.topology, home)
        if network6 is not None:
            lines.append(f"address add {network6[1]}/64 dev lan nodad")
        inner = [h.name for h in self.topology.homes if h.uplink == home.name]
        for i, name in enumerate([*home.computers, *inner]):
            device = "eth0" if name in home.computers else "wan"
            peer = f"peer name {device} netns {self._namespace(name)}"
            lines += [
                f"link add port{i} type veth {peer}",
                f"link set port{i} master lan up",
            ]
        return lines

    def _leg_commands(self, leg: Leg) -> list[str]:
        bits = self.topology.public.partition("/")[2]
        addresses = [leg.address, *([leg.alternate] if leg.alternate else [])]
        return [
            "link set lo up",
            f"link set {leg.device} address {leg.mac}",
            *(f"address add {each}/{bits} brd + dev {leg.device}" for each in addresses),
            *([f"address add {leg.address6}/64 dev {leg.device} nodad"] * self.topology.ipv6),
            f"link set {leg.device} up",
            *self._neighbours(leg),
            *self._routes6(leg),
        ]

    def _neighbours(self, leg: Leg) -> list[str]:
        """Neighbours are entered by hand: between homes of the Internet nobody asks by ARP, and
        the question would add a round trip to every first packet."""
        lines = []
        for other in self._legs:
            if other is leg:
                continue
            current = topology.moved(other, self._moves.get(other.node, 0))
            known = [current, *([other.alternate] if other.alternate else [])]
            known += [other.address6] * self.topology.ipv6
            lines += [
                f"neighbour replace {address} lladdr {other.mac} dev {leg.device}"
                for address in known
            ]
        return lines

    def _routes6(self, leg: Leg) -> list[str]:
        """Each home's /64 is behind its router."""
        lines = []
        for home in self.topology.homes:
            network6 = topology.lan6_of(self.topology, home)
            if network6 is not None and home.name != leg.node:
                via = topology.address6_of(self.topology, home.name)
                lines.append(f"route add {network6} via {via} dev {leg.device}")
        return lines

    def _lan_bits(self, home: Home) -> int:
        return topology.lan_of(self.topology, home).prefixlen

    def _namespace(self, node: str) -> str:
        return namespaces.name_of(self.id, node)

    def _port_of(self, node: str) -> int:
        return [leg.node for leg in self._legs].index(node)

    def _running_wire(self) -> Wire:
        assert self._wire is not None, "the lab is not running"
        return self._wire

    def _take_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                self._old_signals[number] = signal.signal(number, _exit_on_signal)

    def _give_signals_back(self) -> None:
        for number, old in self._old_signals.items():
            signal.signal(number, old)
        self._old_signals.clear()


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
