"""A server, a source that is logged in there, and a session that has nothing mounted yet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from requests_refresh import RefreshAdapter, TokenSource
from requests_refresh.testing import AuthServer


@pytest.fixture
def server() -> Iterator[AuthServer]:
    with AuthServer() as running:
        yield running


@pytest.fixture
def tokens(server: AuthServer) -> Iterator[TokenSource]:
    source = server.source()
    yield source
    source.close()


@pytest.fixture
def session(server: AuthServer, tokens: TokenSource) -> Iterator[requests.Session]:
    """One that is mounted as the README has it."""
    with requests.Session() as made:
        made.trust_env = False
        made.mount(server.url, RefreshAdapter(tokens, origins=server.url))
        yield made
