"""The relay's side: who is registered, and where a datagram goes on. Pure: batch in, batches out.

The kernel hands over datagrams of one sender end to end (UDP_GRO). Whatever arrives is one of
three: a control message (wire.py), a relayed datagram of a registered member, or noise, which is
answered with silence. A member is known by the address from which it gave a valid Answer; nothing
else ever makes or moves a registration. A relayed batch whose datagrams all go to one member, the
usual case, is forwarded as the very bytes that came.

A stranger learns nothing and costs little: the ticket is checked first (one HMAC), the cookie next,
and only then, within a budget, the Diffie-Hellman that proves whose ticket it is. No answer is
longer than the question, so nobody can be flooded by way of a relay.

Members pay from budgets of bytes and of packets, refilled every moment, so that one who floods is
cut down to a share and the others do not notice.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2s
from typing import TypeAlias

from lanrage.protocols.endpoint import Address
from lanrage.protocols.relay import ticket, wire

S = 1_000_000_000
LIFE_NS = 60 * S  # of a registration without a beat; members beat each 15 to 20 s
SECRET_NS = 120 * S  # of the cookies' secret; the one before still counts
MEMBERS_MAX = 4096
EXCHANGES_BURST, EXCHANGES_PER_S = 64, 32  # Diffie-Hellman for Answers
STRANGERS_BURST, STRANGERS_PER_S = 256, 128  # Stranger messages in all
STRANGER_SPACING_NS = S // 5  # and to one source
SOURCES_MAX = 4096  # strangers remembered for that
BYTES_BURST, BYTES_PER_S = 4 << 20, 12_500_000  # of one member: 100 Mbit/s
PACKETS_BURST, PACKETS_PER_S = 8_000, 20_000
SWEEP_NS = 5 * S

Outgoing: TypeAlias = tuple[Address, bytes, int]  # to whom, datagrams end to end, size of each


@dataclass(slots=True)
class Bucket:
    """Tokens: `burst` at once, refilled at `per_s`."""

    burst: int
    per_s: int
    spent: float = 0.0
    at_ns: int = 0

    def take(self, count: int, now_ns: int) -> bool:
        spent = max(0.0, self.spent - (now_ns - self.at_ns) * self.per_s / S)
        self.at_ns = now_ns
        fits = spent + count <= self.burst
        self.spent = spent + count if fits else spent
        return fits


@dataclass(slots=True, eq=False)
class Member:
    """One registered member. `group` holds all of its party, by number."""

    number: int
    key: bytes
    keys: wire.Keys
    address: Address
    group: dict[int, Member]
    heard_ns: int
    bytes: Bucket = field(default_factory=lambda: Bucket(BYTES_BURST, BYTES_PER_S))
    packets: Bucket = field(default_factory=lambda: Bucket(PACKETS_BURST, PACKETS_PER_S))


class Forwarder:
    """`drops` counts what was thrown away, by reason; the reasons are a closed set."""

    def __init__(
        self,
        *,
        private_key: bytes,
        ticket_key: bytes,
        boot: bytes,
        random: Callable[[int], bytes],
        wall_offset_ns: int,
    ) -> None:
        """`wall_offset_ns`: what to add to `now_ns` for Unix time, by which tickets expire."""
        self.boot = boot
        self.drops: dict[str, int] = {}
        self.forwarded_bytes = 0
        self.forwarded_packets = 0
        self._private_key = private_key
        self._ticket_key = ticket_key
        self._random = random
        self._wall_offset_ns = wall_offset_ns
        self._secrets = (random(32), random(32))
        self._secret_until_ns = 0
        self._by_address: dict[Address, Member] = {}
        self._parties: dict[bytes, dict[int, Member]] = {}
        self._exchanges = Bucket(EXCHANGES_BURST, EXCHANGES_PER_S)
        self._strangers = Bucket(STRANGERS_BURST, STRANGERS_PER_S)
        self._told: OrderedDict[Address, int] = OrderedDict()  # strangers -> when told
        self._sweep_ns = 0

    @property
    def members(self) -> int:
        return len(self._by_address)

    def receive(self, data: bytes, size: int, source: Address, now_ns: int) -> list[Outgoing]:
        """Datagrams of one sender end to end, `size` bytes each but the last. Never raises."""
        member = self._by_address.get(source)
        if member is not None and size >= wire.RELAYED_MIN and data[0] in wire.RELAYED:
            return self._forward(member, data, size, now_ns)
        out: list[Outgoing] = []
        for at in range(0, len(data), size):
            out += self._receive_one(data[at : at + size], source, now_ns)
        return out

    def sweep(self, now_ns: int) -> None:
        """Forget who has not been heard for long. Call it now and then."""
        if now_ns < self._sweep_ns:
            return
        self._sweep_ns = now_ns + SWEEP_NS
        for member in list(self._by_address.values()):
            if now_ns - member.heard_ns > LIFE_NS:
                self._forget(member)

    # --- relayed datagrams ----------------------------------------------------------------------

    def _forward(self, member: Member, data: bytes, size: int, now_ns: int) -> list[Outgoing]:
        count = -(-len(data) // size)
        if not member.packets.take(count, now_ns) or not member.bytes.take(len(data), now_ns):
            self._drop("budget", count)
            return []
        if self._is_uniform(data, size, count):
            return self._forward_run(member, data, size, count)
        out: list[Outgoing] = []
        for at in range(0, len(data), size):
            datagram = data[at : at + size]
            if wire.is_relayed(datagram):
                out += self._forward_run(member, datagram, len(datagram), 1)
            else:
                out += self._receive_one(datagram, member.address, now_ns)
        return out

    def _is_uniform(self, data: bytes, size: int, count: int) -> bool:
        """Whether all datagrams carry one number, looked up without a loop over them."""
        if count == 1:
            return True
        last = len(data) - (count - 1) * size
        return last >= wire.RELAYED_MIN and all(
            data[at::size].count(data[at]) == count for at in (1, 2, 3)
        )

    def _forward_run(self, member: Member, data: bytes, size: int, count: int) -> list[Outgoing]:
        sender, receiver = data[1] << 4 | data[2] >> 4, (data[2] & 15) << 8 | data[3]
        if sender != member.number:
            self._drop("not_its_number", count)
            return []
        to = member.group.get(receiver)
        if to is None or to is member:
            self._drop("no_receiver", count)
            return []
        self.forwarded_bytes += len(data)
        self.forwarded_packets += count
        return [(to.address, data, size)]

    # --- control messages -----------------------------------------------------------------------

    def _receive_one(self, datagram: bytes, source: Address, now_ns: int) -> list[Outgoing]:
        if wire.is_relayed(datagram):
            return self._tell_stranger(datagram, source, now_ns)
        if not wire.is_control(datagram):
            self._drop("noise")
            return []
        kind = wire.kind_of(datagram)
        answer: bytes | None = None
        if kind == wire.BIND:
            answer = self._challenge(datagram, source, now_ns)
        elif kind == wire.ANSWER:
            answer = self._welcome(datagram, source, now_ns)
        elif kind == wire.BEAT:
            answer = self._beaten(datagram, source, now_ns)
        return [] if answer is None else [(source, answer, len(answer))]

    def _challenge(self, datagram: bytes, source: Address, now_ns: int) -> bytes | None:
        message = wire.read(datagram)
        if not isinstance(message, wire.Bind) or self._ticket(message, now_ns) is None:
            return self._refused("ticket")
        cookie = self._cookies(source, message.ticket, now_ns)[0]
        return wire.challenge(wire.Challenge(message.nonce, self.boot, cookie))

    def _welcome(self, datagram: bytes, source: Address, now_ns: int) -> bytes | None:
        message = wire.read(datagram)
        holder = self._ticket(message, now_ns) if isinstance(message, wire.Bind) else None
        if not isinstance(message, wire.Bind) or holder is None:
            return self._refused("ticket")
        cookies = self._cookies(source, message.ticket, now_ns)
        if not any(hmac.compare_digest(message.cookie, cookie) for cookie in cookies):
            return self._refused("cookie")
        keys = self._keys(holder, now_ns)
        if keys is None or not wire.is_sealed(datagram, keys):
            return self._refused("answer")
        if not self._register(holder, keys, source, now_ns):
            return self._refused("full")
        life_s = LIFE_NS // S
        return wire.welcome(wire.Welcome(message.nonce, self.boot, life_s, source), keys)

    def _keys(self, holder: ticket.Ticket, now_ns: int) -> wire.Keys | None:
        """Who is registered with this key already needs no new exchange."""
        known = self._parties.get(holder.party, {}).get(holder.member)
        if known is not None and known.key == holder.public_key:
            return known.keys
        if not self._exchanges.take(1, now_ns):
            return None
        return wire.derive(self._private_key, holder.public_key, relay=True)

    def _register(
        self, holder: ticket.Ticket, keys: wire.Keys, source: Address, now_ns: int
    ) -> bool:
        group = self._parties.setdefault(holder.party, {})
        for old in (group.get(holder.member), self._by_address.get(source)):
            if old is not None:
                self._forget(old)
        if len(self._by_address) >= MEMBERS_MAX:
            if not group:
                self._parties.pop(holder.party, None)
            return False
        group = self._parties.setdefault(holder.party, group)
        member = Member(holder.member, holder.public_key, keys, source, group, now_ns)
        group[holder.member] = self._by_address[source] = member
        self._told.pop(source, None)
        return True

    def _forget(self, member: Member) -> None:
        if self._by_address.get(member.address) is member:
            del self._by_address[member.address]
        if member.group.get(member.number) is member:
            del member.group[member.number]
        for party in [name for name, group in self._parties.items() if group is member.group]:
            if not member.group:
                del self._parties[party]

    def _beaten(self, datagram: bytes, source: Address, now_ns: int) -> bytes | None:
        member = self._by_address.get(source)
        if member is None:
            told = self._tell_stranger(datagram, source, now_ns)
            return told[0][1] if told else None
        message = wire.read(datagram)
        if not isinstance(message, wire.Beat) or not wire.is_sealed(datagram, member.keys):
            return self._refused("beat")
        member.heard_ns = now_ns
        return wire.beaten(wire.Beat(self.boot, message.counter), member.keys)

    def _tell_stranger(self, datagram: bytes, source: Address, now_ns: int) -> list[Outgoing]:
        """No registration: say so, rarely, and never at greater length than was asked."""
        told_ns = self._told.get(source)
        if told_ns is not None and now_ns - told_ns < STRANGER_SPACING_NS:
            return []
        if len(datagram) < wire.STRANGER_SIZE or not self._strangers.take(1, now_ns):
            return []
        self._told[source] = now_ns
        self._told.move_to_end(source)
        if len(self._told) > SOURCES_MAX:
            self._told.popitem(last=False)
        self._drop("stranger")
        return [(source, wire.stranger(wire.Stranger(self.boot)), wire.STRANGER_SIZE)]

    def _ticket(self, message: wire.Bind, now_ns: int) -> ticket.Ticket | None:
        now_s = (now_ns + self._wall_offset_ns) // S
        return ticket.check(message.ticket, self._ticket_key, now_s)

    def _cookies(self, source: Address, text: bytes, now_ns: int) -> tuple[bytes, bytes]:
        """Under the present secret and the one before."""
        if now_ns >= self._secret_until_ns:
            self._secrets = (self._random(32), self._secrets[0])
            self._secret_until_ns = now_ns + SECRET_NS
        place = f"{source[0]} {source[1]} ".encode() + text
        size = wire.COOKIE_BYTES
        now, before = (blake2s(place, digest_size=size, key=k).digest() for k in self._secrets)
        return now, before

    def _refused(self, reason: str) -> bytes | None:
        """Silence, and a count."""
        self._drop(reason)
        return None

    def _drop(self, reason: str, count: int = 1) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + count
