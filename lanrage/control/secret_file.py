"""The secret that relays and their control server share: a file that both can read.

Whoever starts first makes it; on two computers the operator copies it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from lanrage.refusal import Refusal

NAME: Final = "relay.secret"  # in the state directory, where no other file is named
SIZE_MIN: Final = 32
SIZE_MAX: Final = 1_024


def relay_secret(path: Path) -> bytes | Refusal:
    """The secret in that file, which is made, readable by its owner alone, if there is none."""
    try:
        made = _make(path)
        secret = made or path.read_bytes().strip()
    except OSError as error:
        return _unusable(path, error.strerror or str(error))
    if SIZE_MIN <= len(secret) <= SIZE_MAX:
        return secret
    return _unusable(path, f"it holds {len(secret)} bytes, not {SIZE_MIN} to {SIZE_MAX}")


def _make(path: Path) -> bytes:
    """Whole or not at all: another who starts in the same moment must not read half of it."""
    if path.exists():
        return b""
    secret = secrets.token_hex(SIZE_MIN).encode()
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secret)
        os.link(draft, path)  # unlike rename it never replaces a file
    except FileExistsError:
        return b""
    finally:
        draft.unlink(missing_ok=True)
    return secret


def _unusable(path: Path, why: str) -> Refusal:
    return Refusal(
        "relay_secret",
        f"Cannot use the relay secret {path}",
        why,
        "Copy the file from the other computer, or name another: it holds 32 or more random bytes.",
    )
