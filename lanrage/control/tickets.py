"""What the members of one party are told of relays: which they may use, with a ticket for each,
and which of them each pair uses."""

from __future__ import annotations

from typing import Final, TypeAlias

from lanrage.control.messages import Pick, Relay
from lanrage.control.picks import Candidate, Picks, Rtts, offered
from lanrage.control.relays import Registered, Relays
from lanrage.protocols.partylog import Chain, key_of
from lanrage.protocols.relay import ticket
from lanrage.protocols.relay.wire import MEMBER_MAX

RENEW_S: Final = ticket.LIFE_S / 2

Shown: TypeAlias = tuple[tuple[str, bytes], ...]  # names and boots, sorted: what makes a grant new


class PartyRelays:
    def __init__(self, relays: Relays) -> None:
        self._relays = relays
        self._picks = Picks()
        self._offered: tuple[str, ...] = ()
        self.refresh()

    @property
    def version(self) -> int:
        """Of the picks."""
        return self._picks.version

    def refresh(self) -> None:
        """The relays themselves have changed, or what is known of them."""
        candidates = [
            Candidate(name, each.facts.region, each.load.bytes_per_s)
            for name, each in self._relays.all().items()
        ]
        self._offered = offered(candidates, self._picks.measured, self._offered)
        self._picks.offer(self._offered)

    def measure(self, peer: str, rtts: Rtts) -> None:
        self._picks.measure(peer, rtts)
        self.refresh()

    def forget(self, peer: str) -> None:
        """It is not connected any more."""
        self._picks.forget(peer)

    def shown(self) -> Shown:
        every = self._relays.all()
        return tuple(sorted((name, every[name].facts.boot) for name in self._offered))

    def picks(self, peer: str) -> tuple[Pick, ...]:
        return self._picks.of(peer)

    def grants(self, chain: Chain, peer: str, now_s: int) -> tuple[Relay, ...]:
        """Nearest first. Empty for who is no member, or has a number that no relay knows."""
        member = chain.members.get(peer)
        if member is None or member.number > MEMBER_MAX:
            return ()
        claim = ticket.Ticket(
            party=(key_of(chain.party) or bytes(32))[: ticket.PARTY_BYTES],
            member=member.number,
            public_key=member.wireguard,
            expires_s=now_s + ticket.LIFE_S,
        )
        rtts = self._picks.rtts_of(peer)
        far = max(rtts.values(), default=0) + 1
        names = sorted(self._offered, key=lambda name: rtts.get(name, far))
        return tuple(_grant(self._relays.all()[name], claim) for name in names)


def _grant(relay: Registered, claim: ticket.Ticket) -> Relay:
    facts = relay.facts
    return Relay(
        relay=relay.relay,
        addresses=relay.addresses,
        region=facts.region,
        tcp=relay.tcp,
        pin=facts.pin,
        public_key=facts.public_key,
        boot=facts.boot,
        ticket=ticket.issue(claim, facts.ticket_key),
    )
