"""wg-quick's configuration format (wg-quick(8), wg(8)) to a struct, or one line that says what is
wrong and where. Pure: host names are kept, not resolved.

What we do not do is refused when leaving it out would be unsafe (hooks, firewall marks), and
listed in `ignored` when it would only be less convenient (DNS).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable

import msgspec

from lanrage.refusal import Refusal

PEERS_MAX = 1024
LINES_MAX = 65_536
KEY_SIZE = 32
MTU_DEFAULT = 1420
MTU_MIN, MTU_MAX = 1280, 9000
PORT_MAX = 65_535


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    public_key: bytes
    preshared_key: bytes = bytes(KEY_SIZE)
    allowed: tuple[str, ...] = ()
    endpoint: tuple[str, int] | None = None  # host name or address, port
    keepalive_s: int = 0

    def __repr__(self) -> str:  # without the preshared key
        return f"Peer(endpoint={self.endpoint}, allowed={self.allowed})"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    private_key: bytes
    port: int = 0
    addresses: tuple[str, ...] = ()  # with prefix length
    mtu: int = MTU_DEFAULT
    routes: bool = True  # Table = off: none
    peers: tuple[Peer, ...] = ()
    ignored: tuple[str, ...] = ()

    def __repr__(self) -> str:  # without the private key
        return f"Config(port={self.port}, addresses={self.addresses}, peers={self.peers})"


class _Wrong(Exception):
    """What is wrong with one value; `parse` adds the line and turns it into a Refusal."""


def parse(text: str) -> Config | Refusal:
    lines = text.splitlines()
    if len(lines) > LINES_MAX:
        return _refuse(0, f"more than {LINES_MAX} lines")
    sections: list[tuple[int, str, dict[str, object]]] = []
    for number, raw in enumerate(lines, 1):
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue
        try:
            if line.startswith("["):
                sections.append((number, _section(line), {}))
            else:
                _line(sections, line)
        except _Wrong as wrong:
            return _refuse(number, str(wrong))
    return _build(sections)


def _section(line: str) -> str:
    name = line.strip("[]").strip().lower()
    if name not in _KEYS:
        raise _Wrong(f"the section {line} is not known; [Interface] and [Peer] are")
    return name


def _line(sections: list[tuple[int, str, dict[str, object]]], line: str) -> None:
    key, equals, value = (part.strip() for part in line.partition("="))
    if not equals:
        raise _Wrong("this is neither a [section] nor `Key = value`")
    if not sections:
        raise _Wrong(f"{key} stands before the first [section]")
    _, section, values = sections[-1]
    name = key.lower()
    if name in _REFUSED:
        raise _Wrong(f"{key} is not supported; remove it, or use wg-quick itself")
    entry = _KEYS[section].get(name)
    if entry is None:
        raise _Wrong(f"{key} is not a key of [{section.capitalize()}]")
    field, read = entry
    parsed = read(value)
    old = values.get(field)
    if isinstance(old, tuple) and isinstance(parsed, tuple) and field != "endpoint":
        parsed = old + parsed  # Address, AllowedIPs and DNS may come several times
    elif old is not None:
        raise _Wrong(f"{key} is given twice")
    values[field] = parsed


def _build(sections: list[tuple[int, str, dict[str, object]]]) -> Config | Refusal:
    interface: dict[str, object] = {}
    peers: dict[bytes, Peer] = {}
    for number, section, values in sections:
        if section == "interface":
            if interface:
                return _refuse(number, "a second [Interface]")
            interface = values
            continue
        if "public_key" not in values:
            return _refuse(number, "this [Peer] has no PublicKey")
        peer = msgspec.convert(values, Peer)
        if peer.public_key in peers:
            return _refuse(number, "two peers have the same PublicKey")
        peers[peer.public_key] = peer
    if len(peers) > PEERS_MAX:
        return _refuse(0, f"more than {PEERS_MAX} peers")
    if "private_key" not in interface:
        return _refuse(0, "there is no PrivateKey in an [Interface] section")
    return msgspec.convert(interface | {"peers": tuple(peers.values())}, Config)


def _refuse(number: int, why: str) -> Refusal:
    where = f"line {number}: {why}" if number else why
    return Refusal("wireguard_config", "Cannot use this WireGuard configuration", where, "")


# --- values ------------------------------------------------------------------------------------


def _key(value: str) -> bytes:
    try:
        key = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_SIZE:  # the value itself stays out of the message: it may be secret
        raise _Wrong("this key is not 44 characters of base64, as `wg genkey` prints it")
    return key


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if value.isascii() and value.isdigit() and len(value) < 8 and low <= int(value) <= high:
            return int(value)
        raise _Wrong(f"{value} is not a number from {low} to {high}")

    return read


def _keepalive(value: str) -> int:
    return 0 if value == "off" else _number(0, 65_535)(value)


def _table(value: str) -> bool:
    if value not in ("auto", "off"):
        raise _Wrong(f"Table = {value} is not supported; `auto` and `off` are")
    return value == "auto"


def _addresses(value: str) -> tuple[str, ...]:
    return _list(value, lambda text: str(ipaddress.ip_interface(text)))


def _networks(value: str) -> tuple[str, ...]:
    return _list(value, lambda text: str(ipaddress.ip_network(text, strict=False)))


def _list(value: str, read: Callable[[str], str]) -> tuple[str, ...]:
    texts = [text.strip() for text in value.split(",") if text.strip()]
    try:
        return tuple(read(text) for text in texts)
    except ValueError as failure:
        raise _Wrong(str(failure)) from None


def _endpoint(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    usable = bool(host) and (":" in host) == bracketed and not any(c.isspace() for c in host)
    if not colon or not usable:
        raise _Wrong(f"{value} is not an endpoint; write address:port or [address6]:port")
    return host, _number(1, PORT_MAX)(port)


def _ignore(name: str) -> Callable[[str], tuple[str, ...]]:
    return lambda _: (name,)


_REFUSED = frozenset({"preup", "postup", "predown", "postdown", "fwmark"})
_KEYS: dict[str, dict[str, tuple[str, Callable[[str], object]]]] = {
    "interface": {
        "privatekey": ("private_key", _key),
        "listenport": ("port", _number(0, PORT_MAX)),
        "address": ("addresses", _addresses),
        "mtu": ("mtu", _number(MTU_MIN, MTU_MAX)),
        "table": ("routes", _table),
        "dns": ("ignored", _ignore("DNS")),
        "saveconfig": ("ignored", _ignore("SaveConfig")),
    },
    "peer": {
        "publickey": ("public_key", _key),
        "presharedkey": ("preshared_key", _key),
        "allowedips": ("allowed", _networks),
        "endpoint": ("endpoint", _endpoint),
        "persistentkeepalive": ("keepalive_s", _keepalive),
    },
}
