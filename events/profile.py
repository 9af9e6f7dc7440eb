"""Which game's profile tunes the party's network."""

from __future__ import annotations

from typing import ClassVar

from events.base import Event


class ProfileChosen(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "profile.chosen"
    STREAM: ClassVar[str] = "profile"
    profile: str  # its id in the catalogue: "default", "openttd"
    reason: str  # "started", "by the player"
    mtu: int
    keepalive_s: int


EVENTS = (ProfileChosen,)
