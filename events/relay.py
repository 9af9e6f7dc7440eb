"""Relays that may carry what cannot go directly: which there are, and which of them know us.

A relay is named by its UDP address, `ip:port`. Tickets and keys are secrets and never events.
"""

from __future__ import annotations

from typing import ClassVar

from events.base import Event, PeerId


class RelayEvent(Event, frozen=True, kw_only=True):
    STREAM: ClassVar[str] = "relay/{relay}"
    relay: str


class RelayOffered(RelayEvent, frozen=True, kw_only=True):
    """Control told of this relay, or that it was started again (another `boot`)."""

    TYPE: ClassVar[str] = "relay.offered"
    region: str
    tcp: str  # its WebSocket URL; empty if it has none
    boot: str  # hex; differs after each start of the relay


class RelayWithdrawn(RelayEvent, frozen=True, kw_only=True):
    """Control does not know this relay any more."""

    TYPE: ClassVar[str] = "relay.withdrawn"
    reason: str


class RelayBound(RelayEvent, frozen=True, kw_only=True):
    """The relay has checked our ticket and forwards to us."""

    TYPE: ClassVar[str] = "relay.bound"
    carrier: str  # "relay" (UDP) | "tcp"
    address: str  # where the relay sees us
    rtt_us: int
    took_ms: int  # since the first try


class RelayUnbound(RelayEvent, frozen=True, kw_only=True):
    """It forwards to us no more. It is tried again by itself."""

    TYPE: ClassVar[str] = "relay.unbound"
    carrier: str
    reason: str


class RelayPicked(Event, frozen=True, kw_only=True):
    """Control chose the relay for this pair: the least sum of both round trips."""

    TYPE: ClassVar[str] = "relay.picked"
    STREAM: ClassVar[str] = "path/{peer}"
    peer: PeerId
    relay: str  # empty: none
    sum_ms: int
    reason: str


EVENTS = (RelayOffered, RelayWithdrawn, RelayBound, RelayUnbound, RelayPicked)
