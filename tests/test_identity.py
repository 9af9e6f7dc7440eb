"""The identity file: made once, whole, private, and never replaced."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from lanrage.identity import FILE, Identity, load_or_create
from lanrage.refusal import Refusal


def made(folder: Path, name: str | None = None) -> Identity:
    identity = load_or_create(folder, name)
    assert isinstance(identity, Identity), identity
    return identity


def test_the_same_device_comes_back(tmp_path: Path) -> None:
    first, again = made(tmp_path / "state", "ada"), made(tmp_path / "state")
    assert (again.peer, again.name) == (first.peer, "ada")
    assert again.wireguard_public == first.wireguard_public
    assert made(tmp_path / "other").peer != first.peer


def test_a_name_for_this_run_is_not_kept(tmp_path: Path) -> None:
    made(tmp_path, "ada")
    assert made(tmp_path, "  bob\u202e ").name == "bob"
    assert made(tmp_path).name == "ada"


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made(tmp_path / "state")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "state" / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert [each.name for each in (tmp_path / "state").iterdir()] == [FILE]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    made(tmp_path)
    (tmp_path / FILE).chmod(mode)
    refusal = load_or_create(tmp_path)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "identity_exposed"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[:-10],
        lambda text: b"\0" * len(text),
        lambda text: text.replace(b'"identity"', b'"id"'),
        lambda text: b" " * 5_000 + text,
        lambda text: b"[" * 4_000,
        lambda text: json.dumps({**json.loads(text), "wireguard": "AAAA"}).encode(),
        lambda text: json.dumps({**json.loads(text), "more": 1}).encode(),
    ],
)
def test_a_damaged_file_is_named_and_kept(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    made(tmp_path)
    path = tmp_path / FILE
    bad = damage(path.read_bytes())
    path.write_bytes(bad)
    refusal = load_or_create(tmp_path)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "identity_damaged"
    assert str(path) in str(refusal)
    assert path.read_bytes() == bad


def test_a_file_of_a_newer_lanrage_is_named_and_kept(tmp_path: Path) -> None:
    made(tmp_path)
    path = tmp_path / FILE
    newer = json.dumps({**json.loads(path.read_bytes()), "version": 2, "more": 1}).encode()
    path.write_bytes(newer)
    refusal = load_or_create(tmp_path)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "identity_newer"
    assert path.read_bytes() == newer


def test_secrets_are_not_shown_by_accident(tmp_path: Path) -> None:
    identity = made(tmp_path)
    shown = repr(identity) + str(identity)
    assert identity.signer.private_bytes_raw().hex() not in shown
    assert json.loads((tmp_path / FILE).read_bytes())["identity"] not in shown


def test_a_place_that_cannot_be_written_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    refusal = load_or_create(tmp_path / "file" / "state")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "identity_unusable"


def test_two_that_start_at_once_agree_on_one_identity(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    found: list[Identity | Refusal] = []

    def run() -> None:
        start.wait()
        found.append(load_or_create(tmp_path))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    peers = {each.peer if isinstance(each, Identity) else each.code for each in found}
    assert len(peers) == 1
    assert made(tmp_path).peer in peers
