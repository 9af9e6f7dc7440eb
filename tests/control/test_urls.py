"""Pins in addresses of control."""

from __future__ import annotations

import pytest

from lanrage.control.servers import servers_of
from lanrage.control.urls import split_pin, websocket_url
from lanrage.protocols import invite
from lanrage.refusal import Refusal

PIN = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("written", "url"),
    [
        (f"wss://203.0.113.7:443#sha256={PIN}", f"wss://203.0.113.7:443/#sha256={PIN}"),
        (f"wss://h.example/x?y#sha256={PIN.upper()}", f"wss://h.example:443/x?y#sha256={PIN}"),
        (f"https://[fd00::1]/#sha256={PIN}", f"wss://[fd00::1]:443/#sha256={PIN}"),
    ],
)
def test_a_pin_stays_with_its_address(written: str, url: str) -> None:
    assert websocket_url(written) == url
    assert websocket_url(url) == url
    assert split_pin(url) == (url.partition("#")[0], PIN)


def test_an_address_without_a_pin_has_none() -> None:
    assert split_pin("wss://h.example:443/") == ("wss://h.example:443/", "")


@pytest.mark.parametrize(
    "written",
    [
        f"ws://203.0.113.7:443#sha256={PIN}",
        f"203.0.113.7:443#sha256={PIN}",
        f"wss://203.0.113.7#sha256={PIN[1:]}",
        f"wss://203.0.113.7#sha256={PIN}0",
        f"wss://203.0.113.7#sha1={PIN}",
        f"wss://203.0.113.7#{PIN}",
        "wss://203.0.113.7#",
    ],
)
def test_a_pin_that_protects_nothing_is_refused(written: str) -> None:
    refused = websocket_url(written)
    assert isinstance(refused, Refusal)
    assert "sha256=" in refused.fix


async def test_a_pinned_address_is_still_an_address() -> None:
    url = f"wss://203.0.113.7:443#sha256={PIN}"
    assert await servers_of(url) == ["203.0.113.7:443", "203.0.113.7:444"]
    assert len(f"wss://[{':'.join(['ffff'] * 8)}]:65535/#sha256={PIN}") <= invite.ADDRESS_MAX
