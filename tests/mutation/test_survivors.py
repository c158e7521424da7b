"""The list of what survives keeps in step with the code."""

from __future__ import annotations

from pathlib import Path

import pytest

import requests_refresh

from .listed import FILES, listed

PACKAGE = Path(requests_refresh.__file__).parent


@pytest.mark.parametrize("file", FILES)
def test_each_line_is_still_there(file: str) -> None:
    """I1 to I15: a mutant that is let live is one of today's code, and says why."""
    lines = {line.strip() for line in (PACKAGE / file).read_text("utf-8").splitlines()}
    entries = {name: entry for (where, name), entry in listed().items() if where == file}
    assert entries
    assert [name for name, (old, _) in entries.items() if old not in lines] == []
    assert [name for name, (_, reason) in entries.items() if len(reason) < 20] == []
