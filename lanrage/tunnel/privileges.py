"""Giving up power: user, groups and Linux capabilities (capabilities(7)), for good.

Call before any thread starts: capabilities belong to threads. Nothing here can be taken back; the
bounding set is emptied and `no_new_privs` set, so a set-user-id program gives nothing back either.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

CAP_SETPCAP, CAP_NET_ADMIN, CAP_NET_RAW = 8, 12, 13
CAPABILITIES_MAX = 64
NOBODY = 65_534

_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_CAPBSET_DROP = 4, 8, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def drop_all(uid: int, gid: int) -> None:
    """Become this user and group with no capability left. `uid` 0 stays root in name only.

    Raises OSError if the user or group cannot be changed."""
    keep_only((), uid, gid)


def keep_only(capabilities: Sequence[int], uid: int, gid: int) -> None:
    """Become this user and group, keeping these capabilities of those there are.

    Raises OSError if the user or group cannot be changed."""
    for capability in range(CAPABILITIES_MAX):  # needs CAP_SETPCAP, so first
        _prctl(_PR_CAPBSET_DROP, capability)
    if uid != 0 and os.geteuid() == 0:
        _prctl(_PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(capabilities)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)  # neither core dumps nor ptrace: session keys are in here


def _set_capabilities(capabilities: Sequence[int]) -> None:
    bits = sum(1 << capability for capability in capabilities)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    # Twice (low and high 32 bits): effective, permitted, inheritable.
    sets = ctypes.create_string_buffer(struct.pack("=6I", low, low, 0, high, high, 0))
    if _libc.capset(header, sets) == 0:
        return
    # Some of them are not ours to keep; having none is always allowed.
    empty = ctypes.create_string_buffer(struct.pack("=6I", 0, 0, 0, 0, 0, 0))
    _libc.capset(header, empty)


def _prctl(option: int, value: int) -> None:
    # A kernel that does not know an option, or a container that has not got the capability,
    # refuses; there is then nothing to give up.
    _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)
