"""A relay in a few lines, on a socket of a lab's server: it checks nothing that it need not."""

from __future__ import annotations

import asyncio
import socket

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from lanrage.protocols import endpoint
from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import ticket, wire
from lanrage.tunnel.messages import RelayGrant

SEED = bytes([77]) * 32
TICKET_KEY = bytes([78]) * 32
COOKIE = bytes([79]) * 16
PORT = 3478
NEVER_S = 1 << 40


class SmallRelay:
    def __init__(self, made: socket.socket, host: str) -> None:
        self.forwarded = 0
        self.boot = b"boot 1  "
        self.name = endpoint.text((host, PORT))
        # A standard WireGuard, which binds to nothing: its number, and whom it talks to.
        self.phone: tuple[int, ...] = ()
        self._phone_at: Address | None = None
        self._members: dict[int, Address] = {}
        self._numbers: dict[Address, int] = {}
        self._keys: dict[int, wire.Keys] = {}
        self._socket = made
        made.setblocking(False)
        made.bind(("0.0.0.0", PORT))
        asyncio.get_running_loop().add_reader(made.fileno(), self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def restart(self) -> None:
        """It forgets everybody."""
        self.boot = b"boot 2  "
        self._members.clear()
        self._numbers.clear()

    def grant(self, member: int, public_key: bytes) -> RelayGrant:
        pass_ = ticket.Ticket(bytes(16), member, public_key, NEVER_S)
        return RelayGrant(
            relay=self.name,
            addresses=(self.name,),
            region="lab",
            tcp="",
            pin="",
            public_key=X25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw(),
            boot=self.boot,
            ticket=ticket.issue(pass_, TICKET_KEY),
        )

    def _read(self) -> None:
        while True:
            try:
                datagram, source = self._socket.recvfrom(65_535)
            except BlockingIOError:
                return
            if datagram[1:4] == bytes(3) and datagram[0] in wire.RELAYED and self.phone:
                self._from_phone(datagram, source)
            elif wire.is_control(datagram):
                self._answer(datagram, source)
            elif wire.is_relayed(datagram):
                self._forward(datagram, source)

    def _from_phone(self, datagram: bytes, source: Address) -> None:
        sender, receiver = self.phone
        self._phone_at = source
        self._socket.sendto(
            wire.stamp(datagram, wire.number(sender, receiver)), self._members[receiver]
        )

    def _forward(self, datagram: bytes, source: Address) -> None:
        sender, receiver = wire.ends(wire.number_of(datagram))
        if self._numbers.get(source) != sender:
            self._socket.sendto(wire.stranger(wire.Stranger(self.boot)), source)
        elif receiver in self.phone[:1] and self._phone_at is not None:
            self._socket.sendto(wire.unstamp(datagram), self._phone_at)
        elif receiver in self._members:
            self.forwarded += 1
            self._socket.sendto(datagram, self._members[receiver])

    def _answer(self, datagram: bytes, source: Address) -> None:
        message, kind = wire.read(datagram), wire.kind_of(datagram)
        if isinstance(message, wire.Bind) and kind == wire.BIND:
            said = wire.challenge(wire.Challenge(message.nonce, self.boot, COOKIE))
        elif isinstance(message, wire.Bind):
            said = self._welcome(message, datagram, source)
        elif source not in self._numbers:
            said = wire.stranger(wire.Stranger(self.boot))
        else:
            assert isinstance(message, wire.Beat)
            beaten = wire.Beat(self.boot, message.counter)
            said = wire.beaten(beaten, self._keys[self._numbers[source]])
        self._socket.sendto(said, source)

    def _welcome(self, message: wire.Bind, datagram: bytes, source: Address) -> bytes:
        checked = ticket.check(message.ticket, TICKET_KEY, 0)
        assert checked is not None
        keys = wire.derive(SEED, checked.public_key, relay=True)
        assert keys is not None
        assert wire.is_sealed(datagram, keys)
        self._numbers.pop(self._members.get(checked.member, source), None)
        self._members[checked.member], self._numbers[source] = source, checked.member
        self._keys[checked.member] = keys
        return wire.welcome(wire.Welcome(message.nonce, self.boot, 60, source), keys)
