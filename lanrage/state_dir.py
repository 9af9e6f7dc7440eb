"""Where a node keeps its things, and whose they are.

    events.sqlite    the log                     identity.json   this device's keys (0600)
    control.sqlite   of the embedded control     api.json        where the running node's API is,
    profiles/        the player's own profiles                   and its token (0600)
    token            of the API, kept so that an open dashboard survives a restart (0600)

With sudo the folder is the invoking user's own, so that `lanrage status` without sudo finds the
same one, and nothing in it ends up belonging to root.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
from pathlib import Path

import msgspec

from lanrage.refusal import Refusal

EVENTS = "events.sqlite"
LOCK = "node.lock"  # as events.log names it, which is too heavy for the command line
API = "api.json"
TOKEN = "token"
TOKEN_CHARACTERS = 32  # of base64: 192 bits
PROFILES = "profiles"


class Owner(msgspec.Struct, frozen=True):
    uid: int
    gid: int
    home: Path


class ApiFile(msgspec.Struct, frozen=True):
    """`api.json`: exists while the node runs."""

    api: str  # "http://127.0.0.1:8666"
    token: str


def owner() -> Owner:
    """Who started this: with sudo the person behind it, otherwise the present user."""
    uid = int(os.environ.get("SUDO_UID", "")) if _is_sudo() else os.getuid()
    gid = int(os.environ.get("SUDO_GID", "")) if _is_sudo() else os.getgid()
    try:
        home = Path(pwd.getpwuid(uid).pw_dir)
    except KeyError:
        home = Path(os.environ.get("HOME", "/"))
    return Owner(uid, gid, home)


def _is_sudo() -> bool:
    return (
        os.getuid() == 0
        and os.environ.get("SUDO_UID", "").isdecimal()
        and os.environ.get("SUDO_GID", "").isdecimal()
    )


def locate(chosen: str | None) -> Path:
    """`--state`, else LANRAGE_STATE, else the owner's usual place for state."""
    if chosen or (chosen := os.environ.get("LANRAGE_STATE")):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME") if not _is_sudo() else None
    return (Path(base) if base else owner().home / ".local" / "state") / "lanrage"


def make(path: Path, who: Owner) -> Refusal | None:
    """The folder, private to its owner. Folders made on the way belong to the owner too."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    try:
        for each in reversed(missing):
            each.mkdir(mode=0o700)
            if os.getuid() == 0:
                os.chown(each, who.uid, who.gid)
    except OSError as error:
        return unusable(path, error.strerror or str(error))
    if not path.is_dir():
        return unusable(path, "it is not a folder")
    return None


def unusable(path: Path, why: str) -> Refusal:
    return Refusal(
        "state_unusable",
        f"Cannot use the state directory {path}",
        why,
        "Choose another with --state DIR.",
    )


def write_api(path: Path, api: ApiFile) -> None:
    _write_private(path / API, msgspec.json.encode(api))


def token(path: Path) -> str:
    """The API's bearer token: 192 bits, made at the first start."""
    try:
        kept = (path / TOKEN).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        kept = ""
    if len(kept) == TOKEN_CHARACTERS:
        return kept
    made = secrets.token_urlsafe(TOKEN_CHARACTERS * 6 // 8)
    _write_private(path / TOKEN, made.encode())
    return made


def _write_private(path: Path, data: bytes) -> None:
    """Atomically, readable by the owner alone."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
    draft.replace(path)


def is_running(path: Path) -> bool:
    """Whether a node holds this folder. After a `kill -9` its `api.json` is still there, and by
    then the port may be another user's: he must not be sent the token."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def read_api(path: Path) -> ApiFile | None:
    try:
        return msgspec.json.decode((path / API).read_bytes(), type=ApiFile)
    except (OSError, msgspec.MsgspecError, ValueError):  # the last: what is not UTF-8
        return None
