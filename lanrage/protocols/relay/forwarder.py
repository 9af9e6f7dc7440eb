"""The relay itself: batches in, batches out, and not one byte of them read beyond the header. Pure.

A datagram's number names its sender and its receiver (wire.py). The sender must be the member that
is bound to the source address, the receiver a bound member of the same party, and both are looked
up, so nothing that anybody sends changes where anything goes; only an Answer does (registry.py).

A batch that arrived as one, from one member to one other, leaves as one: its numbers are compared
by four strided slices, and its bytes are not touched. Any other batch is taken apart, and the
outbox puts together again what goes to the same address.

Each member has a budget of bytes, in which a small packet counts as `PACKET_BYTES_MIN`; what is
beyond is dropped and counted, and costs no more than reading it. Who makes that cost much, with
`FLOOD_READS` reads in vain within `FLOOD_NS`, is named in `take_floods`: better not to read it at
all for a while. What is not understood gets no answer. `drops` counts by reason, and there are as
many reasons as places that drop.
"""

from __future__ import annotations

from collections.abc import Callable

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import wire
from lanrage.protocols.relay.budget import SECOND, Rate
from lanrage.protocols.relay.guests import Guests, Sent
from lanrage.protocols.relay.outbox import Outbox, Run
from lanrage.protocols.relay.registry import PACKET_BYTES_MIN, Member, Registry

BURST_SHARE = 20  # of what a second allows: 50 ms at once
MEMBER_RATE = Rate(12_500_000, 12_500_000 // BURST_SHARE)  # bytes: 100 Mbit/s
SWEEP_NS = 5 * SECOND
READ_BYTES = 16_384  # so many more cost as much as another read
FLOOD_READS, FLOOD_NS = 1_000, SECOND // 5  # a download that is held back wastes a tenth of it

_KINDS = bytes(sorted(wire.RELAYED))
_UNNUMBERED = b"\0\0\0"


class Forwarder:
    """`receive` what comes, then send what is in `take_outgoing`; `handle_timer` when due.

    `wall_offset_ns` is Unix time minus the clock of the `now_ns` arguments, for tickets. The rate
    is in bytes.
    """

    def __init__(
        self,
        *,
        private_key: bytes,
        ticket_key: bytes,
        boot: bytes,
        random: Callable[[int], bytes],
        wall_offset_ns: int,
        now_ns: int,
        member_rate: Rate = MEMBER_RATE,
    ) -> None:
        self.drops: dict[str, int] = {}
        self.packets = 0  # forwarded
        self.bytes = 0
        self._registry = Registry(
            private_key=private_key,
            ticket_key=ticket_key,
            boot=boot,
            random=random,
            wall_offset_ns=wall_offset_ns,
            member_rate=member_rate,
            now_ns=now_ns,
        )
        self._at = self._registry.at
        self._guests = Guests(member_rate, now_ns)
        self._outbox = Outbox()
        self._sweep_ns = now_ns + SWEEP_NS
        self._floods: list[Address] = []

    @property
    def members(self) -> int:
        return len(self._at)

    @property
    def guests(self) -> int:
        return len(self._guests)

    def take_outgoing(self) -> list[Run]:
        return self._outbox.take()

    def take_floods(self) -> list[Address]:
        """Who wastes so many reads that others may suffer."""
        taken, self._floods = self._floods, []
        return taken

    def timer(self) -> int | None:
        """When to call `handle_timer`, if there is anybody who could be forgotten."""
        return self._sweep_ns if self._at or len(self._guests) else None

    def handle_timer(self, now_ns: int, wall_offset_ns: int) -> None:
        if now_ns < self._sweep_ns:
            return
        self._sweep_ns = now_ns + SWEEP_NS
        self._registry.wall_offset_ns = wall_offset_ns
        self._registry.expire(now_ns)
        self._guests.expire(now_ns)

    def receive(self, data: bytes, size: int, source: Address, now_ns: int) -> None:
        """Datagrams from one sender end to end, each of `size` bytes but the last."""
        member = self._at.get(source)
        if len(data) <= size:
            self._receive_one(data, member, source, now_ns)
            return
        count = -(-len(data) // size)
        if member is not None and _is_uniform(data, size, count):
            self._forward(data, size, count, member, now_ns)
            return
        for at in range(0, len(data), size):
            self._receive_one(data[at : at + size], self._at.get(source), source, now_ns)

    def _receive_one(
        self, datagram: bytes, member: Member | None, source: Address, now_ns: int
    ) -> None:
        if member is not None and wire.is_relayed(datagram):
            self._forward(datagram, len(datagram), 1, member, now_ns)
        elif wire.is_control(datagram):
            self._reply(self._registry.answer(datagram, source, now_ns), source)
        elif wire.is_relayed(datagram):
            self._reply(self._registry.stranger(source, now_ns), source)
        elif member is None and _is_standard(datagram):
            sent = self._guests.from_outside(datagram, source, self._at, now_ns)
            self._pass_on(sent)
        else:
            self._drop("relay_garbage")

    def _forward(self, data: bytes, size: int, count: int, member: Member, now_ns: int) -> None:
        """Datagrams with one number from a member's address."""
        session = int.from_bytes(data[1:4], "big")
        if session >> wire.MEMBER_BITS != member.number:
            return self._drop("relay_spoofed", count)
        length, least = len(data), count * PACKET_BYTES_MIN
        if not member.budget.take(length if length > least else least, now_ns):
            return self._waste(member, length, count, now_ns)
        member.heard_ns = now_ns
        receiver = session & wire.GUEST_MAX
        if receiver >= wire.GUEST_MIN:
            for at in range(0, length, size):
                self._pass_on(self._guests.from_member(data[at : at + size], member, now_ns))
            return None
        target = member.peers.get(receiver)
        if target is None:
            return self._drop("relay_no_receiver", count)
        self.packets += count
        self.bytes += length
        return self._outbox.put(target.address, data, size, count)

    def _waste(self, member: Member, length: int, count: int, now_ns: int) -> None:
        if now_ns - member.wasted_ns > FLOOD_NS:
            member.wasted, member.wasted_ns = 0, now_ns
        member.wasted += 1 + length // READ_BYTES
        if member.wasted >= FLOOD_READS:
            member.wasted = 0
            self._floods.append(member.address)
        self._drop("relay_budget", count)

    def _pass_on(self, sent: Sent | str) -> None:
        if isinstance(sent, str):
            return self._drop(sent)
        address, datagram = sent
        self.packets += 1
        self.bytes += len(datagram)
        return self._outbox.put(address, datagram, len(datagram), 1)

    def _reply(self, reply: bytes | str, source: Address) -> None:
        if isinstance(reply, str):
            return self._drop(reply)
        return self._outbox.put(source, reply, len(reply), 1)

    def _drop(self, reason: str, count: int = 1) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + count


def _is_uniform(data: bytes, size: int, count: int) -> bool:
    """Whether all datagrams are relayed ones with the same number."""
    return (
        len(data) - (count - 1) * size >= wire.RELAYED_MIN
        and data[1::size] == data[1:2] * count
        and data[2::size] == data[2:3] * count
        and data[3::size] == data[3:4] * count
        and data[1:4] != _UNNUMBERED
        and not data[::size].strip(_KINDS)
    )


def _is_standard(datagram: bytes) -> bool:
    return (
        len(datagram) >= wire.RELAYED_MIN and 1 <= datagram[0] <= 4 and datagram[1:4] == _UNNUMBERED
    )
