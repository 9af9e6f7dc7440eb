"""What a relay is about to send, gathered into as few sends as the kernel can cut up again.

A *run* is datagrams of one size to one address, of which only the last may be shorter: one system
call with UDP_SEGMENT (udp(7)). A batch that arrived as one run leaves as it is, without a copy;
what several members send to one at the same moment becomes one run, too.
"""

from __future__ import annotations

from lanrage.protocols.endpoint import Address

SEGMENTS_MAX = 64  # UDP_MAX_SEGMENTS of older kernels
RUN_BYTES_MAX = 65_507  # of one send over IPv4


class Run:
    __slots__ = ("address", "buffers", "count", "is_open", "length", "size")

    def __init__(self, address: Address, data: bytes, size: int, count: int) -> None:
        self.address = address
        self.size = size
        self.count = count  # datagrams
        self.length = len(data)
        self.buffers = [data]
        self.is_open = self.length == size * count  # all datagrams so far are of full size


class Outbox:
    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._last: dict[Address, Run] = {}

    def put(self, address: Address, data: bytes, size: int, count: int) -> None:
        """`count` datagrams end to end, each of `size` bytes but the last."""
        run = self._last.get(address)
        if run is None or not _add(run, data, size, count):
            run = self._last[address] = Run(address, data, size, count)
            self._runs.append(run)

    def take(self) -> list[Run]:
        """In order, for each address."""
        taken, self._runs = self._runs, []
        self._last.clear()
        return taken


def _add(run: Run, data: bytes, size: int, count: int) -> bool:
    """Whether the run could take it."""
    length = len(data)
    fits = (
        run.is_open
        and (size == run.size or (count == 1 and size < run.size))
        and run.count + count <= SEGMENTS_MAX
        and run.length + length <= RUN_BYTES_MAX
    )
    if fits:
        run.buffers.append(data)
        run.count += count
        run.length += length
        run.is_open = length == run.size * count
    return fits
