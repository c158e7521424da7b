"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
import configparser
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import requests_refresh

TESTS = Path(__file__).parent
TOP = TESTS.parent
PACKAGE = Path(requests_refresh.__file__).parent
LONGEST = 400  # lines of a file

# From the ground up: a module imports what stands on a floor below its own, and
# what lies in its own folder. A name is a module, or a folder and all that is in it.
FLOORS: list[set[str]] = [
    {"errors"},
    {"lifecycle", "logs", "origins", "stats", "telemetry", "tokens"},
    {"gate", "lifetimes", "replay", "schemes", "signing", "stores", "strikes"},
    {"dpop", "grants"},  # above the gate, for `remaining`
    {"logins", "presets"},
    {"asking", "settings"},
    {"renewal"},
    {"source"},
    {"adapter", "pool"},
    {"__init__"},
    {"testing"},
    {"cli"},  # above testing, whose server the demo runs
    {"__main__"},
]

CORE = {"requests", "urllib3", "cachetools", "filelock"}
# pytest is there for whoever uses the fixtures of requests_refresh.testing.
EXTRA = {"cli": {"click", "httpie", "rich"}, "testing": {"pytest"}}

MODULES = sorted(PACKAGE.rglob("*.py"))
FILES = [*MODULES, *sorted(TESTS.rglob("*.py")), *sorted((TOP / "examples").rglob("*.py"))]


def name_of(path: Path) -> str:
    """The part of the house that a module is: its folder below the package, or itself."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def label(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent if PACKAGE in path.parents else TOP))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


class Import(NamedTuple):
    module: str  # its full name
    line: int
    late: bool  # in a function or for type checkers only, so not done at import


def imports(path: Path) -> Iterator[Import]:
    """Every import that stands anywhere in a file."""
    folder = ("requests_refresh", *path.relative_to(PACKAGE).parent.parts)

    def walk(node: ast.AST, late: bool) -> Iterator[Import]:
        late = late or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        late = late or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, late)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(folder[: len(folder) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            if module == "requests_refresh":  # each name may be a module
                for alias in node.names:
                    yield Import(f"{module}.{alias.name}", node.lineno, late)
            else:
                yield Import(module, node.lineno, late)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, late)

    return walk(parse(path), False)


def wrong_imports(path: Path) -> list[str]:
    me = name_of(path)
    floor = next(n for n, names in enumerate(FLOORS) if me in names)
    allowed = {me}.union(*FLOORS[:floor])
    wrong = []
    for module, line, _ in imports(path):
        top, _, rest = module.partition(".")
        if top == "requests_refresh" and rest.partition(".")[0] not in allowed:
            wrong.append(f"{label(path)}:{line} imports {module}")
    return wrong


def test_every_part_of_the_house_is_known() -> None:
    """A new module says where it stands in the order of imports."""
    assert {name_of(path) for path in MODULES} <= set().union(*FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_imports_run_one_way(path: Path) -> None:
    """Imports run from errors to cli and testing, and never back."""
    assert wrong_imports(path) == []


def test_a_wrong_import_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk over the imports sees each way to write a wrong one."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "stores").mkdir()
    base = tmp_path / "stores" / "base.py"
    base.write_text(
        "from .. import adapter\nfrom ..source import x\nimport requests_refresh.gate\n"
        "from . import file\nfrom .file import y\nfrom ..tokens import Token\nimport os\n"
        "def f():\n    from requests_refresh.cli import main\n"
    )
    assert [line.rpartition(" ")[2] for line in wrong_imports(base)] == [
        "requests_refresh.adapter",
        "requests_refresh.source",
        "requests_refresh.gate",
        "requests_refresh.cli",
    ]


def test_the_gate_is_pure_threading() -> None:
    """I4: gate.py imports the standard library, tokens and errors, so it can do no requests."""
    for found in imports(PACKAGE / "gate.py"):
        top = found.module.partition(".")[0]
        assert top == "requests_refresh" or top in sys.stdlib_module_names


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_optional_dependencies_are_imported_late(path: Path) -> None:
    """Importing the package needs its four dependencies and no more."""
    known = CORE | EXTRA.get(name_of(path), set()) | {"requests_refresh", *sys.stdlib_module_names}
    early = {found.module.partition(".")[0] for found in imports(path) if not found.late}
    assert early <= known


@pytest.mark.parametrize("path", FILES, ids=label)
def test_no_file_is_long(path: Path) -> None:
    """A file that outgrows 400 lines is more than one thing."""
    lines = path.read_text("utf-8").count("\n")
    assert lines <= LONGEST


@pytest.mark.parametrize("path", [p for p in FILES if p.name.startswith("test_")], ids=label)
def test_every_test_says_what_it_holds(path: Path) -> None:
    """Every test has a docstring: the promise that it holds."""
    mute = [
        node.name
        for node in ast.walk(parse(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert mute == []


@pytest.mark.parametrize("path", FILES, ids=label)
def test_every_module_opens_with_its_purpose(path: Path) -> None:
    """A module says what it is for; an empty one needs no word."""
    assert not path.read_text("utf-8").strip() or ast.get_docstring(parse(path))


def test_every_public_name_is_documented() -> None:
    """What the package exports, and each public method of it, has a docstring."""
    mute = []
    for name in requests_refresh.__all__:
        thing = getattr(requests_refresh, name)
        if not (isinstance(thing, type) or callable(thing)):
            continue  # a constant is told of where it is used
        if not thing.__doc__:
            mute.append(name)
        if isinstance(thing, type) and thing.__module__.startswith("requests_refresh"):
            mute += [
                f"{name}.{method}"
                for method, value in vars(thing).items()
                if not method.startswith("_")
                and (callable(value) or isinstance(value, (property, classmethod, staticmethod)))
                and not documented(thing, method)
            ]
    assert mute == []


def documented(cls: type, method: str) -> bool:
    """True with a docstring here or on what a base says of the same name."""
    found = (vars(base).get(method) for base in cls.__mro__)
    return any(getattr(value, "__doc__", None) for value in found if value is not None)


def test_the_version_is_one() -> None:
    """The changelog opens with the version that setup.cfg has, and nothing else tells one."""
    config = configparser.ConfigParser()
    config.read(TOP / "setup.cfg", "utf-8")
    version = config["metadata"]["version"]
    headings = [
        line
        for line in (TOP / "CHANGELOG.md").read_text("utf-8").splitlines()
        if line.startswith("## [") and "Unreleased" not in line
    ]
    assert headings[0].startswith(f"## [{version}]")
