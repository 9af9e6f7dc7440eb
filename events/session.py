"""A session is one run of the node. It opens with `session.started`; it is what one replays."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from events.base import Event, PeerId


class SessionStarted(Event, frozen=True, kw_only=True):
    """A node began to run. Everything volatile (paths, presence, mappings) is unknown again."""

    TYPE: ClassVar[str] = "session.started"
    STREAM: ClassVar[str] = "session"
    version: str  # LANrage's version
    platform: str  # "Linux 6.18 x86_64"
    peer: PeerId
    name: str
    wireguard: bytes  # public key, 32 bytes


class SessionEnded(Event, frozen=True, kw_only=True):
    """The node stopped in an orderly way. A session without it was killed."""

    TYPE: ClassVar[str] = "session.ended"
    STREAM: ClassVar[str] = "session"
    reason: str


class SessionResumed(Event, frozen=True, kw_only=True):
    """The computer was suspended and woke up again."""

    TYPE: ClassVar[str] = "session.resumed"
    STREAM: ClassVar[str] = "session"
    asleep_ms: int


class SessionCarried(Event, frozen=True, kw_only=True):
    """The state a session began with. Written only as the first line of an export of one session,
    so that the file replays alone; never appended to a log."""

    TYPE: ClassVar[str] = "session.carried"
    STREAM: ClassVar[str] = "session"
    state: msgspec.Raw  # projections.mesh.Mesh as canonical JSON


EVENTS = (SessionStarted, SessionEnded, SessionResumed, SessionCarried)
