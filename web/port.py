"""What the web room is handed: all that it may know of a node.

The node implements this without inheriting; the web room never imports the node. A replayed log
fits the same shape, which is how `lanrage replay --serve` gets a dashboard.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from events.base import Stored
from lanrage.commands import Asked
from lanrage.refusal import Refusal
from projections.lobby import Status


class Node(Protocol):
    @property
    def head(self) -> int:
        """`seq` of the newest committed event; 0 for an empty log."""

    async def submit(self, command: Asked) -> dict[str, Any] | Refusal:
        """Do what a person asked. The document is the command's result: `{"party", "invite"}`."""

    def status(self) -> Status:
        """The view of this moment, live figures (RTT, loss) included."""

    def state(self) -> bytes:
        """The fold of the whole log as canonical JSON: what `lanrage replay` prints."""

    async def read(self, after: int, limit: int, type_glob: str | None = None) -> Sequence[Stored]:
        """Up to `limit` committed events with `seq > after`, oldest first. Fewer means the end."""

    def subscribe(self, after: int) -> AsyncIterator[tuple[Stored, ...]]:
        """Every event with `seq > after` in order, without a gap: stored ones, then live batches.
        Ends when the log is closed. The web room holds one subscription for all its readers."""

    async def changed(self, seen: int) -> int:
        """Return the status's version, as soon as it is not `seen`. It grows whenever `status()`
        would differ, also by figures that are no events (RTT); it starts above 0."""
