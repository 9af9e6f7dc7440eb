"""What one check ended with."""

from __future__ import annotations

import msgspec

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(msgspec.Struct, frozen=True):
    check: str  # "UDP port"
    status: str  # "ok" | "warn" | "fail"
    found: str  # one line
    fix: str = ""  # one line, what to do; empty where nothing is to be done
    evidence: tuple[str, ...] = ()  # what it rests on, where that is not plain


def ok(check: str, found: str, evidence: tuple[str, ...] = ()) -> Finding:
    return Finding(check, OK, found, "", evidence)


def warn(check: str, found: str, fix: str, evidence: tuple[str, ...] = ()) -> Finding:
    return Finding(check, WARN, found, fix, evidence)


def fail(check: str, found: str, fix: str, evidence: tuple[str, ...] = ()) -> Finding:
    return Finding(check, FAIL, found, fix, evidence)
