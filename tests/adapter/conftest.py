"""A server, sessions with the adapter mounted that are closed in the end, and crowds of threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from requests_refresh import RefreshAdapter, TokenSource
from requests_refresh.testing import AuthServer


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, CA bundle or netrc of whoever runs the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture
def server() -> Iterator[AuthServer]:
    with AuthServer() as running:
        yield running


class Mount:
    """Makes sessions with an adapter mounted at its origins."""

    def __init__(self) -> None:
        self.made: list[requests.Session] = []
        self.tokens: list[TokenSource] = []

    def __call__(
        self, tokens: TokenSource, *origins: str, everywhere: bool = False, **options: Any
    ) -> requests.Session:
        """A session whose requests to `origins`, or to everywhere, go through a new adapter."""
        session = requests.Session()
        self.made.append(session)
        self.tokens.append(tokens)
        adapter = RefreshAdapter(tokens, origins=origins, **options)
        for prefix in ("http://", "https://") if everywhere else origins:
            session.mount(prefix, adapter)
        return session


@pytest.fixture
def mount() -> Iterator[Mount]:
    mounter = Mount()
    yield mounter
    for session in mounter.made:
        session.close()
    for tokens in mounter.tokens:
        tokens.close()  # no round outlives its server
