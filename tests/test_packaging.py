"""What is installed: the right versions, ours alone under our names, and the page inside."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parent.parent
OURS = {"lanrage", "events", "projections", "web", "profiles"}
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def locked() -> dict[NormalizedName, str]:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return {canonicalize_name(name): version for name, version in LOCKED.findall(text)}


def test_no_other_installed_distribution_claims_our_names() -> None:
    """Two that do overwrite each other's files without a word, and either may win."""
    owners = importlib.metadata.packages_distributions()
    foreign = {name: set(owners.get(name, ())) - {"lanrage"} for name in OURS}
    assert not {name: who for name, who in foreign.items() if who}


def test_the_lock_file_pins_a_version_that_satisfies_every_requirement() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    wanted += project["build-system"]["requires"]
    versions = locked()
    unmet = [
        each
        for each in map(Requirement, wanted)
        if versions.get(canonicalize_name(each.name), "") not in each.specifier
    ]
    assert not unmet


def test_every_package_in_the_lock_file_is_pinned_by_hash() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked())
    assert not [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry]


def test_what_is_installed_here_is_what_the_lock_file_says() -> None:
    versions = locked()
    installed = {
        canonicalize_name(each.name): each.version for each in importlib.metadata.distributions()
    }
    other = {
        name: (installed[name], version)
        for name, version in versions.items()
        if name in installed and installed[name] != version
    }
    assert not other


def test_the_wheel_holds_the_rooms_the_profiles_and_the_page(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == OURS
    assert "profiles/games/default.json" in names
    assert "web/ui/dist/index.html" in names
    assert not [name for name in names if "node_modules" in name or name.startswith("tests/")]
