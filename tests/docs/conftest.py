"""Fixtures for the pages: a provider with its API, and a home directory of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from requests_refresh.testing import AuthServer


@pytest.fixture
def server() -> Iterator[AuthServer]:
    with AuthServer() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `~` leads: a directory with nothing in it."""
    made = tmp_path / "home"
    made.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(made))
    return made
