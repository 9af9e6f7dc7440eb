"""Ways to the other members: probed, measured, chosen, given up. Pure, on a virtual clock.

`Paths` is what the tunnel's loop talks to. It sorts arriving datagrams (a probe belongs to the
member whose hint it carries, see protocols/probe.py; STUN answers belong to `Mapping`), keeps one
`Reach` for each member, and hands out what they want sent and told. reach.py has the theory of how
one member is reached, mapping.py how we learn what the world sees of our socket.

Nothing here ever waits or sends: after each call the loop takes `take_outgoing`, `take_notices`
and sleeps until `timer`. Without members and servers there is no timer at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network

from events.base import PeerId
from events.peer import Candidate
from lanrage.protocols import endpoint, probe, stun
from lanrage.protocols.endpoint import Address
from lanrage.protocols.partylog.addresses import NETWORK
from lanrage.tunnel.mapping import Mapping
from lanrage.tunnel.outlet import Outlet, PathNotice
from lanrage.tunnel.reach import Reach

PEERS_MAX = 1024


class Paths:
    """`drops` counts what was thrown away, by reason; the reasons are a closed set."""

    def __init__(self, *, private_key: bytes, random: Callable[[int], bytes]) -> None:
        self._private_key = private_key
        self._networks = [ip_network(NETWORK)]
        self._epoch = random(probe.EPOCH_BYTES)
        self._outlet = Outlet(random)
        self._mapping = Mapping(self._outlet)
        self._reaches: dict[PeerId, Reach] = {}
        self._by_hint: dict[bytes, Reach] = {}
        self._due_ns: int | None = None
        self.drops = self._outlet.drops

    def put_own_networks(self, networks: Sequence[str]) -> None:
        """The tunnel's own prefixes: a path through the tunnel itself must never be tried."""
        texts = {NETWORK, *networks}
        self._networks = [ip_network(text, strict=False) for text in sorted(texts)]

    def put_peer(self, peer: PeerId, public_key: bytes) -> None:
        """A member to reach, by its WireGuard key. The same again changes nothing."""
        known = self._reaches.get(peer)
        if known is not None and known.public_key == public_key:
            return
        self.drop_peer(peer)
        keys = probe.derive(self._private_key, public_key)
        if keys is None or len(self._reaches) == PEERS_MAX:
            return self._outlet.drop("peer_refused")
        reach = Reach(
            peer, public_key, keys, self._epoch, self._outlet, self._mapping, self._is_usable
        )
        self._reaches[peer] = reach
        self._by_hint[keys.receiving_hint] = reach
        return None

    def drop_peer(self, peer: PeerId) -> None:
        reach = self._reaches.pop(peer, None)
        if reach is not None:
            del self._by_hint[reach.keys.receiving_hint]
            self._set_due()

    def put_candidates(self, peer: PeerId, candidates: Sequence[Candidate], now_ns: int) -> None:
        """Where that member may be reached. A list not seen before is probed at once."""
        reach = self._reaches.get(peer)
        if reach is not None:
            reach.put_candidates(candidates, now_ns)
            self._set_due()

    def put_servers(self, servers: Sequence[str], now_ns: int) -> None:
        """STUN servers, `ip:port`, to ask for our mapped addresses; none ends the asking."""
        self._mapping.put_servers(servers, now_ns)
        self._set_due()

    def is_ours(self, datagram: bytes) -> bool:
        return probe.is_probe(datagram) or stun.is_stun(datagram)

    def receive(self, datagram: bytes, source: Address, now_ns: int) -> None:
        if probe.is_probe(datagram):
            self._receive_probe(datagram, source, now_ns)
        else:
            self._mapping.receive(datagram, source, now_ns)
        self._set_due()

    def _receive_probe(self, datagram: bytes, source: Address, now_ns: int) -> None:
        reach = self._by_hint.get(probe.hint(datagram))
        if reach is None:
            return self._outlet.drop("probe_unknown")
        arrived = probe.open_probe(datagram, reach.keys)
        if arrived is None:
            return self._outlet.drop("probe_forged")
        if not self._is_usable(source):
            return self._outlet.drop("probe_source")
        return reach.receive(arrived, source, now_ns)

    def note_data(self, peer: PeerId, now_ns: int) -> None:
        """Data went to or came from that member, once a batch is enough."""
        reach = self._reaches.get(peer)
        if reach is None:
            return
        beat_ns = reach.note_data(now_ns)
        if beat_ns is not None and (self._due_ns is None or beat_ns < self._due_ns):
            self._due_ns = beat_ns

    def best(self, peer: PeerId) -> Address | None:
        reach = self._reaches.get(peer)
        return None if reach is None or reach.best is None else reach.best.address

    def quality(self, peer: PeerId) -> tuple[int, int]:
        """Smoothed round trip in microseconds and lost round trips in permille; 0, 0 unknown."""
        reach = self._reaches.get(peer)
        if reach is None or reach.best is None:
            return (0, 0)
        return (reach.best.rtt_ns // 1000, reach.best.loss_permille)

    def take_outgoing(self) -> list[tuple[Address, bytes]]:
        taken = self._outlet.outgoing.copy()
        self._outlet.outgoing.clear()
        return taken

    def take_notices(self) -> list[PathNotice]:
        taken = self._outlet.notices.copy()
        self._outlet.notices.clear()
        return taken

    def timer(self) -> int | None:
        return self._due_ns

    def handle_timer(self, now_ns: int) -> None:
        for reach in self._reaches.values():
            reach.handle_timer(now_ns)
        self._mapping.handle_timer(now_ns)
        self._set_due()

    def _set_due(self) -> None:
        dues = [reach.timer() for reach in self._reaches.values()]
        dues.append(self._mapping.timer())
        self._due_ns = min((due for due in dues if due is not None), default=None)

    def _is_usable(self, address: Address) -> bool:
        """Whether a member may be there at all: another computer, and not through the tunnel."""
        if not endpoint.is_unicast(address):
            return False
        host = ip_address(address[0])
        return not any(host in network for network in self._networks)
