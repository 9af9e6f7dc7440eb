"""A party's tunnel: the node's orders drive the WireGuard engine and the path core, and what they
report goes back as notices.

The path core decides where a peer is reached, so the engine does not roam: whenever a path opened,
switched or was lost, the engine is told the best address. After every wake-up `_settle` lets out
what the cores have to send and to say.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from events.base import PeerId
from lanrage.protocols.endpoint import Address, Place, Via
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
    Configure,
    Configured,
    Counters,
    Deconfigure,
    DropPeer,
    Established,
    Expired,
    Failed,
    Lost,
    Opened,
    PeerCounters,
    PutCandidates,
    PutPeer,
    PutPolicy,
    PutRelays,
    PutServers,
    Switched,
)
from lanrage.tunnel.outside import Outside
from lanrage.tunnel.paths import Paths
from lanrage.tunnel.relays import Dial, Relays, Usable
from lanrage.tunnel.udp import UdpPort

COUNTERS_SPACING_NS = 1_000_000_000


class _Core:
    """The path core, as long as it knows direct ways only."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self.is_ours = paths.is_ours

    def receive(self, datagram: bytes, source: Place, now_ns: int) -> None:
        if not isinstance(source, Via):
            self._paths.receive(datagram, source, now_ns)

    def member_at(self, address: Address) -> PeerId | None:
        return None

    def direct_of(self, peer: PeerId) -> Address | None:
        return None


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
        core = _Core(self._paths)
        self._outside = Outside(port, core.direct_of)
        self._friend = Friend(port.send)
        self._relays = Relays(
            private_key,
            self._outside,
            random=os.urandom,
            dial=dial,
            deliver=self._take,
            tell=tell,
            usable=self._put_usable,
        )
        self._arrivals = Arrivals(core, self._relays, self._friend)
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
        self._counters = Counters(peers=(), drops={})
        self._counters_due_ns = 0

    def close(self) -> None:
        self._relays.close()
        self._tap.close()
        self._outside.close()

    def obey(self, order: AnyOrder, now: int) -> None:
        _ORDERS[type(order)](self, order, now)
        self._settle(now)

    def timer(self) -> int | None:
        dues = [part.timer() for part in self._timed]
        return min((due for due in dues if due is not None), default=None)

    def handle_timer(self, now: int) -> None:
        for part in self._timed:
            part.handle_timer(now)
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
        self.data.put_networks([address.network for address in addresses])
        self._paths.put_own_networks([str(address.network) for address in addresses])
        self._tell(Configured(address=order.address, address6=order.address6, mtu=order.mtu))

    def _deconfigure(self, order: Deconfigure, now: int) -> None:
        self._tap.deconfigure()
        for peer in tuple(self._peers):
            self._forget(peer)
        self._paths.put_own_networks([])
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
            )
        except ValueError:
            self._tell(Expired(peer=order.peer, reason="its WireGuard key is not usable"))
            return
        self._peers[order.peer] = peer
        self._ids[order.public_key] = order.peer
        self._arrivals.put_member(order.peer, order.number)
        self._paths.put_peer(order.peer, order.public_key)
        self._engine.set_endpoint(peer, self._paths.best(order.peer), now)

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

    def _change_network(self, order: ChangeNetwork, now: int) -> None:
        self._relays.change_network(now)

    def _put_usable(self, usable: Sequence[Usable], now: int) -> None:
        pass

    def _forget(self, peer: PeerId) -> None:
        key = self._peers.pop(peer).public_key
        del self._ids[key]
        self._engine.drop_peer(key)
        self._arrivals.drop_member(peer)
        self._paths.drop_peer(peer)

    def _take(self, datagrams: list[bytes], source: Place, now: int) -> None:
        self.data.take(datagrams, source, now)

    # --- after every wake-up --------------------------------------------------------------------

    def _note_data(self, peer: Peer, now: int, sent: bool) -> None:
        self._paths.note_data(self._ids[peer.public_key], now)

    def _settle(self, now: int) -> None:
        """Let out what the cores have to send and to say."""
        engine, paths = self._engine, self._paths
        for path in paths.take_notices():
            if isinstance(path, Opened | Switched | Lost) and path.peer in self._peers:
                engine.set_endpoint(self._peers[path.peer], paths.best(path.peer), now)
            self._tell(path)
        for address, datagram in paths.take_outgoing():
            self._outside.send(address, [datagram])
        for place, datagram in engine.take_outgoing():
            self._outside.send(place, [datagram])
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
        rtt_us, loss_permille = self._paths.quality(peer)
        return PeerCounters(
            peer=peer,
            rx_bytes=wireguard.rx_bytes,
            tx_bytes=wireguard.tx_bytes,
            rx_packets=wireguard.rx_packets,
            tx_packets=wireguard.tx_packets,
            rtt_us=rtt_us,
            loss_permille=loss_permille,
        )


_ORDERS: dict[type[AnyOrder], Callable[[PartyTunnel, Any, int], None]] = {
    Configure: PartyTunnel._configure,
    Deconfigure: PartyTunnel._deconfigure,
    PutPeer: PartyTunnel._put_peer,
    DropPeer: PartyTunnel._drop_peer,
    PutCandidates: PartyTunnel._put_candidates,
    PutServers: PartyTunnel._put_servers,
    PutRelays: PartyTunnel._put_relays,
    PutPolicy: PartyTunnel._put_policy,
    ChangeNetwork: PartyTunnel._change_network,
}
