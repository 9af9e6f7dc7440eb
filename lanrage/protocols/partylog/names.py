"""Names of members and parties: 1 to 32 visible characters, safe to show anywhere.

The rule must give the same answer under every Python, or members would disagree about the chain.
So it uses the one Unicode database that never changes (3.2, for normalisation) and its own table
of what is refused, not the categories of whatever Unicode this interpreter ships. Members' names
are unique in a party, ignoring ASCII case, so that a name can stand for a member: the chain
refuses a taken one, and a joiner picks the next free form of its own (`free_name`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from unicodedata import ucd_3_2_0 as unicode_3_2

NAME_MAX: Final = 32

# Controls, every space but U+0020, bidi and other format characters, blank fillers, surrogates,
# private use, noncharacters, tags.
_REFUSED: Final = re.compile(
    "[\x00-\x1f\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    "\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    "\u2800\u3000\u3164\ud800-\uf8ff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U0001fffe\U0001ffff\U0002fffe-\U0010ffff]"
)
_FOLD: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def is_name(name: str) -> bool:
    if not 1 <= len(name) <= NAME_MAX or name != name.strip(" "):
        return False
    return _REFUSED.search(name) is None and unicode_3_2.normalize("NFC", name) == name


def clean_name(text: str, otherwise: str = "player") -> str:
    """The nearest acceptable name to `text`; `otherwise` if nothing of it is left."""
    kept = _REFUSED.sub("", text.replace("\t", " ").replace("\n", " "))
    name = unicode_3_2.normalize("NFC", kept).strip(" ")[:NAME_MAX].strip(" ")
    return name if is_name(name) else otherwise


def is_taken(name: str, names: Iterable[str]) -> bool:
    folded = name.translate(_FOLD)
    return any(other.translate(_FOLD) == folded for other in names)


def free_name(name: str, names: Iterable[str]) -> str:
    """`name`, or the first of "name 2", "name 3", ... that nobody has."""
    taken = tuple(names)
    candidate, count = name, 1
    while is_taken(candidate, taken):
        count += 1
        suffix = f" {count}"
        candidate = name[: NAME_MAX - len(suffix)].rstrip(" ") + suffix
    return candidate
