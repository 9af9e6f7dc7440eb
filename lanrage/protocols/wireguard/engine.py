"""One local key, many peers: the whole protocol behind a handful of calls, without I/O.

Datagrams go in through `receive`, packets through `seal`, time through `handle_timer`. What has to
be sent besides sealed packets (handshakes, cookies, keepalives, packets that had waited) collects
in `take_outgoing`; sessions coming and going in `take_notices`. Whoever calls: after each call,
send what is outgoing, and call `handle_timer` when `timer` says so (it may say so early).

Bytes from outside never raise. Whatever is not accepted counts in `drops`, under one of
`DROP_REASONS`, and leaves nothing else behind.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from types import MappingProxyType
from typing import Final, TypeAlias

from lanrage.protocols.endpoint import Place
from lanrage.protocols.wireguard import noise
from lanrage.protocols.wireguard.allowedips import AllowedIps, parse_prefixes
from lanrage.protocols.wireguard.constants import (
    CONFIRMATION_GRACE,
    DROP_REASONS,
    ENDPOINT_RETRY_SPACING,
    ERASE_AFTER,
    KEEPALIVE_AFTER,
    KEEPALIVE_MAX_S,
    KEY_BYTES,
    NOTICES_MAX,
    OUTGOING_MAX,
    PEERS_MAX,
    QUEUED_PACKETS_MAX,
    REJECT_AFTER,
    REKEY_AFTER,
    REKEY_AFTER_MESSAGES,
    REKEY_ATTEMPT,
    REKEY_JITTER_MAX,
    REKEY_ON_RECEIVE_AFTER,
    REKEY_TIMEOUT,
    SECOND,
    TRANSPORT_MIN_BYTES,
    TYPE_COOKIE,
    TYPE_INITIATION,
    TYPE_TRANSPORT,
)
from lanrage.protocols.wireguard.handshakes import MESSAGE_BYTES, Handshakes
from lanrage.protocols.wireguard.peer import Peer
from lanrage.protocols.wireguard.session import Session
from lanrage.protocols.wireguard.timers import (
    ERASE,
    EXPIRE,
    GIVE_UP,
    KEEPALIVE,
    NEVER,
    NO_ANSWER,
    PERSISTENT,
    RETRY,
    Agenda,
)

_HEAD: Final = Struct("<II")  # type, receiver index

__all__ = ["Engine", "EngineNotice", "Peer", "Place", "SessionDown", "SessionUp"]


@dataclass(frozen=True, slots=True)
class SessionUp:
    """A peer without a session has one now, `took_ns` after its handshake began."""

    peer: Peer
    took_ns: int


@dataclass(frozen=True, slots=True)
class SessionDown:
    """A peer has no session any more: it `expired` unrenewed, or the peer was `dropped`."""

    peer: Peer
    reason: str


EngineNotice: TypeAlias = SessionUp | SessionDown


class Engine:
    """WireGuard for one private key.

    `random(n)` gives n unpredictable bytes. `wall_offset_ns` is Unix time minus the clock of the
    `now_ns` arguments; it dates handshakes and nothing else. With `roaming`, an authentic packet
    moves its sender's endpoint; without, only `set_endpoint` does (`put_peer` may say otherwise).
    An endpoint is a place that only whoever sends has to understand. `mtu` bounds padding. Tests
    may renew sessions sooner (`rekey_after_ns`); the other side does not mind.
    Raises ValueError for a private key that is not 32 bytes.
    """

    def __init__(
        self,
        private_key: bytes,
        *,
        random: Callable[[int], bytes],
        wall_offset_ns: int,
        roaming: bool,
        rekey_after_ns: int = REKEY_AFTER,
    ) -> None:
        self._identity = noise.Identity(private_key)
        self._random = random
        self._wall_offset_ns = wall_offset_ns
        self._roaming = roaming
        self._rekey_after_ns = rekey_after_ns
        self.public_key = self._identity.public_key
        self.mtu = 1420
        self.drops = dict.fromkeys(DROP_REASONS, 0)
        self._peers: dict[bytes, Peer] = {}
        self.peers: Mapping[bytes, Peer] = MappingProxyType(self._peers)
        self._allowed: AllowedIps[Peer] = AllowedIps()
        self._agenda = Agenda()
        self._handshakes = Handshakes(
            self._identity,
            self.peers,
            random=random,
            wall_offset_ns=wall_offset_ns,
            drops=self.drops,
        )
        self._outgoing: list[tuple[Place, bytes]] = []
        self._notices: list[EngineNotice] = []

    @property
    def handshakes_worked(self) -> int:
        """How many handshake messages received so far cost a curve multiplication."""
        return self._handshakes.worked

    # --- peers ------------------------------------------------------------------------------

    def put_peer(
        self,
        public_key: bytes,
        *,
        allowed: Sequence[str],
        preshared_key: bytes = bytes(KEY_BYTES),
        keepalive_s: int = 0,
        endpoint: Place | None = None,
        roaming: bool | None = None,
    ) -> Peer:
        """Add a peer or change it; sessions survive a change. Without `endpoint` it keeps its own.

        An endpoint together with a keepalive makes `timer` due at once, which starts a handshake.
        Raises ValueError: our own or a low-order public key, a key of a wrong size, a prefix that
        is none, or too many of anything.
        """
        if len(preshared_key) != KEY_BYTES:
            raise ValueError("a preshared key has 32 bytes")
        if not 0 <= keepalive_s <= KEEPALIVE_MAX_S:
            raise ValueError(f"a keepalive of 0 to {KEEPALIVE_MAX_S} seconds")
        prefixes = parse_prefixes(allowed)
        peer = self._peers.get(public_key) or self._new_peer(public_key)
        peer.preshared_key = preshared_key
        peer.allowed = tuple(allowed)
        peer.roaming = self._roaming if roaming is None else roaming
        self._allowed.drop(peer)
        for prefix in prefixes:
            self._allowed.put(prefix, peer)
        moves = endpoint is not None and endpoint != peer.endpoint
        wakes = moves or keepalive_s != peer.keepalive_s
        peer.deadlines.keepalive_s = keepalive_s
        if moves:
            peer.endpoint = endpoint
        if keepalive_s == 0:
            peer.deadlines.clear(PERSISTENT)
        elif wakes and peer.endpoint is not None:
            peer.deadlines.arm(PERSISTENT, 0)
        if moves and peer.queue:
            peer.deadlines.arm(RETRY, 0)
        return peer

    def _new_peer(self, public_key: bytes) -> Peer:
        if len(public_key) != KEY_BYTES:
            raise ValueError("a public key has 32 bytes")
        if public_key == self.public_key:
            raise ValueError("a peer with our own public key")
        if len(self._peers) >= PEERS_MAX:
            raise ValueError(f"more than {PEERS_MAX} peers")
        shared = self._identity.shared(public_key)
        if shared is None:
            raise ValueError("a public key of low order")
        peer = self._peers[public_key] = Peer(public_key, shared, self._agenda)
        return peer

    def drop_peer(self, public_key: bytes) -> None:
        """Forget a peer, its keys and its prefixes; an unknown one is forgotten already."""
        peer = self._peers.pop(public_key, None)
        if peer is None:
            return
        self._allowed.drop(peer)
        self._end_series(peer)
        self._handshakes.forget(peer.erase())
        peer.queue.clear()
        peer.deadlines.clear_all()
        peer.endpoint = peer.second = None
        self._went_down(peer, "dropped")

    def set_endpoint(
        self, peer: Peer, endpoint: Place | None, now_ns: int, second: Place | None = None
    ) -> None:
        """Send there from now on, and to `second`, too; sessions go on.

        With packets waiting or a keepalive wanted, what is missing happens at once: the queue is
        flushed, or a handshake is started, or one that waits for an answer is asked again there.
        """
        if self._peers.get(peer.public_key) is not peer:
            return
        peer.second = second
        if peer.endpoint == endpoint:
            return
        peer.endpoint = endpoint
        if endpoint is None:
            self._end_series(peer)
            peer.deadlines.clear(PERSISTENT)
        elif self._usable(peer, now_ns):
            self._flush(peer, now_ns)
            if peer.keepalive_s:
                peer.deadlines.arm_unless_set(PERSISTENT, now_ns + peer.keepalive_s * SECOND)
        elif peer.queue or peer.keepalive_s or peer.pending is not None:
            self._want_handshake(peer, now_ns, ENDPOINT_RETRY_SPACING)

    def route(self, destination: bytes) -> Peer | None:
        """The peer that a packed destination address belongs to."""
        return self._allowed.lookup(destination)

    # --- data -------------------------------------------------------------------------------

    def seal(self, peer: Peer, packets: Sequence[bytes], now_ns: int) -> list[bytes]:
        """Transport messages for IP packets, to be sent to `peer.endpoint`,
        and to `peer.second`.

        Without a session or an endpoint the packets wait (the oldest give way), a handshake starts,
        and the result is empty; they leave through `take_outgoing`.
        """
        if not packets:
            return []
        session = peer.current
        if session is None or not session.usable(now_ns, len(packets)) or peer.endpoint is None:
            self._enqueue(peer, packets)
            self._want_handshake(peer, now_ns)
            return []
        datagrams = session.seal_batch(packets, self.mtu)
        peer.tx_bytes += sum(map(len, datagrams))
        peer.tx_packets += len(datagrams)
        peer.deadlines.sent_data(now_ns)
        self._renew_on_send(peer, session, now_ns)
        return datagrams

    def receive(
        self, datagrams: Sequence[bytes | memoryview], source: Place, now_ns: int
    ) -> list[tuple[Peer, list[bytes]]]:
        """Take datagrams of one source; returns the IP packets of each peer, in order.

        Every packet is authentic, new, from an address allowed to its peer, and cut to the length
        of its own header.
        """
        delivered: list[tuple[Peer, list[bytes]]] = []
        at = 0
        while at < len(datagrams):
            datagram = datagrams[at]
            if len(datagram) < TRANSPORT_MIN_BYTES:
                self._drop("bad_length")
                at += 1
                continue
            kind, index = _HEAD.unpack_from(datagram)
            if kind != TYPE_TRANSPORT:
                self._receive_handshake(kind, bytes(datagram), source, now_ns)
                at += 1
                continue
            session = self._session_of(index, now_ns)
            if session is None:
                at += 1
                continue
            at, peer, packets = self._receive_run(session, datagrams, at, source, now_ns)
            if packets:
                delivered.append((peer, packets))
        return delivered

    def _session_of(self, index: int, now_ns: int) -> Session | None:
        session = self._handshakes.sessions.get(index)
        if session is None:
            self._drop("unknown_index")
            return None
        if now_ns - session.born_ns >= REJECT_AFTER:
            self._drop("expired")
            return None
        return session

    def _receive_run(
        self,
        session: Session,
        datagrams: Sequence[bytes | memoryview],
        start: int,
        source: Place,
        now_ns: int,
    ) -> tuple[int, Peer, list[bytes]]:
        peer = session.owner
        assert isinstance(peer, Peer)
        opened = session.open_run(datagrams, start, self._allowed.lookup, self.drops)
        if opened.authentic == 0:
            return opened.end, peer, []
        peer.rx_bytes += opened.received_bytes
        peer.rx_packets += opened.authentic
        if peer.roaming:
            peer.endpoint = source
        if session is peer.next:
            self._handshakes.forget(peer.confirm_next())
            self._session_made(peer, session, now_ns)
            self._flush(peer, now_ns)
        if opened.packets:
            peer.deadlines.received_data(now_ns)
        else:
            peer.deadlines.received(now_ns)
        self._renew_on_receive(peer, now_ns)
        return opened.end, peer, opened.packets

    def take_outgoing(self) -> list[tuple[Place, bytes]]:
        """What is to be sent now, in order: where and what."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def take_notices(self) -> list[EngineNotice]:
        """What happened to sessions since the last call."""
        notices, self._notices = self._notices, []
        return notices

    # --- handshakes -------------------------------------------------------------------------

    def _receive_handshake(self, kind: int, datagram: bytes, source: Place, now_ns: int) -> None:
        if kind not in MESSAGE_BYTES:
            return self._drop("unknown_type")
        if len(datagram) != MESSAGE_BYTES[kind]:
            return self._drop("bad_length")
        if kind == TYPE_COOKIE:
            return self._handshakes.take_cookie(datagram, now_ns)
        admitted = self._handshakes.admit(datagram, source, now_ns)
        if isinstance(admitted, bytes):
            return self._put_out(source, admitted)
        if not admitted:
            return None
        if kind == TYPE_INITIATION:
            return self._receive_initiation(datagram, source, now_ns)
        return self._receive_response(datagram, source, now_ns)

    def _receive_initiation(self, datagram: bytes, source: Place, now_ns: int) -> None:
        answered = self._handshakes.respond(datagram, now_ns)
        if answered is None:
            return
        peer, response = answered
        self._heard_handshake(peer, datagram, source, now_ns)
        peer.deadlines.arm(ERASE, now_ns + ERASE_AFTER)
        # Answered where it came from: the path core may not know an endpoint yet.
        self._send_handshake(peer, response, source, now_ns)

    def _receive_response(self, datagram: bytes, source: Place, now_ns: int) -> None:
        session = self._handshakes.finish(datagram, now_ns)
        if session is None:
            return
        peer = session.owner
        assert isinstance(peer, Peer)
        self._heard_handshake(peer, datagram, source, now_ns)
        self._session_made(peer, session, now_ns)
        # The responder may not seal before it has heard from us, so say something in any case.
        if not self._flush(peer, now_ns):
            self._send_empty(peer, now_ns)

    def _heard_handshake(self, peer: Peer, datagram: bytes, source: Place, now_ns: int) -> None:
        peer.rx_bytes += len(datagram)
        peer.deadlines.received(now_ns)
        if peer.roaming:
            peer.endpoint = source

    def _send_handshake(self, peer: Peer, datagram: bytes, to: Place, now_ns: int) -> None:
        peer.tx_bytes += len(datagram)
        peer.deadlines.sent(now_ns)
        self._put_out(to, datagram)

    def _session_made(self, peer: Peer, session: Session, now_ns: int) -> None:
        """`session` is the peer's current one now, and both ends have its keys."""
        began_ns = session.born_ns if peer.began_ns is None else peer.began_ns
        self._end_series(peer)
        peer.renewed_on_receive = False
        peer.last_handshake_ns = now_ns
        peer.last_handshake_wall_ns = now_ns + self._wall_offset_ns
        peer.deadlines.arm(EXPIRE, session.born_ns + REJECT_AFTER)
        peer.deadlines.arm(ERASE, session.born_ns + ERASE_AFTER)
        if not peer.up:
            peer.up = True
            self._notice(SessionUp(peer, now_ns - began_ns))

    def _want_handshake(self, peer: Peer, now_ns: int, spacing_ns: int | None = None) -> None:
        """Initiate as soon as the limits allow.

        An initiation that waits for its answer is left alone, unless a spacing tells to repeat it.
        """
        if peer.endpoint is None or (peer.pending is not None and spacing_ns is None):
            return
        at_ns = now_ns
        if peer.last_initiation_ns is not None:
            at_ns = max(at_ns, peer.last_initiation_ns + (spacing_ns or REKEY_TIMEOUT))
        if peer.next is not None:
            at_ns = max(at_ns, peer.next.born_ns + CONFIRMATION_GRACE)
        if at_ns <= now_ns:
            self._initiate(peer, now_ns)
        elif at_ns < peer.deadlines.at(RETRY):
            peer.deadlines.arm(RETRY, at_ns)

    def _initiate(self, peer: Peer, now_ns: int) -> None:
        if peer.endpoint is None:
            return
        datagram = self._handshakes.initiate(peer, now_ns)
        jitter_ns = int.from_bytes(self._random(4), "little") % REKEY_JITTER_MAX
        peer.deadlines.arm(RETRY, now_ns + REKEY_TIMEOUT + jitter_ns)
        if peer.began_ns is None:
            peer.began_ns = now_ns
            peer.deadlines.arm(GIVE_UP, now_ns + REKEY_ATTEMPT)
        self._send_handshake(peer, datagram, peer.endpoint, now_ns)
        if peer.second is not None:
            self._put_out(peer.second, datagram)

    def _end_series(self, peer: Peer) -> None:
        self._handshakes.forget_pending(peer)
        peer.began_ns = None
        peer.deadlines.clear(RETRY, GIVE_UP)

    def _renew_on_send(self, peer: Peer, session: Session, now_ns: int) -> None:
        if session.counter > REKEY_AFTER_MESSAGES or (
            session.initiator and now_ns - session.born_ns >= self._rekey_after_ns
        ):
            self._want_handshake(peer, now_ns)

    def _renew_on_receive(self, peer: Peer, now_ns: int) -> None:
        session = peer.current
        if session is None or not session.initiator or peer.renewed_on_receive:
            return
        if now_ns - session.born_ns >= REKEY_ON_RECEIVE_AFTER:
            peer.renewed_on_receive = True
            self._want_handshake(peer, now_ns)

    # --- timers -----------------------------------------------------------------------------

    def timer(self) -> int | None:
        """When to call `handle_timer`, or None. A deadline cleared meanwhile may still show."""
        earliest_ns = self._agenda.earliest_ns
        return None if earliest_ns == NEVER else earliest_ns

    def handle_timer(self, now_ns: int) -> None:
        """Do what is due."""
        if now_ns < self._agenda.earliest_ns:
            return
        for peer in self._peers.values():
            for row in peer.deadlines.due(now_ns):
                if peer.deadlines.take(row, now_ns):
                    _DUE[row](self, peer, now_ns)
        self._agenda.earliest_ns = min(
            (peer.deadlines.earliest() for peer in self._peers.values()), default=NEVER
        )

    def _give_up(self, peer: Peer, now_ns: int) -> None:
        self._end_series(peer)
        self._drop("unanswered", len(peer.queue))
        peer.queue.clear()
        peer.deadlines.clear(KEEPALIVE)

    def _keepalive(self, peer: Peer, now_ns: int) -> None:
        if peer.deadlines.take_another_keepalive():
            self._send_empty(peer, now_ns)
            peer.deadlines.arm(KEEPALIVE, now_ns + KEEPALIVE_AFTER)
        else:
            self._send_empty(peer, now_ns)

    def _persist(self, peer: Peer, now_ns: int) -> None:
        if peer.endpoint is None:
            return
        peer.deadlines.arm(PERSISTENT, now_ns + peer.keepalive_s * SECOND)
        self._send_empty(peer, now_ns)

    def _expire(self, peer: Peer, now_ns: int) -> None:
        self._went_down(peer, "expired")

    def _erase(self, peer: Peer, now_ns: int) -> None:
        self._handshakes.forget(peer.erase())

    # --- small parts ------------------------------------------------------------------------

    def _usable(self, peer: Peer, now_ns: int) -> bool:
        return peer.current is not None and peer.current.usable(now_ns)

    def _send_empty(self, peer: Peer, now_ns: int) -> None:
        session = peer.current
        if session is None or not session.usable(now_ns) or peer.endpoint is None:
            return self._want_handshake(peer, now_ns)
        (datagram,) = session.seal_batch((b"",), self.mtu)
        peer.tx_bytes += len(datagram)
        peer.tx_packets += 1
        peer.deadlines.sent(now_ns)
        self._put_out_to(peer, datagram)
        return self._renew_on_send(peer, session, now_ns)

    def _enqueue(self, peer: Peer, packets: Sequence[bytes]) -> None:
        self._drop("queue_full", max(0, len(peer.queue) + len(packets) - QUEUED_PACKETS_MAX))
        peer.queue.extend(packets)

    def _flush(self, peer: Peer, now_ns: int) -> bool:
        """Send what waits; False if nothing did, or nothing can be sent."""
        if not peer.queue or peer.endpoint is None:
            return False
        packets = list(peer.queue)
        peer.queue.clear()
        datagrams = self.seal(peer, packets, now_ns)
        for datagram in datagrams:
            self._put_out_to(peer, datagram)
        return bool(datagrams)

    def _went_down(self, peer: Peer, reason: str) -> None:
        if peer.up:
            peer.up = False
            self._notice(SessionDown(peer, reason))

    def _notice(self, notice: EngineNotice) -> None:
        if len(self._notices) >= NOTICES_MAX:
            return self._drop("notices_full")
        return self._notices.append(notice)

    def _put_out_to(self, peer: Peer, datagram: bytes) -> None:
        for place in (peer.endpoint, peer.second):
            if place is not None:
                self._put_out(place, datagram)

    def _put_out(self, place: Place, datagram: bytes) -> None:
        if len(self._outgoing) >= OUTGOING_MAX:
            return self._drop("outgoing_full")
        return self._outgoing.append((place, datagram))

    def _drop(self, reason: str, count: int = 1) -> None:
        self.drops[reason] += count


_DUE: Final[Mapping[int, Callable[[Engine, Peer, int], None]]] = {
    RETRY: Engine._initiate,
    GIVE_UP: Engine._give_up,
    KEEPALIVE: Engine._keepalive,
    NO_ANSWER: Engine._want_handshake,
    PERSISTENT: Engine._persist,
    EXPIRE: Engine._expire,
    ERASE: Engine._erase,
}
