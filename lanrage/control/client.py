"""The member's side of control. Skeleton: the interface stands, the body follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from lanrage.identity import Identity
from lanrage.protocols.invite import Invite
from lanrage.protocols.partylog import Chain, Invalid
from lanrage.refusal import Refusal


class Target(msgspec.Struct, frozen=True):
    """The party to be connected for, where, and how much of its chain is already ours."""

    party: str
    urls: tuple[str, ...]
    chain: Chain


class Connected(msgspec.Struct, frozen=True):
    url: str


class Disconnected(msgspec.Struct, frozen=True):
    url: str
    reason: str
    code: str = ""


class Records(msgspec.Struct, frozen=True):
    """Chain records that follow position `after`, each verified by the client."""

    party: str
    after: int
    records: tuple[bytes, ...]


class Diverged(msgspec.Struct, frozen=True):
    """Control showed a history that contradicts ours, or cannot be verified; nothing of it was
    taken over. Follows at most once a connection, before its `Disconnected`."""

    url: str
    reason: str


class Presence(msgspec.Struct, frozen=True):
    """The whole list of members connected to control, ourselves included."""

    party: str
    online: tuple[str, ...]


class SignalArrived(msgspec.Struct, frozen=True):
    sender: str
    sealed: bytes


ControlNotice: TypeAlias = Connected | Disconnected | Records | Diverged | Presence | SignalArrived


class Joined(msgspec.Struct, frozen=True):
    party: str
    url: str
    records: tuple[bytes, ...]  # the whole chain, from the genesis on, our own record last


class ControlClient:
    def __init__(self, identity: Identity, deliver: Callable[[ControlNotice], None]) -> None:
        raise NotImplementedError

    def want(self, target: Target | None) -> None:
        """Level-triggered: call it with the newest chain as often as you like. Connects, resumes
        after our position, reconnects for ever; None disconnects."""
        raise NotImplementedError

    async def append(self, build: Callable[[Chain], bytes | Invalid]) -> Chain | Refusal:
        """Compare-and-swap: `build` signs a record on the chain it is given; on a conflict it is
        called again with the new chain. `Records` is delivered before this returns."""
        raise NotImplementedError

    def signal(self, to: str, sealed: bytes) -> None:
        """Best effort; dropped while not connected."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


async def create(url: str, identity: Identity, genesis: bytes) -> Joined | Refusal:
    """Founds a party at this control server."""
    raise NotImplementedError


async def join(invite: Invite, identity: Identity, name: str | None = None) -> Joined | Refusal:
    """The whole join, bounded by one deadline. `name`: ours, default the identity's; if a member
    has it, the next free form of it is taken."""
    raise NotImplementedError
