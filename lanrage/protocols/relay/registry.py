"""Whom a relay forwards for: members, each bound to the address it has proven. Pure.

    source      message    what happens
    anyone      Bind       a genuine ticket: Challenge, and nothing is remembered
    anyone      Answer     cookie, ticket and MAC are right: the member is bound to this address
    a member    Beat       its MAC is right: Beaten
    a stranger  Beat       Stranger

The cookie in a Challenge is when it was made, in milliseconds, and a keyed BLAKE2s over that, the
address it went to and the ticket. Coming back within `COOKIE_LIFE_MS` it proves that its sender
receives there. Its time also orders Answers: one that was made before the Answer in force moves
nothing, so an Answer recorded on the way is worth nothing later. (A secret that changes every two
minutes, as WireGuard's, would prove the first alone, and for longer.)

A curve multiplication, the only dear step, comes after cookie and ticket, and only for a key that
is not bound already. Forged data cannot move an address; at worst it keeps a member bound that is
gone, until its ticket expires. Replies are never longer than what they answer.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2s
from typing import TYPE_CHECKING, TypeAlias

from lanrage.protocols.endpoint import Address, text
from lanrage.protocols.relay import ticket, wire
from lanrage.protocols.relay.budget import SECOND, Budget, Budgets, Rate

if TYPE_CHECKING:
    from lanrage.protocols.relay.guests import Guest

MS = 1_000_000
MEMBERS_MAX = 16_384
SILENT_S = 60  # without a word a member is bound no more; beats come each 15 to 20 s
COOKIE_LIFE_MS = 10_000
ASKING = Rate(50, 200)  # Binds and Answers of one source: a LAN party behind one router
ASKING_TOGETHER = Rate(20_000, 20_000)
DERIVING = Rate(1_000, 1_000)  # curve multiplications: a tenth of a core
STRANGERS = Rate(4, 8)
STRANGERS_TOGETHER = Rate(2_000, 2_000)
SOURCES_MAX = 4_096
PACKET_BYTES_MIN = 250  # what a small packet counts as: it costs a relay as much as a large one

_TIME_BYTES = 5
_LABEL_MAC1 = b"mac1----"  # WireGuard's


@dataclass(slots=True, eq=False)
class Member:
    """`peers` are all bound members of its party, itself among them, by number."""

    number: int
    party: bytes
    peers: dict[int, Member]
    public_key: bytes
    keys: wire.Keys
    mac1_key: bytes  # for standard WireGuard peers that want to reach it
    budget: Budget
    address: Address
    expires_s: int  # its ticket
    bound_ms: int  # when the cookie was made that bound it to the address
    heard_ns: int
    is_bound: bool = True
    wasted: int = 0  # reads in vain, in the window that began then
    wasted_ns: int = 0
    guests: dict[int, Guest] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Member({self.number}, {text(self.address)})"


Parties: TypeAlias = dict[bytes, dict[int, Member]]


class Registry:
    """`wall_offset_ns` is Unix time minus the clock of `now_ns`. What gives bytes gives a reason
    instead where the answer is silence."""

    def __init__(
        self,
        *,
        private_key: bytes,
        ticket_key: bytes,
        boot: bytes,
        random: Callable[[int], bytes],
        wall_offset_ns: int,
        member_rate: Rate,
        now_ns: int,
    ) -> None:
        self.at: dict[Address, Member] = {}
        self.wall_offset_ns = wall_offset_ns
        self._parties: Parties = {}
        self._private_key = private_key
        self._ticket_key = ticket_key
        self._boot = boot
        self._secret = random(32)
        self._member_rate = member_rate
        self._asking = Budgets(ASKING, ASKING_TOGETHER, SOURCES_MAX, now_ns)
        self._deriving = Budget(DERIVING, now_ns)
        self._strangers = Budgets(STRANGERS, STRANGERS_TOGETHER, SOURCES_MAX, now_ns)

    def answer(self, datagram: bytes, source: Address, now_ns: int) -> bytes | str:
        """The reply to a control message, which goes back to `source`."""
        message = wire.read(datagram)
        if isinstance(message, wire.Beat):
            return self._beaten(message, datagram, source, now_ns)
        if not isinstance(message, wire.Bind):
            return "relay_message"
        if not self._asking.take(source, now_ns):
            return "relay_asking"
        checked = ticket.check(message.ticket, self._ticket_key, self._now_s(now_ns))
        if checked is None:
            return "relay_ticket"
        if wire.kind_of(datagram) == wire.ANSWER:
            return self._welcome(message, checked, datagram, source, now_ns)
        cookie = self._cookie(now_ns // MS, source, message.ticket)
        return wire.challenge(wire.Challenge(message.nonce, self._boot, cookie))

    def stranger(self, source: Address, now_ns: int) -> bytes | str:
        """What to say to an unknown sender of something relayed, which was as long at least."""
        if not self._strangers.take(source, now_ns):
            return "relay_strangers"
        return wire.stranger(wire.Stranger(self._boot))

    def expire(self, now_ns: int) -> None:
        """Forget who is silent, and who has no fresh ticket."""
        silent_ns = now_ns - SILENT_S * SECOND
        expired_s = self._now_s(now_ns) - ticket.SLACK_S
        for member in list(self.at.values()):
            if member.heard_ns < silent_ns or member.expires_s < expired_s:
                self._unbind(member)

    # --- the bind -------------------------------------------------------------------------------

    def _welcome(
        self,
        message: wire.Bind,
        claim: ticket.Ticket,
        datagram: bytes,
        source: Address,
        now_ns: int,
    ) -> bytes | str:
        made_ms = self._made_ms(message, source, now_ns)
        if made_ms is None or message.boot != self._boot:
            return "relay_cookie"
        known = self._parties.get(claim.party, {}).get(claim.member)
        same = known is not None and known.public_key == claim.public_key
        if known is not None and not same and claim.expires_s < known.expires_s:
            return "relay_older_ticket"
        keys = known.keys if known is not None and same else self._derive(claim, now_ns)
        if isinstance(keys, str):
            return keys
        if not wire.is_sealed(datagram, keys):
            return "relay_forged"
        if known is not None and not _is_newer(made_ms, source, known):
            return "relay_replayed"
        if known is None and len(self.at) >= MEMBERS_MAX:
            return "relay_full"
        if known is not None and not same:
            self._unbind(known)
        member = known if known is not None and same else self._new(claim, keys, now_ns)
        self._bind(member, claim, source, made_ms, now_ns)
        return wire.welcome(wire.Welcome(message.nonce, self._boot, SILENT_S, source), keys)

    def _derive(self, claim: ticket.Ticket, now_ns: int) -> wire.Keys | str:
        if not self._deriving.take(1, now_ns):
            return "relay_deriving"
        return wire.derive(self._private_key, claim.public_key, relay=True) or "relay_key"

    def _new(self, claim: ticket.Ticket, keys: wire.Keys, now_ns: int) -> Member:
        return Member(
            number=claim.member,
            party=claim.party,
            peers=self._parties.setdefault(claim.party, {}),
            public_key=claim.public_key,
            keys=keys,
            mac1_key=blake2s(_LABEL_MAC1 + claim.public_key).digest(),
            budget=Budget(self._member_rate, now_ns),
            address=("", 0),
            expires_s=0,
            bound_ms=0,
            heard_ns=now_ns,
        )

    def _bind(
        self, member: Member, claim: ticket.Ticket, source: Address, made_ms: int, now_ns: int
    ) -> None:
        there = self.at.get(source)
        if there is not None and there is not member:
            self._unbind(there)  # its router gave this address to another
        self.at.pop(member.address, None)
        self.at[source] = member
        peers = self._parties.setdefault(member.party, member.peers)
        assert peers is member.peers
        peers[member.number] = member
        member.address = source
        member.bound_ms = made_ms
        member.heard_ns = now_ns
        member.expires_s = max(member.expires_s, claim.expires_s)

    def _unbind(self, member: Member) -> None:
        member.is_bound = False
        del self.at[member.address]
        del member.peers[member.number]
        if not member.peers:
            del self._parties[member.party]

    def _cookie(self, made_ms: int, source: Address, ticket_text: bytes) -> bytes:
        made = made_ms.to_bytes(_TIME_BYTES, "big")
        said = made + ticket_text + text(source).encode()
        return (
            made
            + blake2s(said, key=self._secret, digest_size=wire.COOKIE_BYTES - _TIME_BYTES).digest()
        )

    def _made_ms(self, message: wire.Bind, source: Address, now_ns: int) -> int | None:
        """When its cookie was made, if it was made for this sender and not long ago."""
        made_ms = int.from_bytes(message.cookie[:_TIME_BYTES], "big")
        ours = self._cookie(made_ms, source, message.ticket)
        if not hmac.compare_digest(ours, message.cookie):
            return None
        return made_ms if now_ns // MS - made_ms <= COOKIE_LIFE_MS else None

    # --- beats ----------------------------------------------------------------------------------

    def _beaten(
        self, message: wire.Beat, datagram: bytes, source: Address, now_ns: int
    ) -> bytes | str:
        member = self.at.get(source)
        if member is None:
            return self.stranger(source, now_ns)
        if not member.budget.take(PACKET_BYTES_MIN, now_ns):
            return "relay_budget"
        if wire.kind_of(datagram) != wire.BEAT or not wire.is_sealed(datagram, member.keys):
            return "relay_forged"
        member.heard_ns = now_ns
        return wire.beaten(wire.Beat(self._boot, message.counter), member.keys)

    def _now_s(self, now_ns: int) -> int:
        return (now_ns + self.wall_offset_ns) // SECOND


def _is_newer(made_ms: int, source: Address, known: Member) -> bool:
    """The same Answer again is answered again: its Welcome was lost."""
    if source == known.address:
        return made_ms >= known.bound_ms
    return made_ms > known.bound_ms
