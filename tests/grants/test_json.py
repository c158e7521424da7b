"""`JSONGrant`: what it sends, where it reads, and which answers end a login."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import requests
from requests.auth import HTTPBasicAuth

from requests_refresh import (
    ConfigurationError,
    InvalidReply,
    JSONGrant,
    LoginRequired,
    RefreshRefused,
    RefreshUnavailable,
    Token,
)
from requests_refresh.errors import RefreshError
from tests.grants.endpoint import Answer, EndpointServer

OLD = Token("old-access", refresh_token="old-refresh", scope="read", extra={"id": 7})
PAGE = "<html>Blocked</html>"


def test_django_simplejwt(server: EndpointServer) -> None:
    """Django SimpleJWT works with nothing but its URL, with rotation and without."""
    server.will(Answer(body={"access": "a1"}), Answer(body={"access": "a2", "refresh": "r2"}))
    grant = JSONGrant(server.url)
    kept, rotated = grant(OLD), grant(OLD)
    assert (kept.access_token, kept.refresh_token) == ("a1", "old-refresh")
    assert (rotated.access_token, rotated.refresh_token) == ("a2", "r2")
    assert rotated.issued_at is not None
    request = server.seen[0]
    assert (request.method, request.json) == ("POST", {"refresh": "old-refresh"})
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Accept"] == "application/json"
    assert "Authorization" not in request.headers


def test_django_simplejwt_refuses(server: EndpointServer) -> None:
    """Django SimpleJWT's 401 ends the login, and what it says is told."""
    said = {"detail": "Token is blacklisted", "code": "token_not_valid"}
    server.will(Answer(401, said))
    with pytest.raises(LoginRequired, match=r"401.*\(token_not_valid: Token is bl") as caught:
        JSONGrant(server.url, headers={"X-Empty": ""})(OLD)
    assert caught.value.error == "token_not_valid"
    assert caught.value.error_description == "Token is blacklisted"


def test_names_nest_by_dots(server: EndpointServer) -> None:
    """Dots nest in what is sent, and lead through objects and lists in what is read."""
    reply = {
        "data": {"tokens": [{"kind": "refresh", "value": "r2"}, {"kind": "access", "value": "a2"}]},
        "meta": {"ttl": "900", "type": "JWT", "scopes": ["read", "write"]},
        "user": {"mail": "me@example.com"},
    }
    server.will(Answer(body=reply))
    grant = JSONGrant(
        server.url,
        method="PUT",
        send={"auth.old.refresh": "refresh_token", "auth.old.access": "access_token"},
        extra={"auth.device": {"id": 7}, "key": lambda: "late"},
        headers={"X-Client": "sync", "X-Key": lambda: "later", "accept": "application/vnd.x+json"},
        auth=HTTPBasicAuth("me", "mine"),
        read={
            "access_token": "data.tokens.1.value",
            "refresh_token": "data.tokens.0.value",
            "expires_in": "meta.ttl",
            "token_type": "meta.type",
            "scope": "meta.scopes",
        },
    )
    token = grant(OLD)
    assert (token.access_token, token.refresh_token) == ("a2", "r2")
    assert (token.token_type, token.scope) == ("JWT", "read write")
    assert token.issued_at is not None
    assert token.expires_at == token.issued_at + 900
    assert token.extra == {"id": 7}
    assert server.only.method == "PUT"
    assert server.only.json == {
        "auth": {
            "old": {"refresh": "old-refresh", "access": "old-access"},
            "device": {"id": 7},
        },
        "key": "late",
    }
    headers = server.only.headers
    assert (headers["X-Client"], headers["X-Key"]) == ("sync", "later")
    assert headers["Accept"] == "application/vnd.x+json"
    assert headers["Authorization"].startswith("Basic ")


