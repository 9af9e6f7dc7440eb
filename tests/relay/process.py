"""The relay's process with the packets, on loopback or in a namespace, and what it says."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import wire
from lanrage.relay.forward import Busy, Plan, Ready, Said
from lanrage.tunnel.framing import Unframer, frame
from tests.relay.members import RELAY_SEED, TICKET_KEY
from tests.tunnel.pair import ROOT, WITHIN_S


class Relay:
    """`command` wraps the start: into a namespace, say."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        command: Callable[..., list[str]] = lambda *words: list(words),
        **plan: Any,
    ) -> None:
        self._near, far = socket.socketpair()
        with far:
            words = command(sys.executable, "-m", "lanrage.relay.forward", str(far.fileno()))
            self.process = subprocess.Popen(words, pass_fds=[far.fileno()], cwd=ROOT)
        self._unframer = Unframer(msgspec.msgpack.Decoder(Said))
        self._unread: list[Said] = []
        facts = {"port": 0, "shown": "", "boot": os.urandom(wire.BOOT_BYTES), **plan}
        made = Plan(host=host, private_key=RELAY_SEED, ticket_key=TICKET_KEY, **facts)
        self.boot = made.boot
        self._near.sendall(frame(made))
        ready = self.hear()
        assert isinstance(ready, Ready), ready
        self.address: Address = (host, ready.port)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._near.close()
        assert self.process.wait(WITHIN_S) == 0

    def hear(self) -> Said:
        while not self._unread:
            assert select.select([self._near], [], [], WITHIN_S)[0], "it says nothing"
            heard = self._unframer.feed(self._near.recv(65_536))
            assert heard is not None
            self._unread += heard
        return self._unread.pop(0)

    def hear_busy(self, holds: Callable[[Busy], bool]) -> Busy:
        """Until it says so, once a second."""
        while True:
            said = self.hear()
            assert isinstance(said, Busy)
            if holds(said):
                return said


def udp(host: str = "127.0.0.1") -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((host, 0))
    made.settimeout(WITHIN_S)
    return made
