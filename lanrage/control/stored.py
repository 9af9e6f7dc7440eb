"""The signed records that a log holds, of a node's or of a control server's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from events import codec
from events.log import Reader
from events.party import InviteIssued, InviteRevoked, PartyCreated, PartyRenamed, Recorded
from events.peer import PeerJoined, PeerKicked, PeerLeft, PeerRenamed

READ: Final = 1_000  # events read from the log at once
_TYPES: Final = frozenset(
    each.TYPE
    for each in (
        *(PartyCreated, PartyRenamed, InviteIssued, InviteRevoked),
        *(PeerJoined, PeerLeft, PeerKicked, PeerRenamed),
    )
)


async def recorded(log: Reader) -> AsyncIterator[Recorded]:
    """Every event that stems from a record, oldest first."""
    after = 0
    while stored := await log.read(after, limit=READ):
        after = stored[-1].seq
        for each in stored:
            if each.type not in _TYPES:
                continue
            event = codec.decode(each)
            if isinstance(event, Recorded):
                yield event


async def records_after(log: Reader, party: str, length: int) -> list[bytes]:
    """The party's records that follow position `length`, as far as the log has them."""
    found: dict[int, bytes] = {}
    async for event in recorded(log):
        if event.party == party and event.length > length:
            found[event.length] = event.record
    records: list[bytes] = []
    while (record := found.get(length + len(records) + 1)) is not None:
        records.append(record)
    return records
