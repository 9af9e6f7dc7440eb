"""The timer table (whitepaper section 6): each peer has one deadline per row.

    row         set by                            cleared by                  after
    GIVE_UP     the first initiation of a series  a session                   90 s
    EXPIRE      a session made current            (moved by the next one)     180 s from its birth
    ERASE       a session derived                 (moved by the next one)     540 s
    RETRY       an initiation sent                a session, GIVE_UP          5 s + 0..333 ms
    NO_ANSWER   data sent, unless set             anything received           15 s
    KEEPALIVE   data received, unless set         anything sent               10 s
    PERSISTENT  anything sent or received         no keepalive or endpoint    keepalive_s

"Sent" and "received" mean authenticated messages; data means packets that are not empty. What
happens when a row is due is written in engine.py. After a suspension many are due at once: they are
acted upon in the order of the table, endings before beginnings, so that what begins again lives.
"""

from typing import Final

from lanrage.protocols.wireguard.constants import KEEPALIVE_AFTER, NO_ANSWER_AFTER, SECOND

GIVE_UP: Final = 0
EXPIRE: Final = 1
ERASE: Final = 2
RETRY: Final = 3
NO_ANSWER: Final = 4
KEEPALIVE: Final = 5
PERSISTENT: Final = 6
_ROWS: Final = 7

NEVER: Final = 2**63


class Agenda:
    """When to look at the deadlines next.

    `earliest_ns` is never later than any of them. But whoever clears one does not search for the
    next: the hot path must cost nothing. So now and then a look finds nothing due.
    """

    __slots__ = ("earliest_ns",)

    def __init__(self) -> None:
        self.earliest_ns = NEVER


class Deadlines:
    """The rows of one peer, and what each kind of message does to them."""

    __slots__ = ("_agenda", "_another_keepalive", "_at_ns", "keepalive_s")

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._at_ns = [NEVER] * _ROWS
        self._another_keepalive = False
        self.keepalive_s = 0

    def at(self, row: int) -> int:
        return self._at_ns[row]

    def arm(self, row: int, at_ns: int) -> None:
        self._at_ns[row] = at_ns
        if at_ns < self._agenda.earliest_ns:
            self._agenda.earliest_ns = at_ns

    def arm_unless_set(self, row: int, at_ns: int) -> None:
        if self._at_ns[row] == NEVER:
            self.arm(row, at_ns)

    def clear(self, *rows: int) -> None:
        for row in rows:
            self._at_ns[row] = NEVER

    def clear_all(self) -> None:
        self._at_ns = [NEVER] * _ROWS

    def earliest(self) -> int:
        return min(self._at_ns)

    def due(self, now_ns: int) -> list[int]:
        """The rows to act upon, in their order."""
        return [row for row, at_ns in enumerate(self._at_ns) if at_ns <= now_ns]

    def take(self, row: int, now_ns: int) -> bool:
        """Clear a row that is due; False if acting on an earlier row has moved it."""
        if self._at_ns[row] > now_ns:
            return False
        self._at_ns[row] = NEVER
        return True

    def sent(self, now_ns: int) -> None:
        self._at_ns[KEEPALIVE] = NEVER
        self._another_keepalive = False
        if self.keepalive_s:
            self.arm(PERSISTENT, now_ns + self.keepalive_s * SECOND)

    def sent_data(self, now_ns: int) -> None:
        self.sent(now_ns)
        if self._at_ns[NO_ANSWER] == NEVER:
            self.arm(NO_ANSWER, now_ns + NO_ANSWER_AFTER)

    def received(self, now_ns: int) -> None:
        self._at_ns[NO_ANSWER] = NEVER
        if self.keepalive_s:
            self.arm(PERSISTENT, now_ns + self.keepalive_s * SECOND)

    def received_data(self, now_ns: int) -> None:
        self.received(now_ns)
        if self._at_ns[KEEPALIVE] == NEVER:
            self.arm(KEEPALIVE, now_ns + KEEPALIVE_AFTER)
        else:
            self._another_keepalive = True

    def take_another_keepalive(self) -> bool:
        """Whether more data came while KEEPALIVE was set already."""
        another, self._another_keepalive = self._another_keepalive, False
        return another
