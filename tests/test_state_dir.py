"""The state directory: private, its owner's own, and found again."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lanrage import state_dir
from lanrage.refusal import Refusal
from lanrage.state_dir import ApiFile


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANRAGE_STATE", "/from/environment")
    assert state_dir.locate("/from/option") == Path("/from/option")
    assert state_dir.locate(None) == Path("/from/environment")


def test_with_sudo_it_is_the_invoking_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", str(os.stat("/").st_uid))
    monkeypatch.setenv("SUDO_GID", "0")
    monkeypatch.setenv("XDG_STATE_HOME", "/of/another")
    monkeypatch.delenv("LANRAGE_STATE", raising=False)
    who = state_dir.owner()
    assert who.uid == os.stat("/").st_uid
    assert state_dir.locate(None) == who.home / ".local" / "state" / "lanrage"


def test_every_folder_made_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert state_dir.make(path, state_dir.owner()) is None
    assert (mode(path), mode(path.parent)) == (0o700, 0o700)


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    refusal = state_dir.make(path, state_dir.owner())
    assert isinstance(refusal, Refusal)
    assert "not a folder" in str(refusal)


def test_the_api_file_is_private_and_read_back(tmp_path: Path) -> None:
    api = ApiFile("http://127.0.0.1:8666", "secret")
    state_dir.write_api(tmp_path, api)
    assert mode(tmp_path / state_dir.API) == 0o600
    assert state_dir.read_api(tmp_path) == api


@pytest.mark.parametrize("content", [b"{", b'{"api": "\xff", "token": ""}', b""])
def test_a_damaged_api_file_is_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / state_dir.API).write_bytes(content)
    assert state_dir.read_api(tmp_path) is None


def test_the_token_is_private_kept_and_replaced_if_damaged(tmp_path: Path) -> None:
    first = state_dir.token(tmp_path)
    assert len(first) == state_dir.TOKEN_CHARACTERS
    assert state_dir.token(tmp_path) == first
    assert mode(tmp_path / state_dir.TOKEN) == 0o600
    (tmp_path / state_dir.TOKEN).write_text("short")
    again = state_dir.token(tmp_path)
    assert again not in (first, "short")
