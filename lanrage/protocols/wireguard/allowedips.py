"""Which peer owns an address: longest prefix wins, over packed IPv4 and IPv6 addresses.

Party members own single addresses, so a dictionary of exact ones answers nearly always. Everything
shorter sits in one dictionary per prefix length in use, asked from the longest to the shortest.
A prefix belongs to one peer; giving it to another takes it away from the first, as `wg` does.
"""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Generic, TypeVar

from lanrage.protocols.wireguard.constants import ALLOWED_PER_PEER_MAX

Owner = TypeVar("Owner")

# (address bytes, prefix length, network as integer without its host bits)
Prefix = tuple[int, int, int]


def parse_prefixes(allowed: Sequence[str]) -> list[Prefix]:
    """Read `10.0.0.1/32`, `fd00::/8` or a bare address; host bits are cut, as `wg` does.

    Raises ValueError on text that is no prefix, or on too many of them.
    """
    if len(allowed) > ALLOWED_PER_PEER_MAX:
        raise ValueError(f"more than {ALLOWED_PER_PEER_MAX} allowed prefixes for one peer")
    networks = [ip_network(text, strict=False) for text in allowed]
    return [
        (
            network.max_prefixlen // 8,
            network.prefixlen,
            int(network.network_address) >> (network.max_prefixlen - network.prefixlen),
        )
        for network in networks
    ]


class AllowedIps(Generic[Owner]):
    """A table of prefixes. `exact` holds /32 and /128 by packed address."""

    def __init__(self) -> None:
        self.exact: dict[bytes, Owner] = {}
        self._shorter: dict[tuple[int, int], dict[int, Owner]] = {}
        # For each address size, (bits to cut, networks) from the longest prefix to the shortest.
        self._order: dict[int, list[tuple[int, dict[int, Owner]]]] = {4: [], 16: []}

    def put(self, prefix: Prefix, owner: Owner) -> None:
        """Give the prefix to this owner, whoever had it before."""
        size, length, network = prefix
        if length == size * 8:
            self.exact[network.to_bytes(size, "big")] = owner
            return
        known = (size, length) in self._shorter
        self._shorter.setdefault((size, length), {})[network] = owner
        if not known:
            self._reorder()

    def drop(self, owner: Owner) -> None:
        """Forget every prefix of this owner."""
        self.exact = {a: who for a, who in self.exact.items() if who is not owner}
        kept = {
            key: {n: who for n, who in networks.items() if who is not owner}
            for key, networks in self._shorter.items()
        }
        self._shorter = {key: networks for key, networks in kept.items() if networks}
        self._reorder()

    def lookup(self, address: bytes) -> Owner | None:
        """The owner of a packed address (4 or 16 bytes; any other size has none)."""
        owner = self.exact.get(address)
        if owner is not None:
            return owner
        number = int.from_bytes(address, "big")
        for cut, networks in self._order.get(len(address), ()):
            owner = networks.get(number >> cut)
            if owner is not None:
                return owner
        return None

    def _reorder(self) -> None:
        longest_first = sorted(self._shorter.items(), reverse=True, key=lambda item: item[0])
        for size in self._order:
            self._order[size] = [
                (size * 8 - length, networks)
                for (bytes_long, length), networks in longest_first
                if bytes_long == size
            ]
