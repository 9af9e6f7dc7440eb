"""Control behind TLS of its own: the address it prints is the address that works."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest

from lanrage import certificate
from lanrage.control.link import Link, dial
from lanrage.control.run import run
from lanrage.refusal import Refusal


async def printed(capsys: pytest.CaptureFixture[str]) -> str:
    async with asyncio.timeout(20):
        while not (line := capsys.readouterr().out):  # noqa: ASYNC110  written by a print
            await asyncio.sleep(0.01)
    return str(msgspec.json.decode(line)["control"])


async def served(state: Path, capsys: pytest.CaptureFixture[str], cert: Path | None) -> str:
    """The address it printed, after having been dialled with and without TLS."""
    serving = asyncio.create_task(run("127.0.0.1:0", state, json=True, tls=True, cert=cert))
    url = await printed(capsys)
    link = await dial(url)
    assert isinstance(link, Link), link
    link.abort()
    plain = await dial(url.partition("#")[0].replace("wss:", "ws:"))
    assert isinstance(plain, Refusal)
    assert plain.code == "not_control"
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(serving, 20) is None
    return url


async def test_it_makes_a_certificate_once_and_prints_the_pinned_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = await served(tmp_path, capsys, None)
    second = await served(tmp_path, capsys, None)
    assert first.partition("#")[2] == second.partition("#")[2] != ""


async def test_it_takes_the_operators_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = certificate.self_signed()
    both = tmp_path / "both.pem"
    both.write_bytes(made.certificate + made.key)
    url = await served(tmp_path, capsys, both)
    assert url.endswith(f"#sha256={certificate.pin_of(made)}")
    assert not (tmp_path / certificate.FILE).exists()


async def test_a_certificate_that_is_none_is_refused_before_anything_starts(tmp_path: Path) -> None:
    refused = await run("127.0.0.1:0", tmp_path, cert=tmp_path / "nothing.pem")
    assert isinstance(refused, Refusal)
    assert refused.code == "bad_certificate"
