"""An ordinary failure as a value: one line that says what, why and what to do."""

from __future__ import annotations

import msgspec


class Refusal(msgspec.Struct, frozen=True):
    """`code` is stable and for programs; the rest is for a person."""

    code: str  # "invite_used", "port_taken", ...
    what: str  # "Cannot join"
    why: str  # "this invite was already used"
    fix: str  # "Ask for a new one: the host runs `lanrage invite`."

    def __str__(self) -> str:
        return f"{self.what}: {self.why}. {self.fix}".rstrip()


def plain(text: str) -> str:
    """One line that a terminal shows and does not obey, whoever wrote `text`."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)
