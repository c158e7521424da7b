"""What providers answer (`issued.py`, `refused.py`), and what becomes of a login.

Each test is named after its row: a provider of `requests_refresh.presets`, or a
kind of back end. The general reading of replies is tested in tests/grants; here
each answer goes through a preset, a source and a store. Where a row is tested:

| row | tests |
|---|---|
| any (RFC 6749) | test_a_new_token, test_a_refusal, test_a_hostile_answer |
| Auth0, Okta, Keycloak, Xero, Box, QuickBooks | the same, and tests/presets/test_rotation.py |
| Entra, GitHub, Slack, Google, Salesforce, Atlassian, Zoho, Spotify | the same |
| Django SimpleJWT, session-cookie back ends | the same, and test_a_cookie_that_is_rotated |
| Slack's and Salesforce's API | tests/presets/test_refusals.py |
| Cognito | tests/presets/test_docs.py, whose grant is that of docs/providers.md |
"""

from __future__ import annotations

import base64
import gzip
import json

import pytest

from requests_refresh import (
    CookieGrant,
    InvalidReply,
    LoginRequired,
    RefreshUnavailable,
)
from requests_refresh.errors import RefreshError
from requests_refresh.grants.http import LONGEST_REPLY
from requests_refresh.presets import ALL, OKTA, Preset
from tests.grants.endpoint import TOKEN, Answer, Behaviour, EndpointServer, drip
from tests.presets.issued import NEW
from tests.presets.refused import PAGE, REFUSALS
from tests.presets.support import DEAD, SECRET, grant_for, login


def test_every_provider_has_its_answers() -> None:
    """No preset is without a test of what its provider issues."""
    assert {case[0].name for case in NEW.values()} == {preset.name for preset in ALL}


@pytest.mark.parametrize(
    ("preset", "answer", "access", "refresh", "life"), NEW.values(), ids=NEW.keys()
)
def test_a_new_token(
    server: EndpointServer,
    preset: Preset,
    answer: Answer,
    access: str,
    refresh: str,
    life: float | None,
) -> None:
    """I6: what was issued is stored, with the refresh token that counts from now on."""
    server.will(answer)
    with login(grant_for(preset, server)) as (tokens, store):
        token = tokens.token()
        stored = store.load("default")
    assert stored == token
    assert (token.access_token, token.refresh_token) == (access, refresh)
    assert token.issued_at is not None
    assert token.expires_at == (None if life is None else token.issued_at + life)
    assert server.only.headers["Accept"] == "application/json"


@pytest.mark.parametrize("preset", ALL, ids=lambda preset: str(preset.name))
def test_how_the_client_proves_itself(server: EndpointServer, preset: Preset) -> None:
    """The secret goes where the provider's documentation has it, and nowhere else."""
    server.will(Answer(body={**TOKEN, "access": "a2"}))
    with login(grant_for(preset, server)) as (tokens, _):
        tokens.token()
    request = server.only
    if preset.speaks == "json":
        assert request.json == {"refresh": "old-refresh"}
        return
    assert request.form["grant_type"] == "refresh_token"
    assert request.form["refresh_token"] == "old-refresh"
    sent = request.headers.get("Authorization", "")
    if preset.client_auth == "client_secret_basic":
        assert base64.b64decode(sent.removeprefix("Basic ")).decode() == f"sync:{SECRET}"
        assert "client_secret" not in request.form
    else:
        assert sent == ""
        assert (request.form["client_id"], request.form["client_secret"]) == ("sync", SECRET)


@pytest.mark.parametrize(
    ("preset", "answer", "kind", "error"), REFUSALS.values(), ids=REFUSALS.keys()
)
def test_a_refusal(
    server: EndpointServer,
    preset: Preset,
    answer: Answer,
    kind: type[RefreshError],
    error: str | None,
) -> None:
    """I8: only what the provider calls the end of the login clears it; all else leaves it."""
    server.will(answer)
    with login(grant_for(preset, server)) as (tokens, store):
        with pytest.raises(kind) as caught:
            tokens.token()
        assert store.load("default") == (None if kind is LoginRequired else DEAD)
        with pytest.raises(kind):  # gone, or backed off from
            tokens.token()
    assert len(server.seen) == 1
    assert type(caught.value) is kind
    if error is not None:
        assert getattr(caught.value, "error", None) == error
    if kind is RefreshUnavailable:
        assert getattr(caught.value, "retry_after", None) == 120
    for secret in (SECRET, "old-refresh", "old-access"):
        assert secret not in str(caught.value)


