"""Addresses of control as people write them: `host:port`, or a URL whose scheme decides TLS.

A fragment, `wss://host:443#sha256=HEX`, pins the server's certificate (see lanrage/certificate.py):
then no authority is asked, and no other certificate will do.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from lanrage.control.messages import DEFAULT_PORT
from lanrage.refusal import Refusal

_SECURE: Final = {"ws": False, "http": False, "wss": True, "https": True}
_WRITTEN: Final = re.compile(r"[\x21-\x7e]{1,500}")  # urlsplit would drop what is not of this
_PIN: Final = re.compile(r"sha256=([0-9A-Fa-f]{64})")
_HOST: Final = re.compile(r"[0-9A-Za-z_.:%-]{1,253}")


def websocket_url(text: str) -> str | Refusal:
    """The `ws://` or `wss://` URL for `text`. A bare `host` means LANrage's own port; a URL
    without a port means its scheme's."""
    written = text.strip()
    if _WRITTEN.fullmatch(written) is None:
        return _refusal(text)
    bare = "://" not in written
    try:
        parts = urlsplit(f"ws://{written}" if bare else written)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return _refusal(text)
    secure = _SECURE.get(parts.scheme)
    if secure is None or _HOST.fullmatch(host) is None or parts.username:
        return _refusal(text)
    pin = _PIN.fullmatch(parts.fragment)
    if "#" in written and (pin is None or not secure):
        return _bad_pin(written)
    if port is None:
        port = DEFAULT_PORT if bare else 443 if secure else 80
    if port == 0:
        return _refusal(text)
    shown = f"[{host}]" if ":" in host else host
    query = f"?{parts.query}" if parts.query else ""
    pinned = f"#sha256={pin[1].lower()}" if pin else ""
    return f"{'wss' if secure else 'ws'}://{shown}:{port}{parts.path or '/'}{query}{pinned}"


def split_pin(url: str) -> tuple[str, str]:
    """A URL from `websocket_url` as what is dialled, and the pin of its certificate or nothing."""
    dialled, _, fragment = url.partition("#")
    return dialled, fragment.removeprefix("sha256=")


def _bad_pin(written: str) -> Refusal:
    return Refusal(
        "bad_control",
        "Cannot use this control address",
        f"what follows # in {written[:200]!r} is no pin of a certificate, or there is no TLS",
        "Write it like wss://203.0.113.7:443#sha256= and 64 hex digits.",
    )


def _refusal(text: str) -> Refusal:
    return Refusal(
        "bad_control",
        "Cannot use this control address",
        f"{text[:100]!r} is neither host:port nor a URL",
        "Write it like 203.0.113.7:8667 or wss://control.example.org.",
    )
