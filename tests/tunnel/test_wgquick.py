"""wg-quick's format: what is understood, and one clear line for everything that is not."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanrage.refusal import Refusal
from lanrage.tunnel.wgquick import Config, Peer, parse

KEY, OTHER, PSK = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2, 3))
WHOLE = f"""
# a comment
[Interface]
PrivateKey = {KEY}   # another
ListenPort=51820
Address = 10.9.0.1/24, fd99::1/64
Address = 10.10.0.1
MTU = 1400
DNS = 1.1.1.1

[peer]
publickey = {OTHER}
PresharedKey = {PSK}
AllowedIPs = 10.9.0.2/32,fd99::2
AllowedIPs = 192.168.0.77/16
Endpoint = [2001:db8::1]:51820
PersistentKeepalive = 25
[Peer]
PublicKey = {KEY}
AllowedIPs =
Endpoint = games.example:5
PersistentKeepalive = off
"""


def test_every_key_is_understood() -> None:
    assert parse(WHOLE) == Config(
        private_key=bytes([1]) * 32,
        port=51_820,
        addresses=("10.9.0.1/24", "fd99::1/64", "10.10.0.1/32"),
        mtu=1400,
        ignored=("DNS",),
        peers=(
            Peer(
                public_key=bytes([2]) * 32,
                preshared_key=bytes([3]) * 32,
                allowed=("10.9.0.2/32", "fd99::2/128", "192.168.0.0/16"),
                endpoint=("2001:db8::1", 51_820),
                keepalive_s=25,
            ),
            Peer(public_key=bytes([1]) * 32, endpoint=("games.example", 5)),
        ),
    )


def test_the_shortest_configuration_gets_the_usual_mtu_and_a_port_of_the_kernels_choice() -> None:
    config = parse(f"[Interface]\nPrivateKey={KEY}")
    assert isinstance(config, Config)
    assert (config.mtu, config.port, config.routes, config.peers) == (1420, 0, True, ())


INTERFACE = f"[Interface]\nPrivateKey = {KEY}\n"
PEER = f"{INTERFACE}[Peer]\nPublicKey = {OTHER}\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no PrivateKey in an [Interface] section"),
        (PEER.replace(KEY, KEY[:-2]), "line 2: this key is not 44 characters of base64"),
        (PEER.replace(OTHER, "hello"), "line 4: this key is not 44 characters of base64"),
        (INTERFACE + "[Peer]\nAllowedIPs = 10.0.0.0/8", "line 3: this [Peer] has no PublicKey"),
        (PEER + "Endpoint = host", "line 5: host is not an endpoint"),
        (PEER + "Endpoint = 2001:db8::1:5", "line 5: 2001:db8::1:5 is not an endpoint"),
        (PEER + "Endpoint = host:70000", "line 5: 70000 is not a number from 1 to 65535"),
        (PEER + "AllowedIPs = 10.0.0.0/40", "line 5: '10.0.0.0/40' does not appear to be"),
        (PEER + "Colour = red", "line 5: Colour is not a key of [Peer]"),
        (PEER + "MTU = 1400", "line 5: MTU is not a key of [Peer]"),
        (PEER + "hello", "line 5: this is neither a [section] nor"),
        (PEER + "[Party]", "line 5: the section [Party] is not known"),
        (PEER + f"PublicKey = {OTHER}", "line 5: PublicKey is given twice"),
        (PEER + "Endpoint=a:1\nEndpoint=b:2", "line 6: Endpoint is given twice"),
        (PEER + INTERFACE, "line 5: a second [Interface]"),
        (PEER + f"[Peer]\nPublicKey={OTHER}", "line 5: two peers have the same PublicKey"),
        (f"PrivateKey = {KEY}", "line 1: PrivateKey stands before the first [section]"),
        (INTERFACE + "MTU = 500", "line 3: 500 is not a number from 1280 to 9000"),
        (INTERFACE + "ListenPort = -1", "line 3: -1 is not a number"),
        (INTERFACE + "PostUp = rm -rf /", "line 3: PostUp is not supported"),
        (INTERFACE + "FwMark = 1", "line 3: FwMark is not supported"),
        (INTERFACE + "Table = 7", "line 3: Table = 7 is not supported"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, why: str) -> None:
    refusal = parse(text)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "wireguard_config"
    assert refusal.why.startswith(why)
    assert "\n" not in str(refusal)


def test_a_wrong_key_is_not_repeated() -> None:
    refusal = parse(f"[Interface]\nPrivateKey = {KEY}x")
    assert isinstance(refusal, Refusal)
    assert KEY not in str(refusal)


@given(st.text(max_size=300))
def test_garbage_is_refused_in_words(text: str) -> None:
    assert isinstance(parse(text), Refusal)


@given(st.sampled_from(WHOLE.splitlines()), st.text(max_size=40))
def test_garbage_in_a_value_never_raises(line: str, garbage: str) -> None:
    spoilt = WHOLE.replace(line, line.split("=")[0] + "=" + garbage) if "=" in line else WHOLE
    assert isinstance(parse(spoilt), Config | Refusal)
