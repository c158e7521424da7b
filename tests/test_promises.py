"""docs/promises.md and the tests agree: each invariant is held by tests that name it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
PAGE = (TOP / "docs" / "promises.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^### (I\d+)\n(.*?)(?=^### |\Z)", PAGE, re.DOTALL | re.M))
SENTENCES = dict(re.findall(r"^\| (I\d+) \| (.*) \|$", (TOP / "CONTRIBUTING.md").read_text(), re.M))


def named_in(docstring: str) -> set[str]:
    """The invariants that a docstring names, ranges of them as well."""
    named = set(re.findall(r"\bI\d+\b", docstring))
    for first, last in re.findall(r"\bI(\d+) to I(\d+)\b", docstring):
        named |= {f"I{number}" for number in range(int(first), int(last) + 1)}
    return named


def docstring_of(test: str) -> str:
    path, name = test.split("::")
    for node in ast.walk(ast.parse((TOP / path).read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
    raise AssertionError(f"there is no {test}")


def test_every_invariant_is_there() -> None:
    """All fifteen have their section, in order, and those who write code read the same list."""
    assert list(SECTIONS) == list(SENTENCES) == [f"I{number}" for number in range(1, 16)]


@pytest.mark.parametrize("invariant", SECTIONS)
def test_its_tests_hold_it(invariant: str) -> None:
    """Each says what it assumes and what not to expect; its tests exist, and name it."""
    section = SECTIONS[invariant]
    assert SENTENCES[invariant].split(":")[0].split(".")[0] in section.replace("\n", " ")
    assert "*Takes for granted*: " in section
    assert "*Not promised*: " in section
    tests = re.findall(r"^- `(\S+)`$", section, re.M)
    assert len(tests) >= 3
    assert [test for test in tests if invariant not in named_in(docstring_of(test))] == []


def test_its_commands_can_be_run() -> None:
    """What the page says to type names tests and modules that are there."""
    commands = re.findall(r"`((?:[A-Z]+=\d+ )?(?:pytest|python -m) [^`]+)`", PAGE)
    assert len(commands) >= 10
    for command in commands:
        for word in command.split():
            path = TOP / word.replace(".", "/") if word.startswith("tests.") else TOP / word
            if word.startswith("tests"):
                assert path.exists(), command
                assert "python" not in command or (path / "__main__.py").exists(), command
