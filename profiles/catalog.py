"""All profiles there are: those that came with LANrage, then the user's own, which win.

A file that cannot be used never stops the others: its problems are kept beside the catalogue, in
words, and whoever shows profiles shows them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from profiles.schema import Profile, parse

BUNDLED = Path(__file__).parent / "games"
FILE_BYTES_MAX = 64 << 10
FILES_MAX = 1_000  # in one folder


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    profiles: Mapping[str, Profile]
    problems: tuple[str, ...] = ()

    def get(self, profile_id: str) -> Profile | None:
        return self.profiles.get(profile_id)

    def all(self) -> tuple[Profile, ...]:
        """By name as people sort, the default first."""
        return tuple(
            sorted(
                self.profiles.values(), key=lambda each: (each.id != "default", each.name.lower())
            )
        )


def load(user_dir: Path | None = None) -> Catalog:
    """Everything usable, from the bundled folder and from `user_dir` if there is one."""
    profiles: dict[str, Profile] = {}
    problems: list[str] = []
    for folder in (BUNDLED, user_dir):
        if folder is None or not folder.is_dir():
            continue
        paths = sorted(folder.glob("*.json"))
        if len(paths) > FILES_MAX:
            problems.append(
                f"{folder}: only the first {FILES_MAX} of {len(paths)} profiles were read"
            )
        for path in paths[:FILES_MAX]:
            found = _read(path)
            if isinstance(found, Profile):
                profiles[found.id] = found
            else:
                problems += found
    return Catalog(profiles=profiles, problems=tuple(problems))


def check(path: Path) -> list[str]:
    """What is wrong with this file, or with each profile in this folder; empty if nothing is."""
    paths = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not paths:
        return [f"{path}: holds no .json file"]
    return [
        line for each in paths if not isinstance(found := _read(each), Profile) for line in found
    ]


def _read(path: Path) -> Profile | tuple[str, ...]:
    if path.exists() and not path.is_file():
        return (f"{path.name}: is not a file",)  # opening a pipe would wait for its writer
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        return (f"{path.name}: {error.strerror}",)
    if len(text) > FILE_BYTES_MAX:
        return (f"{path.name}: larger than {FILE_BYTES_MAX >> 10} KiB",)
    found = parse(text, path.name)
    if isinstance(found, Profile) and found.id != path.stem:
        return (f"{path.name}: id: {found.id!r} should be the file's name, {path.stem!r}",)
    return found
