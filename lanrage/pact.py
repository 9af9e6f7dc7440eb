"""A party without any server: an offer, an answer, and what follows from them.

The host makes an offer and an invite for one guest. The guest pastes it: from then on its node
probes the host's places, which keeps its own router open for them, and prints an answer. The host
pastes that: its node probes back, and the tunnel opens between two routers that each were asked
from inside. The guest is a member of nothing yet, so each side has the other as a temporary peer
(`projections.wanted`); through it the guest reaches the host's own control and joins like anybody.

Secrets stay here, in memory: an offer does not outlive the node that made it.
"""

from __future__ import annotations

import asyncio
import time
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import msgspec

from lanrage import commands as c
from lanrage import effects as e
from lanrage.control import client as control
from lanrage.node import Node
from lanrage.protocols import endpoint, portmap
from lanrage.protocols import invite as invites
from lanrage.protocols import pact as codes
from lanrage.protocols.partylog import Invalid, key_of
from lanrage.protocols.partylog.addresses import NETWORK
from lanrage.refusal import Refusal

GUEST_ADDRESS: Final = "10.66.255.254"  # until it is a member
KEEP_OPEN_S: Final = 8.0  # routers forget a way that was not used for 30 s
RETRY_S: Final = 0.5
_GLOBAL: Final = IPv6Network("2000::/3")


class Offered(msgspec.Struct, frozen=True):
    party: str
    secret: bytes
    expires_at: int  # Unix seconds

    def __repr__(self) -> str:
        return f"Offered(expires_at={self.expires_at})"


class Pacts:
    """The latest offer, and the guest's way into the party."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._offered: Offered | None = None
        self._entering: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def places(self, public: str, what: str) -> tuple[str, ...] | Refusal:
        """Where we can be reached, best first; `public` is what the person typed."""
        state = self._node.state_now
        typed = _typed(public, self._node.options.port)
        if isinstance(typed, Refusal):
            return typed
        own = state.nat.candidates
        outside = [each.address for each in own if _is_outside(each.address)]
        order = dict.fromkeys((*typed, *outside, *(each.address for each in own)))
        if not typed and not outside:
            return _no_public(what)
        return tuple(order)[: codes.PLACES_MAX]

    async def offer(self, secret: bytes, places: tuple[str, ...], expires_at: int) -> str:
        """The code, once the invite with the secret's seed is in the chain."""
        node = self._node
        state = node.state_now
        await node.tell(
            c.NoteOffered(party=state.party, expires_at=expires_at * 1000, places=places)
        )
        self._offered = Offered(state.party, secret, expires_at)
        return codes.offer_code(
            codes.Offer(
                party=state.party,
                wireguard=node.identity.wireguard_public,
                secret=secret,
                expires_at=expires_at,
                number=state.chain.members[node.identity.peer].number,
                port=node.control_port,
                places=places,
            )
        )

    async def answer(self, code: str, public: str) -> str | Refusal:
        """The guest's side: take the offer, and make the answer to it."""
        offer = codes.parse(code)
        if isinstance(offer, Invalid):
            return _bad_code("Cannot join", offer.reason)
        if isinstance(offer, codes.Answer):
            return _bad_code("Cannot join", "this is an answer; the host pastes it")
        if offer.expires_at <= time.time():
            return _expired("Cannot join")
        places = self.places(public, "Cannot join")
        if isinstance(places, Refusal):
            return places
        refused = await self._tell(offer.party, offer.wireguard, _virtual(offer.number), offer)
        if refused is not None:
            return refused
        if self._entering is not None:
            self._entering.cancel()
        self._entering = self._node.spawn(self._enter(offer))
        own = self._node.identity.wireguard_public
        return codes.answer_code(own, places, offer.secret)

    async def accept(self, code: str) -> Refusal | None:
        """The host's side: let the guest's node in, so that it can join."""
        answer = codes.parse(code)
        if isinstance(answer, Invalid):
            return _bad_code("Cannot accept", answer.reason)
        if isinstance(answer, codes.Offer):
            return _bad_code("Cannot accept", "this is an offer; the guest pastes it")
        offered, party = self._offered, self._node.state_now.party
        if offered is None or offered.party != party or not answer.is_to(offered.secret):
            return _bad_code("Cannot accept", "this is no answer to this computer's newest offer")
        if offered.expires_at <= time.time():
            return _expired("Cannot accept")
        refused = await self._node.tell(
            c.NoteAnswered(
                party=party,
                wireguard=answer.wireguard,
                address=GUEST_ADDRESS,
                places=answer.places,
            )
        )
        if refused is None:
            self._end_at(offered.expires_at)
        return refused

    async def _tell(
        self, party: str, wireguard: bytes, address: str, offer: codes.Offer
    ) -> Refusal | None:
        self._end_at(offer.expires_at)
        return await self._node.tell(
            c.NoteAnswered(
                party=party,
                wireguard=wireguard,
                address=address,
                own_address=GUEST_ADDRESS,
                places=offer.places,
            )
        )

    # --- what goes on afterwards ----------------------------------------------------------------

    def _end_at(self, expires_at: int) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = self._node.spawn(self._end(expires_at))

    async def _end(self, expires_at: int) -> None:
        await asyncio.sleep(max(0.0, expires_at - time.time()))
        if self._entering is not None:
            self._entering.cancel()
        await self._node.tell(c.EndPact(reason="its time is over"))

    async def _enter(self, offer: codes.Offer) -> None:
        """Until we are a member: knock at the host's control, inside the tunnel."""
        keeping = self._node.spawn(self._keep_open())
        try:
            joined = await self._join(offer)
        finally:
            keeping.cancel()
        if isinstance(joined, Refusal):
            await self._node.tell(c.FailJoin(reason=joined.why))
            await self._node.tell(c.EndPact(reason=joined.why))
            return
        await self._node.tell(
            c.Enter(
                party=joined.party,
                control=(joined.url,),
                embedded=False,
                records=joined.records,
            )
        )

    async def _join(self, offer: codes.Offer) -> control.Joined | Refusal:
        at = endpoint.text((_virtual(offer.number), offer.port))
        invite = invites.Invite(
            party=offer.party,
            seed=codes.invite_seed(offer.secret),
            head=_head_of(offer.party),
            length=1,
            control=(f"ws://{at}",),
            name="",
        )
        while True:
            joined = await control.join(invite, self._node.identity)
            if not isinstance(joined, Refusal) or not joined.code.startswith("control_"):
                return joined
            await asyncio.sleep(RETRY_S)

    async def _keep_open(self) -> None:
        while True:
            await asyncio.sleep(KEEP_OPEN_S)
            self._node.order(e.ChangeNetwork(reason="the other side has not answered yet"))


