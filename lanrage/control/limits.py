"""How much one stranger may ask of a control server."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address
from typing import Final

CONNECTIONS_MAX: Final = 1_024
CONNECTIONS_PER_IP_MAX: Final = 64  # a LAN party behind one router
CONNECTIONS_PER_PEER_MAX: Final = 4  # the newest stay
CONNECTS_PER_S: Final = 10.0  # from one address
CONNECTS_BURST: Final = 100.0
SOURCES_MAX: Final = 4_096  # addresses remembered
PARTIES_MAX: Final = 1_000
RECORDS_TOTAL_MAX: Final = 500_000  # of all parties together; they are kept in memory
SIGNALS_MAX: Final = 64  # waiting for one connection; the oldest go first
REPLIES_MAX: Final = 32  # waiting for one connection; then its frames are not read
OPEN_S: Final = 10.0  # for the WebSocket handshake
HELLO_S: Final = 10.0
GUEST_S: Final = 10.0  # for a guest to become a member
SEND_S: Final = 10.0  # for one frame to be taken by the network
CLOSE_S: Final = 2.0

FRAMES_PER_S: Final = 50.0
FRAMES_BURST: Final = 200.0
APPENDS_PER_S: Final = 2.0
APPENDS_BURST: Final = 30.0
REFILLS_PER_S: Final = 10.0  # pages
REFILLS_BURST: Final = 20.0
FOUNDED_PER_S: Final = 1.0
FOUNDED_BURST: Final = 20.0
LOADS_PER_S: Final = 1.0  # reports of one relay
LOADS_BURST: Final = 10.0
STUN_PER_S: Final = 20.0
STUN_BURST: Final = 60.0


def network(host: str) -> str:
    """Who is counted as one sender: an IPv4 address, also in IPv6 clothes, or an IPv6 /64."""
    if ":" not in host:
        return host
    address = IPv6Address(host.partition("%")[0])
    return str(address.ipv4_mapped or address.packed[:8].hex())


class Bucket:
    """Tokens that refill with time. `now` is any clock in seconds that never goes back."""

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        """One token, if there is one."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def owe(self, now: float) -> float:
        """One token in any case; the seconds to wait until it is earned."""
        self._refill(now)
        self._tokens -= 1
        return max(0.0, -self._tokens / self._per_s)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now


class Buckets:
    """One bucket a source; the sources longest unheard of are forgotten."""

    def __init__(self, per_s: float, burst: float, sources_max: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._sources_max = sources_max
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, source: str, now: float) -> bool:
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = self._buckets[source] = Bucket(self._per_s, self._burst, now)
            if len(self._buckets) > self._sources_max:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(source)
        return bucket.take(now)
