"""What a party's records add up to. Plain data: every member computes the same bytes of it."""

from __future__ import annotations

import msgspec


class Invalid(msgspec.Struct, frozen=True):
    """Why something from outside was not accepted. `code` is stable, `reason` is for a person."""

    code: str
    reason: str


class Member(msgspec.Struct, frozen=True, kw_only=True):
    peer: str
    name: str
    wireguard: bytes  # X25519 public key
    address: str
    address6: str
    admin: bool
    number: int  # counts joins from 1, the founder; decides the addresses


class InviteState(msgspec.Struct, frozen=True, kw_only=True):
    invite: str  # base32 of the invite's Ed25519 public key
    uses_left: int
    expires_at: int  # Unix milliseconds
    issuer: str
    revoked: bool


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """The party after `length` records. `head` is the hex SHA-256 of the newest one."""

    party: str = ""
    name: str = ""
    length: int = 0
    head: str = ""
    members: dict[str, Member] = {}
    departed: dict[str, str] = {}  # peer -> "left" or "kicked"
    invites: dict[str, InviteState] = {}
    numbers: dict[str, int] = {}  # of everybody who ever joined: who returns keeps its addresses

    @property
    def next_number(self) -> int:
        return len(self.numbers) + 1


EMPTY = Chain()
