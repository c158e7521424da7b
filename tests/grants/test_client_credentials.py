"""`ClientCredentialsGrant`: what goes over the wire, and what is made of the reply."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from requests_refresh import ClientCredentialsGrant, ConfigurationError, Token
from tests.grants.endpoint import TOKEN, Answer, EndpointServer
from tests.grants.support import client_credentials, fields_of


def test_what_goes_out(server: EndpointServer) -> None:
    """The grant type in the form, the client in the header, and nothing else (RFC 6749 4.4.2)."""
    server.will(Answer())
    client_credentials(server.url)(None)
    assert server.only.form == {"grant_type": "client_credentials"}
    assert server.only.headers["Authorization"] == (
        "Basic " + base64.b64encode(b"sync:hush").decode()
    )
    assert server.only.headers["Accept"] == "application/json"


def test_scope_and_targets_go_along(server: EndpointServer) -> None:
    """Scope, resource, audience and extra fields are in the form beside the grant type."""
    server.will(Answer())
    client_credentials(
        server.url,
        scope=["read", "write"],
        resource="https://api.example.com/",
        audience="api",
        extra={"tenant": "7"},
    )(None)
    assert fields_of(server.only) == {
        "grant_type": ["client_credentials"],
        "scope": ["read write"],
        "resource": ["https://api.example.com/"],
        "audience": ["api"],
        "tenant": ["7"],
    }


def test_the_old_token_plays_no_part(server: EndpointServer) -> None:
    """A token from before is neither sent nor mixed into the new one."""
    server.will(Answer())
    old = Token("old-access", refresh_token="old-refresh", scope="old", extra={"id": 7})
    token = client_credentials(server.url)(old)
    assert b"old" not in server.only.body
    assert (token.refresh_token, token.scope, dict(token.extra)) == (None, None, {})


def test_what_comes_is_taken(server: EndpointServer) -> None:
    """Lifetime, scope and whatever else the reply brings are the token's."""
    server.will(Answer(body={**TOKEN, "scope": "read", "ext_expires_in": 7}))
    token = client_credentials(server.url)(None)
    assert token.issued_at is not None
    assert token.expires_at == token.issued_at + 3600
    assert (token.scope, token.extra["ext_expires_in"]) == ("read", 7)


@pytest.mark.parametrize("name", ["grant_type", "client_id", "client_secret", "scope"])
def test_extra_replaces_nothing(name: str) -> None:
    """What the grant sets itself cannot be set by `extra`, a function neither."""
    given: dict[str, Any] = {name: lambda: "x"}
    with pytest.raises(ConfigurationError, match=name):
        client_credentials("https://auth.example.com/token", extra=given)


@pytest.mark.parametrize("client_id", [None, "", 7])
def test_a_client_has_an_id(client_id: Any) -> None:
    """There are no credentials without an id."""
    with pytest.raises(ConfigurationError, match="client_id"):
        ClientCredentialsGrant("https://auth.example.com/token", client_id=client_id)


def test_a_public_client_may_ask(server: EndpointServer) -> None:
    """Without a secret the id goes in the form; whether that is enough is the provider's to say."""
    server.will(Answer())
    ClientCredentialsGrant(server.url, client_id="sync")(None)
    assert server.only.form == {"grant_type": "client_credentials", "client_id": "sync"}
    assert "Authorization" not in server.only.headers
