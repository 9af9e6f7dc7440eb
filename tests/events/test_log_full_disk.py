"""A disk too small for a new log: whatever of it did fit, the next start with more space works."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from events.log import Log
from lanrage.refusal import Refusal

pytestmark = pytest.mark.root


async def tried(folder: Path) -> Refusal | None:
    log = await Log.open(folder / "events.sqlite", session="s")
    if isinstance(log, Refusal):
        return log
    await log.close()
    return None


@pytest.mark.parametrize("size_kib", range(8, 84, 4))
def test_a_log_that_could_not_be_made_is_made_when_there_is_space(
    tmp_path: Path, size_kib: int
) -> None:
    mount = ["mount", "-t", "tmpfs", "-o"]
    subprocess.run([*mount, f"size={size_kib}k", "tmpfs", str(tmp_path)], check=True)
    try:
        refused = asyncio.run(tried(tmp_path))
        assert refused is None or refused.code == "disk_full", refused
        subprocess.run([*mount, "remount,size=2m", "tmpfs", str(tmp_path)], check=True)
        assert asyncio.run(tried(tmp_path)) is None
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
