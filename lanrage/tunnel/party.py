"""A party's tunnel: the node's orders drive the WireGuard engine and the path core, and what they
report goes back as notices.

The path core decides where a member is reached, so the engine does not roam: whenever it has heard
something, or its time came, the engine is aimed at the best place anew, and at a second one while
the best is in doubt. Only a standard WireGuard program, which answers no probes, moves itself.

After every wake-up `_settle` lets out what the cores have to send and to say.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from events.base import PeerId
from events.path import PathQuality
from lanrage.protocols import endpoint
from lanrage.protocols.endpoint import Place, Via
from lanrage.protocols.wireguard.engine import Peer, SessionUp
from lanrage.refusal import Refusal
from lanrage.tunnel import interface
from lanrage.tunnel.arrivals import Arrivals
from lanrage.tunnel.dataplane import DataPlane, new_engine
from lanrage.tunnel.friend import Friend
from lanrage.tunnel.interface import Interface
from lanrage.tunnel.messages import (
    AnyNotice,
    AnyOrder,
    ChangeNetwork,
    CheckPeer,
    Configure,
    Configured,
    Counters,
    Deconfigure,
    DropPeer,
    Established,
    Expired,
    Failed,
    Opened,
    PeerCounters,
    PutCandidates,
    PutPeer,
    PutPicks,
    PutPolicy,
    PutRelays,
    PutServers,
    Switched,
)
from lanrage.tunnel.outside import Outside
from lanrage.tunnel.paths import BoundRelay, Paths
from lanrage.tunnel.relays import Dial, Relays
from lanrage.tunnel.udp import UdpPort

COUNTERS_SPACING_NS = 1_000_000_000


class _Timed(Protocol):
    def timer(self) -> int | None: ...

    def handle_timer(self, now: int, /) -> None: ...


class PartyTunnel:
    """Everything there is between `Start` and the end: engine, paths, interface, port."""

    def __init__(
        self,
        private_key: bytes,
        tap: Interface,
        port: UdpPort,
        tell: Callable[[AnyNotice], None],
        dial: Dial | None = None,
    ) -> None:
        self.port = port
        self._tap = tap
        self._tell = tell
        self._engine = new_engine(private_key, roaming=False)
        self._paths = Paths(private_key=private_key, random=os.urandom)
        self._outside = Outside(port, self._paths.direct_of)
        self._friend = Friend(port.send)
        self._relays = Relays(
            private_key,
            self._outside,
            random=os.urandom,
            dial=dial,
            deliver=self._take,
            tell=tell,
            usable=self._put_bound,
        )
        self._arrivals = Arrivals(self._paths, self._relays, self._friend)
        self.data = DataPlane(
            tap,
            self._outside,
            self._engine,
            settle=self._settle,
            note_data=self._note_data,
            others=self._arrivals,
        )
        self._timed: tuple[_Timed, ...] = (
            self._engine,
            self._paths,
            self._relays,
            self._outside,
        )
        self._peers: dict[PeerId, Peer] = {}
        self._ids: dict[bytes, PeerId] = {}  # by WireGuard key
        self._standard: dict[PeerId, Place | None] = {}  # members without probes: where they were
        self._counters = Counters(peers=(), drops={})
        self._counters_due_ns = 0

    def close(self) -> None:
        self._relays.close()
        self._tap.close()
        self._outside.close()

    def obey(self, order: AnyOrder, now: int) -> None:
        _ORDERS[type(order)](self, order, now)
        self._arrivals.stirred = True
        self._settle(now)

    def timer(self) -> int | None:
        dues = [part.timer() for part in self._timed]
        return min((due for due in dues if due is not None), default=None)

    def handle_timer(self, now: int) -> None:
        for part in self._timed:
            part.handle_timer(now)
        self._arrivals.stirred = True
        self._settle(now)

    # --- orders ---------------------------------------------------------------------------------

    def _configure(self, order: Configure, now: int) -> None:
        addresses = interface.parse((order.address, order.address6))
        if isinstance(addresses, Refusal):
            self._tell(Failed(refusal=addresses))
            return
        refusal = self._tap.configure(addresses, order.mtu)
        if refusal is not None:
            self._tell(Failed(refusal=refusal))
            return
        self._engine.mtu = order.mtu
        self._arrivals.number = order.number
        self._paths.put_self(order.number, now)
        self.data.put_networks([address.network for address in addresses])
        self._paths.put_own_networks([str(address.network) for address in addresses])
        self._tell(Configured(address=order.address, address6=order.address6, mtu=order.mtu))

    def _deconfigure(self, order: Deconfigure, now: int) -> None:
        self._tap.deconfigure()
        for peer in tuple(self._peers):
            self._forget(peer)
        self._paths.put_own_networks([])
        self._arrivals.number = 0
        self._paths.put_self(0, now)
        gc.collect()

    def _put_peer(self, order: PutPeer, now: int) -> None:
        old = self._peers.get(order.peer)
        if old is not None and old.public_key != order.public_key:
            self._forget(order.peer)  # its key was rotated
        if self._ids.get(order.public_key, order.peer) != order.peer:
            self._tell(Expired(peer=order.peer, reason="its WireGuard key is another member's"))
            return
        try:
            peer = self._engine.put_peer(
                order.public_key,
                allowed=order.allowed,
                preshared_key=order.preshared_key or bytes(32),
                keepalive_s=order.keepalive_s,
                roaming=order.standard,
            )
        except ValueError:
            self._tell(Expired(peer=order.peer, reason="its WireGuard key is not usable"))
            return
        self._peers[order.peer] = peer
        self._ids[order.public_key] = order.peer
        self._arrivals.put_member(order.peer, order.number)
        if order.standard:
            self._standard.setdefault(order.peer, None)
            self._paths.drop_peer(order.peer)
            return
        self._standard.pop(order.peer, None)
        self._paths.put_peer(order.peer, order.public_key, order.number)

    def _drop_peer(self, order: DropPeer, now: int) -> None:
        if order.peer in self._peers:
            self._forget(order.peer)

    def _put_candidates(self, order: PutCandidates, now: int) -> None:
        if order.peer in self._peers:
            self._paths.put_candidates(order.peer, order.candidates, now)

    def _put_servers(self, order: PutServers, now: int) -> None:
        self._paths.put_servers(order.servers, now)

    def _put_relays(self, order: PutRelays, now: int) -> None:
        self._relays.put(order.relays, now)

    def _put_policy(self, order: PutPolicy, now: int) -> None:
        self._friend.volunteers = order.volunteer
        self._paths.put_policy(volunteer=order.volunteer, port_search=order.port_search)

    def _put_picks(self, order: PutPicks, now: int) -> None:
        self._paths.put_picks(order.picks, now)

    def _check_peer(self, order: CheckPeer, now: int) -> None:
        self._paths.check(order.peer, now)

    def _change_network(self, order: ChangeNetwork, now: int) -> None:
        self._relays.change_network(now)
        self._paths.change_network(order.reason, now)

    def _forget(self, peer: PeerId) -> None:
        key = self._peers.pop(peer).public_key
        del self._ids[key]
        self._engine.drop_peer(key)
        self._arrivals.drop_member(peer)
        self._standard.pop(peer, None)
        self._paths.drop_peer(peer)

    # --- the relays' news -----------------------------------------------------------------------

    def _take(self, datagrams: list[bytes], source: Place, now: int) -> None:
        self.data.take(datagrams, source, now)

    def _put_bound(self, bound: Sequence[BoundRelay], now: int) -> None:
        self._paths.put_relays(bound, now)
        self._arrivals.stirred = True
        self._settle(now)

    # --- after every wake-up --------------------------------------------------------------------

    def _note_data(self, peer: Peer, now: int, sent: bool) -> None:
        self._paths.note_data(self._ids[peer.public_key], now, sent)

    def _settle(self, now: int) -> None:
        """Let out what the cores have to send and to say."""
        engine, paths = self._engine, self._paths
        if self._arrivals.stirred:
            self._arrivals.stirred = False
            self._aim(now)
        for path in paths.take_notices():
            self._tell(path)
        for place, datagram in paths.take_outgoing():
            self._outside.send(place, [datagram])
        for place, datagram in engine.take_outgoing():
            self._outside.send(place, [datagram])
        if self._standard:
            self._follow()
        for session in engine.take_notices():
            peer = self._ids.get(session.peer.public_key)
            if peer is None:
                continue
            if isinstance(session, SessionUp):
                self._tell(Established(peer=peer, took_ms=session.took_ns // 1_000_000))
            else:
                self._tell(Expired(peer=peer, reason=session.reason))
        if now >= self._counters_due_ns:
            self._count(now)

    def _aim(self, now: int) -> None:
        """Let the engine send to where the path core says."""
        for peer, wireguard in self._peers.items():
            if peer in self._standard:
                continue
            best, second = self._paths.best(peer), self._paths.second(peer, now)
            if (best, second) != (wireguard.endpoint, wireguard.second):
                self._engine.set_endpoint(wireguard, best, now, second)

    def _follow(self) -> None:
        """A standard WireGuard moves itself: tell where to."""
        for peer, old in self._standard.items():
            place = self._peers[peer].endpoint
            if place is None or place == old:
                continue
            self._standard[peer] = place
            path = _unmeasured(place)
            if old is None:
                self._tell(Opened(peer=peer, path=path, took_ms=0))
            else:
                why = "its packets come from there now"
                self._tell(Switched(peer=peer, old=_unmeasured(old), new=path, reason=why))

    def _count(self, now: int) -> None:
        self._counters_due_ns = now + COUNTERS_SPACING_NS
        drops: dict[str, int] = {}
        for source in self._drops():
            for reason, count in source.items():
                if count:
                    drops[reason] = drops.get(reason, 0) + count
        counters = Counters(peers=tuple(map(self._counter, self._peers)), drops=drops)
        if counters != self._counters:
            self._counters = counters
            self._tell(counters)

    def _drops(self) -> tuple[dict[str, int], ...]:
        return (
            self._engine.drops,
            self._paths.drops,
            self.data.drops,
            self._arrivals.drops,
            self._friend.drops,
            self._relays.count_drops(),
            self._outside.drops,
            self._outside.port.drops,
        )

    def _counter(self, peer: PeerId) -> PeerCounters:
        wireguard = self._peers[peer]
        rtt_us, loss_permille, jitter_us = self._paths.quality(peer)
        return PeerCounters(
            peer=peer,
            rx_bytes=wireguard.rx_bytes,
            tx_bytes=wireguard.tx_bytes,
            rx_packets=wireguard.rx_packets,
            tx_packets=wireguard.tx_packets,
            rtt_us=rtt_us,
            loss_permille=loss_permille,
            jitter_us=jitter_us,
        )


def _unmeasured(place: Place) -> PathQuality:
    """How a member is reached that answers no probes."""
    if isinstance(place, Via):
        return PathQuality(kind=place.carrier, address=place.name, rtt_us=0, relay=place.name)
    return PathQuality(kind="direct", address=endpoint.text(place), rtt_us=0)


_ORDERS: dict[type[AnyOrder], Callable[[PartyTunnel, Any, int], None]] = {
    Configure: PartyTunnel._configure,
    Deconfigure: PartyTunnel._deconfigure,
    PutPeer: PartyTunnel._put_peer,
    DropPeer: PartyTunnel._drop_peer,
    PutCandidates: PartyTunnel._put_candidates,
    PutServers: PartyTunnel._put_servers,
    PutRelays: PartyTunnel._put_relays,
    PutPicks: PartyTunnel._put_picks,
    CheckPeer: PartyTunnel._check_peer,
    PutPolicy: PartyTunnel._put_policy,
    ChangeNetwork: PartyTunnel._change_network,
}
