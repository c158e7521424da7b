"""`CookieGrant`: the refresh token goes out as a cookie and comes back by Set-Cookie."""

from __future__ import annotations

from typing import Any

import pytest

from requests_refresh import (
    ConfigurationError,
    CookieGrant,
    InvalidReply,
    LoginRequired,
    RefreshRefused,
    Token,
)
from tests.grants.endpoint import Answer, EndpointServer

OLD = Token("old-access", refresh_token="old-refresh", scope="read")
REPLY = {"accessToken": "a2", "user": {"mail": "me@example.com"}}
FUTURE = "Expires=Fri, 01 Jan 2100 00:00:00 GMT; SameSite=Strict"
PAST = "Thu, 01 Jan 1970 00:00:00 GMT"


def setting(*cookies: str, body: Any = REPLY, date: str | None = None) -> Answer:
    headers = [("Set-Cookie", cookie) for cookie in cookies]
    if date:
        headers.append(("Date", date))
    return Answer(body=body, headers=headers)


def test_what_goes_out(server: EndpointServer) -> None:
    """The refresh token goes as that cookie, alone, and with no body."""
    server.will(setting())
    token = CookieGrant(server.url, headers={"X-CSRF": lambda: "c"})(OLD)
    assert (token.access_token, token.refresh_token, token.scope) == ("a2", "old-refresh", "read")
    assert token.extra == {}
    assert (server.only.method, server.only.body) == ("POST", b"")
    assert server.only.headers["Cookie"] == "refresh_token=old-refresh"
    assert server.only.headers["X-Csrf"] == "c"
    assert server.only.headers["Accept"] == "application/json"
    assert "Authorization" not in server.only.headers


def test_get_and_another_name(server: EndpointServer) -> None:
    """Method and name of the cookie are settings."""
    server.will(setting("rt=r2", body={"data": {"jwt": "a2"}}))
    grant = CookieGrant(server.url, method="GET", cookie="rt", read={"access_token": "data.jwt"})
    assert grant(OLD).refresh_token == "r2"
    assert (server.only.method, server.only.headers["Cookie"]) == ("GET", "rt=old-refresh")


NEXT: dict[str, tuple[list[str], str]] = {
    "plain": (["refresh_token=r2"], "r2"),
    "for browsers": (
        [f"refresh_token=r2; Path=/x; Domain=x.example; HttpOnly; Secure; Max-Age=600; {FUTURE}"],
        "r2",
    ),
    "among others": (["trace=1; Path=/", "refresh_token=r2", "csrf=3"], "r2"),
    "the last of several": (["refresh_token=r1", "refresh_token=r2"], "r2"),
    "deleted at one path, set at another": (
        ["refresh_token=r2; Path=/auth", "refresh_token=; Path=/; Max-Age=0"],
        "r2",
    ),
    "cleared, then set": ([f"refresh_token=; Expires={PAST}", "refresh_token=r2"], "r2"),
    "quoted": (['refresh_token="r 2=="; HttpOnly'], '"r 2=="'),
    "with equals signs": (["refresh_token=cjI=="], "cjI=="),
    "with spaces around": (["refresh_token = r2 ;HttpOnly"], "r2"),
    "with a strange date": (["refresh_token=r2; Expires=soon"], "r2"),
    "with a strange age": (["refresh_token=r2; Max-Age=x"], "r2"),
    "a strange age before a past date": (
        [f"refresh_token=r2; Max-Age=x; Expires={PAST}"],
        "old-refresh",
    ),
    "its age before its date": ([f"refresh_token=r2; Expires={PAST}; Max-Age=60"], "r2"),
    "another's": (["Refresh_Token=r2", "refresh_token2=r2", "=r2", "r2"], "old-refresh"),
    "empty": (["refresh_token="], "old-refresh"),
    "empty in quotes": (['refresh_token=""'], "old-refresh"),
    "deleted by age": (["refresh_token=r2; Max-Age=0"], "old-refresh"),
    "deleted by age below 0": (["refresh_token=r2; max-age=-1"], "old-refresh"),
    "deleted by date": ([f"refresh_token=deleted; Expires={PAST}"], "old-refresh"),
    "deleted by an old date": (
        ["refresh_token=x; expires=Thu, 01-Jan-1970 00:00:01 GMT"],
        "old-refresh",
    ),
    "none": ([], "old-refresh"),
}