def test_what_is_sent_joins_what_is_given(server: EndpointServer) -> None:
    """A token may go into an object of `extra`, which itself stays as it was."""
    given = {"data": {"device": 7}}
    grant = JSONGrant(server.url, send={"data.token": "refresh_token"}, extra=given)
    server.will(Answer(body={"access": "a2"}), Answer(body={"access": "a3"}))
    grant(OLD)
    grant(OLD)
    assert [request.json for request in server.seen] == [
        {"data": {"device": 7, "token": "old-refresh"}}
    ] * 2
    assert given == {"data": {"device": 7}}


def test_a_list_at_the_top(server: EndpointServer) -> None:
    """A reply that is a list is read like any other."""
    server.will(Answer(body=[{"access": "a2"}]))
    assert JSONGrant(server.url, read={"access_token": "0.access"})(OLD).access_token == "a2"


def test_only_what_is_named_is_read(server: EndpointServer) -> None:
    """Nothing is guessed: an expires_in that `read` does not name may count anything."""
    server.will(Answer(body={"access": "a2", "expires_in": "15m", "scope": 7}))
    token = JSONGrant(server.url)(OLD)
    assert (token.expires_at, token.scope) == (None, "read")


def test_an_end_may_be_read(server: EndpointServer) -> None:
    """expires_at is read in seconds since the epoch."""
    server.will(Answer(body={"access": "a2", "exp": 4_000_000_000}))
    grant = JSONGrant(server.url, read={"access_token": "access", "expires_at": "exp"})
    assert grant(OLD).expires_at == 4_000_000_000


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "access"),
        ({"access": None}, "access"),
        ({"access": {"token": "x"}}, "access.value"),
        ({"access": "x"}, "access.value"),
        ({"access": ["x"]}, "access.1"),
        ({"access": ["x"]}, "access.-1"),
        ({"access": ["x"]}, "access.first"),
        ("access=a2", "access"),
        (b"\xff", "access"),
        (PAGE, "access"),
        ("[" * 100_000, "access"),
    ],
    ids=str,
)
def test_nothing_at_the_path(server: EndpointServer, body: Any, path: str) -> None:
    """A reply with nothing where the access token should be is InvalidReply and says where."""
    server.will(Answer(body=body))
    with pytest.raises(InvalidReply, match="Nothing was stored"):
        JSONGrant(server.url, read={"access_token": path})(OLD)


@pytest.mark.parametrize("access", [7, "", ["a"], {"a": 1}, "a\nb", True])
def test_what_stands_there_is_no_token(server: EndpointServer, access: Any) -> None:
    """What is read is checked as any reply is."""
    server.will(Answer(body={"access": access}))
    with pytest.raises(InvalidReply, match="access_token"):
        JSONGrant(server.url)(OLD)


@pytest.mark.parametrize("token", [None, Token("only-access")])
def test_nothing_to_refresh_with_asks_nobody(server: EndpointServer, token: Token | None) -> None:
    """Without what is to be sent only a login helps, and nobody is asked."""
    with pytest.raises(LoginRequired, match="no refresh token"):
        JSONGrant(server.url)(token)
    with pytest.raises(LoginRequired, match="no access token"):
        JSONGrant(server.url, send={"old": "access_token"})(Token(refresh_token="r"))
    assert server.seen == []


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("body", [{}, "", "Unauthorized", [], {"error": "invalid_client"}], ids=str)
def test_these_statuses_end_the_login(server: EndpointServer, status: int, body: Any) -> None:
    """400, 401 and 403 mean that the login is over, whatever the body says."""
    server.will(Answer(status, body))
    with pytest.raises(LoginRequired, match=f"answered {status}.*Log in again"):
        JSONGrant(server.url)(OLD)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(401, PAGE, "text/html"), RefreshRefused),
        (Answer(403, PAGE, None), RefreshRefused),
        (Answer(403, "\r\n " + PAGE), RefreshRefused),
        (Answer(403, "", "text/html"), RefreshRefused),
        (Answer(403, "Blocked", "text/html"), RefreshRefused),
        (Answer(401, b"x", headers=[("Content-Encoding", "gzip")]), RefreshRefused),
        (Answer(404, {}), RefreshRefused),
        (Answer(409, {}), RefreshRefused),
        (Answer(307, "", headers=[("Location", "/")]), RefreshRefused),
        (Answer(200, PAGE, "text/html"), InvalidReply),
        (Answer(200, {"access": ""}), InvalidReply),
        (Answer(429, {}), RefreshUnavailable),
        (Answer(500, {}), RefreshUnavailable),
        (Answer(503, PAGE), RefreshUnavailable),
    ],
    ids=str,
)
@pytest.mark.parametrize("login_over", [None, lambda response: True], ids=["", "always"])
def test_these_never_end_it(
    server: EndpointServer, answer: Answer, error: type[RefreshError], login_over: Any
) -> None:
    """I8: no web page, outage, redirect or broken token ends a login, and no predicate can say so.

    A plain 4xx is the predicate's to judge.
    """
    server.will(answer)
    if login_over and answer.status in (404, 409):
        error = LoginRequired
    with pytest.raises(error):
        JSONGrant(server.url, login_over=login_over)(OLD)


