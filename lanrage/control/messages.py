"""What a node and a control server say to each other over their WebSocket.

Each binary WebSocket message is one MessagePack map, a tagged union by "type"; unknown fields are
ignored, a frame that does not decode ends the connection. Text messages are not used. The
WebSocket subprotocol is `lanrage.control`. The server speaks first:

    server                                  node
    Challenge  version, nonce          ->
                                       <-   Hello    version, who, which party, from where on
    Welcome | Refused and close        ->
    Records, in pages, then as they come    Append   a record for the head
    Presence, whenever it changes           Send     a sealed signal for one member
    Appended | Conflict | Refused           Stay     once a guest has joined
    Signal                                  Measured round trips to the relays
    Relays, Picks, to who wants them        Refill   what the server has lost

A node need not wait for `Welcome` before it sends `Append`. Before an answer to `Append`, the
server has sent every record that led to it, so the loser of a race can build anew at once.

`version` in `Challenge` and `Hello`, and `Refused` as a whole, keep their place in every version,
so that each side can tell a person which one is too old.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lanrage.protocols.partylog import RECORD_MAX, key_of
from lanrage.protocols.seal import SEALED_MAX

PROTOCOL: Final = 1
SUBPROTOCOL: Final = "lanrage.control"
DEFAULT_PORT: Final = 8667
FRAME_MAX: Final = 64 * 1024  # bytes of one message
PAGE: Final = 48  # records in one frame
NONCE_SIZE: Final = 16
PING_S: Final = 10.0  # how often each side asks whether the other lives
PONG_S: Final = 10.0  # how long it may take to answer: dead after 20 s

# WebSocket close codes of our own (RFC 6455 §7.4.2).
CLOSE_GARBAGE: Final = 4000
CLOSE_VERSION: Final = 4001
CLOSE_REFUSED: Final = 4002  # a `Refused` said why

_HELLO: Final = b"lanrage hello v1\0"
_GUEST: Final = b"lanrage guest v1\0"

_Nonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_SIZE, max_length=NONCE_SIZE)]
_Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
_Id = Annotated[str, msgspec.Meta(min_length=52, max_length=52)]
_Record = Annotated[bytes, msgspec.Meta(min_length=1, max_length=RECORD_MAX)]
_Sealed = Annotated[bytes, msgspec.Meta(min_length=1, max_length=SEALED_MAX)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 32)]
_Text = Annotated[str, msgspec.Meta(max_length=256)]
_Head = Annotated[str, msgspec.Meta(max_length=64)]


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    pass


# --- from the server --------------------------------------------------------------------------


class Challenge(Frame, frozen=True, kw_only=True, tag="challenge"):
    version: int
    nonce: _Nonce
    at: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]  # the server's clock, Unix milliseconds


class Welcome(Frame, frozen=True, kw_only=True, tag="welcome"):
    """The hello is accepted; the chain has this length here. It may be shorter than the node's:
    then the node checks that it is the beginning of its own, and sends the rest."""

    length: _Count
    head: _Head


class Records(Frame, frozen=True, kw_only=True, tag="records"):
    after: _Count
    records: Annotated[tuple[_Record, ...], msgspec.Meta(min_length=1, max_length=PAGE)]


class Presence(Frame, frozen=True, kw_only=True, tag="presence"):
    """All members that are connected now."""

    online: Annotated[tuple[_Id, ...], msgspec.Meta(max_length=256)]


class Appended(Frame, frozen=True, kw_only=True, tag="appended"):
    id: _Count
    length: _Count


class Conflict(Frame, frozen=True, kw_only=True, tag="conflict"):
    """The record does not follow the head (any more)."""

    id: _Count


class Refused(Frame, frozen=True, kw_only=True, tag="refused"):
    """`id` of the append that is refused; 0: the connection is."""

    id: _Count = 0
    code: _Text
    reason: _Text


class Signal(Frame, frozen=True, kw_only=True, tag="signal"):
    sender: _Id
    sealed: _Sealed


class Relay(msgspec.Struct, frozen=True, kw_only=True):
    """One relay, and this member's ticket for it. The same facts as `effects.RelayGrant`."""

    relay: Annotated[str, msgspec.Meta(max_length=64)]  # its name: "ip:port" over UDP
    addresses: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=64)], ...], msgspec.Meta(max_length=4)
    ]
    region: Annotated[str, msgspec.Meta(max_length=32)] = ""
    tcp: _Text = ""
    pin: Annotated[str, msgspec.Meta(max_length=64)] = ""
    public_key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    boot: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    ticket: Annotated[bytes, msgspec.Meta(max_length=128)] = b""


class Relays(Frame, frozen=True, kw_only=True, tag="relays"):
    """All relays this member may use, whenever that changes, and before a ticket expires."""

    relays: Annotated[tuple[Relay, ...], msgspec.Meta(max_length=8)]


class Pick(msgspec.Struct, frozen=True, kw_only=True):
    peer: _Id
    relay: Annotated[str, msgspec.Meta(max_length=64)]
    sum_ms: _Count


