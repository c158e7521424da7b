"""The reference is made of docstrings: what of their form becomes of what."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from types import ModuleType
from typing import Any

import pytest

import requests_refresh
from requests_refresh import Stats, TokenStore

from .pages import DOCS


@pytest.fixture(scope="module")
def docstrings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docstrings", DOCS / "docstrings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOKEN = ":py:obj:`~requests_refresh.Token`"
CASES = {
    "code": ("Plain `x == 1` text.", "Plain ``x == 1`` text."),
    "names": ("A Token, or `Token`.", f"A {TOKEN}, or {TOKEN}."),
    "methods": ("As `Token.same_issue`.", "As :py:obj:`~requests_refresh.Token.same_issue`."),
    "stars": ("2 * 3 and `*args`", "2 \\* 3 and ``*args``"),
    "two at once": ("one: what\n    it is\ntwo, three: as", ":param one: what it is\n{two as}"),
    "in a line": ("one: first. two: as", ":param one: first.\n:param two: as"),
    "a list in it": ("one: these:\n\n    - a\n    - b", ":param one: these:\n\n    - a\n    - b"),
    "a block": (
        "Ends.\n\n    f()\n\n    g()",
        "Ends.\n\n.. code-block:: python\n\n   f()\n\n   g()",
    ),
    "no names": ("Ways:\n    GET /x: one\n        of it.\n    /y: two", "{ways}"),
    "below a line": ("All:\n    one: first.", "All:\n\n:param one: first."),
}
SHORT = {
    "{two as}": ":param two: as\n:param three: as",
    "{ways}": "Ways:\n\n- GET /x: one of it.\n- /y: two",
}


@pytest.mark.parametrize(("text", "rst"), CASES.values(), ids=CASES.keys())
def test_what_becomes_of(docstrings: ModuleType, text: str, rst: str) -> None:
    """A name, a list of arguments, code: each is told from the rest, and nothing is lost."""
    for short, long in SHORT.items():
        rst = rst.replace(short, long)
    assert docstrings.as_rst(text.splitlines()) == rst + "\n"


def test_every_public_name_is_in_the_reference() -> None:
    """What the package and its parts export has its place there, or on the page of providers."""
    told = set()
    for page in (DOCS / "reference").glob("*.md"):
        text = page.read_text("utf-8")
        told |= {
            name.rpartition(".")[2] for name in re.findall(r"^\.\. [\w:]+:: (\S+)$", text, re.M)
        }
    told |= set(re.findall(r": `([A-Z0-9]+)` \|", (DOCS / "providers.md").read_text("utf-8")))
    missing = set()
    for part in ("", ".grants", ".logins", ".presets", ".stores", ".testing"):
        missing |= set(importlib.import_module(f"requests_refresh{part}").__all__) - told
    assert missing == {"OAuthGrant"}  # what the grants of OAuth share; it cannot be called


def test_every_argument_is_told(docstrings: ModuleType) -> None:
    """What a public class's docstring says of an argument of its constructor is a field."""
    missing = []
    for name in requests_refresh.__all__:
        thing: Any = getattr(requests_refresh, name)
        if not inspect.isclass(thing) or issubclass(thing, Exception | Stats):
            continue  # errors are made by the package, and counts by a source
        if thing is TokenStore:
            continue  # is given what its subclasses take
        text = inspect.getdoc(thing) or ""
        text += "\n\n" + (inspect.getdoc(thing.__init__) or "")
        rst = docstrings.as_rst(text.splitlines())
        for argument in inspect.signature(thing).parameters.values():
            told = f":param {argument.name}:" in rst
            if argument.kind is not argument.VAR_POSITIONAL and not told:
                missing.append(f"{name}: {argument.name}")
    assert missing == []
