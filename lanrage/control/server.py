"""The rendezvous server. Skeleton: the interface stands, the body follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lanrage.refusal import Refusal


class ControlServer:
    port: int

    @classmethod
    async def start(
        cls, host: str, port: int, log: Any, *, creators: frozenset[str] | None = None
    ) -> ControlServer | Refusal:
        """`creators`: the only identities that may found parties here; None for everybody."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


async def run(listen: str, state: Path, *, json: bool = False) -> Refusal | None:
    """The body of `lanrage control`: serves until SIGINT or SIGTERM."""
    raise NotImplementedError