class Picks(Frame, frozen=True, kw_only=True, tag="picks"):
    """For each other member that is online: the relay with the least sum of both round trips."""

    picks: Annotated[tuple[Pick, ...], msgspec.Meta(max_length=256)]


# --- from a node ------------------------------------------------------------------------------


class Hello(Frame, frozen=True, kw_only=True, tag="hello"):
    """Proof that this connection is `peer`'s, for this challenge alone."""

    version: int
    party: _Id
    peer: _Id
    signature: _Signature  # by `peer` over "lanrage hello v1" | 0 | nonce | party | peer
    length: _Count = 0  # of the chain that the node holds; records after it are sent
    head: _Head = ""
    invite: Annotated[str, msgspec.Meta(max_length=52)] = ""  # of a guest: the invite's id
    proof: Annotated[bytes, msgspec.Meta(max_length=64)] = b""  # by the invite: "lanrage guest v1"
    genesis: Annotated[bytes, msgspec.Meta(max_length=RECORD_MAX)] = b""  # founds the party
    relays: bool = False  # understands `Relays`, `Picks`, and a server that needs a `Refill`


class Append(Frame, frozen=True, kw_only=True, tag="append"):
    id: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]  # chosen by the node, comes back
    record: _Record


class Refill(Frame, frozen=True, kw_only=True, tag="refill"):
    """Records that the server said in `Welcome` it does not have: its data was lost or is older
    than ours, or they were made while it was away. Answered by `Appended` with id 0."""

    after: _Count
    records: Annotated[tuple[_Record, ...], msgspec.Meta(min_length=1, max_length=PAGE)]


class Send(Frame, frozen=True, kw_only=True, tag="send"):
    to: _Id
    sealed: _Sealed


class Stay(Frame, frozen=True, kw_only=True, tag="stay"):
    """From a guest that has become a member: this connection is its own one from now on. Until
    then it does not count as present, since a join's connection usually ends with the join."""


class Measured(Frame, frozen=True, kw_only=True, tag="measured"):
    """Round trips to relays, by name, in milliseconds: all that are known."""

    rtts_ms: Annotated[
        dict[str, Annotated[int, msgspec.Meta(ge=0, le=10_000)]], msgspec.Meta(max_length=8)
    ]


FromServer: TypeAlias = (
    Challenge
    | Welcome
    | Records
    | Presence
    | Appended
    | Conflict
    | Refused
    | Signal
    | Relays
    | Picks
)
FromNode: TypeAlias = Hello | Append | Refill | Send | Stay | Measured

_encoder = msgspec.msgpack.Encoder()
_from_server: msgspec.msgpack.Decoder[FromServer] = msgspec.msgpack.Decoder(FromServer)
_from_node: msgspec.msgpack.Decoder[FromNode] = msgspec.msgpack.Decoder(FromNode)
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


def encode(frame: FromServer | FromNode) -> bytes:
    return _encoder.encode(frame)


def from_server(message: bytes | str) -> FromServer | None:
    try:
        return None if isinstance(message, str) else _from_server.decode(message)
    except _UNREADABLE:
        return None


def from_node(message: bytes | str) -> FromNode | None:
    try:
        return None if isinstance(message, str) else _from_node.decode(message)
    except _UNREADABLE:
        return None


class _Version(msgspec.Struct, frozen=True):
    type: str
    version: int


_version = msgspec.msgpack.Decoder(_Version)


def version_of(message: bytes | str) -> int | None:
    """Which version the other side speaks, read from a `Challenge` or `Hello` of any version."""
    try:
        found = None if isinstance(message, str) else _version.decode(message)
    except _UNREADABLE:
        return None
    return None if found is None or found.type not in ("challenge", "hello") else found.version


def hello(
    signer: Ed25519PrivateKey,
    nonce: bytes,
    *,
    party: str,
    peer: str,
    length: int = 0,
    head: str = "",
    invite_seed: bytes = b"",
    invite: str = "",
    genesis: bytes = b"",
    relays: bool = True,
) -> Hello:
    text = _bound(nonce, party, peer)
    proof = b""
    if invite_seed:
        proof = Ed25519PrivateKey.from_private_bytes(invite_seed).sign(_GUEST + text)
    return Hello(
        version=PROTOCOL,
        party=party,
        peer=peer,
        signature=signer.sign(_HELLO + text),
        length=length,
        head=head,
        invite=invite,
        proof=proof,
        genesis=genesis,
        relays=relays,
    )


def is_authentic(hello: Hello, nonce: bytes) -> bool:
    """Whether `peer` itself answers this challenge."""
    text = _HELLO + _bound(nonce, hello.party, hello.peer)
    return _signed(hello.peer, hello.signature, text)


def is_guest(hello: Hello, nonce: bytes) -> bool:
    """Whether it also holds the secret of the invite that it names."""
    text = _GUEST + _bound(nonce, hello.party, hello.peer)
    return bool(hello.invite) and _signed(hello.invite, hello.proof, text)


def _bound(nonce: bytes, party: str, peer: str) -> bytes:
    return nonce + b"".join(key_of(text) or bytes(32) for text in (party, peer))


def _signed(public: str, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key_of(public) or b"").verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True
