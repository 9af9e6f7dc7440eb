"""Transcripts: two or three players, their keys, and a state that commands are told to.

book = Playbook.founder()
book.tell(c.NotePresence(...)) == (PeerOnline(...),)
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from events.base import Event
from lanrage import commands as c
from lanrage.decide import decide
from lanrage.protocols import partylog
from lanrage.protocols.partylog import Chain, Invalid
from lanrage.refusal import Refusal
from projections import mesh

NOW_MS = 1_700_000_000_000
SESSION = "20231114-221320-abcdef"


class Player:
    def __init__(self, number: int, name: str) -> None:
        self.name = name
        self.signer = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
        self.peer = partylog.peer_of(self.signer)
        self.wireguard = bytes([number, 1] * 16)


ALICE, BOB, CAROL = Player(1, "alice"), Player(2, "bob"), Player(3, "carol")
SEED = bytes([9]) * 32
INVITE = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()


def grown(chain: Chain, record: bytes | Invalid) -> Chain:
    assert isinstance(record, bytes), record
    after = partylog.verify(chain, record, now_ms=None)
    assert isinstance(after, Chain), after
    return after


def party_of(*guests: Player) -> tuple[Chain, tuple[bytes, ...]]:
    """Alice's party with one invite that lets all `guests` in, and its records."""
    records: list[bytes] = [
        partylog.genesis(
            ALICE.signer,
            name="Friday",
            founder_name=ALICE.name,
            wireguard=ALICE.wireguard,
            nonce=bytes(16),
            at_ms=NOW_MS,
        )
    ]
    chain = grown(partylog.EMPTY, records[-1])
    records.append(
        partylog.issue_invite(
            ALICE.signer,
            chain,
            invite_public=INVITE,
            uses=8,
            expires_at=NOW_MS + 1_000_000,
            at_ms=NOW_MS,
        )
    )
    chain = grown(chain, records[-1])
    for guest in guests:
        records.append(joined(chain, guest))
        chain = grown(chain, records[-1])
    return chain, tuple(records)


def joined(chain: Chain, guest: Player) -> bytes:
    record = partylog.join(
        guest.signer, SEED, chain, name=guest.name, wireguard=guest.wireguard, at_ms=NOW_MS + 1
    )
    assert isinstance(record, bytes)
    return record


class Playbook:
    """One node's state, and the clock."""

    def __init__(self, me: Player = ALICE) -> None:
        self.me = me
        self.state = mesh.EMPTY
        self.now_ms = NOW_MS
        self.told: list[Event] = []
        self.tell(
            c.OpenSession(
                version="0", platform="test", peer=me.peer, name=me.name, wireguard=me.wireguard
            )
        )

    @classmethod
    def in_party(cls, me: Player = ALICE, *guests: Player) -> Playbook:
        """`me` in Alice's party with `guests`, control connected."""
        book = cls(me)
        chain, records = party_of(*guests)
        url = "ws://203.0.113.2:8667"
        book.tell(c.Enter(party=chain.party, control=(url,), embedded=False, records=records))
        book.tell(c.NoteControl(party=chain.party, url=url, connected=True))
        return book

    def tell(self, command: c.Reported) -> tuple[Event, ...]:
        """The events of an accepted command; the state moves on."""
        decision = decide(self.state, command, self.now_ms)
        assert not isinstance(decision, Refusal), decision
        self.told.extend(decision)
        for event in decision:
            self.state = mesh.evolve(
                self.state,
                event,
                seq=self.state.seq + 1,
                at=self.now_ms,
                session_id=SESSION,
            )
        return decision

    def refused(self, command: c.Reported) -> Refusal:
        before = self.state
        decision = decide(self.state, command, self.now_ms)
        assert isinstance(decision, Refusal), decision
        assert self.state is before
        return decision
