"""What is missing or returned wrongly is said where it happens, in words."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import pytest
import requests

from requests_refresh import (
    ConfigurationError,
    DPoP,
    JSONGrant,
    JWTBearerGrant,
    PasswordLogin,
    PrivateKeyJWT,
    RefreshTokenGrant,
    Token,
)
from tests.grants.endpoint import EndpointServer

URL = "https://auth.example.com/token"
TOKEN = Token("a", refresh_token="r")


@pytest.mark.parametrize(
    "make",
    [
        partial(PrivateKeyJWT, lambda: "key"),
        partial(JWTBearerGrant, URL, key=lambda: "key", issuer="robot"),
        DPoP,
    ],
    ids=["client", "grant", "scheme"],
)
def test_without_the_extra(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What signs says at construction that joserfc is missing, and what to install."""
    monkeypatch.setitem(sys.modules, "joserfc.jwk", None)
    with pytest.raises(ConfigurationError, match=r"pip install .requests_refresh\[jwt\]"):
        make()


def returns(value: object) -> Any:
    def auth(request: requests.PreparedRequest) -> object:
        return value

    return auth


@pytest.mark.parametrize("value", [None, 5, "text"], ids=repr)
def test_an_auth_that_returns_no_request(server: EndpointServer, value: object) -> None:
    """An auth object that forgets to return the request is told so; nothing is sent."""
    auth = returns(value)
    for call in (
        partial(RefreshTokenGrant(server.url, client_id="sync", client_auth=auth), TOKEN),
        partial(JSONGrant(server.url, auth=auth), TOKEN),
        PasswordLogin(server.url, username="u", password="p", auth=auth),
    ):
        with pytest.raises(ConfigurationError, match="auth returned") as caught:
            call()
        assert caught.value.__cause__ is None
    assert server.seen == []
