"""What control and the chain's rules say no to, in words for a person."""

from __future__ import annotations

from typing import Final

from lanrage.refusal import Refusal, plain

_NEW_INVITE: Final = "Ask the host for a new one: `lanrage invite`."

# code of a rule or of the server -> (our code, why, what to do); an empty why: as the server says
_WORDS: Final = {
    "used": ("invite_used", "this invite was already used", _NEW_INVITE),
    "expired": ("invite_expired", "this invite has expired", _NEW_INVITE),
    "revoked": ("invite_revoked", "this invite was revoked", _NEW_INVITE),
    "unknown_invite": ("invite_foreign", "this invite is not of that party", _NEW_INVITE),
    "unknown_party": (
        "invite_foreign",
        "the control server there knows nothing of this party",
        _NEW_INVITE,
    ),
    "not_member": ("not_member", "this device is no member of the party", _NEW_INVITE),
    "kicked": ("kicked", "this device was kicked out of the party", "Ask the host."),
    "left": ("left", "this device left the party", _NEW_INVITE),
    "not_admin": ("not_admin", "only the party's admin may do that", "Ask the host."),
    "name": ("bad_name", "the name is not acceptable", "Choose 1 to 32 visible characters."),
    "name_taken": ("name_taken", "another member has this name", "Choose another."),
    "full": ("party_full", "", "Ask the host."),
    "version": (
        "newer_party",
        "the party is used with a newer LANrage",
        "Update this LANrage.",
    ),
    "not_creator": (
        "not_creator",
        "this control server is for another party",
        "Use another one, or none: then this computer is the party's control.",
    ),
    "diverged": (
        "diverged",
        "this control server has another history of the party",
        "Ask the host whether its data was lost or restored.",
    ),
    "lost": ("control_lost", "", "Try again; if it stays so, ask whoever runs control."),
    "busy": ("control_busy", "", "Try again in a minute."),
    "storage": ("control_storage", "", "Ask whoever runs the control server to look at its disk."),
}


def refusal(what: str, code: str, reason: str) -> Refusal:
    """`reason` comes from outside: only its printable beginning is shown."""
    shown = plain(reason[:160])
    ours, why, fix = _WORDS.get(code, (f"control_{code}"[:40], "", ""))
    return Refusal(ours, what, why or shown or "no reason was given", fix)
