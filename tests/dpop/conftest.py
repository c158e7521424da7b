"""A server, logins bound to a key, and sessions that send proofs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import requests
from joserfc.jwk import ECKey

from requests_refresh import DPoP, RefreshTokenGrant, Token, TokenSource
from tests.adapter.conftest import Mount, bare_environment, mount
from tests.dpop.server import DPoPServer
from tests.stores.conftest import _no_server_is_left

__all__ = ["_no_server_is_left", "bare_environment", "mount"]


def new_key() -> dict[str, Any]:
    """A new private JWK, made by no code of the package."""
    return cast("dict[str, Any]", ECKey.generate_key("P-256").as_dict(private=True))


@pytest.fixture
def server() -> Iterator[DPoPServer]:
    """A server; no proof may be bad in the end but those that a test has looked at."""
    with DPoPServer() as running:
        yield running
    assert running.faults == []
    assert running.counts["mixed"] == 0


def grant_for(server: DPoPServer | str, **options: Any) -> RefreshTokenGrant:
    """The grant of the public client at a server, or at a token endpoint."""
    url = server if isinstance(server, str) else server.token_url
    return RefreshTokenGrant(url, **{"client_id": "public", "dpop": True, "timeout": 10, **options})


def source_for(server: DPoPServer, store: Any = None, **options: Any) -> TokenSource:
    """A source with a bound login, unless the store has one."""
    options.setdefault("token", Token.from_reply(server.login(new_key())))
    return TokenSource(grant_for(server), store, **options)


@pytest.fixture
def tokens(server: DPoPServer) -> TokenSource:
    """A living login, bound to a key."""
    return source_for(server)


@pytest.fixture
def session(server: DPoPServer, tokens: TokenSource, mount: Mount) -> requests.Session:
    """A session that sends proofs to the server."""
    return mount(tokens, server.url, scheme=DPoP())
