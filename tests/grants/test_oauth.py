"""`RefreshTokenGrant`: what it sends, and what it makes of what providers answer."""

from __future__ import annotations

import base64
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from requests.auth import HTTPBasicAuth, HTTPDigestAuth

from requests_refresh import (
    InvalidReply,
    LoginRequired,
    RefreshRefused,
    RefreshTokenGrant,
    RefreshUnavailable,
    Token,
)
from requests_refresh.errors import RefreshError
from tests.grants.endpoint import TOKEN, Answer, EndpointServer

OLD = Token("old-access", refresh_token="old-refresh", scope="read", extra={"id": 7})


def grant_for(server: EndpointServer, **settings: Any) -> RefreshTokenGrant:
    return RefreshTokenGrant(server.url, client_id="sync", **settings)


def basic(header: str) -> str:
    scheme, _, value = header.partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(value).decode()


def test_what_goes_out_without_a_secret(server: EndpointServer) -> None:
    """A public client sends its id in the form, and no authentication (RFC 6749 section 6)."""
    server.will(Answer())
    grant_for(server)(OLD)
    assert server.only.method == "POST"
    assert server.only.form == {
        "grant_type": "refresh_token",
        "refresh_token": "old-refresh",
        "client_id": "sync",
    }
    headers = server.only.headers
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["Accept"] == "application/json"
    assert headers["Accept-Encoding"] == "identity"
    assert not {"Authorization", "Cookie"} & headers.keys()


def test_basic_encodes_id_and_secret_each(server: EndpointServer) -> None:
    """Id and secret are form-encoded before they are joined (RFC 6749 section 2.3.1)."""
    server.will(Answer())
    RefreshTokenGrant(server.url, client_id="a:b c", client_secret="s%/é+ :")(OLD)
    assert basic(server.only.headers["Authorization"]) == "a%3Ab+c:s%25%2F%C3%A9%2B+%3A"
    assert server.only.form.keys() == {"grant_type", "refresh_token"}


def test_post_sends_the_secret_in_the_form(server: EndpointServer) -> None:
    """client_secret_post puts id and secret into the form and nothing into a header."""
    server.will(Answer())
    grant_for(server, client_secret="hush&=", client_auth="client_secret_post")(OLD)
    assert server.only.form["client_id"] == "sync"
    assert server.only.form["client_secret"] == "hush&="
    assert "Authorization" not in server.only.headers


def test_an_auth_object_proves_the_client_its_own_way(server: EndpointServer) -> None:
    """A requests auth object is applied, and the client_id goes in the form beside it."""
    server.will(Answer())
    grant_for(server, client_auth=HTTPBasicAuth("sync", "raw+secret"))(OLD)
    assert basic(server.only.headers["Authorization"]) == "sync:raw+secret"
    assert server.only.form["client_id"] == "sync"


