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
from types import MappingProxyType
from typing import Final, TypeAlias

from lanrage.protocols.wireguard import noise
from lanrage.protocols.wireguard.allowedips import AllowedIps, parse_prefixes
from lanrage.protocols.wireguard.constants import (
    CONFIRMATION_GRACE,
    COOKIE_BYTES,
    ENDPOINT_RETRY_SPACING,
    ERASE_AFTER,
    INITIATION_BYTES,
    INITIATION_SPACING_MIN,
    KEEPALIVE_AFTER,
    KEY_BYTES,
    NO_ANSWER_AFTER,
    NOTICES_MAX,
    OUTGOING_MAX,
    PEERS_MAX,
    REJECT_AFTER,
    REKEY_AFTER,
    REKEY_AFTER_MESSAGES,
    REKEY_ATTEMPT,
    REKEY_JITTER_MAX,
    REKEY_ON_RECEIVE_AFTER,
    REKEY_TIMEOUT,
    RESPONSE_BYTES,
    SECOND,
    TRANSPORT_MIN_BYTES,
    TYPE_COOKIE,
    TYPE_INITIATION,
    TYPE_RESPONSE,
    TYPE_TRANSPORT,
)
from lanrage.protocols.wireguard.cookie import Doorkeeper
from lanrage.protocols.wireguard.peer import NEVER, Address, Peer, Pending, Row
from lanrage.protocols.wireguard.session import Session

__all__ = [
    "DROP_REASONS",
    "Address",
    "Engine",
    "EngineNotice",
    "Peer",
    "SessionDown",
    "SessionUp",
]

