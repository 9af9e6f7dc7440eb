"""The sliding window that lets every counter through once (whitepaper section 5.4.6, RFC 6479).

`bits` is one integer: bit 0 is the highest counter seen, bit n the one n below it. A shift of 8192
bits costs more than all other bookkeeping of a packet, so a batch that arrives in order does not
touch it: the caller counts `next` upwards itself and settles the whole run with `advance` once.
Only a counter that is not the next one asks `is_fresh` and, after decryption, calls `mark`.
"""

from lanrage.protocols.wireguard.constants import (
    REJECT_AFTER_MESSAGES,
    WINDOW_BITS,
    WINDOW_DISTANCE_MAX,
)

_MASK = (1 << WINDOW_BITS) - 1


class ReplayWindow:
    """Which counters were seen. `next` is one above the highest."""

    __slots__ = ("bits", "next")

    def __init__(self) -> None:
        self.next = 0
        self.bits = 0

    def is_fresh(self, counter: int) -> bool:
        """Whether the counter is inside the window and was never marked."""
        if counter >= REJECT_AFTER_MESSAGES:
            return False
        distance = self.next - 1 - counter
        if distance < 0:
            return True
        return distance <= WINDOW_DISTANCE_MAX and not self.bits >> distance & 1

    def next_in_order(self) -> int:
        """The counter that may skip `is_fresh`; none (-1) close to the last one allowed."""
        return self.next if self.next < REJECT_AFTER_MESSAGES - WINDOW_BITS else -1

    def mark(self, counter: int) -> None:
        """Remember a fresh counter whose packet proved authentic."""
        ahead = counter + 1 - self.next
        if ahead <= 0:
            self.bits |= 1 << -ahead
            return
        # A shift by an attacker's gap (up to 2^64) must not build an integer of that many bits.
        self.bits = self.bits << ahead & _MASK | 1 if ahead < WINDOW_BITS else 1
        self.next = counter + 1

    def advance(self, run: int) -> None:
        """Remember `run` counters from `next` on, all of them seen."""
        seen = (1 << min(run, WINDOW_BITS)) - 1
        self.bits = (self.bits << run | seen) & _MASK if run < WINDOW_BITS else seen
        self.next += run