def test_an_auth_object_that_answers_a_challenge(server: EndpointServer) -> None:
    """Auth objects that send twice by a response hook work: the second answer counts."""
    challenge = ("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"')
    server.will(Answer(401, {}, headers=[challenge]), Answer())
    assert grant_for(server, client_auth=HTTPDigestAuth("sync", "s"))(OLD).access_token
    assert server.seen[1].headers["Authorization"].startswith("Digest ")
    assert server.seen[1].form == server.seen[0].form


def test_a_secret_may_be_read_late(server: EndpointServer) -> None:
    """A function for the secret is called at each refresh, so a rotated secret is seen."""
    secrets = iter(["first", "second"])
    grant = grant_for(server, client_secret=lambda: next(secrets), client_auth="client_secret_post")
    server.will(Answer(), Answer())
    grant(OLD)
    grant(OLD)
    assert [request.form["client_secret"] for request in server.seen] == ["first", "second"]


@pytest.mark.parametrize("scope", ["read write", ["read", "write"], ("read", "write")])
def test_scope_is_sent_if_given(server: EndpointServer, scope: Any) -> None:
    """Several scopes go as one text with spaces (RFC 6749 section 3.3)."""
    server.will(Answer())
    grant_for(server, scope=scope)(OLD)
    assert server.only.form["scope"] == "read write"


def test_extra_fields_go_along(server: EndpointServer) -> None:
    """Extra fields are added to the form, those that are functions by what they return."""
    server.will(Answer())
    grant_for(server, extra={"audience": "api", "client_assertion": lambda: "a.b.c"})(OLD)
    assert server.only.form["audience"] == "api"
    assert server.only.form["client_assertion"] == "a.b.c"


def test_the_url_keeps_its_query(server: EndpointServer) -> None:
    """A token endpoint may have a query, and the form never joins it (RFC 6749 section 3.2)."""
    server.will(Answer())
    RefreshTokenGrant(server.url + "?tenant=7", client_id="sync")(OLD)
    assert server.only.path == "/token?tenant=7"


@pytest.mark.parametrize("token", [None, Token("only-access")])
def test_nothing_to_refresh_with_asks_nobody(server: EndpointServer, token: Token | None) -> None:
    """Without a refresh token only a login helps, and the provider is not asked."""
    with pytest.raises(LoginRequired, match="no refresh token"):
        grant_for(server)(token)
    assert server.seen == []


def test_the_refresh_token_is_replaced(server: EndpointServer) -> None:
    """A refresh token that comes takes the place of the old one (RFC 6749 section 6)."""
    server.will(Answer(body={**TOKEN, "refresh_token": "next", "scope": "read write"}))
    before = time.time()
    token = grant_for(server)(OLD)
    assert (token.access_token, token.refresh_token) == ("new-access", "next")
    assert (token.token_type, token.scope) == ("Bearer", "read write")
    assert token.issued_at is not None
    assert before <= token.issued_at <= time.time()
    assert token.expires_at == token.issued_at + 3600


def test_the_refresh_token_is_kept(server: EndpointServer) -> None:
    """Google: no refresh token in the reply means that the old one goes on."""
    server.will(Answer())
    token = grant_for(server)(OLD)
    assert (token.refresh_token, token.scope, token.extra["id"]) == ("old-refresh", "read", 7)


def test_salesforce_tells_no_lifetime(server: EndpointServer) -> None:
    """Salesforce: a reply without expires_in is a token that says no end."""
    server.will(Answer(body={"access_token": "a", "instance_url": "https://x.my.example"}))
    token = grant_for(server)(OLD)
    assert token.expires_at is None
    assert token.extra["instance_url"] == "https://x.my.example"


def test_entra_sends_the_lifetime_as_a_text(server: EndpointServer) -> None:
    """Entra v1: expires_in may be a text of digits."""
    server.will(Answer(body={"access_token": "a", "expires_in": "3599"}))
    token = grant_for(server)(OLD)
    assert token.issued_at is not None
    assert token.expires_at == token.issued_at + 3599


def test_entra_says_later_with_no_json(server: EndpointServer) -> None:
    """Entra: a 429 is judged by its status and Retry-After, whatever its body."""
    server.will(Answer(429, "Too many", "text/plain", [("Retry-After", "17")]))
    with pytest.raises(RefreshUnavailable, match="429") as caught:
        grant_for(server)(OLD)
    assert caught.value.retry_after == 17
    assert caught.value.outcome_unknown is False


@pytest.mark.parametrize("media", ["application/x-www-form-urlencoded", "text/plain", None])
def test_github_and_facebook_answer_with_a_form(server: EndpointServer, media: str | None) -> None:
    """GitHub, old Facebook: a form is read, whatever type it is called."""
    body = "access_token=gho_a%2Bb&expires_in=28800&refresh_token=ghr_next&scope=&token_type=bearer"
    server.will(Answer(200, body, media))
    token = grant_for(server)(OLD)
    assert (token.access_token, token.refresh_token) == ("gho_a+b", "ghr_next")
    assert token.issued_at is not None
    assert token.expires_at == token.issued_at + 28800


LOGIN_OVER: list[tuple[str, int, Any]] = [
    ("the RFC's", 400, {"error": "invalid_grant", "error_description": "expired"}),
    ("in capitals", 400, {"error": "INVALID_GRANT"}),
    ("Atlassian, Auth0", 403, {"error": "invalid_grant", "error_description": "Unknown token."}),
    ("a 401", 401, {"error": "invalid_grant"}),
    ("GitHub", 200, {"error": "bad_refresh_token", "error_description": "is incorrect"}),
    ("GitHub's form", 200, "error=bad_refresh_token&error_description=is+incorrect"),
    ("Slack", 200, {"ok": False, "error": "invalid_refresh_token"}),
    ("Slack, revoked", 200, {"ok": False, "error": "token_revoked"}),
    ("Keycloak", 400, {"error": "invalid_grant", "error_description": "Maximum reuse exceeded"}),
    ("Zoho", 200, {"error": "invalid_code"}),
    ("Entra", 400, {"error": "interaction_required", "suberror": "basic_action"}),
    ("beside a token", 200, {**TOKEN, "error": "invalid_grant"}),
    ("damaged", 400, b'{"error": "invalid_grant", "error_description": "ung\xfcltig"}'),
    ("marked", 400, b'\xef\xbb\xbf{"error": "invalid_grant"}'),
]


@pytest.mark.parametrize(
    ("status", "body"), [c[1:] for c in LOGIN_OVER], ids=[c[0] for c in LOGIN_OVER]
)
def test_the_login_is_over(server: EndpointServer, status: int, body: Any) -> None:
    """The refresh token was refused for good: by the body first, whatever the status."""
    server.will(Answer(status, body))
    with pytest.raises(LoginRequired, match="Log in again") as caught:
        grant_for(server)(OLD)
    assert caught.value.error
    assert caught.value.error in str(caught.value)
    assert (caught.value.response, caught.value.request) == (None, None)


REFUSED: list[tuple[int, Any]] = [
    (401, {"error": "invalid_client"}),
    (400, {"error": "invalid_client"}),
    (400, {"error": "unauthorized_client"}),
    (400, {"error": "unsupported_grant_type"}),
    (400, {"error": "invalid_scope", "error_description": "no such scope"}),
    (400, {"error": "invalid_request"}),
    (200, {"error": "incorrect_client_credentials"}),
    (200, {"ok": False, "error": "bad_client_secret"}),
    (200, {"ok": False}),
    (400, {"error": {"code": 400, "message": "TOKEN_EXPIRED"}}),
    (400, {"error": "Access Denied", "status": "failure"}),
    (403, {"message": "Forbidden"}),
    (404, "Not Found"),
    (418, b""),
    (400, "<html>error=invalid_grant&error_description=x</html>"),
]


@pytest.mark.parametrize(("status", "body"), REFUSED, ids=str)
def test_the_client_is_refused(server: EndpointServer, status: int, body: Any) -> None:
    """Any other error is about a setting: I8, the login is intact."""
    server.will(Answer(status, body))
    with pytest.raises(RefreshRefused, match="login is intact") as caught:
        grant_for(server)(OLD)
    assert str(status) in str(caught.value)


def test_what_the_provider_said_is_told(server: EndpointServer) -> None:
    """The provider's error and its description are in the message and on the error."""
    server.will(Answer(400, {"error": "invalid_scope", "error_description": "no such scope"}))
    with pytest.raises(RefreshRefused, match=r"\(invalid_scope: no such scope\)") as caught:
        grant_for(server)(OLD)
    assert caught.value.error == "invalid_scope"
    assert caught.value.error_description == "no such scope"


UNAVAILABLE: list[tuple[int, Any]] = [
    (408, ""),
    (425, ""),
    (429, {"error": "invalid_grant"}),
    (500, {"error": "invalid_grant"}),
    (502, "<html>Bad gateway</html>"),
    (503, ""),
    (599, ""),
    (400, {"error": "temporarily_unavailable"}),
    (400, {"error": "server_error"}),
    (400, {"error": "slow_down"}),
    (200, {"ok": False, "error": "ratelimited"}),
]


@pytest.mark.parametrize(("status", "body"), UNAVAILABLE, ids=str)
def test_not_now(server: EndpointServer, status: int, body: Any) -> None:
    """I8: an outage is never the end of a login, whatever its body says."""
    server.will(Answer(status, body))
    with pytest.raises(RefreshUnavailable, match="login is intact") as caught:
        grant_for(server)(OLD)
    assert caught.value.retry_after is None
    assert caught.value.outcome_unknown is False


def test_retry_after_is_heeded_with_any_status(server: EndpointServer) -> None:
    """An error that says "later" in its body brings its Retry-After too."""
    server.will(Answer(400, {"error": "slow_down"}, headers=[("Retry-After", "5")]))
    with pytest.raises(RefreshUnavailable) as caught:
        grant_for(server)(OLD)
    assert caught.value.retry_after == 5


def test_a_web_page_ends_no_login(server: EndpointServer) -> None:
    """A firewall's page is no word of the provider's: no token with 200, a refusal with 4xx."""
    page = "\ufeff\n<!DOCTYPE html><a href='?x=1&error=invalid_grant&access_token=a'>Blocked</a>"
    for status, error in ((200, InvalidReply), (401, RefreshRefused), (403, RefreshRefused)):
        server.will(Answer(status, page, "text/html; charset=utf-8"))
        with pytest.raises(error):
            grant_for(server)(OLD)


def test_json_that_is_called_html(server: EndpointServer) -> None:
    """PHP calls everything HTML unless told otherwise; what the body is counts."""
    server.will(
        Answer(media="text/html"),
        Answer(200, "access_token=a", "text/html"),
        Answer(400, {"error": "invalid_grant"}, "text/html"),
    )
    assert grant_for(server)(OLD).access_token == "new-access"
    assert grant_for(server)(OLD).access_token == "a"
    with pytest.raises(LoginRequired):
        grant_for(server)(OLD)


def test_many_threads_share_a_grant(server: EndpointServer) -> None:
    """A grant may be called from any thread: each call has a session of its own."""
    server.will(*[Answer()] * 24)
    grant = grant_for(server, client_secret="s")
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(grant, [OLD] * 24))
    assert {token.access_token for token in tokens} == {"new-access"}
    assert len(server.seen) == 24


def test_an_auth_object_that_fails(server: EndpointServer) -> None:
    """What an auth object raises is the cause of the error, classified as a callable's is."""

    def broken(request: requests.PreparedRequest) -> requests.PreparedRequest:
        raise LookupError("no key")

    with pytest.raises(RefreshError, match="LookupError") as caught:
        grant_for(server, client_auth=broken)(OLD)
    assert isinstance(caught.value.__cause__, LookupError)
    assert server.seen == []