def test_a_cookie_that_is_rotated(server: EndpointServer) -> None:
    """Session-cookie back ends: Set-Cookie brings the next one, and a 401 is the end."""
    flags = "Path=/auth; HttpOnly; Secure; SameSite=Strict"
    server.will(
        Answer(body={"accessToken": "a2"}, headers=[("Set-Cookie", f"refresh_token=r2; {flags}")]),
        Answer(
            401,
            {"message": "Session expired"},
            headers=[("Set-Cookie", f"refresh_token=; {flags}; Max-Age=0")],
        ),
    )
    with login(CookieGrant(server.url)) as (tokens, store):
        token = tokens.token()
        assert (token.access_token, token.refresh_token) == ("a2", "r2")
        assert store.load("default") == token
        with pytest.raises(LoginRequired, match="Session expired"):
            tokens.renew(token)
        assert store.load("default") is None
    assert [request.headers["Cookie"] for request in server.seen] == [
        "refresh_token=old-refresh",
        "refresh_token=r2",
    ]


HOSTILE: dict[str, tuple[Behaviour, type[RefreshError]]] = {
    "huge": (Answer(body=json.dumps(TOKEN).ljust(LONGEST_REPLY + 1)), InvalidReply),
    "gzip bomb": (
        Answer(
            body=gzip.compress(json.dumps(TOKEN).ljust(20_000_000).encode()),
            headers=[("Content-Encoding", "gzip")],
        ),
        InvalidReply,
    ),
    "deep nesting": (Answer(body="[" * 200_000), InvalidReply),
    "not JSON": (Answer(body="Access Denied"), InvalidReply),
    "a web page": (Answer(200, PAGE, "text/html"), InvalidReply),
    "a wrong type": (Answer(body={"access_token": ["a"]}), InvalidReply),
    "NUL": (Answer(body={"access_token": "a\x00b"}), InvalidReply),
    "CR LF": (Answer(body={"access_token": "a\r\nX-Admin: yes"}), InvalidReply),
    "expires_in of -1": (Answer(body={**TOKEN, "expires_in": -1}), InvalidReply),
    "expires_in NaN": (Answer(body='{"access_token": "a", "expires_in": NaN}'), InvalidReply),
    "expires_in of 1e400": (
        Answer(body='{"access_token": "a", "expires_in": 1e400}'),
        InvalidReply,
    ),
    "expires_in true": (Answer(body={**TOKEN, "expires_in": True}), InvalidReply),
}


@pytest.mark.parametrize(("behaviour", "kind"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer(
    server: EndpointServer, behaviour: Behaviour, kind: type[RefreshError]
) -> None:
    """I8: rubbish for an answer is an error that says so, and what is stored is as it was."""
    server.will(behaviour)
    with login(grant_for(OKTA, server)) as (tokens, store):
        with pytest.raises(kind):
            tokens.token()
        assert store.load("default") == DEAD


def test_a_slow_answer(server: EndpointServer) -> None:
    """I8: an answer that drips is given up in time, asked for once more, and nothing is lost."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    server.will(*[drip(head + json.dumps(TOKEN).ljust(500).encode(), len(head))] * 2)
    grant = OKTA.grant(client_id="sync", token_url=server.url, timeout=(1, 0.1))
    with login(grant) as (tokens, store):
        with pytest.raises(RefreshUnavailable) as caught:
            tokens.token()
        assert caught.value.outcome_unknown
        assert store.load("default") == DEAD


def test_a_number_in_a_text(server: EndpointServer) -> None:
    """Numeric strings are numbers: "3600" is an hour, as Entra's v1 endpoint and GitHub had it."""
    server.will(Answer(body={**TOKEN, "expires_in": "3600"}))
    with login(grant_for(OKTA, server)) as (tokens, _):
        token = tokens.token()
    assert token.issued_at is not None
    assert token.expires_at == token.issued_at + 3600
