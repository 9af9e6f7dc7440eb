"""A relay of a few lines, for one member, that answers as wire.py says."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import wire

MEMBER_SEED, RELAY_SEED = bytes([1]) * 32, bytes([2]) * 32
TICKET = bytes(range(wire.TICKET_BYTES))


def public(seed: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def keys_of(seed: bytes, other: bytes, *, relay: bool) -> wire.Keys:
    keys = wire.derive(seed, public(other), relay=relay)
    assert keys is not None
    return keys


class Relay:
    """Answers as wire.py says, forgets everybody when it is started again."""

    def __init__(self) -> None:
        self.keys = keys_of(RELAY_SEED, MEMBER_SEED, relay=True)
        self.boot = b"boot-one"
        self.bound_over: Address | None = None  # which of its addresses the member used last
        self.observed: Address = ("198.51.100.7", 40_000)
        self.heard: list[tuple[int, int]] = []  # when, what kind

    def restart(self) -> None:
        self.boot, self.bound_over = b"boot-two", None

    def answer(self, datagram: bytes, over: Address, now_ns: int) -> bytes | None:
        message = wire.read(datagram)
        self.heard.append((now_ns, wire.kind_of(datagram)))
        if wire.kind_of(datagram) == wire.BIND:
            assert isinstance(message, wire.Bind)
            assert message.ticket == TICKET
            return wire.challenge(wire.Challenge(message.nonce, self.boot, b"c" * 16))
        if wire.kind_of(datagram) == wire.ANSWER:
            assert isinstance(message, wire.Bind)
            assert wire.is_sealed(datagram, self.keys)
            assert message.cookie == b"c" * 16
            if message.boot != self.boot:
                return None  # its cookie is from before the restart
            self.bound_over = over
            return wire.welcome(
                wire.Welcome(message.nonce, self.boot, 60, self.observed), self.keys
            )
        assert isinstance(message, wire.Beat)
        assert wire.is_sealed(datagram, self.keys)
        if self.bound_over != over:
            return wire.stranger(wire.Stranger(self.boot))
        return wire.beaten(wire.Beat(self.boot, message.counter), self.keys)
