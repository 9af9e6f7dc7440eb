"""House style as tests: what a reviewer would otherwise have to say again and again.

Each rule reads the whole tree and lists every offender as `file:line what`, so that one run shows
all there is to mend. Numbers are ceilings that nobody should come near, not targets.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("lanrage", "events", "projections", "web", "profiles")
PYTHON_FOLDERS = (*ROOMS, "tests", "bench")
FUNCTION_LINES_MAX = 70
NESTING_MAX = 4
TEXT_SUFFIXES = {
    *(".py", ".md", ".toml", ".lock", ".json", ".jsonl", ".txt", ".yaml", ".yml", ".conf"),
    *(".ts", ".vue", ".js", ".html", ".css", ".svg", ""),
}

# Words that say nothing about what a thing is. Spelled in halves: this file obeys its own rules.
VAGUE_WORDS = {"manager", "helper", "util", "utils", "handler", "service"}
VAGUE_WORDS |= {"coordinator"}
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
PLACES = re.compile(
    r"(?<![\w.])/(?:wo"
    r"rk|fa"
    r"rm|tmp/te"
    r"am)/"
    r"|py"
    r"pi\.org|python"
    r"hosted\.org|npm"
    r"js\.(?:org|com)|deb\.deb"
    r"ian\.org"
)
BLANKET_IGNORE = re.compile(r"#\s*(?:type:\s*ignore(?!\[)|no" r"qa(?!:\s*[A-Z]))")

NESTING = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def _text_files() -> tuple[Path, ...]:
    ignored = [line.strip("/ ") for line in (ROOT / ".gitignore").read_text().splitlines()]
    return tuple(sorted(_walk(ROOT, [".git", *filter(None, ignored)])))


def _walk(folder: Path, ignored: list[str]) -> Iterator[Path]:
    for path in folder.iterdir():
        relative = path.relative_to(ROOT).as_posix()
        if any(fnmatch.fnmatch(name, glob) for glob in ignored for name in (relative, path.name)):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, ignored)
        elif path.suffix in TEXT_SUFFIXES and path.is_file():
            yield path


@functools.cache
def _modules() -> tuple[tuple[str, ast.Module], ...]:
    paths = [path for path in _text_files() if path.suffix == ".py"]
    named = [(path.relative_to(ROOT).as_posix(), path) for path in paths]
    return tuple(
        (name, ast.parse(path.read_text(encoding="utf-8"), name))
        for name, path in named
        if name.startswith(tuple(f"{folder}/" for folder in PYTHON_FOLDERS))
    )


def _nodes(
    *kinds: type[ast.AST], under: tuple[str, ...] = PYTHON_FOLDERS
) -> Iterator[tuple[str, ast.AST]]:
    for name, tree in _modules():
        if name.startswith(tuple(f"{folder}/" for folder in under)):
            yield from ((name, node) for node in ast.walk(tree) if isinstance(node, kinds))


def _lines_matching(pattern: re.Pattern[str]) -> list[str]:
    found: list[str] = []
    for path in _text_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        if pattern.search(text) is None:
            continue
        lines = enumerate(text.splitlines(), 1)
        name = path.relative_to(ROOT).as_posix()
        found += [
            f"{name}:{number} {line.strip()[:80]}" for number, line in lines if pattern.search(line)
        ]
    return found


def _line_at(name: str, number: int) -> str:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()[number - 1]


def _depth(node: ast.AST, depth: int = 0) -> int:
    deepest = depth
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, (*FUNCTIONS, ast.ClassDef)):
                continue
            # `elif` is an If alone in the orelse of an If: the same depth to a reader.
            is_elif = isinstance(child, ast.If) and field == "orelse" and len(value) == 1
            deeper = isinstance(child, NESTING) and not is_elif
            deepest = max(deepest, _depth(child, depth + deeper))
    return deepest


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_functions_are_short_enough_to_read_at_once() -> None:
    long = [
        f"{name}:{node.lineno} {node.name} has {length} lines"
        for name, node in _nodes(*FUNCTIONS)
        if isinstance(node, FUNCTIONS)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not long, "\n".join(long)


def test_nothing_is_nested_too_deep() -> None:
    deep = [
        f"{name}:{node.lineno} {node.name} nests {depth} deep"
        for name, node in _nodes(*FUNCTIONS)
        if isinstance(node, FUNCTIONS) and (depth := _depth(node)) > NESTING_MAX
    ]
    assert not deep, "\n".join(deep)


def test_names_say_what_a_thing_is() -> None:
    named = [
        (f"{name}:{node.lineno}", node.name)
        for name, node in _nodes(*FUNCTIONS, ast.ClassDef)
        if isinstance(node, (*FUNCTIONS, ast.ClassDef))
    ]
    named += [(name, Path(name).stem) for name, _ in _modules()]
    vague = [
        f"{where} {word}"
        for where, word in named
        if {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", word)} & VAGUE_WORDS
    ]
    assert not vague, "\n".join(vague)


def test_no_note_says_that_something_is_unfinished() -> None:
    notes = _lines_matching(UNFINISHED)
    assert not notes, "\n".join(notes)


def test_no_file_names_one_persons_machine_or_a_package_registry() -> None:
    places = _lines_matching(PLACES)
    assert not places, "\n".join(places)


def test_every_ignored_complaint_names_which() -> None:
    blanket = [line for line in _lines_matching(BLANKET_IGNORE) if ".py:" in line]
    assert not blanket, "\n".join(blanket)


def test_every_module_says_why_it_exists() -> None:
    silent = [
        name
        for name, tree in _modules()
        if name.startswith(tuple(f"{room}/" for room in ROOMS))
        and tree.body
        and ast.get_docstring(tree) is None
    ]
    assert not silent, "\n".join(silent)


def test_catching_everything_gives_its_reason_on_the_line() -> None:
    bare: list[str] = []
    for name, node in _nodes(ast.ExceptHandler):
        assert isinstance(node, ast.ExceptHandler)
        caught = "everything" if node.type is None else _dotted(node.type)
        if caught not in {"everything", "Exception", "BaseException"}:
            continue
        if isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None:
            continue  # cleans up and lets it pass: nothing is swallowed
        if "#" not in _line_at(name, node.lineno):
            bare.append(f"{name}:{node.lineno} catches {caught}")
    assert not bare, "\n".join(bare)


def test_a_test_that_sleeps_says_there_why_nothing_can_be_awaited() -> None:
    sleeps: list[str] = []
    for name, node in _nodes(ast.Call, under=("tests",)):
        assert isinstance(node, ast.Call)
        if _dotted(node.func) not in {"time.sleep", "asyncio.sleep", "sleep"}:
            continue
        yields_only = [isinstance(a, ast.Constant) and a.value == 0 for a in node.args] == [True]
        said = _line_at(name, node.lineno - 1) + _line_at(name, node.lineno)
        if not yields_only and "#" not in said:
            sleeps.append(f"{name}:{node.lineno} sleeps")
    assert not sleeps, "\n".join(sleeps)


def test_no_test_is_skipped_or_talks_to_a_mock() -> None:
    forbidden = {"pytest.skip", "pytest.importorskip", "pytest.xfail", "pytest.mark.skip"}
    forbidden |= {"pytest.mark.skipif", "pytest.mark.xfail"}
    found = [
        f"{name}:{node.lineno} {_dotted(node)}"
        for name, node in _nodes(ast.Attribute, under=("tests",))
        if isinstance(node, ast.Attribute) and _dotted(node) in forbidden
    ]
    found += [
        f"{name}:{node.lineno} imports mocks"
        for name, node in _nodes(ast.ImportFrom, ast.Import, under=("tests",))
        if isinstance(node, ast.ImportFrom | ast.Import) and "mock" in ast.unparse(node)
    ]
    assert not found, "\n".join(found)
