"""`PasswordLogin`: a user name and a password for the first token, as older APIs want it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from requests_refresh import (
    ConfigurationError,
    CookieGrant,
    InvalidReply,
    LoginRequired,
    RefreshRefused,
    RefreshUnavailable,
)
from requests_refresh.logins import PasswordLogin
from tests.grants.endpoint import Answer, EndpointServer

ISSUED = {"access": "a1", "refresh": "r1"}


def login(server: EndpointServer, **settings: Any) -> PasswordLogin:
    given: dict[str, Any] = {"username": "alice", "password": "p w/ü%", **settings}
    return PasswordLogin(server.url, **given)


def test_a_login(server: EndpointServer) -> None:
    """Without settings it speaks to Django SimpleJWT's token/."""
    server.will(Answer(200, ISSUED))
    token = login(server)()
    assert (token.access_token, token.refresh_token) == ("a1", "r1")
    assert server.only.method == "POST"
    assert server.only.headers["Content-Type"] == "application/json"
    assert server.only.json == {"username": "alice", "password": "p w/ü%"}


def test_names_of_other_apis(server: EndpointServer) -> None:
    """Fields nest, come with more of them, and are read from where the reply has them."""
    server.will(Answer(200, {"data": {"tokens": [{"jwt": "a1", "ttl": "60"}]}}))
    token = login(
        server,
        send={"user.email": "username", "user.secret": "password"},
        read={"access_token": "data.tokens.0.jwt", "expires_in": "data.tokens.0.ttl"},
        extra={"remember": True, "otp": lambda: "123456"},
        headers={"X-App": "cli"},
    )()
    assert (token.access_token, token.refresh_token) == ("a1", None)
    assert token.expires_at is not None
    assert server.only.json == {
        "user": {"email": "alice", "secret": "p w/ü%"},
        "remember": True,
        "otp": "123456",
    }
    assert server.only.headers["X-App"] == "cli"


def test_a_refresh_token_in_a_cookie(server: EndpointServer) -> None:
    """The refresh token of a back end of web pages comes in a cookie, and CookieGrant goes on."""
    cookie = [("Set-Cookie", "refresh_token=r1; HttpOnly; Path=/auth"), ("Set-Cookie", "a=b")]
    server.will(Answer(200, {"accessToken": "a1"}, headers=cookie))
    server.will(Answer(200, {"accessToken": "a2"}))
    read = {"access_token": "accessToken"}
    token = login(server, cookie="refresh_token", read=read)()
    assert (token.access_token, token.refresh_token) == ("a1", "r1")
    assert CookieGrant(server.url)(token).access_token == "a2"
    assert server.seen[1].headers["Cookie"] == "refresh_token=r1"


def test_a_password_from_a_function(server: EndpointServer) -> None:
    """Functions are asked at each login, so that a vault can rotate what they return."""
    passwords = iter(["one", "two"])
    server.will(Answer(200, ISSUED), Answer(200, ISSUED))
    log_in = login(server, username=lambda: "bob", password=lambda: next(passwords))
    log_in()
    log_in()
    assert [seen.json["password"] for seen in server.seen] == ["one", "two"]
    assert {seen.json["username"] for seen in server.seen} == {"bob"}


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_wrong_password(server: EndpointServer, status: int) -> None:
    """400, 401 and 403 are LoginRequired, in the API's words but for what was sent."""
    said = {"code": "no_account", "detail": "No account alice with p w/ü%."}
    server.will(Answer(status, said))
    with pytest.raises(LoginRequired, match="refused the user name or password") as caught:
        login(server)()
    assert caught.value.error == "no_account"
    assert caught.value.error_description == "No account alice with ***."
    server.will(Answer(status, {}))
    with pytest.raises(LoginRequired, match=r"user name or password\. Nothing"):
        login(server)()


@pytest.mark.parametrize("status", [401, 403])
def test_a_page_is_no_refusal(server: EndpointServer, status: int) -> None:
    """A web page is a firewall or a proxy speaking, and says nothing about the password."""
    server.will(Answer(status, "<html>Blocked</html>", "text/html"))
    with pytest.raises(RefreshRefused):
        login(server)()


def test_other_answers(server: EndpointServer) -> None:
    """Outages, other refusals and rubbish are what they are for a grant."""
    server.will(Answer(503), Answer(404, {}), Answer(200, {"token": "x"}))
    for expected in (RefreshUnavailable, RefreshRefused, InvalidReply):
        with pytest.raises(expected):
            login(server)()


def test_a_pickle_has_no_password(server: EndpointServer) -> None:
    """I9: text secrets are left behind by pickle, and the copy says so at its first use."""
    pickled = pickle.dumps(login(server))
    assert b"p w/" not in pickled
    with pytest.raises(ConfigurationError, match="left behind"):
        pickle.loads(pickled)()  # noqa: S301  # it is our own
    assert "p w/" not in repr(login(server))
    assert "alice" not in repr(login(server))
    assert server.seen == []


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"url": "http://api.example.com/login"}, "url"),
        ({"username": ""}, "username"),
        ({"password": "a\nb"}, "password"),
        ({"password": None}, "password"),
        ({"read": {"refresh_token": "r"}}, "read"),
        ({"send": {"username": "username"}}, "send"),
        ({"send": {"u": "username", "p": "secret"}}, "send"),
        ({"send": ["username", "password"]}, "send"),
        ({"send": {"a": "username", "a.b": "password"}}, "in each other's way"),
        ({"send": {"a..b": "username", "p": "password"}}, "no name"),
        ({"extra": {"username": "x"}}, "the same"),
        ({"extra": {"x": object()}}, "extra"),
        ({"cookie": "a b"}, "cookie"),
        ({"headers": {"Content-Type": "text/plain"}}, "headers"),
        ({"auth": "basic"}, "auth"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_settings_that_cannot_be_right(wrong: dict[str, Any], problem: str) -> None:
    """A wrong setting is said at construction, and no password with it."""
    right = {"url": "https://a.test/", "username": "alice", "password": "CANARY"}
    given: dict[str, Any] = {**right, **wrong}
    with pytest.raises(ConfigurationError, match=problem) as caught:
        PasswordLogin(given.pop("url"), **given)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("name", ["username", "password"])
def test_a_function_that_returns_rubbish(server: EndpointServer, name: str) -> None:
    """What a function returns is checked as a text is, before anything is sent."""
    with pytest.raises(ConfigurationError, match=name):
        login(server, **{name: lambda: ""})()
    assert server.seen == []
