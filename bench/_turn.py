"""coturn on loopback, and just enough of a TURN client (RFC 8656) to send through it.

One side allocates an address at the server and binds a channel to the other: then its datagrams
need four bytes of header, as ours have, and the server forwards each with one read and one send.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import subprocess
import time
from pathlib import Path

from lanrage.protocols import stun
from lanrage.protocols.endpoint import Address

USER, PASSWORD, REALM = "bench", "bench", "bench"
ALLOCATE, CHANNEL_BIND = 0x0003, 0x0009
SUCCESS, ERROR = 0x0100, 0x0110
INTEGRITY, USERNAME, CHANNEL, PEER, REALM_IS, NONCE, TRANSPORT = (
    *(0x0008, 0x0006, 0x000C, 0x0012, 0x0014, 0x0015, 0x0019),
)
UDP = bytes((17, 0, 0, 0))
FIRST_CHANNEL = 0x4000
WITHIN_S = 5.0


def start(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """A server without TLS, log and database; one that lets loopback be a peer."""
    options = {
        "listening-ip": "127.0.0.1",
        "relay-ip": "127.0.0.1",
        "listening-port": str(port),
        "user": f"{USER}:{PASSWORD}",
        "realm": REALM,
        "userdb": str(folder / "turn.sqlite"),
        "pidfile": str(folder / "turn.pid"),
        "log-file": "/dev/null",
    }
    flags = ("lt-cred-mech", "allow-loopback-peers", "no-cli", "no-tls", "no-dtls", "simple-log")
    command = ["turnserver", "-n", *(f"--{name}={value}" for name, value in options.items())]
    command += [f"--{flag}" for flag in flags]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.1)
        end = time.monotonic() + WITHIN_S
        while time.monotonic() < end:
            probe.sendto(stun.request(os.urandom(12)), ("127.0.0.1", port))
            try:
                probe.recv(2048)
            except (TimeoutError, ConnectionError):
                continue
            return server
    server.kill()
    server.wait()
    raise RuntimeError("turnserver does not answer")


def join(made: socket.socket, server: Address, peer: Address) -> bytes:
    """Allocate and bind a channel to `peer`; the header for what is sent there, but its length."""
    made.settimeout(WITHIN_S)
    refused = _ask(made, server, ALLOCATE, [(TRANSPORT, UDP)])
    assert refused.type == ALLOCATE | ERROR, refused
    login = [
        (USERNAME, USER.encode()),
        (REALM_IS, refused.attributes[REALM_IS]),
        (NONCE, refused.attributes[NONCE]),
    ]
    allocated = _ask(made, server, ALLOCATE, [(TRANSPORT, UDP), *login], sign=True)
    assert allocated.type == ALLOCATE | SUCCESS, allocated
    transaction = stun.COOKIE + os.urandom(12)
    where = stun.XOR_MAPPED_ADDRESS.pack(peer, transaction)
    channel = (CHANNEL, FIRST_CHANNEL.to_bytes(2, "big") + bytes(2))
    bound = _ask(
        made, server, CHANNEL_BIND, [channel, (PEER, where), *login], transaction, sign=True
    )
    assert bound.type == CHANNEL_BIND | SUCCESS, bound
    made.settimeout(None)
    return FIRST_CHANNEL.to_bytes(2, "big")


def _ask(
    made: socket.socket,
    server: Address,
    kind: int,
    attributes: list[tuple[int, bytes]],
    transaction: bytes = b"",
    *,
    sign: bool = False,
) -> stun.Message:
    transaction = transaction or stun.COOKIE + os.urandom(12)
    if sign:
        attributes = [*attributes, (INTEGRITY, bytes(20))]
    message = stun.encode(kind, transaction, attributes, fingerprint=False)
    if sign:
        key = hashlib.md5(f"{USER}:{REALM}:{PASSWORD}".encode()).digest()
        message = message[:-20] + hmac.digest(key, message[:-24], "sha1")
    made.sendto(message, server)
    answer = stun.parse(made.recv(2048))
    assert answer is not None
    return answer
