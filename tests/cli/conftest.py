"""What the tests of the command share: a home of its own, and servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from requests_refresh.testing import AuthServer
from tests.authorization.conftest import authlib, authlib_server
from tests.grants.conftest import bare_environment, nobody, server

from .support import Home

__all__ = ["authlib", "authlib_server", "bare_environment", "nobody", "server"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A user who has nothing yet."""
    for name in list(os.environ):
        if name.startswith("REQUESTS_REFRESH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("REQUESTS_REFRESH_CONFIG", str(tmp_path / "conf" / "config.toml"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    return Home(tmp_path)


@pytest.fixture
def auth() -> Iterator[AuthServer]:
    with AuthServer(client_id="sync", client_secret="CANARY-client") as running:
        yield running
