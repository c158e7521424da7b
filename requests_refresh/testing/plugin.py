"""Fixtures for pytest, there for whoever has installed this package; nothing is to be imported.

def test_mine(auth_server, refresh_session):
    auth_server.revoke_access()
    assert refresh_session.get(auth_server.api + "items").status_code == 200
    assert auth_server.counts.refreshes == 1
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import requests

    from ..source import TokenSource
    from .server import AuthServer


@pytest.fixture
def auth_server() -> Iterator[AuthServer]:
    """A running AuthServer, a provider with an API on this host; stopped in the end."""
    from .server import AuthServer

    with AuthServer() as server:
        yield server


@pytest.fixture
def token_source(auth_server: AuthServer) -> Iterator[TokenSource]:
    """A TokenSource that is logged in at `auth_server`; closed in the end."""
    source = auth_server.source()
    yield source
    source.close()


@pytest.fixture
def refresh_session(
    auth_server: AuthServer, token_source: TokenSource
) -> Iterator[requests.Session]:
    """A Session that `token_source` keeps logged in at the API of `auth_server`; closed in the end.

    It knows no proxy, netrc or CA bundle of the environment.
    """
    import requests

    from ..adapter import RefreshAdapter

    with requests.Session() as session:
        session.trust_env = False
        session.mount(auth_server.url, RefreshAdapter(token_source, origins=auth_server.url))
        yield session
