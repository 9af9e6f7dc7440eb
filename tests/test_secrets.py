"""What holds a secret does not show it: a `repr` ends in logs, tracebacks and bug reports."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from lanrage import commands as c
from lanrage import effects as e
from lanrage.identity import Identity
from lanrage.protocols import invite, partylog
from lanrage.tunnel import wgquick

SECRET = bytes(range(65, 97))
INVITE = invite.Invite(
    party=partylog.text_of(bytes(32)),
    seed=SECRET,
    head="00" * 32,
    length=1,
    control=("ws://192.0.2.1:8667",),
    name="Friday",
)
PEER = wgquick.Peer(public_key=bytes(32), preshared_key=SECRET)
HOLDERS = (
    INVITE,
    Identity(
        Ed25519PrivateKey.from_private_bytes(SECRET),
        X25519PrivateKey.from_private_bytes(SECRET),
        "ada",
    ),
    c.Join(link=invite.link(INVITE)),
    e.Start(private_key=SECRET, interface="lanrage0", port=0),
    e.PutPeer(peer="p", public_key=bytes(32), allowed=(), keepalive_s=0, preshared_key=SECRET),
    PEER,
    wgquick.Config(private_key=SECRET, peers=(PEER,)),
)


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
def test_a_secret_is_in_no_repr(holder: object) -> None:
    spellings = (
        SECRET.decode(),
        SECRET.hex(),
        base64.b64encode(SECRET).decode(),
        invite.link(INVITE).partition("#")[2],
    )
    for shown in (repr(holder), str(holder), repr([holder])):
        assert not [each for each in spellings if each in shown]
