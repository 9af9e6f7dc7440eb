"""WireGuard's configuration protocol as text; test_standalone.py has the real `wg` speak it."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanrage.tunnel.dataplane import new_engine
from lanrage.tunnel.uapi import answer

PRIVATE, PUBLIC, PSK = bytes([1]) * 32, bytes([9]) * 32, bytes([3]) * 32


def ask(request: str) -> str:
    return answer(request, new_engine(PRIVATE, roaming=True), PRIVATE, 7, 0)


def test_what_was_set_is_what_is_got() -> None:
    engine = new_engine(PRIVATE, roaming=True)
    said = answer(
        f"set=1\nreplace_peers=true\npublic_key={PUBLIC.hex()}\npreshared_key={PSK.hex()}\n"
        "replace_allowed_ips=true\nallowed_ip=10.9.0.2/32\nallowed_ip=fd99::/64\n"
        "endpoint=[2001:db8::1]:5\npersistent_keepalive_interval=25\n\n",
        engine, PRIVATE, 7, 0,
    )  # fmt: skip
    assert said == "errno=0\n\n"
    more = f"set=1\npublic_key={PUBLIC.hex()}\nupdate_only=true\nallowed_ip=10.9.0.3/32\n\n"
    assert answer(more, engine, PRIVATE, 7, 0) == "errno=0\n\n"
    lines = answer("get=1\n\n", engine, PRIVATE, 7, 0).splitlines()
    assert lines[:2] == [f"private_key={PRIVATE.hex()}", "listen_port=7"]
    assert lines[-2:] == ["errno=0", ""]
    assert {
        f"public_key={PUBLIC.hex()}",
        f"preshared_key={PSK.hex()}",
        "endpoint=[2001:db8::1]:5",
        "persistent_keepalive_interval=25",
        "last_handshake_time_sec=0",
    } <= set(lines)
    allowed = [line for line in lines if line.startswith("allowed_ip")]
    assert allowed == ["allowed_ip=10.9.0.2/32", "allowed_ip=fd99::/64", "allowed_ip=10.9.0.3/32"]


def test_a_peer_can_be_removed_and_is_not_made_by_an_update() -> None:
    engine = new_engine(PRIVATE, roaming=True)
    engine.put_peer(PUBLIC, allowed=["10.9.0.2/32"])
    answer(f"set=1\npublic_key={PUBLIC.hex()}\nremove=true\n\n", engine, PRIVATE, 7, 0)
    assert not engine.peers
    answer(f"set=1\npublic_key={PUBLIC.hex()}\nupdate_only=true\n\n", engine, PRIVATE, 7, 0)
    assert not engine.peers


@pytest.mark.parametrize(
    ("request_text", "code"),
    [
        ("hello\n\n", errno.EPROTO),
        ("\n", errno.EPROTO),
        ("set=1\nhello\n\n", errno.EPROTO),
        ("set=1\nlisten_port=9\n\n", errno.EOPNOTSUPP),
        ("set=1\npublic_key=zz\n\n", errno.EINVAL),
        (f"set=1\npublic_key={bytes(32).hex()}\n\n", errno.EINVAL),
        (f"set=1\npublic_key={PUBLIC.hex()}\nallowed_ip=10\n\n", errno.EINVAL),
        (f"set=1\npublic_key={PUBLIC.hex()}\nendpoint=here\n\n", errno.EINVAL),
    ],
)
def test_a_mistake_is_answered_with_its_number(request_text: str, code: int) -> None:
    assert ask(request_text) == f"errno={code}\n\n"


@given(st.text(max_size=200))
def test_garbage_is_answered_with_a_number(garbage: str) -> None:
    assert ask(f"set=1\npublic_key={PUBLIC.hex()}\n{garbage}").startswith("errno=")
    assert ask(garbage).startswith("errno=")
