"""A forwarder, and members that bind to it by hand: every byte on its way passes the test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import ticket, wire
from lanrage.protocols.relay.budget import Rate
from lanrage.protocols.relay.forwarder import MEMBER_RATE, Forwarder
from tests.protocols.relay.answering import keys_of, public

SECOND = 1_000_000_000
RELAY_SEED, TICKET_KEY, BOOT = bytes([3]) * 32, bytes([4]) * 32, b"boot-one"
UNIX_S = 1_800_000_000
PARTY, OTHER_PARTY = b"party of sixteen", b"another of those"


def random() -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        yield bytes([number % 256])


@dataclass
class Person:
    """Owns the key `seed`; `number` in its party."""

    number: int
    address: Address
    party: bytes = PARTY
    seed: bytes = b""
    expires_s: int = UNIX_S + ticket.LIFE_S
    nonces: int = field(default=0)

    def __post_init__(self) -> None:
        self.seed = self.seed or self.number.to_bytes(2, "big") + bytes(30)

    @property
    def keys(self) -> wire.Keys:
        return keys_of(self.seed, RELAY_SEED, relay=False)

    def ticket(self, key: bytes = TICKET_KEY) -> bytes:
        claim = ticket.Ticket(self.party, self.number, public(self.seed), self.expires_s)
        return ticket.issue(claim, key)

    def ask(self) -> bytes:
        self.nonces += 1
        return wire.bind(wire.Bind(self.nonces.to_bytes(8, "big"), self.ticket()))

    def answer(self, challenge: bytes, keys: wire.Keys | None = None) -> bytes:
        said = wire.read(challenge)
        assert isinstance(said, wire.Challenge)
        return wire.answer(
            wire.Bind(said.nonce, self.ticket(), said.boot, said.cookie), keys or self.keys
        )


class Desk:
    """The forwarder with its clock."""

    def __init__(self, rate: Rate = MEMBER_RATE) -> None:
        self.now_ns = 1000 * SECOND
        source = random()
        self.core = Forwarder(
            private_key=RELAY_SEED,
            ticket_key=TICKET_KEY,
            boot=BOOT,
            random=lambda size: next(source) * size,
            wall_offset_ns=self.wall_offset_ns,
            now_ns=self.now_ns,
            member_rate=rate,
        )

    @property
    def wall_offset_ns(self) -> int:
        return (UNIX_S - 1000) * SECOND

    def wait(self, seconds: float) -> None:
        """Time passes, and the timer fires when it is due."""
        end_ns = self.now_ns + int(seconds * SECOND)
        while (due := self.core.timer()) is not None and due <= end_ns:
            self.now_ns = max(self.now_ns, due)
            self.core.handle_timer(self.now_ns, self.wall_offset_ns)
        self.now_ns = end_ns

    def hand(self, data: bytes, source: Address, size: int = 0) -> list[tuple[Address, bytes]]:
        """Hand it a batch; the datagrams that leave, one by one."""
        self.core.receive(data, size or len(data), source, self.now_ns)
        left: list[tuple[Address, bytes]] = []
        for run in self.core.take_outgoing():
            whole = b"".join(run.buffers)
            cut = [whole[at : at + run.size] for at in range(0, len(whole), run.size)]
            assert len(cut) == run.count
            left += [(run.address, datagram) for datagram in cut]
        return left

    def one(self, datagram: bytes, source: Address) -> bytes:
        """What it answers to the sender, and to nobody else."""
        ((to, reply),) = self.hand(datagram, source)
        assert to == source
        return reply

    def bind(self, person: Person) -> None:
        reply = self.one(person.answer(self.one(person.ask(), person.address)), person.address)
        assert isinstance(wire.read(reply), wire.Welcome)
        assert wire.is_sealed(reply, person.keys)

    def drops(self) -> set[str]:
        return set(self.core.drops)


def data(sender: int, receiver: int, size: int = 100, kind: int = 4, fill: int = 0) -> bytes:
    """A relayed WireGuard message."""
    head = (kind << 24 | wire.number(sender, receiver)).to_bytes(4, "big")
    return head + bytes([fill]) * (size - 4)
