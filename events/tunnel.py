"""The data plane process and the WireGuard sessions in it. Packets are never events."""

from __future__ import annotations

from typing import ClassVar

from events.base import Event, PeerId


class TunnelEvent(Event, frozen=True, kw_only=True):
    STREAM: ClassVar[str] = "tunnel"


class TunnelStarted(TunnelEvent, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "tunnel.started"
    interface: str
    port: int
    backend: str  # "userspace" | "kernel"


class TunnelConfigured(TunnelEvent, frozen=True, kw_only=True):
    """The virtual interface has our address and is up."""

    TYPE: ClassVar[str] = "tunnel.configured"
    address: str
    address6: str
    mtu: int


class TunnelStopped(TunnelEvent, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "tunnel.stopped"
    reason: str


class TunnelEstablished(TunnelEvent, frozen=True, kw_only=True):
    """A WireGuard session with this member is up; rekeys of a live one are not events."""

    TYPE: ClassVar[str] = "tunnel.established"
    STREAM: ClassVar[str] = "tunnel/{peer}"
    peer: PeerId
    took_ms: int  # since the first handshake message of this attempt


class TunnelExpired(TunnelEvent, frozen=True, kw_only=True):
    """The session with this member ended: keys expired, or handshakes went unanswered."""

    TYPE: ClassVar[str] = "tunnel.expired"
    STREAM: ClassVar[str] = "tunnel/{peer}"
    peer: PeerId
    reason: str


EVENTS = (TunnelStarted, TunnelConfigured, TunnelStopped, TunnelEstablished, TunnelExpired)
