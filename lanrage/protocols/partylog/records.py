"""Wire form of a chain record, and the builders that sign one.

    record    = version (1 byte, 1) | signature (64) | body
    signature = Ed25519 by the author over "lanrage chain v1" | 0 | body
    body      = one MessagePack map, a tagged union by "kind"; unknown fields are an error, because
                a member that ignored one would compute another chain than its author meant; so
                a new kind or field also raises the version of the records that have it
    hash      = SHA-256 over the whole record; the party id is the base32 of the genesis' hash

A join carries a `proof`: the invite's own key over "lanrage invite v1" | 0 | party id (32 bytes) |
author (32). It lets this one identity in; nobody who merely saw the join can reuse it.

The received bytes are kept and hashed as they are; nothing is ever encoded again.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lanrage.protocols.partylog.chain import Chain
from lanrage.protocols.partylog.keys import key_of, text_of

VERSION: Final = 1
RECORD_MAX: Final = 1024  # bytes; the longest legal join has about 500
NONCE_SIZE: Final = 16
_SIGNATURE: Final = 64
_BODY_AT: Final = 1 + _SIGNATURE
_SIGNED: Final = b"lanrage chain v1\0"
_PROOF: Final = b"lanrage invite v1\0"


class Base(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    number: int  # position in the chain, genesis 1
    prev: bytes  # SHA-256 of the record before it; empty in the genesis
    author_key: bytes = msgspec.field(name="author")  # Ed25519 public key
    at: int  # Unix milliseconds by the author's clock: information, never an order

    @property
    def author(self) -> str:
        """Peer id of who signed it."""
        return text_of(self.author_key)


class Genesis(Base, frozen=True, kw_only=True, tag="genesis"):
    name: str
    founder_name: str
    wireguard: bytes
    nonce: bytes  # makes the party id unique


class OfInvite(Base, frozen=True, kw_only=True):
    invite_key: bytes = msgspec.field(name="invite")  # Ed25519 public key

    @property
    def invite(self) -> str:
        """Its id, as `InviteState` has it."""
        return text_of(self.invite_key)


class IssueInvite(OfInvite, frozen=True, kw_only=True, tag="issue_invite"):
    uses: int
    expires_at: int


class RevokeInvite(OfInvite, frozen=True, kw_only=True, tag="revoke_invite"):
    pass


class Join(OfInvite, frozen=True, kw_only=True, tag="join"):
    proof: bytes
    name: str
    wireguard: bytes


class Leave(Base, frozen=True, kw_only=True, tag="leave"):
    pass


class Kick(Base, frozen=True, kw_only=True, tag="kick"):
    peer_key: bytes = msgspec.field(name="peer")  # Ed25519 public key

    @property
    def peer(self) -> str:
        """Peer id of who is kicked."""
        return text_of(self.peer_key)


class RenameMember(Base, frozen=True, kw_only=True, tag="rename_member"):
    name: str


class RenameParty(Base, frozen=True, kw_only=True, tag="rename_party"):
    name: str


Body: TypeAlias = (
    Genesis | IssueInvite | RevokeInvite | Join | Leave | Kick | RenameMember | RenameParty
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Body] = msgspec.msgpack.Decoder(Body)


def body(record: bytes) -> Body | None:
    """What the record says, unverified; None if it is not a record of this version."""
    if not _BODY_AT < len(record) <= RECORD_MAX or record[0] != VERSION:
        return None
    try:
        return _decoder.decode(record[_BODY_AT:])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def hash_of(record: bytes) -> bytes:
    return hashlib.sha256(record).digest()


def party_of(record: bytes) -> str:
    """The party id that this genesis record founds."""
    return text_of(hash_of(record))


def is_signed(record: bytes, author: bytes) -> bool:
    return _verified(author, record[1:_BODY_AT], _SIGNED + record[_BODY_AT:])


def is_proof(proof: bytes, invite: bytes, party: str, author: bytes) -> bool:
    return _verified(invite, proof, _proof_text(party, author))


def _verified(public: bytes, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def _proof_text(party: str, author: bytes) -> bytes:
    return _PROOF + (key_of(party) or b"") + author


def _sign(signer: Ed25519PrivateKey, body: Body) -> bytes:
    encoded = _encoder.encode(body)
    return bytes([VERSION]) + signer.sign(_SIGNED + encoded) + encoded


def _sign_next(
    signer: Ed25519PrivateKey, chain: Chain, body: type[Body], at_ms: int, **fields: Any
) -> bytes:
    """The record that follows the chain's head."""
    return _sign(
        signer,
        body(
            number=chain.length + 1,
            prev=bytes.fromhex(chain.head),
            author_key=_public(signer),
            at=at_ms,
            **fields,
        ),
    )


def _public(signer: Ed25519PrivateKey) -> bytes:
    return signer.public_key().public_bytes_raw()


# Builders sign what they are told; `verify` says whether the chain accepts it.


def genesis(
    signer: Ed25519PrivateKey,
    *,
    name: str,
    founder_name: str,
    wireguard: bytes,
    nonce: bytes,
    at_ms: int,
) -> bytes:
    return _sign(
        signer,
        Genesis(
            number=1,
            prev=b"",
            author_key=_public(signer),
            at=at_ms,
            name=name,
            founder_name=founder_name,
            wireguard=wireguard,
            nonce=nonce,
        ),
    )


def issue_invite(
    signer: Ed25519PrivateKey,
    chain: Chain,
    *,
    invite_public: bytes,
    uses: int,
    expires_at: int,
    at_ms: int,
) -> bytes:
    return _sign_next(
        signer,
        chain,
        IssueInvite,
        at_ms,
        invite_key=invite_public,
        uses=uses,
        expires_at=expires_at,
    )


def revoke_invite(
    signer: Ed25519PrivateKey, chain: Chain, *, invite_public: bytes, at_ms: int
) -> bytes:
    return _sign_next(signer, chain, RevokeInvite, at_ms, invite_key=invite_public)


def join(
    signer: Ed25519PrivateKey,
    invite_seed: bytes,
    chain: Chain,
    *,
    name: str,
    wireguard: bytes,
    at_ms: int,
) -> bytes:
    """Needs only `party`, `length` and `head` of the chain."""
    invite = Ed25519PrivateKey.from_private_bytes(invite_seed)
    author = _public(signer)
    return _sign_next(
        signer,
        chain,
        Join,
        at_ms,
        invite_key=_public(invite),
        proof=invite.sign(_proof_text(chain.party, author)),
        name=name,
        wireguard=wireguard,
    )


def leave(signer: Ed25519PrivateKey, chain: Chain, *, at_ms: int) -> bytes:
    return _sign_next(signer, chain, Leave, at_ms)


def kick(signer: Ed25519PrivateKey, chain: Chain, *, peer: str, at_ms: int) -> bytes:
    return _sign_next(signer, chain, Kick, at_ms, peer_key=key_of(peer) or b"")


def rename_member(signer: Ed25519PrivateKey, chain: Chain, *, name: str, at_ms: int) -> bytes:
    return _sign_next(signer, chain, RenameMember, at_ms, name=name)


def rename_party(signer: Ed25519PrivateKey, chain: Chain, *, name: str, at_ms: int) -> bytes:
    return _sign_next(signer, chain, RenameParty, at_ms, name=name)
