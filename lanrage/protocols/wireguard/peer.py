"""One peer: what is known of it, and its slots of sessions.

`current` seals. `next` was derived as responder and waits for the initiator's first packet:
until then nothing proves that the initiator has the keys, so nothing is sealed with it. `previous`
still opens what was sealed before the change. All of them open, so no packet is lost at a rekey.

Both ends may initiate at once; then both answer, and two sessions arise. Each end could seal with
the one it initiated for ever, but then both would rekey by time and cross again. So the initiator
with the smaller public key wins: the other seals with its own session only until the winner's
first packet arrives in `next`. If either session gets lost on the way, the other one serves.
"""

from collections import deque
from collections.abc import Sequence

from lanrage.protocols.endpoint import Place
from lanrage.protocols.wireguard.constants import (
    PREVIOUS_SESSIONS_MAX,
    QUEUED_PACKETS_MAX,
    REKEY_TIMEOUT,
)
from lanrage.protocols.wireguard.cookie import CookieJar
from lanrage.protocols.wireguard.noise import Initiation
from lanrage.protocols.wireguard.session import Session
from lanrage.protocols.wireguard.timers import Agenda, Deadlines


class Pending:
    """Our own initiation that waits for its response."""

    __slots__ = ("initiation", "local_index")

    def __init__(self, local_index: int, initiation: Initiation) -> None:
        self.local_index = local_index
        self.initiation = initiation


class Peer:
    """What is known of one peer. Read by callers, written only by the engine.

    Times are those given to the engine, in ns; `last_handshake_ns` is 0 before the first.
    `rx_bytes` and `tx_bytes` count whole messages, the packets those of transport only.
    """

    def __init__(self, public_key: bytes, static_shared: bytes, agenda: Agenda) -> None:
        self.public_key = public_key
        self.preshared_key = bytes(32)
        self.endpoint: Place | None = None
        self.second: Place | None = None  # where everything goes, too, while the first is doubted
        self.roaming = False
        self.allowed: tuple[str, ...] = ()
        self.last_handshake_ns = 0
        self.last_handshake_wall_ns = 0
        self.rx_bytes = self.tx_bytes = 0
        self.rx_packets = self.tx_packets = 0

        self.static_shared = static_shared
        self.cookies = CookieJar(public_key)
        self.queue: deque[bytes] = deque(maxlen=QUEUED_PACKETS_MAX)
        self.deadlines = Deadlines(agenda)

        self.up = False
        self.current: Session | None = None
        self.next: Session | None = None
        self.previous: list[Session] = []
        self.pending: Pending | None = None
        self.began_ns: int | None = None
        self.last_initiation_ns: int | None = None
        self.renewed_on_receive = False
        self.last_heard_timestamp = b""
        self.last_heard_initiation_ns: int | None = None

    @property
    def has_session(self) -> bool:
        """Whether packets can be sealed for this peer now (as of the last `handle_timer`)."""
        return self.up

    @property
    def keepalive_s(self) -> int:
        """Seconds of silence after which something is sent; 0 for never."""
        return self.deadlines.keepalive_s

    def sessions(self) -> list[Session]:
        """Every session that may open packets."""
        return [s for s in (self.current, self.next, *self.previous) if s is not None]

    def put_initiated(self, session: Session, *, wins: bool) -> Sequence[Session]:
        """Seal with a session that we initiated; returns the sessions that fell out."""
        crossed = self.next
        if crossed is not None and session.born_ns - crossed.born_ns >= REKEY_TIMEOUT:
            wins = True  # old and never confirmed: no crossing
        retired = [self.current]
        if wins:
            retired.insert(0, crossed)
            self.next = None
        self.current = session
        return self._retire(retired)

    def put_responded(self, session: Session) -> Sequence[Session]:
        """Keep a session that we answered until it proves itself; returns the one it replaces."""
        replaced = self.next
        self.next = session
        return () if replaced is None else (replaced,)

    def confirm_next(self) -> Sequence[Session]:
        """The initiator used `next`: seal with it; returns the sessions that fell out."""
        assert self.next is not None
        retired = [self.current]
        self.current, self.next = self.next, None
        return self._retire(retired)

    def erase(self) -> Sequence[Session]:
        """Drop every transport key; returns the sessions that held them."""
        erased = self.sessions()
        self.current = self.next = None
        self.previous = []
        return erased

    def _retire(self, sessions: list[Session | None]) -> Sequence[Session]:
        kept = [s for s in sessions if s is not None] + self.previous
        self.previous = kept[:PREVIOUS_SESSIONS_MAX]
        return kept[PREVIOUS_SESSIONS_MAX:]