def _head_of(party: str) -> str:
    """A party's name is the hash of its first record: the oldest head there is."""
    key = key_of(party)
    assert key is not None
    return key.hex()


def _virtual(number: int) -> str:
    return str(IPv4Network(NETWORK)[number])


def _typed(public: str, port: int) -> list[str] | Refusal:
    """What `--public` says: an address, with this tunnel's port unless another is named. Most
    routers keep the port of what they send."""
    if not public:
        return []
    try:
        written = endpoint.text((str(ip_address(public.strip("[]"))), port))
    except ValueError:
        written = public
    address = endpoint.parse(written)
    if address is None or not endpoint.is_unicast(address):
        return Refusal(
            "bad_public",
            "Cannot use this public address",
            f"{public[:60]!r} is no IP address",
            "Write it like --public 203.0.113.7, or 203.0.113.7:26666.",
        )
    return [endpoint.text(address)]


def _is_outside(written: str) -> bool:
    """Whether somebody in another home could reach it."""
    address = endpoint.parse(written)
    if address is None:
        return False
    host = ip_address(address[0])
    if isinstance(host, IPv4Address):
        return portmap.is_reachable(address[0])
    return isinstance(host, IPv6Address) and host in _GLOBAL


def _no_public(what: str) -> Refusal:
    return Refusal(
        "no_public",
        what,
        "nothing here tells this network's public address",
        "Look it up (any `what is my IP` page) and add --public ADDRESS.",
    )


def _bad_code(what: str, why: str) -> Refusal:
    return Refusal("bad_code", what, why, "Copy the other side's newest code, and all of it.")


def _expired(what: str) -> Refusal:
    return Refusal("code_expired", what, "this code has expired", "Begin anew: `lanrage offer`.")
