"""Providers whose refresh tokens work once, or almost: lost answers, stale copies, saving first."""

from __future__ import annotations

import pytest
import requests

from requests_refresh import LoginRequired, RefreshAdapter, Token
from requests_refresh.presets import (
    AUTH0,
    BOX,
    GITHUB,
    KEYCLOAK,
    OKTA,
    QUICKBOOKS,
    XERO,
    Preset,
)
from tests.grants.endpoint import Answer, EndpointServer, Handler, reset
from tests.presets.support import DEAD, grant_for, login

ISSUED = {"access_token": "a2", "refresh_token": "r2", "expires_in": 3600}
GONE = Answer(400, {"error": "invalid_grant"})
REUSED = "Maximum allowed refresh token reuse exceeded"


@pytest.mark.parametrize("preset", [XERO, AUTH0, OKTA], ids=lambda preset: str(preset.name))
def test_a_lost_answer_within_the_grace(server: EndpointServer, preset: Preset) -> None:
    """I7: after a lost answer the old refresh token is tried once more, and the login lives."""
    server.will(reset, Answer(body=ISSUED))
    with login(grant_for(preset, server)) as (tokens, store):
        token = tokens.token()
        assert (token.access_token, token.refresh_token) == ("a2", "r2")
        assert store.load("default") == token
    assert [request.form["refresh_token"] for request in server.seen] == ["old-refresh"] * 2


def test_a_lost_answer_without_grace(server: EndpointServer) -> None:
    """Keycloak: the one retry is taken for a replay; the error says why the login may be gone."""
    server.will(reset, Answer(400, {"error": "invalid_grant", "error_description": REUSED}))
    with login(grant_for(KEYCLOAK, server)) as (tokens, store):
        with pytest.raises(LoginRequired, match=f"{REUSED}.*outcome of the refresh before was unk"):
            tokens.token()
        assert store.load("default") is None
    assert len(server.seen) == 2


@pytest.mark.parametrize("preset", [BOX, QUICKBOOKS], ids=lambda preset: str(preset.name))
def test_a_stale_copy(server: EndpointServer, preset: Preset) -> None:
    """I1: who was refused because another process was first takes that one's token."""
    newer = Token("a2", refresh_token="r2")
    with login(grant_for(preset, server)) as (tokens, store):

        def somebody_was_first(handler: Handler) -> None:
            store.save("default", newer)
            GONE(handler)

        server.will(somebody_was_first)
        assert tokens.token() == newer
        assert store.load("default") == newer
    assert len(server.seen) == 1


@pytest.mark.parametrize("preset", [OKTA, AUTH0], ids=lambda preset: str(preset.name))
def test_an_older_token_is_never_sent(server: EndpointServer, preset: Preset) -> None:
    """Each refresh takes the newest refresh token: an older one would end the whole family."""
    server.will(
        *[
            Answer(body={**ISSUED, "access_token": f"a{n}", "refresh_token": f"r{n}"})
            for n in (2, 3)
        ]
    )
    with login(grant_for(preset, server)) as (tokens, _):
        second = tokens.token()
        third = tokens.renew(second)
        for stale in (DEAD, second):
            assert tokens.renew(stale) == third
    assert [request.form["refresh_token"] for request in server.seen] == ["old-refresh", "r2"]


def test_saved_before_it_is_used(server: EndpointServer, api: EndpointServer) -> None:
    """I6: Okta: when the API sees the new access token, its refresh token is in the store."""
    server.will(Answer(body=ISSUED))
    found: list[Token | None] = []
    base = api.url.removesuffix("token")
    with login(grant_for(OKTA, server)) as (tokens, store), requests.Session() as session:

        def look(handler: Handler) -> None:
            found.append(store.load("default"))
            Answer(body={})(handler)

        api.will(look)
        session.mount(base, RefreshAdapter(tokens, origins=base, scheme=OKTA.scheme()))
        assert session.get(base + "items", timeout=30).ok
        assert found == [tokens.token()]
    assert api.only.headers["Authorization"] == "Bearer a2"


def test_refusals_of_what_a_refresh_has_ended(server: EndpointServer) -> None:
    """I2: GitHub ends the old access token at once: 401s in flight adopt the new one."""
    server.will(Answer(body=ISSUED))
    alive = Token("old-access", refresh_token="old-refresh")
    with login(grant_for(GITHUB, server), alive) as (tokens, _):
        assert {tokens.renew(alive).access_token for _ in range(5)} == {"a2"}
    assert len(server.seen) == 1
