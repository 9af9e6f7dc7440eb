"""A chain record as the event that stores it: the exact signed bytes, and fields to read it by."""

from __future__ import annotations

from typing import Any

from events.base import Event
from events.party import InviteIssued, InviteRevoked, PartyCreated, PartyRenamed
from events.peer import PeerJoined, PeerKicked, PeerLeft, PeerRenamed
from lanrage.protocols import partylog
from lanrage.protocols.partylog import Chain


def event_of(after: Chain, record: bytes) -> Event:
    """The event for `record`, which led to the verified chain `after`."""
    body = partylog.body(record)
    assert body is not None, "only verified records become events"
    common: dict[str, Any] = {
        "party": after.party,
        "length": after.length,
        "head": after.head,
        "record": record,
        "author": body.author,
    }
    match body:
        case partylog.Genesis():
            founder = after.members[body.author]
            return PartyCreated(
                **common,
                name=after.name,
                founder=founder.peer,
                founder_name=founder.name,
                address=founder.address,
                address6=founder.address6,
            )
        case partylog.Join():
            joined = after.members[body.author]
            return PeerJoined(
                **common,
                peer=joined.peer,
                name=joined.name,
                address=joined.address,
                address6=joined.address6,
                invite=body.invite,
            )
        case partylog.Leave():
            return PeerLeft(**common, peer=body.author)
        case partylog.Kick():
            return PeerKicked(**common, peer=body.peer)
        case partylog.RenameMember():
            return PeerRenamed(**common, peer=body.author, name=body.name)
        case partylog.RenameParty():
            return PartyRenamed(**common, name=body.name)
        case partylog.IssueInvite():
            return InviteIssued(
                **common, invite=body.invite, uses=body.uses, expires_at=body.expires_at
            )
        case partylog.RevokeInvite():
            return InviteRevoked(**common, invite=body.invite)
