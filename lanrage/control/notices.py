"""What a member's control client is told to want, and what it reports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import msgspec

from lanrage.control.messages import Pick, Relay
from lanrage.protocols.partylog import Chain


class Target(msgspec.Struct, frozen=True):
    """The party to be connected for, where, and how much of its chain is already ours."""

    party: str
    urls: tuple[str, ...]
    chain: Chain
    # Our records after a position, for a server that has lost them; it need not have the newest.
    records: Callable[[int], Awaitable[Sequence[bytes]]] | None = None


class Connected(msgspec.Struct, frozen=True):
    url: str


class Disconnected(msgspec.Struct, frozen=True):
    """Also for every attempt that failed, with why."""

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


class Granted(msgspec.Struct, frozen=True):
    """All relays that we may use now, nearest first, with our tickets."""

    relays: tuple[Relay, ...]


class Picked(msgspec.Struct, frozen=True):
    """Control's choice of a relay for each of our pairs."""

    picks: tuple[Pick, ...]


class SignalArrived(msgspec.Struct, frozen=True):
    sender: str
    sealed: bytes


ControlNotice: TypeAlias = (
    Connected | Disconnected | Records | Diverged | Presence | Granted | Picked | SignalArrived
)