DROP_REASONS: Final = (
    "bad_cookie",
    "bad_initiation",
    "bad_inner",
    "bad_length",
    "bad_mac1",
    "bad_response",
    "early_initiation",
    "expired",
    "forged",
    "no_cookie",
    "notices_full",
    "outgoing_full",
    "queue_full",
    "rate_limited",
    "replayed",
    "replayed_initiation",
    "spoofed",
    "unanswered",
    "unknown_index",
    "unknown_peer",
    "unknown_type",
)


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
    `now_ns` arguments; it dates initiations and nothing else. With `roaming`, an authentic packet
    moves its sender's endpoint; without, only `set_endpoint` does. `mtu` bounds padding.
    Raises ValueError for a private key that is not 32 bytes.
    """

    def __init__(
        self,
        private_key: bytes,
        *,
        random: Callable[[int], bytes],
        wall_offset_ns: int,
        roaming: bool,
    ) -> None:
        self._identity = noise.Identity(private_key)
        self._random = random
        self._wall_offset_ns = wall_offset_ns
        self._roaming = roaming
        self.public_key = self._identity.public_key
        self.mtu = 1420
        self.drops = dict.fromkeys(DROP_REASONS, 0)
        self.handshakes_worked = 0
        self._peers: dict[bytes, Peer] = {}
        self.peers: Mapping[bytes, Peer] = MappingProxyType(self._peers)
        self._allowed: AllowedIps[Peer] = AllowedIps()
        self._sessions: dict[int, Session] = {}
        self._pending: dict[int, Peer] = {}
        self._door = Doorkeeper(self.public_key, random)
        self._last_timestamp = bytes(12)
        self._outgoing: list[tuple[Address, bytes]] = []
        self._notices: list[EngineNotice] = []
        self._earliest_ns = NEVER

    # --- peers ------------------------------------------------------------------------------

    def put_peer(
        self,
        public_key: bytes,
        *,
        allowed: Sequence[str],
        preshared_key: bytes = bytes(KEY_BYTES),
        keepalive_s: int = 0,
        endpoint: Address | None = None,
    ) -> Peer:
        """Add a peer or change it; sessions survive a change. Without `endpoint` it keeps its own.

        An endpoint together with a keepalive makes `timer` due at once, which starts a handshake.
        Raises ValueError: our own or a low-order public key, a key of a wrong size, a prefix that
        is none, or too many of anything.
        """
        if len(preshared_key) != KEY_BYTES:
            raise ValueError("a preshared key has 32 bytes")
        prefixes = parse_prefixes(allowed)
        peer = self._peers.get(public_key) or self._new_peer(public_key)
        peer.preshared_key = preshared_key
        if prefixes != peer.prefixes:
            self._allowed.drop(peer)
            peer.prefixes = prefixes
        peer.allowed = tuple(allowed)
        for prefix in prefixes:
            self._allowed.put(prefix, peer)
        wakes = keepalive_s > 0 and keepalive_s != peer.keepalive_s
        peer.keepalive_s = keepalive_s
        if endpoint is not None and endpoint != peer.endpoint:
            peer.endpoint = endpoint
            wakes = keepalive_s > 0
            if peer.queue:
                self._arm(peer, Row.RETRY, 0)
        if keepalive_s == 0:
            peer.deadlines[Row.PERSISTENT] = NEVER
        elif wakes and peer.endpoint is not None:
            self._arm(peer, Row.PERSISTENT, 0)
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
        peer = self._peers[public_key] = Peer(public_key, shared)
        return peer

    def drop_peer(self, public_key: bytes) -> None:
        """Forget a peer, its keys and its prefixes; an unknown one is forgotten already."""
        peer = self._peers.pop(public_key, None)
        if peer is None:
            return
        self._allowed.drop(peer)
        self._erase(peer)
        peer.queue.clear()
        peer.deadlines[:] = [NEVER] * len(Row)
        self._went_down(peer, "dropped")

    def set_endpoint(self, peer: Peer, endpoint: Address | None, now_ns: int) -> None:
        """Send to this address from now on; sessions go on.

        With packets waiting or a keepalive wanted, what is missing happens at once: the queue is
        flushed, or a handshake is started, or one that waits for an answer is asked again there.
        """
        if peer.endpoint == endpoint:
            return
        peer.endpoint = endpoint
        if endpoint is None:
            self._end_series(peer)
            peer.deadlines[Row.PERSISTENT] = NEVER
            return
        if self._usable(peer, now_ns):
            self._flush(peer, now_ns)
            if peer.keepalive_s:
                self._arm(peer, Row.PERSISTENT, now_ns + peer.keepalive_s * SECOND)
        elif peer.queue or peer.keepalive_s or peer.pending is not None:
            self._want_handshake(peer, now_ns, spacing_ns=ENDPOINT_RETRY_SPACING, again=True)

    def route(self, destination: bytes) -> Peer | None:
        """The peer that a packed destination address belongs to."""
        return self._allowed.lookup(destination)

    # --- data -------------------------------------------------------------------------------

    def seal(self, peer: Peer, packets: Sequence[bytes], now_ns: int) -> list[bytes]:
        """Transport messages for IP packets, to be sent to `peer.endpoint`.

        Without a session or an endpoint the packets wait (the oldest give way), a handshake starts,
        and the result is empty; they leave through `take_outgoing`.
        """
        session = peer.current
        if (
            session is None
            or peer.endpoint is None
            or not session.usable(now_ns, len(packets))
            or not packets
        ):
            self._enqueue(peer, packets)
            if packets and not self._usable(peer, now_ns):
                self._want_handshake(peer, now_ns)
            return []
        datagrams = session.seal_batch(packets, self.mtu)
        self._sent(peer, datagrams, now_ns)
        if peer.deadlines[Row.NO_ANSWER] == NEVER:
            self._arm(peer, Row.NO_ANSWER, now_ns + NO_ANSWER_AFTER)
        if session.counter > REKEY_AFTER_MESSAGES or (
            session.initiator and now_ns - session.born_ns >= REKEY_AFTER
        ):
            self._want_handshake(peer, now_ns)
        return datagrams

    def receive(
        self, datagrams: Sequence[bytes | memoryview], source: Address, now_ns: int
    ) -> list[tuple[Peer, list[bytes]]]:
        """Take datagrams of one source; returns the IP packets of each peer, in order.

        Every packet is authentic, new, from an address allowed to its peer, and cut to the length
        of its own header.
        """
        delivered: list[tuple[Peer, list[bytes]]] = []
        at = 0
        while at < len(datagrams):
            datagram = datagrams[at]
            kind = int.from_bytes(datagram[:4], "little")
            if kind != TYPE_TRANSPORT:
                self._receive_handshake(kind, bytes(datagram), source, now_ns)
                at += 1
                continue
            session = self._sessions.get(int.from_bytes(datagram[4:8], "little"))
            if len(datagram) < TRANSPORT_MIN_BYTES or session is None:
                self._drop("bad_length" if session else "unknown_index")
                at += 1
                continue
            if now_ns - session.born_ns >= REJECT_AFTER:
                self._drop("expired")
                at += 1
                continue
            at, peer, packets = self._receive_run(session, datagrams, at, source, now_ns)
            if packets:
                delivered.append((peer, packets))
        return delivered

    def _receive_run(
        self,
        session: Session,
        datagrams: Sequence[bytes | memoryview],
        start: int,
        source: Address,
        now_ns: int,
    ) -> tuple[int, Peer, list[bytes]]:
        peer = session.owner
        assert isinstance(peer, Peer)
        opened = session.open_run(datagrams, start, self._allowed.lookup, self.drops)
        if opened.authentic == 0:
            return opened.end, peer, []
        peer.rx_bytes += opened.received_bytes
        peer.rx_packets += opened.authentic
        if self._roaming:
            peer.endpoint = source
        if session is peer.next:
            self._unlist(peer.confirm_next())
            self._session_made(peer, session, now_ns)
        self._received(peer, now_ns)
        if opened.packets:
            self._received_data(peer, now_ns)
        self._renew_on_receive(peer, now_ns)
        return opened.end, peer, opened.packets

    def take_outgoing(self) -> list[tuple[Address, bytes]]:
        """What is to be sent now, in order: where and what."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def take_notices(self) -> list[EngineNotice]:
        """What happened to sessions since the last call."""
        notices, self._notices = self._notices, []
        return notices

    # --- handshakes -------------------------------------------------------------------------

    def _receive_handshake(self, kind: int, datagram: bytes, source: Address, now_ns: int) -> None:
        size = _HANDSHAKE_BYTES.get(kind)
        if size is None:
            return self._drop("unknown_type")
        if len(datagram) != size:
            return self._drop("bad_length")
        if kind == TYPE_COOKIE:
            return self._receive_cookie(datagram, now_ns)
        if not self._door.has_mac1(datagram):
            return self._drop("bad_mac1")
        if self._door.under_load(now_ns):
            if not self._door.has_mac2(datagram, source, now_ns):
                self._drop("no_cookie")
                return self._put_out(source, self._door.reply(datagram, source, now_ns))
            if not self._door.allows(source, now_ns):
                return self._drop("rate_limited")
        if kind == TYPE_INITIATION:
            return self._receive_initiation(datagram, source, now_ns)
        return self._receive_response(datagram, source, now_ns)

    def _receive_initiation(self, datagram: bytes, source: Address, now_ns: int) -> None:
        self.handshakes_worked += 1
        announced = noise.read_static(self._identity, datagram)
        if announced is None:
            return self._drop("bad_initiation")
        peer = self._peers.get(announced.public_key)
        if peer is None:
            return self._drop("unknown_peer")
        authenticated = noise.read_timestamp(announced, peer.static_shared)
        if authenticated is None:
            return self._drop("bad_initiation")
        if authenticated.timestamp <= peer.last_heard_timestamp:
            return self._drop("replayed_initiation")
        last_ns = peer.last_heard_initiation_ns
        if last_ns is not None and now_ns - last_ns < INITIATION_SPACING_MIN:
            return self._drop("early_initiation")
        peer.last_heard_timestamp = authenticated.timestamp
        peer.last_heard_initiation_ns = now_ns
        peer.rx_bytes += len(datagram)
        self._respond(peer, authenticated, source, now_ns)

    def _respond(
        self, peer: Peer, initiation: noise.Authenticated, source: Address, now_ns: int
    ) -> None:
        index = self._new_index()
        answer = noise.respond(
            initiation,
            sender=index,
            ephemeral=self._random(KEY_BYTES),
            preshared_key=peer.preshared_key,
        )
        if answer is None:
            return self._drop("bad_initiation")
        message, keys = answer
        session = self._list(peer, keys, index, initiation.sender, initiator=False, now_ns=now_ns)
        self._unlist(peer.put_responded(session))
        self._arm(peer, Row.ERASE, now_ns + ERASE_AFTER)
        if self._roaming:
            peer.endpoint = source
        self._received(peer, now_ns)
        datagram = peer.cookies.stamp(message, now_ns)
        self._sent_handshake(peer, datagram, now_ns)
        # Answered where it came from: the path core may not know an endpoint yet.
        self._put_out(source, datagram)

    def _receive_response(self, datagram: bytes, source: Address, now_ns: int) -> None:
        peer = self._pending.get(int.from_bytes(datagram[8:12], "little"))
        if peer is None or peer.pending is None:
            return self._drop("unknown_index")
        pending = peer.pending
        self.handshakes_worked += 1
        keys = noise.consume_response(
            self._identity, pending.initiation, datagram, peer.preshared_key
        )
        if keys is None:
            return self._drop("bad_response")
        remote_index = int.from_bytes(datagram[4:8], "little")
        index = pending.local_index
        session = self._list(peer, keys, index, remote_index, initiator=True, now_ns=now_ns)
        self._unlist(peer.put_initiated(session, wins=self.public_key < peer.public_key))
        peer.rx_bytes += len(datagram)
        if self._roaming:
            peer.endpoint = source
        self._session_made(peer, session, now_ns)
        self._received(peer, now_ns)
        # The responder may not seal before it has heard from us, so say something in any case.
        if not self._flush(peer, now_ns):
            self._send_empty(peer, now_ns)

    def _receive_cookie(self, datagram: bytes, now_ns: int) -> None:
        index = int.from_bytes(datagram[4:8], "little")
        session = self._sessions.get(index)
        peer = self._pending.get(index) if session is None else session.owner
        if not isinstance(peer, Peer):
            return self._drop("unknown_index")
        if not peer.cookies.put_reply(datagram, now_ns):
            return self._drop("bad_cookie")
        peer.rx_bytes += len(datagram)

    def _want_handshake(
        self, peer: Peer, now_ns: int, *, spacing_ns: int = REKEY_TIMEOUT, again: bool = False
    ) -> None:
        """Initiate as soon as the limits allow, unless an initiation waits for its answer."""
        if peer.endpoint is None or (peer.pending is not None and not again):
            return
        at_ns = now_ns
        if peer.last_initiation_ns is not None:
            at_ns = max(at_ns, peer.last_initiation_ns + spacing_ns)
        if peer.next is not None:
            at_ns = max(at_ns, peer.next.born_ns + CONFIRMATION_GRACE)
        if at_ns <= now_ns:
            return self._initiate(peer, now_ns)
        if at_ns < peer.deadlines[Row.RETRY]:
            self._arm(peer, Row.RETRY, at_ns)

    def _initiate(self, peer: Peer, now_ns: int) -> None:
        assert peer.endpoint is not None
        self._forget_pending(peer)
        index = self._new_index()
        message, initiation = noise.initiate(
            self._identity,
            peer.public_key,
            peer.static_shared,
            sender=index,
            ephemeral=self._random(KEY_BYTES),
            timestamp=self._timestamp(now_ns),
        )
        peer.pending = Pending(index, initiation)
        self._pending[index] = peer
        peer.last_initiation_ns = now_ns
        jitter_ns = int.from_bytes(self._random(4), "little") % REKEY_JITTER_MAX
        self._arm(peer, Row.RETRY, now_ns + REKEY_TIMEOUT + jitter_ns)
        if peer.deadlines[Row.GIVE_UP] == NEVER:
            peer.began_ns = now_ns
            self._arm(peer, Row.GIVE_UP, now_ns + REKEY_ATTEMPT)
        datagram = peer.cookies.stamp(message, now_ns)
        self._sent_handshake(peer, datagram, now_ns)
        self._put_out(peer.endpoint, datagram)

    def _timestamp(self, now_ns: int) -> bytes:
        timestamp = noise.tai64n(now_ns + self._wall_offset_ns)
        if timestamp <= self._last_timestamp:
            timestamp = noise.later_tai64n(self._last_timestamp)
        self._last_timestamp = timestamp
        return timestamp

    def _session_made(self, peer: Peer, session: Session, now_ns: int) -> None:
        """`session` is the current one now, and both ends know."""
        began_ns = session.born_ns if peer.began_ns is None else peer.began_ns
        self._end_series(peer)
        peer.renewed_on_receive = False
        peer.last_handshake_ns = now_ns
        peer.last_handshake_wall_ns = now_ns + self._wall_offset_ns
        self._arm(peer, Row.EXPIRE, session.born_ns + REJECT_AFTER)
        self._arm(peer, Row.ERASE, session.born_ns + ERASE_AFTER)
        if not peer.up:
            peer.up = True
            self._notice(SessionUp(peer, now_ns - began_ns))
        if not session.initiator:
            self._flush(peer, now_ns)

    def _end_series(self, peer: Peer) -> None:
        self._forget_pending(peer)
        peer.began_ns = None
        peer.deadlines[Row.RETRY] = peer.deadlines[Row.GIVE_UP] = NEVER

    def _forget_pending(self, peer: Peer) -> None:
        if peer.pending is not None:
            del self._pending[peer.pending.local_index]
            peer.pending = None

    # --- what every packet sent or received means to the timers ----------------------------------

    def _sent(self, peer: Peer, datagrams: Sequence[bytes], now_ns: int) -> None:
        peer.tx_bytes += sum(map(len, datagrams))
        peer.tx_packets += len(datagrams)
        deadlines = peer.deadlines
        deadlines[Row.KEEPALIVE] = NEVER
        peer.another_keepalive = False
        if peer.keepalive_s:
            self._arm(peer, Row.PERSISTENT, now_ns + peer.keepalive_s * SECOND)

    def _sent_handshake(self, peer: Peer, datagram: bytes, now_ns: int) -> None:
        self._sent(peer, (), now_ns)
        peer.tx_bytes += len(datagram)

    def _received(self, peer: Peer, now_ns: int) -> None:
        peer.deadlines[Row.NO_ANSWER] = NEVER
        if peer.keepalive_s:
            self._arm(peer, Row.PERSISTENT, now_ns + peer.keepalive_s * SECOND)

    def _received_data(self, peer: Peer, now_ns: int) -> None:
        if peer.deadlines[Row.KEEPALIVE] == NEVER:
            self._arm(peer, Row.KEEPALIVE, now_ns + KEEPALIVE_AFTER)
        else:
            peer.another_keepalive = True

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
        return None if self._earliest_ns == NEVER else self._earliest_ns

    def handle_timer(self, now_ns: int) -> None:
        """Do what is due."""
        if now_ns < self._earliest_ns:
            return
        for peer in self._peers.values():
            due = [(at, row) for row, at in enumerate(peer.deadlines) if at <= now_ns]
            for at, row in sorted(due):
                # An earlier row may have moved or cleared a later one.
                if peer.deadlines[row] == at:
                    peer.deadlines[row] = NEVER
                    _DUE[row](self, peer, now_ns)
        self._earliest_ns = min(
            (min(peer.deadlines) for peer in self._peers.values()), default=NEVER
        )

    def _arm(self, peer: Peer, row: Row, at_ns: int) -> None:
        peer.deadlines[row] = at_ns
        if at_ns < self._earliest_ns:
            self._earliest_ns = at_ns

    def _retry(self, peer: Peer, now_ns: int) -> None:
        if peer.endpoint is not None:
            self._initiate(peer, now_ns)

    def _give_up(self, peer: Peer, now_ns: int) -> None:
        self._end_series(peer)
        self._drop("unanswered", len(peer.queue))
        peer.queue.clear()
        peer.deadlines[Row.KEEPALIVE] = NEVER
        if peer.deadlines[Row.ERASE] == NEVER:
            self._arm(peer, Row.ERASE, now_ns + ERASE_AFTER)

    def _keepalive(self, peer: Peer, now_ns: int) -> None:
        another = peer.another_keepalive
        self._send_empty(peer, now_ns)
        if another:
            self._arm(peer, Row.KEEPALIVE, now_ns + KEEPALIVE_AFTER)

    def _persist(self, peer: Peer, now_ns: int) -> None:
        if peer.endpoint is None:
            return
        self._arm(peer, Row.PERSISTENT, now_ns + peer.keepalive_s * SECOND)
        self._send_empty(peer, now_ns)

    def _expire(self, peer: Peer, now_ns: int) -> None:
        self._went_down(peer, "expired")

    def _erase(self, peer: Peer, now_ns: int = 0) -> None:
        self._end_series(peer)
        self._unlist(peer.erase())

    def _send_empty(self, peer: Peer, now_ns: int) -> None:
        session = peer.current
        if session is None or peer.endpoint is None or not session.usable(now_ns):
            return self._want_handshake(peer, now_ns)
        datagrams = session.seal_batch((b"",), self.mtu)
        self._sent(peer, datagrams, now_ns)
        self._put_out(peer.endpoint, datagrams[0])

    # --- small parts ------------------------------------------------------------------------

    def _usable(self, peer: Peer, now_ns: int) -> bool:
        return peer.current is not None and peer.current.usable(now_ns)

    def _enqueue(self, peer: Peer, packets: Sequence[bytes]) -> None:
        limit = peer.queue.maxlen
        assert limit is not None
        self._drop("queue_full", max(0, len(peer.queue) + len(packets) - limit))
        peer.queue.extend(packets)

    def _flush(self, peer: Peer, now_ns: int) -> bool:
        """Send what waits; False if nothing did, or nothing can be sent."""
        if not peer.queue or peer.endpoint is None:
            return False
        packets = list(peer.queue)
        peer.queue.clear()
        datagrams = self.seal(peer, packets, now_ns)
        for datagram in datagrams:
            self._put_out(peer.endpoint, datagram)
        return bool(datagrams)

    def _new_index(self) -> int:
        while True:
            index = int.from_bytes(self._random(4), "little")
            if index not in self._sessions and index not in self._pending:
                return index

    def _list(
        self,
        peer: Peer,
        keys: noise.SessionKeys,
        local_index: int,
        remote_index: int,
        *,
        initiator: bool,
        now_ns: int,
    ) -> Session:
        session = self._sessions[local_index] = Session(
            keys,
            owner=peer,
            initiator=initiator,
            local_index=local_index,
            remote_index=remote_index,
            born_ns=now_ns,
        )
        return session

    def _unlist(self, sessions: Sequence[Session]) -> None:
        for session in sessions:
            del self._sessions[session.local_index]

    def _went_down(self, peer: Peer, reason: str) -> None:
        if peer.up:
            peer.up = False
            self._notice(SessionDown(peer, reason))

    def _notice(self, notice: EngineNotice) -> None:
        if len(self._notices) >= NOTICES_MAX:
            return self._drop("notices_full")
        self._notices.append(notice)

    def _put_out(self, address: Address, datagram: bytes) -> None:
        if len(self._outgoing) >= OUTGOING_MAX:
            return self._drop("outgoing_full")
        self._outgoing.append((address, datagram))

    def _drop(self, reason: str, count: int = 1) -> None:
        self.drops[reason] += count


_HANDSHAKE_BYTES: Final = {
    TYPE_INITIATION: INITIATION_BYTES,
    TYPE_RESPONSE: RESPONSE_BYTES,
    TYPE_COOKIE: COOKIE_BYTES,
}

_DUE: Final[Mapping[int, Callable[[Engine, Peer, int], None]]] = {
    Row.RETRY: Engine._retry,
    Row.GIVE_UP: Engine._give_up,
    Row.KEEPALIVE: Engine._keepalive,
    Row.NO_ANSWER: Engine._want_handshake,
    Row.PERSISTENT: Engine._persist,
    Row.EXPIRE: Engine._expire,
    Row.ERASE: Engine._erase,
}
