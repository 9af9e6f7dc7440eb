"""The party log: a linear hash chain of signed records that every member verifies for itself.

Theory. The control server stores and orders records; it is not trusted. Whoever holds the genesis
record's hash (the party id) can check everything after it: each record names its position and the
SHA-256 of the record before it, and is signed by its author, so nothing can be added, altered,
reordered or cut from the middle. What stays possible is to hide a tail or to show two histories;
members notice by comparing `(length, head)`.

One pure function decides, the same on every machine: `verify(chain, record, now_ms=...)` gives the
next `Chain` or `Invalid`. It never reads a clock: a member passes `now_ms=None`. Whether an invite
has expired is decided from the time that the join itself states, so that all members agree for
ever; the control server, which passes its own clock, additionally turns away late joins as they
come in. So an expired link is stopped by control, and a control server that lets a backdated join
through still cannot invent one: only a holder of the link's secret can sign it.

    records.py  wire form and builders        rules.py  who may do what, and what it changes
    chain.py    what the records add up to    names.py, keys.py, addresses.py   the small rules
"""

from lanrage.protocols.partylog.addresses import NETWORK, address, address6, network6
from lanrage.protocols.partylog.chain import EMPTY, Chain, Invalid, InviteState, Member
from lanrage.protocols.partylog.keys import (
    is_safe_identity,
    is_safe_wireguard,
    key_of,
    peer_of,
    text_of,
)
from lanrage.protocols.partylog.names import NAME_MAX, clean_name, free_name, is_name
from lanrage.protocols.partylog.records import (
    RECORD_MAX,
    Body,
    Genesis,
    IssueInvite,
    Join,
    Kick,
    Leave,
    RenameMember,
    RenameParty,
    RevokeInvite,
    body,
    genesis,
    hash_of,
    issue_invite,
    join,
    kick,
    leave,
    party_of,
    rename_member,
    rename_party,
    revoke_invite,
)
from lanrage.protocols.partylog.rules import (
    INVITES_MAX,
    MEMBERS_MAX,
    RECORDS_MAX,
    USES_MAX,
    apply,
    extend,
    verify,
)

__all__ = [
    "EMPTY",
    "INVITES_MAX",
    "MEMBERS_MAX",
    "NAME_MAX",
    "NETWORK",
    "RECORDS_MAX",
    "RECORD_MAX",
    "USES_MAX",
    "Body",
    "Chain",
    "Genesis",
    "Invalid",
    "InviteState",
    "IssueInvite",
    "Join",
    "Kick",
    "Leave",
    "Member",
    "RenameMember",
    "RenameParty",
    "RevokeInvite",
    "address",
    "address6",
    "apply",
    "body",
    "clean_name",
    "extend",
    "free_name",
    "genesis",
    "hash_of",
    "is_name",
    "is_safe_identity",
    "is_safe_wireguard",
    "issue_invite",
    "join",
    "key_of",
    "kick",
    "leave",
    "network6",
    "party_of",
    "peer_of",
    "rename_member",
    "rename_party",
    "revoke_invite",
    "text_of",
    "verify",
]
