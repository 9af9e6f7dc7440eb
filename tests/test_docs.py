"""Documents are checked against the tree, because a wrong map is worse than none.

In ARCHITECTURE.md every `file.py:name` must be defined in that file and every room must be on the
map; in all documents every relative link must lead somewhere, and every `make` target and
`lanrage` command that is shown must exist.
"""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path

import pytest

from lanrage import __version__
from lanrage.cli import parser

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
ROOMS = ("lanrage", "events", "projections", "web", "profiles", "tests", "bench")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```[^\n]*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
REFERENCE = re.compile(r"`([\w./-]+\.py):([A-Za-z_][\w.]*)`")
HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def code(document: str) -> list[str]:
    """Every line that is shown as code."""
    found = (block or span for block, span in CODE.findall(read(document)))
    return [line.strip() for text in found for line in text.splitlines()]


def anchors(document: Path) -> set[str]:
    text = document.read_text(encoding="utf-8")
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in plain}


def names_defined_in(path: Path) -> set[str]:
    """Functions, classes, methods as `Class.method`, and module constants."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        found |= _names(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in _names(inner)}
    return found


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return {target.id for target in targets if isinstance(target, ast.Name)}


def subcommands(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    broken: list[str] = []
    for target in LINK.findall(read(document)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert not broken, broken


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_named_place_in_the_code_exists(document: str) -> None:
    missing: list[str] = []
    for file, name in REFERENCE.findall(read(document)):
        path = ROOT / file
        if not path.is_file() or name not in names_defined_in(path):
            missing.append(f"{file}:{name}")
    assert not missing, missing


def test_the_walk_through_a_join_names_enough_places_to_follow_it() -> None:
    assert len(set(REFERENCE.findall(read("ARCHITECTURE.md")))) >= 20


def test_every_path_on_the_map_exists() -> None:
    """The map is a tree by indentation. A line may name neighbours, or what is inside its first."""
    (block,) = re.findall(r"## Map.*?```\n(.*?)```", read("ARCHITECTURE.md"), re.DOTALL)
    folders = [ROOT]
    missing: list[str] = []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        named = re.findall(r"(?<![\w/])[\w.-]+(?:/|\.py)(?![\w/])", line)
        places = folders[: depth + 1][-1:]
        if named and line.strip().startswith(named[0]) and named[0].endswith("/"):
            folders = [*folders[: depth + 1], places[0] / named[0]]
            places = folders[depth:]
        missing += [word for word in named if not any((at / word).exists() for at in places)]
    assert not missing, missing


def test_the_map_names_every_room_and_every_module_of_the_main_one() -> None:
    text = read("ARCHITECTURE.md")
    expected = [f"{room}/" for room in ROOMS]
    for path in (ROOT / "lanrage").iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            expected.append(f"{path.name}/")
        elif path.suffix == ".py" and not path.name.startswith("__init__"):
            expected.append(path.name)
    assert not [name for name in expected if name not in text]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_shown_exists(document: str) -> None:
    known = subcommands(parser())
    shown = re.findall(r"(?:^|\s|/)lanrage ([a-z]+)\b", "\n".join(code(document)))
    assert set(shown) <= set(known), set(shown) - set(known)


def test_the_readme_names_every_command() -> None:
    text = "\n".join(code("README.md"))
    hidden = {name for name in subcommands(parser()) if f"lanrage {name}" not in text}
    assert not hidden, hidden


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_shown_exists(document: str) -> None:
    rules = re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE)
    shown = re.findall(r"(?:^|\s)make ([a-z]+)\b", "\n".join(code(document)))
    assert set(shown) <= set(rules), set(shown) - set(rules)


def test_make_has_every_verb_that_people_rely_on() -> None:
    rules = re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE)
    assert {"up", "demo", "test", "check", "bench", "clean"} <= set(rules)


def test_the_changelog_has_an_entry_for_this_version() -> None:
    headings = HEADING.findall(read("CHANGELOG.md"))
    assert any(line.startswith(("[Unreleased]", f"[{__version__}]")) for line in headings)