def test_json_that_is_called_html(server: EndpointServer) -> None:
    """JSON is JSON, whatever the back end calls it."""
    server.will(Answer(200, {"access": "a2"}, "text/html"), Answer(401, {}, "text/html"))
    assert JSONGrant(server.url)(OLD).access_token == "a2"
    with pytest.raises(LoginRequired):
        JSONGrant(server.url)(OLD)


def test_login_over_decides(server: EndpointServer) -> None:
    """With `login_over`, 401 means what it says, and so does a 200 that brings no token."""

    def over(response: requests.Response) -> bool:
        return bool(response.json()["code"] == "SESSION_GONE")

    grant = JSONGrant(server.url, login_over=over)
    server.will(Answer(401, {"code": "MAINTENANCE"}))
    with pytest.raises(RefreshRefused):
        grant(OLD)
    server.will(Answer(200, {"code": "SESSION_GONE"}))
    with pytest.raises(LoginRequired):
        grant(OLD)
    server.will(Answer(200, {"code": "MAINTENANCE"}))
    with pytest.raises(InvalidReply):
        grant(OLD)


def test_login_over_is_not_asked_about_a_token(server: EndpointServer) -> None:
    """I7: a predicate that would fail on a good reply does not cost the new token."""
    server.will(Answer(body={"access": "a2"}))
    grant = JSONGrant(server.url, login_over=lambda response: response.json()["code"] == 1)
    assert grant(OLD).access_token == "a2"


def test_what_login_over_sees(server: EndpointServer) -> None:
    """I9: the predicate gets the whole reply, and none of what was sent."""
    kept: list[requests.Response] = []

    def look(response: requests.Response) -> bool:
        kept.append(response)
        return True

    server.will(Answer(419, {"said": "é"}, headers=[("X-Why", "gone")]))
    with pytest.raises(LoginRequired):
        JSONGrant(server.url, login_over=look)(OLD)
    (response,) = kept
    assert (response.status_code, response.url) == (419, server.url)
    assert response.headers["x-why"] == "gone"
    assert response.json() == {"said": "é"}
    assert response.text == json.dumps({"said": "é"})
    assert response.request is None
    assert response.history == []


def test_login_over_that_fails(server: EndpointServer) -> None:
    """A predicate that raises ends no login; what it raised is the cause."""
    server.will(Answer(401, "not JSON"))
    with pytest.raises(RefreshError, match="JSONDecodeError") as caught:
        JSONGrant(server.url, login_over=lambda response: response.json()["over"])(OLD)
    assert type(caught.value) is RefreshError
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("value", ["a\r\nX-Admin: yes", "a\x00", " a", "\u20ac", 7, None])
def test_a_function_that_returns_no_header(server: EndpointServer, value: Any) -> None:
    """A header that a function gives is checked before it is sent, and not quoted."""
    late: Callable[[], Any] = lambda: value  # noqa: E731 # as short as users write it
    with pytest.raises(ConfigurationError, match="X-Key") as caught:
        JSONGrant(server.url, headers={"X-Key": late})(OLD)
    assert "Admin" not in str(caught.value)
    assert server.seen == []
