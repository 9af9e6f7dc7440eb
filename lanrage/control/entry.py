"""Founding a party and joining one: the whole exchange with control, under one deadline.

A join takes three round trips: TCP, the WebSocket handshake with which the challenge comes, and
hello together with the join record. That record is built on the head in the invite, before anything
of the chain was seen: usually issuing the invite was the last thing that happened. If it was not,
or the name is taken, control answers so after having sent the chain, and the record is built anew.

Nothing is believed: the chain received must begin with the genesis whose hash is the party id, be
valid to its end, contain the invite's head, and have us in it.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from lanrage.control import messages as m
from lanrage.control.link import Link, dial, first
from lanrage.control.refused import refusal
from lanrage.identity import Identity
from lanrage.protocols import partylog
from lanrage.protocols.invite import Invite
from lanrage.protocols.partylog import Chain, Invalid
from lanrage.refusal import Refusal

JOIN_S: Final = 10.0
TRIES_MAX: Final = 32  # joins built anew because others were faster
_CANNOT: Final = "Cannot join"


class Joined(msgspec.Struct, frozen=True):
    party: str
    url: str  # the address, as written in the invite, that worked
    records: tuple[bytes, ...]  # the whole chain, from the genesis on; verified


async def create(url: str, identity: Identity, genesis: bytes) -> Joined | Refusal:
    """Found a party at this control server."""
    what = "Cannot create the party"
    party = partylog.party_of(genesis)
    try:
        async with asyncio.timeout(JOIN_S):
            link = await dial(url)
            if isinstance(link, Refusal):
                return link
            hello = m.hello(
                identity.signer,
                link.challenge.nonce,
                party=party,
                peer=identity.peer,
                genesis=genesis,
            )
            answer = await link.greet(what, hello)
    except TimeoutError:
        return _too_slow(what)
    link.abort()
    return _ended(what, answer) if isinstance(answer, Refusal) else Joined(party, url, (genesis,))


async def join(invite: Invite, identity: Identity, name: str | None = None) -> Joined | Refusal:
    """Become a member. `name`: ours, default the identity's; if a member has it already, the next
    free form of it is taken."""
    entered = await enter(invite, identity, name)
    if isinstance(entered, Refusal):
        return entered
    joined, link = entered
    link.abort()
    return joined


async def enter(
    invite: Invite, identity: Identity, name: str | None = None
) -> tuple[Joined, Link] | Refusal:
    """`join`, and the connection it used: the next frame on it is the first after the join."""
    wanted = partylog.clean_name(name or identity.name)
    try:
        async with asyncio.timeout(JOIN_S):
            entry = await first(
                invite.control,
                lambda url: _begin(url, invite, identity, wanted),
                lambda extra: extra.link.abort(),
            )
            if isinstance(entry, Refusal):
                return entry
            result: Joined | Refusal | None = None
            try:
                result = await entry.finish()
            finally:
                if not isinstance(result, Joined):
                    entry.link.abort()
            return result if isinstance(result, Refusal) else (result, entry.link)
    except TimeoutError:
        return _too_slow(_CANNOT)


async def _begin(url: str, invite: Invite, identity: Identity, name: str) -> _Entry | Refusal:
    """Hello and the hopeful join; a success once control knows the party and lets us read it."""
    link = await dial(url)
    if isinstance(link, Refusal):
        return link
    entry = _Entry(link, invite, identity, name)
    floor = Chain(party=invite.party, length=invite.length, head=invite.head)
    hello = m.hello(
        identity.signer,
        link.challenge.nonce,
        party=invite.party,
        peer=identity.peer,
        invite_seed=invite.seed,
        invite=invite.id,
    )
    answer = await link.greet(_CANNOT, hello, entry.build(floor, name))
    return _ended(_CANNOT, answer) if isinstance(answer, Refusal) else entry


class _Entry:
    """A guest's exchange after Welcome."""

    def __init__(self, link: Link, invite: Invite, identity: Identity, name: str) -> None:
        self.link = link
        self._invite = invite
        self._identity = identity
        self._name = name
        self._chain = partylog.EMPTY
        self._records: list[bytes] = []
        self._tries = 0

    def build(self, chain: Chain, name: str) -> m.Append:
        """Our join on that chain; of an unseen one, position and head are enough."""
        self._tries += 1
        record = partylog.join(
            self._identity.signer,
            self._invite.seed,
            chain,
            name=name,
            wireguard=self._identity.wireguard_public,
            at_ms=self.link.challenge.at,  # its clock is the one that control compares with
        )
        return m.Append(id=self._tries, record=record)

    async def finish(self) -> Joined | Refusal:
        while self._tries <= TRIES_MAX:
            frame = await self.link.recv()
            match frame:
                case Refusal():
                    return _ended(_CANNOT, frame)
                case m.Records(after=after, records=records):
                    wrong = self._take(after, records)
                    if wrong is not None:
                        return _dishonest(self.link.url, wrong)
                case m.Appended(length=length):
                    return self._joined(length)
                case m.Refused(code="name_taken") | m.Conflict():
                    if self._identity.peer in self._chain.members:
                        return self._joined(self._chain.length)
                    await self.link.send(self._anew())
                case m.Refused(code=code, reason=reason):
                    if code == "member" and self._identity.peer in self._chain.members:
                        return self._joined(self._chain.length)
                    return refusal(_CANNOT, code, reason)
                case _:
                    pass  # presence and signals mean nothing to a guest
        return refusal(_CANNOT, "busy", "too many others are joining at this moment")

    def _anew(self) -> m.Append:
        names = (member.name for member in self._chain.members.values())
        return self.build(self._chain, partylog.free_name(self._name, names))

    def _take(self, after: int, records: tuple[bytes, ...]) -> str | None:
        """What is wrong with these records; None if they extend what we have."""
        if after != self._chain.length:
            return "it left out a part of the party's history"
        if after == 0 and partylog.party_of(records[0]) != self._invite.party:
            return "it shows the history of another party"
        chain = partylog.extend(self._chain, records)
        if isinstance(chain, Invalid):
            return f"it shows a false history: {chain.reason}"
        self._chain = chain
        self._records += records
        at = self._invite.length
        if after < at <= chain.length:
            head = partylog.hash_of(self._records[at - 1]).hex()
            if head != self._invite.head:
                return "it shows another history than the invite was made in"
        return None

    def _joined(self, length: int) -> Joined | Refusal:
        chain = self._chain
        if chain.length < max(length, self._invite.length):
            return _dishonest(self.link.url, "it hides the end of the party's history")
        if self._identity.peer not in chain.members:
            return _dishonest(self.link.url, "it says that we joined, but the history does not")
        return Joined(chain.party, self.link.url, tuple(self._records))


def _ended(what: str, why: Refusal) -> Refusal:
    """Unlike the connection of a member, this one is not tried again by itself."""
    return refusal(what, "lost", why.why) if why.code == "control_lost" else why


def _dishonest(url: str, why: str) -> Refusal:
    return Refusal(
        "control_dishonest",
        f"Cannot trust control at {url}",
        why,
        "Ask the host whether its data was lost or restored.",
    )


def _too_slow(what: str) -> Refusal:
    return Refusal(
        "control_timeout",
        what,
        f"the control server did not finish within {JOIN_S:.0f} s",
        "Check the connection and try again.",
    )
