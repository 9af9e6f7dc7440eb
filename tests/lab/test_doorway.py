"""A port of the host's loopback that leads into a namespace."""

from __future__ import annotations

import socket

import pytest

from lanrage.lab.doorway import Doorway
from lanrage.lab.lab import Lab
from lanrage.lab.topology import two_homes

pytestmark = pytest.mark.root
CONTENT = b"0123456789" * 50_000


def test_connections_are_carried_to_the_same_port_inside_and_back() -> None:
    with Lab(two_homes(0.0)) as lab:
        alice = lab.computer("alice")
        doorway = Doorway()
        try:
            inner = alice.socket(socket.SOCK_STREAM)
            inner.bind(("127.0.0.1", doorway.port))
            inner.listen()
            doorway.open_to(alice)
            with socket.create_connection(("127.0.0.1", doorway.port), timeout=5) as outer:
                accepted, _ = inner.accept()
                with accepted:
                    outer.sendall(b"GET /")
                    assert accepted.recv(100) == b"GET /"
                    accepted.sendall(CONTENT)
                with outer.makefile("rb") as answer:
                    assert answer.read() == CONTENT
        finally:
            doorway.close()


def test_nothing_behind_the_door_ends_the_connection() -> None:
    with Lab(two_homes(0.0)) as lab:
        doorway = Doorway()
        try:
            doorway.open_to(lab.computer("alice"))
            with socket.create_connection(("127.0.0.1", doorway.port), timeout=5) as outer:
                assert outer.recv(100) == b""
        finally:
            doorway.close()
