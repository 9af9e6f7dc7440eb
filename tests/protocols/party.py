"""A party made of fixed keys, so that its bytes are the same in every run."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from lanrage.protocols import partylog
from lanrage.protocols.partylog import Chain, Invalid

NOON = 1_800_000_000_000  # Unix milliseconds
DAY = 86_400_000


class Device:
    def __init__(self, name: str) -> None:
        self.name = name
        self.signer = Ed25519PrivateKey.from_private_bytes(_seed(f"identity {name}"))
        self.private = X25519PrivateKey.from_private_bytes(_seed(f"wireguard {name}"))
        self.wireguard = self.private.public_key().public_bytes_raw()
        self.peer = partylog.peer_of(self.signer)
        self.public = self.signer.public_key().public_bytes_raw()


class Ticket:
    def __init__(self, name: str) -> None:
        self.seed = _seed(f"invite {name}")
        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = key.public_key().public_bytes_raw()
        self.id = partylog.text_of(self.public)


def _seed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


ADA, BOB, CAT, DAN = (Device(name) for name in ("ada", "bob", "cat", "dan"))


def added(chain: Chain, record: bytes) -> Chain:
    result = partylog.verify(chain, record)
    assert isinstance(result, Chain), result
    return result


def refused(chain: Chain, record: bytes, *, now_ms: int | None = None) -> str:
    result = partylog.verify(chain, record, now_ms=now_ms)
    assert isinstance(result, Invalid), "the chain took it"
    return result.code


def genesis(device: Device = ADA, name: str = "Friday") -> bytes:
    return partylog.genesis(
        device.signer,
        name=name,
        founder_name=device.name,
        wireguard=device.wireguard,
        nonce=bytes(16),
        at_ms=NOON,
    )


def founded(device: Device = ADA) -> Chain:
    return added(partylog.EMPTY, genesis(device))


def issue(
    chain: Chain, ticket: Ticket, by: Device = ADA, uses: int = 1, life_ms: int = DAY
) -> bytes:
    return partylog.issue_invite(
        by.signer,
        chain,
        invite_public=ticket.public,
        uses=uses,
        expires_at=NOON + life_ms,
        at_ms=NOON,
    )


def join(
    chain: Chain,
    ticket: Ticket,
    device: Device,
    *,
    at_ms: int = NOON,
    name: str = "",
    wireguard: bytes = b"",
) -> bytes:
    return partylog.join(
        device.signer,
        ticket.seed,
        chain,
        name=name or device.name,
        wireguard=wireguard or device.wireguard,
        at_ms=at_ms,
    )


def kick(chain: Chain, by: Device, target: Device) -> bytes:
    return partylog.kick(by.signer, chain, peer=target.peer, at_ms=NOON)


def leave(chain: Chain, device: Device) -> bytes:
    return partylog.leave(device.signer, chain, at_ms=NOON)


def rename(chain: Chain, device: Device, name: str) -> bytes:
    return partylog.rename_member(device.signer, chain, name=name, at_ms=NOON)


def rename_party(chain: Chain, device: Device, name: str) -> bytes:
    return partylog.rename_party(device.signer, chain, name=name, at_ms=NOON)


def revoke(chain: Chain, device: Device, ticket: Ticket) -> bytes:
    return partylog.revoke_invite(device.signer, chain, invite_public=ticket.public, at_ms=NOON)


def with_members(*devices: Device) -> Chain:
    """A party founded by the first of them, joined by the others."""
    chain = founded(devices[0])
    for device in devices[1:]:
        ticket = Ticket(f"for {device.name}")
        chain = added(chain, issue(chain, ticket, devices[0]))
        chain = added(chain, join(chain, ticket, device))
    return chain


def story() -> list[bytes]:
    """One record of every kind, in an order in which they are valid."""
    records = [genesis()]
    chain = founded()

    def tell(record: bytes) -> None:
        nonlocal chain
        chain = added(chain, record)
        records.append(record)

    first, second, third = Ticket("first"), Ticket("second"), Ticket("third")
    tell(issue(chain, first, uses=2))
    tell(join(chain, first, BOB))
    tell(join(chain, first, CAT))
    tell(rename(chain, CAT, "Łucja 🦊"))
    tell(issue(chain, second, BOB))
    tell(revoke(chain, ADA, second))
    tell(leave(chain, BOB))
    tell(issue(chain, third))
    tell(join(chain, third, BOB))
    tell(kick(chain, ADA, CAT))
    tell(rename_party(chain, ADA, "Saturday"))
    return records
