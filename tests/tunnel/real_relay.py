"""The relay's own process on a lab's server, with tickets that we issue instead of a control."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from lanrage.lab import namespaces
from lanrage.lab.lab import Computer
from lanrage.protocols import endpoint
from lanrage.protocols.relay import ticket, wire
from lanrage.relay.forward import Busy, Plan, Ready, Said
from lanrage.tunnel.framing import Unframer, frame
from lanrage.tunnel.messages import RelayGrant
from tests.tunnel.pair import ROOT, WITHIN_S

SEED = bytes([77]) * 32
TICKET_KEY = bytes([78]) * 32
PORT = 3478
FRONT = f"""
import asyncio
from lanrage.relay import front

async def main():
    door = await front.serve(("0.0.0.0", 443), {PORT})
    print(door.pin, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class RealRelay:
    def __init__(self, server: Computer) -> None:
        self.name = endpoint.text((server.address, PORT))
        self.forwarded = 0  # packets, up to a second ago
        self._server = server
        self._pin = ""
        self._start()

    def open_front(self) -> None:
        """Let members in over TCP, too."""
        front = self._server.popen([sys.executable, "-c", FRONT], stdout=subprocess.PIPE)
        assert front.stdout is not None
        assert select.select([front.stdout], [], [], WITHIN_S)[0], "it says nothing"
        self._pin = front.stdout.readline().decode().strip()
        assert len(self._pin) == 64

    def close(self) -> None:
        self._ours.close()
        self._process.kill()
        self._process.wait(WITHIN_S)

    def restart(self) -> None:
        """It forgets everybody."""
        self.close()
        self._start()

    def grant(self, member: int, public_key: bytes) -> RelayGrant:
        holder = ticket.Ticket(bytes(16), member, public_key, int(time.time()) + ticket.LIFE_S)
        return RelayGrant(
            relay=self.name,
            addresses=(self.name,),
            region="lab",
            tcp=f"wss://{self._server.address}:443/" if self._pin else "",
            pin=self._pin,
            public_key=X25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw(),
            boot=self._boot,
            ticket=ticket.issue(holder, TICKET_KEY),
        )

    def forwards(self, packets: int) -> None:
        """Until it says that it has forwarded so many."""
        while self.forwarded < packets:
            said = self._hear()
            if isinstance(said, Busy):
                self.forwarded = said.packets

    def _start(self) -> None:
        self._boot = os.urandom(wire.BOOT_BYTES)
        self._ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "lanrage.relay.forward", str(theirs.fileno())]
            self._process = subprocess.Popen(
                namespaces.exec_argv(self._server.namespace, command),
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
            )
        self._unframer = Unframer(msgspec.msgpack.Decoder(Said))
        self._unread: list[Said] = []
        self._ours.sendall(
            frame(
                Plan(
                    host="",
                    port=PORT,
                    shown="",
                    private_key=SEED,
                    ticket_key=TICKET_KEY,
                    boot=self._boot,
                )
            )
        )
        assert isinstance(self._hear(), Ready)

    def _hear(self) -> Said:
        while not self._unread:
            assert select.select([self._ours], [], [], WITHIN_S)[0], "it says nothing"
            heard = self._unframer.feed(self._ours.recv(65_536))
            assert heard is not None
            self._unread += heard
        return self._unread.pop(0)
