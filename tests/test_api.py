"""The public names and their arguments are those of tests/api.txt, or it is changed on purpose.

`python -m tests.test_api` writes the file anew.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

SNAPSHOT = Path(__file__).with_name("api.txt")
PACKAGES = ["", ".grants", ".logins", ".presets", ".stores", ".testing"]
OWN = "requests_refresh"


def arguments(thing: object) -> str:
    """The names of the arguments, `?` after those that have a default; stars as in Python."""
    try:
        found = inspect.signature(thing).parameters.values()  # type: ignore[arg-type] # tried
    except (TypeError, ValueError):
        return ""
    marks: dict[object, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    words, named = [], False
    for one in found:
        if one.kind is inspect.Parameter.KEYWORD_ONLY and not named:
            named = True
            words.append("*")
        named = named or one.kind is inspect.Parameter.VAR_POSITIONAL
        default = "?" if one.default is not inspect.Parameter.empty else ""
        words.append(f"{marks.get(one.kind, '')}{one.name}{default}")
    return f"({', '.join(words)})"


def lines() -> Iterator[str]:
    """One line for each public name, and for each public name in a class of ours."""
    for package in PACKAGES:
        module = import_module(OWN + package)
        for name in sorted(module.__all__):
            thing = getattr(module, name)
            where = f"{OWN}{package}.{name}"
            yield where + (arguments(thing) if callable(thing) else "")
            if isinstance(thing, type) and thing.__module__.startswith(OWN):
                ours = [vars(base) for base in thing.__mro__ if base.__module__.startswith(OWN)]
                for member in sorted(set().union(*ours)):
                    if not member.startswith("_"):
                        value = inspect.getattr_static(thing, member)
                        value = getattr(value, "__func__", value)
                        yield f"{where}.{member}{arguments(value) if callable(value) else ''}"


def test_the_public_names_are_those_of_the_snapshot() -> None:
    """No public name or argument comes, goes or changes without a word (semantic versioning)."""
    assert list(lines()) == SNAPSHOT.read_text("utf-8").splitlines()


if __name__ == "__main__":
    SNAPSHOT.write_text("\n".join(lines()) + "\n", "utf-8")
