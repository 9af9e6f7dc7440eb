"""Handshakes of all peers: which initiation waits for whom, which keypair has which index.

Every message says in 32 bits which of our handshakes or sessions it belongs to; `sessions` and
`_pending` are that table. Load is met before any curve multiplication (`admit`), an old initiation
after two of them, a forged one after one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lanrage.protocols.endpoint import Place
from lanrage.protocols.wireguard import noise
from lanrage.protocols.wireguard.constants import (
    COOKIE_BYTES,
    INITIATION_BYTES,
    INITIATION_SPACING_MIN,
    KEY_BYTES,
    RESPONSE_BYTES,
    TYPE_COOKIE,
    TYPE_INITIATION,
    TYPE_RESPONSE,
)
from lanrage.protocols.wireguard.cookie import Doorkeeper
from lanrage.protocols.wireguard.peer import Peer, Pending
from lanrage.protocols.wireguard.session import Session

MESSAGE_BYTES: Final = {
    TYPE_INITIATION: INITIATION_BYTES,
    TYPE_RESPONSE: RESPONSE_BYTES,
    TYPE_COOKIE: COOKIE_BYTES,
}


class Handshakes:
    """Makes and answers handshake messages; refused ones are counted in `drops`.

    `worked` counts the messages that cost a curve multiplication.
    """

    def __init__(
        self,
        identity: noise.Identity,
        peers: Mapping[bytes, Peer],
        *,
        random: Callable[[int], bytes],
        wall_offset_ns: int,
        drops: dict[str, int],
    ) -> None:
        self._identity = identity
        self._peers = peers
        self._random = random
        self._wall_offset_ns = wall_offset_ns
        self._drops = drops
        self._door = Doorkeeper(identity.public_key, random)
        self._pending: dict[int, Peer] = {}
        self._last_timestamp = bytes(12)
        self.sessions: dict[int, Session] = {}
        self.worked = 0

    def admit(self, datagram: bytes, source: Place, now_ns: int) -> bool | bytes:
        """Whether an initiation or a response is worth working on; or the cookie to answer with."""
        if not self._door.has_mac1(datagram):
            return self._refuse("bad_mac1")
        if not self._door.under_load(now_ns):
            return True
        if not self._door.has_mac2(datagram, source, now_ns):
            self._refuse("no_cookie")
            return self._door.reply(datagram, source, now_ns)
        if not self._door.allows(source, now_ns):
            return self._refuse("rate_limited")
        return True

    def initiate(self, peer: Peer, now_ns: int) -> bytes:
        """An initiation for this peer, in place of one that may be pending."""
        self.forget_pending(peer)
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
        peer.last_initiation_ns = now_ns
        self._pending[index] = peer
        return peer.cookies.stamp(message, now_ns)

    def respond(self, datagram: bytes, now_ns: int) -> tuple[Peer, bytes] | None:
        """The response to an initiation; its session waits in the peer's `next`."""
        authenticated = self._read_initiation(datagram, now_ns)
        if authenticated is None:
            return None
        peer, initiation = authenticated
        index = self._new_index()
        answer = noise.respond(
            initiation,
            sender=index,
            ephemeral=self._random(KEY_BYTES),
            preshared_key=peer.preshared_key,
        )
        if answer is None:
            self._refuse("bad_initiation")
            return None
        message, keys = answer
        session = self.sessions[index] = Session(
            keys,
            owner=peer,
            initiator=False,
            local_index=index,
            remote_index=initiation.sender,
            born_ns=now_ns,
        )
        self.forget(peer.put_responded(session))
        return peer, peer.cookies.stamp(message, now_ns)

    def finish(self, datagram: bytes, now_ns: int) -> Session | None:
        """The session that a response to our initiation makes; it is the peer's `current` then."""
        index = int.from_bytes(datagram[8:12], "little")
        peer = self._pending.get(index)
        if peer is None or peer.pending is None:
            self._refuse("unknown_index")
            return None
        self.worked += 1
        keys = noise.consume_response(
            self._identity, peer.pending.initiation, datagram, peer.preshared_key
        )
        if keys is None:
            self._refuse("bad_response")
            return None
        self.forget_pending(peer)
        session = self.sessions[index] = Session(
            keys,
            owner=peer,
            initiator=True,
            local_index=index,
            remote_index=int.from_bytes(datagram[4:8], "little"),
            born_ns=now_ns,
        )
        wins = self._identity.public_key < peer.public_key
        self.forget(peer.put_initiated(session, wins=wins))
        return session

    def take_cookie(self, datagram: bytes, now_ns: int) -> None:
        """Keep a cookie for the next message to whoever sent it."""
        index = int.from_bytes(datagram[4:8], "little")
        session = self.sessions.get(index)
        peer = self._pending.get(index) if session is None else session.owner
        if not isinstance(peer, Peer):
            self._refuse("unknown_index")
        elif not peer.cookies.put_reply(datagram, now_ns):
            self._refuse("bad_cookie")
        else:
            peer.rx_bytes += len(datagram)

    def forget(self, sessions: Sequence[Session]) -> None:
        """Take sessions that fell out of their slots out of the table."""
        for session in sessions:
            del self.sessions[session.local_index]

    def forget_pending(self, peer: Peer) -> None:
        if peer.pending is not None:
            del self._pending[peer.pending.local_index]
            peer.pending = None

    def _read_initiation(
        self, datagram: bytes, now_ns: int
    ) -> tuple[Peer, noise.Authenticated] | None:
        self.worked += 1
        announced = noise.read_static(self._identity, datagram)
        if announced is None:
            self._refuse("bad_initiation")
            return None
        peer = self._peers.get(announced.public_key)
        if peer is None:
            self._refuse("unknown_peer")
            return None
        authenticated = noise.read_timestamp(announced, peer.static_shared)
        if authenticated is None:
            self._refuse("bad_initiation")
            return None
        if authenticated.timestamp <= peer.last_heard_timestamp:
            self._refuse("replayed_initiation")
            return None
        last_ns = peer.last_heard_initiation_ns
        if last_ns is not None and now_ns - last_ns < INITIATION_SPACING_MIN:
            self._refuse("early_initiation")
            return None
        peer.last_heard_timestamp = authenticated.timestamp
        peer.last_heard_initiation_ns = now_ns
        return peer, authenticated

    def _timestamp(self, now_ns: int) -> bytes:
        timestamp = noise.tai64n(now_ns + self._wall_offset_ns)
        if timestamp <= self._last_timestamp:
            timestamp = noise.later_tai64n(self._last_timestamp)
        self._last_timestamp = timestamp
        return timestamp

    def _new_index(self) -> int:
        while True:
            index = int.from_bytes(self._random(4), "little")
            if index not in self.sessions and index not in self._pending:
                return index

    def _refuse(self, reason: str) -> bool:
        self._drops[reason] += 1
        return False
