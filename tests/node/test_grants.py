"""Grants through the whole stack at oidc-provider; its cells are a column in docs/grants.md."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from requests_refresh import (
    ClientCredentialsGrant,
    DPoP,
    LoginRequired,
    PrivateKeyJWT,
    RefreshAdapter,
    RefreshTokenGrant,
    TokenSource,
)
from requests_refresh.grants import discovery
from tests.adapter.support import crowd
from tests.node.oidc import Oidc, new_key

pytestmark = pytest.mark.node

CLIENTS = {  # way -> the provider's name for the client
    "client_secret_basic": "basic",
    "client_secret_post": "post",
    "client_secret_jwt": "secret_jwt",
    "private_key_jwt": "private_key_jwt",
    "none": "public",
}
CELLS = [
    *(("refresh_token", way) for way in CLIENTS),
    *(("client_credentials", way) for way in CLIENTS if way != "none"),
]


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    """What one test has discovered is no help to another."""
    discovery._known.clear()


def settings_of(oidc: Oidc, way: str) -> dict[str, Any]:
    client = oidc.clients[CLIENTS[way]]
    if way == "private_key_jwt":
        key = PrivateKeyJWT(client.keys[0])
        return {"client_id": client.client_id, "client_auth": key}
    if way == "none":
        return {"client_id": client.client_id}
    return {
        "client_id": client.client_id,
        "client_secret": client.client_secret,
        "client_auth": way,
    }


@pytest.mark.parametrize(("grant", "way"), CELLS, ids=[f"{g}-{w}-oidc" for g, w in CELLS])
def test_through_the_stack(oidc: Oidc, grant: str, way: str) -> None:
    """I1: a crowd whose token has died at the provider gets 200, and makes one new token.

    A public client's refresh token is bound to a key, so that one goes by DPoP.
    """
    settings = settings_of(oidc, way)
    bound = way == "none"
    if grant == "refresh_token":
        key = new_key() if bound else None
        reply = oidc.login(key, client=CLIENTS[way], resource=oidc.api)
        made = RefreshTokenGrant(oidc.token_url, **settings, resource=oidc.api, dpop=bound)
        extra = {"dpop_jwk": key} if bound else {}
        tokens = TokenSource(made, token={**reply, **extra})
    else:
        credentials = ClientCredentialsGrant(
            oidc.token_url, **settings, scope="read", resource=oidc.api
        )
        tokens = TokenSource(credentials)
    adapter = RefreshAdapter(tokens, origins=oidc.api, scheme=DPoP() if bound else None)
    with requests.Session() as session:
        session.trust_env = False
        session.mount(oidc.api, adapter)
        assert session.get(oidc.api + "items", timeout=30).status_code == 200
        first = tokens.token()
        before = oidc.counts()
        oidc.expire()
        got = crowd(lambda _: session.get(oidc.api + "items", timeout=30).status_code, 10)
    after = oidc.counts()
    assert got == [200] * 10
    assert after["issued"] - before["issued"] == 1
    assert (after["reuses"], after["assertion_replays"], after["token_replays"]) == (0, 0, 0)
    assert tokens.token().access_token != first.access_token
    assert (tokens.token().refresh_token is None) == (grant == "client_credentials")


@pytest.mark.parametrize("way", CLIENTS)
def test_discovery_and_revocation(oidc: Oidc, way: str) -> None:
    """What the provider says of itself is enough to refresh and, in the end, to revoke."""
    settings = settings_of(oidc, way)
    key = new_key() if way == "none" else None
    reply = oidc.login(key, client=CLIENTS[way])
    bound = {"dpop_jwk": key} if key else {}
    grant = RefreshTokenGrant.discover(oidc.issuer, **settings, dpop=way == "none")
    tokens = TokenSource(grant, token={**reply, **bound})
    token = tokens.renew(tokens.token())
    tokens.logout(revoke=True)
    assert oidc.counts()["revocations"] >= 1
    again = TokenSource(grant, token=token)
    with pytest.raises(LoginRequired) as caught:
        again.renew(token)
    assert caught.value.error == "invalid_grant"
