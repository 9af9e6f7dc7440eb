"""Who may do what in a party, and what it changes.

Rules, in the order they are checked:

1. A record links: its number is `length + 1` and its `prev` is the head. The loser of a race for
   one position builds its record again on the new head.
2. The genesis founds the party; its author is the first member and admin.
3. Any member may invite; the issuer or an admin revokes. Admins alone kick and rename the party.
   A member renames only itself. When the last admin goes, the member with the lowest number is
   the next admin, so that a party is never without one.
4. A join spends one use of an invite that is known, not revoked, not used up and not expired at
   the time the join states. Uses are counted here, on every member: two joins that race for the
   last use cannot both be in the chain.
5. Who was kicked stays out with that identity. A kick also revokes the invites its target issued.
   Who left may come back by a new invite, and has its old addresses again.
6. Names are unique (names.py), keys are safe (keys.py), WireGuard keys are unique among members.
7. Signatures last: they cost most.

The last `RESERVED` positions of a full chain are for admins, who then can still kick.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from lanrage.protocols.partylog import records
from lanrage.protocols.partylog.addresses import NUMBERS_MAX, address, address6
from lanrage.protocols.partylog.chain import EMPTY, Chain, Invalid, InviteState, Member
from lanrage.protocols.partylog.keys import is_safe_identity, is_safe_wireguard
from lanrage.protocols.partylog.names import is_name, is_taken
from lanrage.protocols.partylog.records import (
    Body,
    Genesis,
    IssueInvite,
    Join,
    Kick,
    Leave,
    RenameMember,
    RenameParty,
    RevokeInvite,
)

RECORDS_MAX: Final = 10_000
RESERVED: Final = 200
MEMBERS_MAX: Final = 128
INVITES_MAX: Final = 2_000  # ever issued in a party: spent ones are kept, to refuse them for ever
USES_MAX: Final = 128
assert RECORDS_MAX <= NUMBERS_MAX, "a full chain cannot have given out every address"
TIME_MAX: Final = 1 << 53  # milliseconds; what JSON and JavaScript hold exactly


def verify(chain: Chain, record: bytes, *, now_ms: int | None = None) -> Chain | Invalid:
    """The chain with `record` added, or why it cannot be. `now_ms` is given by control only."""
    if len(record) > records.RECORD_MAX:
        return Invalid("size", f"a record of {len(record)} bytes")
    body = records.body(record)
    if body is None:
        newer = bool(record) and record[0] > records.VERSION
        return (
            Invalid("version", "a record of a newer LANrage")
            if newer
            else Invalid("malformed", "not a chain record")
        )
    wrong = _broken_link(chain, body) or _broken_rule(chain, body, now_ms)
    if wrong is not None:
        return wrong
    if not records.is_signed(record, body.author_key):
        return Invalid("signature", "the author's signature is wrong")
    if isinstance(body, Join) and not records.is_proof(
        body.proof, body.invite_key, chain.party, body.author_key
    ):
        return Invalid("signature", "the invite's signature is wrong")
    return _step(chain, body, record)


def extend(chain: Chain, more: Iterable[bytes]) -> Chain | Invalid:
    """`verify` one after the other, as a member does: no clock, all or nothing."""
    for record in more:
        result = verify(chain, record, now_ms=None)
        if isinstance(result, Invalid):
            return result
        chain = result
    return chain


def apply(chain: Chain, record: bytes) -> Chain:
    """For folds over what was verified before: no checks, never fails. What cannot be read, and
    what does not belong here, changes nothing."""
    body = records.body(record)
    if body is None or _broken_link(chain, body) is not None:
        return chain
    return _step(chain, body, record)


# --- may it? ----------------------------------------------------------------------------------


def _broken_link(chain: Chain, body: Body) -> Invalid | None:
    if isinstance(body, Genesis) != (chain.length == 0):
        return Invalid("link", "the genesis, and only it, comes first")
    if body.number != chain.length + 1 or body.prev != bytes.fromhex(chain.head):
        return Invalid("link", f"does not follow record {chain.length}")
    return None


def _broken_rule(chain: Chain, body: Body, now_ms: int | None) -> Invalid | None:
    if not 0 <= body.at < TIME_MAX:
        return Invalid("time", "an impossible time")
    if not is_safe_identity(body.author_key):
        return Invalid("small_order", "the author's key is unsafe")
    if chain.length >= RECORDS_MAX:
        return Invalid("full", "the party's log is full")
    if isinstance(body, Genesis):
        return _genesis_rule(body)
    if isinstance(body, Join):
        return _join_rule(chain, body, now_ms)
    author = chain.members.get(body.author)
    if author is None:
        return Invalid("not_member", "the author is no member")
    if not author.admin and chain.length >= RECORDS_MAX - RESERVED:
        return Invalid("full", "the party's log is full")
    match body:
        case IssueInvite():
            return _issue_rule(chain, body)
        case RevokeInvite():
            return _revoke_rule(chain, body, author)
        case Kick():
            return _kick_rule(chain, body, author)
        case RenameMember():
            others = (m.name for m in chain.members.values() if m.peer != author.peer)
            return _member_name_rule(body.name, others)
        case RenameParty():
            if not author.admin:
                return Invalid("not_admin", "only an admin renames the party")
            return None if is_name(body.name) else _bad_name(body.name)
        case Leave():
            return None


def _genesis_rule(body: Genesis) -> Invalid | None:
    if len(body.nonce) != records.NONCE_SIZE:
        return Invalid("malformed", "a nonce of the wrong size")
    if not is_name(body.name):
        return _bad_name(body.name)
    if not is_name(body.founder_name):
        return _bad_name(body.founder_name)
    return None if is_safe_wireguard(body.wireguard) else _bad_key()


def _join_rule(chain: Chain, body: Join, now_ms: int | None) -> Invalid | None:
    if body.author in chain.members:
        return Invalid("member", "already a member")
    if chain.departed.get(body.author) == "kicked":
        return Invalid("kicked", "this device was kicked out of the party")
    spent = invite_rule(chain, body.invite, body.at if now_ms is None else now_ms)
    if spent is None and now_ms is not None:
        spent = invite_rule(chain, body.invite, body.at)
    if spent is not None:
        return spent
    if len(chain.members) >= MEMBERS_MAX:
        return Invalid("full", f"the party has {MEMBERS_MAX} members")
    if chain.length >= RECORDS_MAX - RESERVED:
        return Invalid("full", "the party's log is full")
    if not is_safe_wireguard(body.wireguard):
        return _bad_key()
    if any(member.wireguard == body.wireguard for member in chain.members.values()):
        return Invalid("key", "another member has this WireGuard key")
    return _member_name_rule(body.name, (member.name for member in chain.members.values()))


def invite_rule(chain: Chain, invite: str, at_ms: int) -> Invalid | None:
    """Why this invite lets nobody in at that time; None if it does."""
    state = chain.invites.get(invite)
    if state is None:
        return Invalid("unknown_invite", "this party never issued this invite")
    if state.revoked:
        return Invalid("revoked", "this invite was revoked")
    if state.uses_left <= 0:
        return Invalid("used", "this invite was already used")
    if at_ms > state.expires_at:
        return Invalid("expired", "this invite has expired")
    return None


def _issue_rule(chain: Chain, body: IssueInvite) -> Invalid | None:
    if not is_safe_identity(body.invite_key):
        return Invalid("small_order", "the invite's key is unsafe")
    if body.invite in chain.invites:
        return Invalid("used", "this invite was issued before")
    if len(chain.invites) >= INVITES_MAX:
        return Invalid("full", f"the party issued {INVITES_MAX} invites")
    if not 1 <= body.uses <= USES_MAX:
        return Invalid("uses", f"an invite has 1 to {USES_MAX} uses")
    if not body.at < body.expires_at < TIME_MAX:
        return Invalid("expired", "this invite would have expired before it was issued")
    return None


def _revoke_rule(chain: Chain, body: RevokeInvite, author: Member) -> Invalid | None:
    state = chain.invites.get(body.invite)
    if state is None:
        return Invalid("unknown_invite", "this party never issued this invite")
    if state.revoked:
        return Invalid("revoked", "this invite was revoked before")
    if author.admin or author.peer == state.issuer:
        return None
    return Invalid("not_admin", "only its issuer or an admin revokes an invite")


def _kick_rule(chain: Chain, body: Kick, author: Member) -> Invalid | None:
    if not author.admin:
        return Invalid("not_admin", "only an admin kicks")
    if body.peer == body.author:
        return Invalid("self", "an admin leaves, it does not kick itself")
    if body.peer not in chain.members:
        return Invalid("not_member", "nobody with this key is a member")
    return None


def _member_name_rule(name: str, others: Iterable[str]) -> Invalid | None:
    if not is_name(name):
        return _bad_name(name)
    if is_taken(name, others):
        return Invalid("name_taken", f"another member is called {name}")
    return None


def _bad_name(name: str) -> Invalid:
    return Invalid("name", f"a name has 1 to 32 visible characters, this one has {len(name)}")


def _bad_key() -> Invalid:
    return Invalid("small_order", "the WireGuard key is unsafe")


# --- what it changes --------------------------------------------------------------------------


def _step(chain: Chain, body: Body, record: bytes) -> Chain:
    """The chain after `body`, which the rules accepted; total all the same, for `apply`."""
    changed = _changed(chain, body, record)
    return msgspec.structs.replace(
        changed, length=chain.length + 1, head=records.hash_of(record).hex()
    )


def _changed(chain: Chain, body: Body, record: bytes) -> Chain:
    replace = msgspec.structs.replace
    match body:
        case Genesis():
            fresh = replace(EMPTY, party=records.party_of(record), name=body.name)
            return _with_member(fresh, body.author, body.founder_name, body.wireguard, admin=True)
        case IssueInvite():
            return _with_invite(
                chain,
                InviteState(
                    invite=body.invite,
                    uses_left=body.uses,
                    expires_at=body.expires_at,
                    issuer=body.author,
                    revoked=False,
                ),
            )
        case RevokeInvite():
            state = chain.invites.get(body.invite)
            return chain if state is None else _with_invite(chain, replace(state, revoked=True))
        case Join():
            state = chain.invites.get(body.invite)
            if state is not None:
                chain = _with_invite(chain, replace(state, uses_left=state.uses_left - 1))
            return _with_member(chain, body.author, body.name, body.wireguard, admin=False)
        case Leave():
            return _without_member(chain, body.author, "left")
        case Kick():
            return _without_member(_revoke_all(chain, body.peer), body.peer, "kicked")
        case RenameMember():
            member = chain.members.get(body.author)
            if member is None:
                return chain
            return replace(
                chain, members={**chain.members, member.peer: replace(member, name=body.name)}
            )
        case RenameParty():
            return replace(chain, name=body.name)


def _with_invite(chain: Chain, state: InviteState) -> Chain:
    return msgspec.structs.replace(chain, invites={**chain.invites, state.invite: state})


def _revoke_all(chain: Chain, issuer: str) -> Chain:
    invites = {
        key: msgspec.structs.replace(state, revoked=True) if state.issuer == issuer else state
        for key, state in chain.invites.items()
    }
    return msgspec.structs.replace(chain, invites=invites)


def _with_member(chain: Chain, peer: str, name: str, wireguard: bytes, *, admin: bool) -> Chain:
    number = chain.numbers.get(peer, chain.next_number)
    member = Member(
        peer=peer,
        name=name,
        wireguard=wireguard,
        address=address(number),
        address6=address6(chain.party, number),
        admin=admin,
        number=number,
    )
    return msgspec.structs.replace(
        chain,
        members={**chain.members, peer: member},
        numbers={**chain.numbers, peer: number},
        departed={key: why for key, why in chain.departed.items() if key != peer},
    )


def _without_member(chain: Chain, peer: str, why: str) -> Chain:
    members = {key: member for key, member in chain.members.items() if key != peer}
    if members and not any(member.admin for member in members.values()):
        heir = min(members.values(), key=lambda member: member.number)
        members[heir.peer] = msgspec.structs.replace(heir, admin=True)
    return msgspec.structs.replace(chain, members=members, departed={**chain.departed, peer: why})
