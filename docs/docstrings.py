"""Docstrings as reStructuredText: they are written as plain text, to be read in the code.

Told apart are paragraphs, lists of "name: what it means", and code, which is indented. In what
is left, `a name` is a link where it is a public one of the package, and else code.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator

import requests_refresh

# Every public name, and the public methods of each: "TokenSource.token" as well as "TokenSource".
PUBLIC = {name for name in requests_refresh.__all__ if name not in ("ANY", "anonymous")}
METHODS = {
    f"{name}.{method}"
    for name in PUBLIC
    if inspect.isclass(thing := getattr(requests_refresh, name))
    for method in vars(thing)
    if not method.startswith("_") and inspect.isroutine(getattr(thing, method))
}

_ITEM = re.compile(r"(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*): +(?P<text>.*)")
_CLAUSE = re.compile(r"(?<=[.;]) (?=[a-z_]{3,}: )")  # another one on the same line
_WORD = re.compile(r"`(?P<code>[^`]+)`|(?<![\w.`/<])(?P<name>[A-Z]\w+(?:\.[a-z_]\w*)?)(?![\w(])")


def as_rst(lines: Iterable[str]) -> str:
    """The docstring that these lines are, as reStructuredText."""
    return "\n\n".join(_blocks(lines)) + "\n"


def _paragraphs(lines: Iterable[str]) -> Iterator[list[str]]:
    """What blank lines part, and what goes back from an indented line to one that begins anew."""
    paragraph: list[str] = []
    for line in [*lines, ""]:
        ends = not line.strip() or (paragraph and _is_in(paragraph[0]) and not _is_in(line))
        if ends and paragraph:
            yield paragraph
            paragraph = []
        if line.strip():
            paragraph.append(line)


def _is_in(line: str) -> bool:
    return line.startswith(" ")


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    code: list[str] = []
    after_list = False
    for paragraph in _paragraphs(lines):
        if not _is_in(paragraph[0]):
            if code:
                yield _literal(code)
                code = []
            after_list, text = _block(paragraph)
            yield text
        elif after_list:  # the item above goes on
            yield textwrap.indent(_marked(textwrap.dedent("\n".join(paragraph))), "    ")
        else:
            code += ["", *paragraph] if code else paragraph
    if code:
        yield _literal(code)


def _literal(code: list[str]) -> str:
    return ".. code-block:: python\n\n" + textwrap.indent(textwrap.dedent("\n".join(code)), "   ")


def _block(paragraph: list[str]) -> tuple[bool, str]:
    """The paragraph, and whether it is a list that an indented one may go on with."""
    heads = [line for line in paragraph if not _is_in(line)]
    if all(_ITEM.match(line) for line in heads):
        return True, "\n".join(_fields(paragraph))
    if len(heads) == 1 and heads[0].endswith(":") and len(paragraph) > 1:
        inner = textwrap.dedent("\n".join(paragraph[1:])).splitlines()
        items = _items(inner)
        if all(_ITEM.match(item[0]) for item in items):
            return True, _marked(heads[0]) + "\n\n" + "\n".join(_fields(inner))
        bullets = "\n".join("- " + _joined(item) for item in items)
        return False, _marked(heads[0]) + "\n\n" + bullets
    return False, _marked("\n".join(paragraph))


def _items(lines: list[str]) -> list[list[str]]:
    items: list[list[str]] = []
    for line in lines:
        if _is_in(line):
            items[-1].append(line)
        else:
            items.append([line])
    return items


def _joined(item: list[str]) -> str:
    return _marked(" ".join(line.strip() for line in item))


def _fields(lines: list[str]) -> Iterator[str]:
    for item in _items(lines):
        for clause in _CLAUSE.split(" ".join(line.strip() for line in item)):
            match = _ITEM.match(clause)
            assert match is not None
            for name in match["names"].split(", "):
                yield f":param {name}: {_marked(match['text'])}"


def _marked(text: str) -> str:
    return _WORD.sub(_mark, text.replace("\\", "\\\\").replace("*", "\\*"))


def _mark(match: re.Match[str]) -> str:
    word = match["code"] or match["name"]
    if word in PUBLIC or word in METHODS:
        return f":py:obj:`~requests_refresh.{word}`"
    if match["code"] is None:
        return word
    code = word.replace("\\*", "*").replace("\\\\", "\\")
    return f"``{' '.join(code.split())}``"
