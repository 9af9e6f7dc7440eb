"""Bundled profiles and the user's own become one catalogue, whatever lies in the user's folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from profiles import catalog
from profiles.schema import Profile


def write(folder: Path, profile_id: str, **fields: object) -> Path:
    path = folder / f"{profile_id}.json"
    path.write_text(json.dumps({"id": profile_id, "name": profile_id.title(), **fields}))
    return path


def test_every_bundled_profile_is_usable() -> None:
    found = catalog.load()
    assert found.problems == ()
    assert catalog.check(catalog.BUNDLED) == []
    assert {"default", "openttd", "minecraft-java", "teeworlds"} <= set(found.profiles)


def test_every_bundled_game_says_where_its_facts_are_from() -> None:
    for profile in catalog.load().all():
        known = {fact for source in profile.sources for fact in source.facts}
        stated = {"ports"} if profile.ports else set()
        stated |= {"discovery"} if profile.discovery else set()
        stated |= {"processes"} if profile.processes else set()
        assert stated <= known, profile.id


def test_the_default_comes_first_and_the_rest_by_name() -> None:
    names = [profile.name for profile in catalog.load().all()]
    assert names[0] == "Any game"
    assert names[1:] == sorted(names[1:], key=str.lower)


def test_the_users_own_profile_wins(tmp_path: Path) -> None:
    write(tmp_path, "openttd", mtu=1300)
    found = catalog.load(tmp_path)
    profile = found.get("openttd")
    assert isinstance(profile, Profile)
    assert profile.mtu == 1300
    assert found.problems == ()


def test_a_broken_file_is_reported_and_the_others_are_used(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    write(tmp_path, "own-game")
    found = catalog.load(tmp_path)
    assert found.get("own-game") is not None
    (problem,) = found.problems
    assert problem.startswith("broken.json: ")


def test_a_file_that_is_named_otherwise_than_its_profile_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "one").rename(tmp_path / "two.json")
    (problem,) = catalog.check(tmp_path)
    assert problem == "two.json: id: 'one' should be the file's name, 'two'"


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    (tmp_path / "huge.json").write_bytes(b" " * (catalog.FILE_BYTES_MAX + 1))
    assert catalog.check(tmp_path) == ["huge.json: larger than 64 KiB"]


def test_a_pipe_does_not_stop_the_catalogue(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    assert catalog.load(tmp_path).problems == ("pipe.json: is not a file",)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert catalog.check(tmp_path / "none.json") == ["none.json: No such file or directory"]


def test_an_empty_folder_is_named_and_a_missing_one_is_no_problem(tmp_path: Path) -> None:
    assert catalog.check(tmp_path) == [f"{tmp_path}: holds no .json file"]
    assert catalog.load(tmp_path / "none").problems == ()


def test_an_unknown_game_is_none() -> None:
    assert catalog.load().get("no-such-game") is None
