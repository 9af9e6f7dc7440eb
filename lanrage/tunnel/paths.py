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
from collections.abc import Mapping as Map
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from events.base import PeerId
from events.peer import Candidate
from lanrage.protocols import endpoint, probe, stun
from lanrage.protocols.endpoint import Address, Place, Via
from lanrage.protocols.partylog.addresses import NETWORK
from lanrage.protocols.relay import wire
from lanrage.tunnel import reasons
from lanrage.tunnel.lead import Lead
from lanrage.tunnel.mapping import Mapping
from lanrage.tunnel.outlet import Outlet, PathNotice
from lanrage.tunnel.prober import Prober
from lanrage.tunnel.reach import Reach
from lanrage.tunnel.search import Search
from lanrage.tunnel.ways import Ways

PEERS_MAX = 1024
FRIENDS_MAX = 3  # members that are asked to pass on, for one pair
FRIENDS_SPACING_NS = 5_000_000_000  # between looks whether there are better ones


@dataclass(frozen=True, slots=True)
class BoundRelay:
    """A relay that forwards to us now."""

    name: str
    carrier: str  # "relay" | "tcp"
    rtt_ns: int


class Paths:
    """`drops` counts what was thrown away, by reason; the reasons are a closed set."""

    def __init__(self, *, private_key: bytes, random: Callable[[int], bytes]) -> None:
        self._private_key = private_key
        self._networks = [ip_network(NETWORK)]
        self._epoch = random(probe.EPOCH_BYTES)
        self._outlet = Outlet(random)
        self._mapping = Mapping(self._outlet)
        self._search = Search(self._outlet)
        self._reaches: dict[PeerId, Reach] = {}
        self._by_hint: dict[bytes, Reach] = {}
        self._numbers: dict[PeerId, int] = {}
        self._own_number = 0
        self._public_key = public_of(private_key)
        self._relays: tuple[BoundRelay, ...] = ()
        self._picks: dict[PeerId, str] = {}
        self._direct: dict[PeerId, None] = {}  # members reached directly; they may pass on
        self._searching = False
        self._due_ns: int | None = None
        self._now_ns = 0  # of the last wake-up
        self.drops = self._outlet.drops

    def put_own_networks(self, networks: Sequence[str]) -> None:
        """The tunnel's own prefixes: a path through the tunnel itself must never be tried."""
        texts = {NETWORK, *networks}
        self._networks = [ip_network(text, strict=False) for text in sorted(texts)]

    def put_self(self, number: int, now_ns: int) -> None:
        """Our member number; relays know us by it. 0: not in a party, or not known."""
        self._own_number = number
        self._put_vias(now_ns)

    def put_relays(self, bound: Sequence[BoundRelay], now_ns: int) -> None:
        """The relays that forward to us now, best first."""
        self._relays = tuple(bound)
        self._put_vias(now_ns)

    def put_picks(self, picks: Map[PeerId, str], now_ns: int) -> None:
        """Which relay to prefer for a member."""
        self._picks = dict(picks)
        self._put_vias(now_ns)

    def put_policy(self, *, volunteer: bool, port_search: bool) -> None:
        """What this computer consents to. Whether it volunteers is for friend.py to know."""
        self._searching = port_search
        for reach in self._reaches.values():
            reach.prober.searching = port_search

    def check(self, peer: PeerId, now_ns: int) -> None:
        """Somebody doubts that this member is there: ask now, not at the next beat."""
        reach = self._reaches.get(peer)
        if reach is not None:
            reach.check(now_ns)
            self._set_due()

    def change_network(self, reason: str, now_ns: int) -> None:
        """Our own addresses changed: nothing measured holds, and routers have to be asked anew."""
        self._mapping.ask_now(now_ns)
        for reach in self._reaches.values():
            reach.change_network(now_ns)
        self._set_due()

    def direct_of(self, peer: PeerId) -> Address | None:
        """Where that member is reached directly, if it is."""
        reach = self._reaches.get(peer)
        return None if reach is None else reach.direct

    def member_at(self, address: Address) -> PeerId | None:
        """Whose proven own address this is."""
        for peer, reach in self._reaches.items():
            way = reach.ways.of.get(address)
            if way is not None and way.proven_ns:
                return peer
        return None

    # --- who passes on --------------------------------------------------------------------------

    def _put_vias(self, now_ns: int) -> None:
        for reach in self._reaches.values():
            self._put_vias_of(reach, now_ns)
        self._set_due()

    def _put_vias_of(self, reach: Reach, now_ns: int, *, more: bool = False) -> None:
        number = self._number_to(reach.peer)
        if number is None:
            return reach.put_vias((), "", now_ns)
        vias = [Via(relay.carrier, relay.name, number) for relay in self._relays]
        vias += [Via("friend", friend, number) for friend in self._friends_of(reach, more)]
        return reach.put_vias(vias, self._picks.get(reach.peer, ""), now_ns)

    def _number_to(self, peer: PeerId) -> int | None:
        """What we stamp on what is passed on to that member."""
        own, theirs = self._own_number, self._numbers.get(peer, 0)
        if not 1 <= own <= wire.MEMBER_MAX or not 1 <= theirs <= wire.MEMBER_MAX or own == theirs:
            return None
        return wire.number(own, theirs)

    def _friends_of(self, reach: Reach, more: bool) -> list[PeerId]:
        """Those already asked stay, as long as they are reached directly; with `more`, the nearest
        others take part."""
        asked = [
            way.place.name
            for way in reach.ways.of.values()
            if isinstance(way.place, Via) and way.place.carrier == "friend" and way.listed
        ]
        friends = [friend for friend in asked if friend in self._direct]
        if not more:
            return friends
        others = sorted(set(self._direct) - {*friends, reach.peer}, key=self._distance)
        return [*friends, *others[: FRIENDS_MAX - len(friends)]]

    def _distance(self, peer: PeerId) -> tuple[int, PeerId]:
        best = self._reaches[peer].best
        return (best.rtt_ns if best is not None else 0, peer)

    def _note_direct(self, reach: Reach, now_ns: int) -> None:
        """Whoever is not reached directly any more cannot pass on either."""
        if reach.has_direct:
            self._search.stop(reach.peer)
        if reach.direct is not None:
            self._direct[reach.peer] = None
        elif reach.peer in self._direct:
            self._leave_friend(reach.peer, now_ns)

    def _leave_friend(self, friend: PeerId, now_ns: int) -> None:
        if friend in self._direct:
            del self._direct[friend]
            for reach in self._reaches.values():
                reach.drop_friend(friend, now_ns)

    def _search_for(self, reach: Reach, now_ns: int) -> None:
        """Begin a port search if both consent and exactly one router is hard."""
        if not reach.consents or not reach.is_stuck(now_ns):
            return
        evidence = reach.evidence()
        if not evidence.theirs or evidence.ours_silent:
            return
        target = evidence.theirs[0]
        if evidence.theirs_vary and not evidence.ours_vary:
            self._search.seek(reach.peer, reach.prober, target[0], now_ns)
        elif evidence.ours_vary and not evidence.theirs_vary:
            self._search.offer(reach.peer, reach.prober, target, now_ns)

    # --- members --------------------------------------------------------------------------------

    def put_peer(self, peer: PeerId, public_key: bytes, number: int = 0) -> None:
        """A member to reach, by its WireGuard key. The same again changes nothing."""
        known = self._reaches.get(peer)
        if known is not None and known.public_key == public_key:
            self._numbers[peer] = number
            return
        self.drop_peer(peer)
        self._numbers[peer] = number
        keys = probe.derive(self._private_key, public_key)
        if keys is None or len(self._reaches) == PEERS_MAX:
            return self._outlet.drop("peer_refused")
        reach = Reach(
            peer,
            public_key,
            Prober(keys, self._epoch, self._outlet, self._searching),
            self._outlet,
            self._mapping,
            Ways(self._outlet, self._is_usable),
            Lead(ours=self._public_key < public_key),
        )
        self._reaches[peer] = reach
        self._by_hint[keys.receiving_hint] = reach
        return None

    def drop_peer(self, peer: PeerId) -> None:
        reach = self._reaches.pop(peer, None)
        if reach is not None:
            del self._by_hint[reach.prober.keys.receiving_hint]
            self._numbers.pop(peer, None)
            self._search.stop(peer)
            self._leave_friend(peer, self._now_ns)
            self._set_due()

    def put_candidates(self, peer: PeerId, candidates: Sequence[Candidate], now_ns: int) -> None:
        """Where that member may be reached. A list not seen before is probed at once."""
        reach = self._reaches.get(peer)
        if reach is not None:
            self._put_vias_of(reach, now_ns)
            reach.put_candidates(candidates, now_ns)
            self._set_due()

    def put_servers(self, servers: Sequence[str], now_ns: int) -> None:
        """STUN servers, `ip:port`, to ask for our mapped addresses; none ends the asking."""
        self._mapping.put_servers(servers, now_ns)
        self._set_due()

    def is_ours(self, datagram: bytes) -> bool:
        return probe.is_probe(datagram) or stun.is_stun(datagram)

    def receive(self, datagram: bytes, source: Place, now_ns: int) -> None:
        if probe.is_probe(datagram):
            self._receive_probe(datagram, source, now_ns)
        elif not isinstance(source, Via):
            self._mapping.receive(datagram, source, now_ns)
        self._set_due()

    def _receive_probe(self, datagram: bytes, source: Place, now_ns: int) -> None:
        reach = self._by_hint.get(probe.hint(datagram))
        if reach is None:
            return self._outlet.drop("probe_unknown")
        arrived = probe.open_probe(datagram, reach.prober.keys)
        if arrived is None:
            return self._outlet.drop("probe_forged")
        if not self._may_come_from(source):
            return self._outlet.drop("probe_source")
        reach.receive(arrived, source, now_ns)
        return self._note_direct(reach, now_ns)

    def _may_come_from(self, source: Place) -> bool:
        if not isinstance(source, Via):
            return self._is_usable(source)
        if source.carrier == "port":
            address = endpoint.parse(source.name.partition(" ")[2])
            return address is not None and self._is_usable(address)
        return source.carrier != "friend" or source.name in self._direct

    def note_data(self, peer: PeerId, now_ns: int, sent: bool = True) -> None:
        """Data went to or came from that member, once a batch is enough."""
        reach = self._reaches.get(peer)
        if reach is None:
            return
        beat_ns = reach.note_data(now_ns)
        if beat_ns is not None and (self._due_ns is None or beat_ns < self._due_ns):
            self._due_ns = beat_ns

    def best(self, peer: PeerId) -> Place | None:
        reach = self._reaches.get(peer)
        return None if reach is None or reach.best is None else reach.best.place

    def second(self, peer: PeerId, now_ns: int) -> Place | None:
        """Where to send, too, while the used way is in doubt."""
        reach = self._reaches.get(peer)
        way = None if reach is None else reach.second(now_ns)
        return None if way is None else way.place

    def quality(self, peer: PeerId) -> tuple[int, int, int]:
        """Smoothed round trip in microseconds, lost round trips in permille, and jitter in
        microseconds; zeros are unknown."""
        reach = self._reaches.get(peer)
        if reach is None or reach.best is None:
            return (0, 0, 0)
        best = reach.best
        return (best.rtt_ns // 1000, best.loss_permille, best.jitter_ns // 1000)

    def why(self, peer: PeerId) -> str:
        """Why that member is not reached directly, in words; nothing if it is."""
        reach = self._reaches.get(peer)
        if reach is None or reach.has_direct:
            return ""
        if reach.best is None:
            return reasons.unreachable(reach.evidence())
        return reasons.indirect(reach.best.quality.kind, reach.evidence())

    def take_outgoing(self) -> list[tuple[Place, bytes]]:
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
        self._now_ns = now_ns
        for reach in self._reaches.values():
            if reach.wants_friends(now_ns):
                reach.friends_ns = now_ns + FRIENDS_SPACING_NS
                self._put_vias_of(reach, now_ns, more=True)
            reach.handle_timer(now_ns)
        for reach in list(self._reaches.values()):
            self._note_direct(reach, now_ns)
            if self._searching:
                self._search_for(reach, now_ns)
        self._search.handle_timer(now_ns)
        self._mapping.handle_timer(now_ns)
        self._set_due()

    def _set_due(self) -> None:
        dues = [reach.timer() for reach in self._reaches.values()]
        dues += [self._mapping.timer(), self._search.timer()]
        self._due_ns = min((due for due in dues if due is not None), default=None)

    def _is_usable(self, address: Address) -> bool:
        """Whether a member may be there at all: another computer, and not through the tunnel."""
        if not endpoint.is_unicast(address):
            return False
        host = ip_address(address[0])
        return not any(host in network for network in self._networks)


def public_of(private_key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()
