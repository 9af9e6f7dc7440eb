"""This device's identity: two private keys and a name, in one file that only its owner may read.

The Ed25519 key says who the device is; the X25519 key is its WireGuard key. The file is written
whole or not at all, and once lost it is gone: members know this device by its public key. So a
file that cannot be read is never replaced by a new identity; the caller is told instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from lanrage.protocols.partylog.keys import peer_of
from lanrage.protocols.partylog.names import clean_name
from lanrage.refusal import Refusal

FILE: Final = "identity.json"
VERSION: Final = 1
_SIZE_MAX: Final = 4_096  # bytes

_Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    identity: _Key  # seed of the Ed25519 key
    wireguard: _Key  # X25519 private key
    name: str


class _Version(msgspec.Struct, frozen=True):
    version: int


class Identity:
    """Keys stay inside: neither `repr` nor an exception's text shows them."""

    def __init__(self, signer: Ed25519PrivateKey, private: X25519PrivateKey, name: str) -> None:
        self.signer: Final = signer
        self.wireguard: Final = private
        self.wireguard_public: Final = private.public_key().public_bytes_raw()
        self.peer: Final = peer_of(signer)
        self.name: Final = name

    def secret(self, purpose: str) -> bytes:
        """32 bytes that are this device's own, different for every purpose."""
        key = self.signer.private_bytes_raw()
        return hashlib.blake2b(purpose.encode(), key=key, digest_size=32).digest()

    def __repr__(self) -> str:
        return f"Identity({self.peer!r}, {self.name!r})"


def fresh(name: str) -> Identity:
    return Identity(Ed25519PrivateKey.generate(), X25519PrivateKey.generate(), clean_name(name))


def load_or_create(state_dir: Path, name: str | None = None) -> Identity | Refusal:
    """The identity kept in `state_dir`, made there at the first start. `name` is this run's name;
    without it the stored one counts, and at first the computer's host name."""
    path = state_dir / FILE
    try:
        if path.exists():
            return _load(path, name)
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = fresh(name or os.uname().nodename)
        try:
            _store(path, identity)
        except FileExistsError:
            return _load(path, name)
        return identity
    except OSError as error:
        return _refusal("identity_unusable", f"{path}: {error.strerror or error}", "")


def _load(path: Path, name: str | None) -> Identity | Refusal:
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            return _refusal(
                "identity_exposed",
                f"other users may read {path}",
                f"If nobody did, run `chmod 600 {path}`; if unsure, delete it and join anew.",
            )
        text = file.read(_SIZE_MAX + 1)
    try:
        if msgspec.json.decode(text, type=_Version).version > VERSION:
            return _refusal("identity_newer", f"{path} is by a newer LANrage", "Update LANrage.")
        stored = msgspec.json.decode(text, type=_File)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _refusal(
            "identity_damaged",
            f"{path} is damaged",
            "Restore it from a backup, or delete it: this device is then new to its parties.",
        )
    return Identity(
        Ed25519PrivateKey.from_private_bytes(stored.identity),
        X25519PrivateKey.from_private_bytes(stored.wireguard),
        clean_name(name or stored.name),
    )


def _store(path: Path, identity: Identity) -> None:
    """Atomic and durable: a crash leaves the old state or the whole file. Another process that
    won the race keeps its file, and this raises FileExistsError."""
    text = msgspec.json.encode(
        _File(
            version=VERSION,
            identity=identity.signer.private_bytes_raw(),
            wireguard=identity.wireguard.private_bytes_raw(),
            name=identity.name,
        )
    )
    draft = path.with_name(f".{FILE}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike rename, never replaces
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refusal(code: str, why: str, fix: str) -> Refusal:
    return Refusal(code, "Cannot use this device's identity", why, fix)