@pytest.mark.parametrize(("cookies", "expected"), NEXT.values(), ids=NEXT.keys())
def test_the_next_cookie(server: EndpointServer, cookies: list[str], expected: str) -> None:
    """I7: a rotated cookie is taken however it is written, and a deleted one is no new one."""
    server.will(setting(*cookies), setting())
    grant = CookieGrant(server.url)
    token = grant(OLD)
    assert (token.access_token, token.refresh_token) == ("a2", expected)
    grant(token)
    assert server.seen[1].headers["Cookie"] == f"refresh_token={expected}"


def test_dates_are_of_the_servers_clock(server: EndpointServer) -> None:
    """I7: a server whose clock is behind ours does not cost the rotated cookie."""
    cookie = "refresh_token=r2; Expires=Sat, 01 Jan 2000 01:00:00 GMT"
    server.will(
        setting(cookie, date="Sat, 01 Jan 2000 00:00:00 GMT"),
        setting(cookie, date="Sat, 01 Jan 2000 02:00:00 GMT"),
    )
    grant = CookieGrant(server.url)
    assert grant(OLD).refresh_token == "r2"
    assert grant(OLD).refresh_token == "old-refresh"


@pytest.mark.parametrize("token", [None, Token("only-access")])
def test_nothing_to_refresh_with_asks_nobody(server: EndpointServer, token: Token | None) -> None:
    """Without a refresh token only a login helps, and nobody is asked."""
    with pytest.raises(LoginRequired, match="no refresh token"):
        CookieGrant(server.url)(token)
    assert server.seen == []


@pytest.mark.parametrize("value", ["a; admin=1", "a;", "\u20ac", " a", "a "])
def test_what_cannot_stand_in_a_cookie(server: EndpointServer, value: str) -> None:
    """A refresh token that would end the cookie is not sent, not quoted, and not given up."""
    with pytest.raises(ConfigurationError, match="cannot stand in a cookie") as caught:
        CookieGrant(server.url)(Token(refresh_token=value))
    assert "admin" not in str(caught.value)
    assert server.seen == []


@pytest.mark.parametrize("status", [400, 401, 403])
def test_the_login_is_over(server: EndpointServer, status: int) -> None:
    """400, 401 and 403 end the login, and a cookie that comes with them changes nothing."""
    server.will(Answer(status, {"message": "gone"}, headers=[("Set-Cookie", "refresh_token=x")]))
    with pytest.raises(LoginRequired, match=r"\(gone\)") as caught:
        CookieGrant(server.url)(OLD)
    assert (caught.value.error, caught.value.error_description) == (None, "gone")


def test_a_page_or_a_predicate(server: EndpointServer) -> None:
    """A firewall's page does not end the login, and `login_over` may say what does."""
    server.will(Answer(403, "<html>", "text/html"), Answer(401, {}), Answer(404, {}))
    with pytest.raises(RefreshRefused):
        CookieGrant(server.url)(OLD)
    grant = CookieGrant(server.url, login_over=lambda response: response.status_code == 404)
    with pytest.raises(RefreshRefused):
        grant(OLD)
    with pytest.raises(LoginRequired):
        grant(OLD)


def test_a_cookie_without_a_token(server: EndpointServer) -> None:
    """A reply with no access token is none, whatever cookie it brings."""
    server.will(setting("refresh_token=r2", body={}))
    with pytest.raises(InvalidReply, match="accessToken"):
        CookieGrant(server.url)(OLD)
