"""The relay's process on loopback, with real datagrams: what arrives, and what never comes back."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from lanrage.protocols import stun
from lanrage.protocols.relay import wire
from lanrage.tunnel.udp import SOL_UDP, UDP_GRO, UDP_SEGMENT
from tests.protocols.relay.people import data
from tests.relay.members import bind, ticket_of
from tests.relay.process import Relay, udp
from tests.tunnel.pair import ROOT, WITHIN_S

DEPLOY = ROOT / "lanrage" / "relay" / "deploy"


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay() as made:
        yield made


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    made = [udp() for _ in range(4)]
    yield made
    for each in made:
        each.close()


def test_members_bind_and_reach_each_other(relay: Relay, sockets: list[socket.socket]) -> None:
    ada, bob = sockets[:2]
    assert bind(ada, relay.address, 1).observed == ada.getsockname()
    bind(bob, relay.address, 2)
    ada.sendto(data(1, 2), relay.address)
    assert bob.recvfrom(2048) == (data(1, 2), relay.address)
    bob.sendto(data(2, 1, kind=5), relay.address)
    assert ada.recvfrom(2048) == (data(2, 1, kind=5), relay.address)


def test_a_batch_arrives_as_one(relay: Relay, sockets: list[socket.socket]) -> None:
    ada, bob = sockets[:2]
    bind(ada, relay.address, 1)
    bind(bob, relay.address, 2)
    bob.setsockopt(SOL_UDP, UDP_GRO, 1)
    batch = b"".join(data(1, 2, 1200, fill=each) for each in range(40))
    ada.sendmsg([batch], [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", 1200))], 0, relay.address)
    assert bob.recv(65_535) == batch


def test_a_restart_is_told_by_the_first_datagram(sockets: list[socket.socket]) -> None:
    ada, bob = sockets[:2]
    with Relay() as before:
        bind(ada, before.address, 1)
        port = before.address[1]
    with Relay(port=port) as after:
        ada.sendto(data(1, 2), after.address)
        assert wire.read(ada.recv(2048)) == wire.Stranger(after.boot)
        assert after.boot != before.boot
        bind(ada, after.address, 1)
        bind(bob, after.address, 2)
        ada.sendto(data(1, 2), after.address)
        assert bob.recv(2048) == data(1, 2)


def test_a_spoofed_number_and_another_party_reach_nobody(
    relay: Relay, sockets: list[socket.socket]
) -> None:
    ada, bob = sockets[:2]
    bind(ada, relay.address, 1)
    bind(bob, relay.address, 2)
    ada.sendto(data(3, 2), relay.address)
    ada.sendto(data(1, 2, fill=1), relay.address)
    assert bob.recv(2048) == data(1, 2, fill=1)
    assert relay.hear_busy(lambda busy: busy.packets == 1).drops == {"relay_spoofed": 1}


def test_a_stranger_never_gets_more_bytes_than_it_sent(
    relay: Relay, sockets: list[socket.socket]
) -> None:
    """Whatever it sends: noise, our own formats, a genuine ticket seen on the way."""
    eve, draw = sockets[0], random.Random(1)
    asked = wire.bind(wire.Bind(bytes(8), ticket_of(1)))
    beat = (wire.HEADER + bytes([wire.BEAT])).ljust(wire.BEAT_SIZE, b"\0")
    kinds = [lambda: asked, lambda: data(1, 2), lambda: beat, lambda: draw.randbytes(148)]
    eve.setblocking(False)
    sent = received = 0
    for _ in range(300):
        datagram = draw.choice(kinds)()
        eve.sendto(datagram, relay.address)
        sent += len(datagram)
        while select.select([eve], [], [], 0)[0]:
            received += len(eve.recv(2048))
            assert received <= sent
    while select.select([eve], [], [], 0.3)[0]:
        received += len(eve.recv(2048))
    assert 0 < received <= sent


def test_who_floods_is_not_even_read_and_the_others_play_on(sockets: list[socket.socket]) -> None:
    with Relay(member_bytes_per_s=100_000) as relay:
        flooding, drain, ada, bob = sockets
        for number, each in enumerate(sockets, 1):
            bind(each, relay.address, number)
        flood = data(1, 2, 1000)
        for _ in range(20):
            for _ in range(200):
                flooding.sendto(flood, relay.address)
            ada.sendto(data(3, 4), relay.address)
            assert bob.recv(2048) == data(3, 4)
        before = relay.hear_busy(lambda busy: busy.drops.get("relay_budget", 0) >= 900)
        assert before.drops["relay_budget"] < 3900
        assert drain.recv(2048) == flood


def test_the_kernel_lets_everybody_else_pass_while_one_is_blocked(relay: Relay) -> None:
    """Also of the same host: homes have one address for many."""
    from lanrage.relay.sieve import Sieve

    blocked, free, six = udp(), udp(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    receiver, receiver6 = udp(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with closing(blocked), closing(free), closing(six), closing(receiver), closing(receiver6):
        for each in (six, receiver6):
            each.bind(("::1", 0))
            each.settimeout(WITHIN_S)
        sieve = Sieve([receiver, receiver6])
        for source in (("127.0.0.1", 9), blocked.getsockname(), six.getsockname()[:2]):
            sieve.block(source, 0)
        for each in (blocked, free):
            each.sendto(str(each is free).encode(), receiver.getsockname())
        six.sendto(b"blocked", receiver6.getsockname())
        assert receiver.recv(100) == b"True"
        sieve.expire(10**18)
        blocked.sendto(b"again", receiver.getsockname())
        six.sendto(b"again", receiver6.getsockname())
        assert receiver.recv(100) == receiver6.recv(100) == b"again"


# --- STUN --------------------------------------------------------------------------------------


def test_it_says_over_stun_where_it_sees_the_sender(
    relay: Relay, sockets: list[socket.socket]
) -> None:
    sockets[0].sendto(stun.request(bytes(12)), relay.address)
    answer = stun.parse(sockets[0].recv(2048))
    assert answer is not None
    assert answer.mapped == sockets[0].getsockname()


@pytest.mark.parametrize(
    ("change", "host", "moved"),
    [(0, "127.0.0.1", 0), (2, "127.0.0.1", None), (4, "127.0.0.2", 0), (6, "127.0.0.2", 1)],
)
def test_with_a_second_address_it_answers_from_where_it_is_asked_to(
    change: int, host: str, moved: int | None
) -> None:
    with closing(udp()) as free:
        port = free.getsockname()[1]
    with Relay(port=port, alternate="127.0.0.2") as relay, closing(udp()) as asking:
        question = stun.encode(
            stun.BINDING_REQUEST,
            stun.COOKIE + bytes(12),
            [(stun.CHANGE_REQUEST.number, struct.pack("!I", change))],
            fingerprint=True,
        )
        asking.sendto(question, relay.address)
        datagram, source = asking.recvfrom(2048)
        assert source[0] == host
        assert source[1] - port == moved or (moved is None and source[1] not in (port, port + 1))
        answer = stun.parse(datagram)
        assert answer is not None
        assert answer.get(stun.OTHER_ADDRESS) == ("127.0.0.2", port + 1)


# --- the command -------------------------------------------------------------------------------


def start(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lanrage", "relay", "--listen", "127.0.0.1:0", *options]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in text.split()]


def test_the_command_says_where_it_is_and_ends_when_told() -> None:
    with start("--json") as process:
        assert process.stdout is not None
        ready = msgspec.json.decode(process.stdout.readline())
        assert ready["ready"] is True
        assert ready["relay"] == f"127.0.0.1:{ready['port']}"
        assert len(bytes.fromhex(ready["public_key"])) == 32
        (child,) = children(process.pid)
        for pid in (process.pid, child):
            status = Path(f"/proc/{pid}/status").read_text()
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0
    assert not Path(f"/proc/{child}").exists()


def test_when_its_packets_stop_the_command_says_so_and_ends() -> None:
    with start("--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(children(process.pid)[0], signal.SIGKILL)
        _, said = process.communicate(timeout=WITHIN_S)
        assert process.returncode == 1
        assert "forwarding process ended" in said


def test_a_taken_port_is_refused_in_words(relay: Relay) -> None:
    command = [sys.executable, "-m", "lanrage", "relay", "--listen"]
    done = subprocess.run(
        [*command, f"127.0.0.1:{relay.address[1]}"],
        cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "another program uses it" in done.stderr


# --- what operators install --------------------------------------------------------------------


def test_the_unit_gives_the_relay_as_little_as_it_needs() -> None:
    lines = set((DEPLOY / "lanrage-relay.service").read_text().splitlines())
    assert lines >= {
        "DynamicUser=yes",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateDevices=yes",
        "PrivateTmp=yes",
        "ProtectProc=invisible",
        "ProcSubset=pid",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources",
        "UMask=0077",
        "LimitCORE=0",
    }


def test_the_options_in_unit_and_container_exist() -> None:
    from lanrage.cli import parser

    unit = (DEPLOY / "lanrage-relay.service").read_text()
    start_line = unit.partition("ExecStart=")[2].partition("\n\n")[0].partition("\nRestart")[0]
    words = start_line.replace("\\\n", " ").split()
    assert words[1] == "relay"
    parser().parse_args(words[1:])
    container = (DEPLOY / "Dockerfile").read_text()
    example = container.partition("lanrage-relay \\\n#")[2].partition("\n#\n")[0]
    assert "--listen" in example
    parser().parse_args(["relay", *example.split()])
    assert "USER 65534:65534" in container
