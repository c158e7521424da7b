"""AuthServer as a provider: login, three ways to refresh, rotation, reuse, revocation."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import requests

from requests_refresh.testing import AuthServer

JOIN = 30.0  # seconds; only a hanging test needs them


def refresh(http: requests.Session, server: AuthServer, token: str, **form: str) -> Any:
    form = {"grant_type": "refresh_token", "refresh_token": token, **form}
    return http.post(server.token_url, data=form, timeout=JOIN)


def lives(http: requests.Session, server: AuthServer, access_token: str) -> bool:
    headers = {"Authorization": f"Bearer {access_token}"}
    return http.get(server.api + "x", headers=headers, timeout=JOIN).status_code == 200


def test_a_refresh_rotates(server: AuthServer, http: requests.Session) -> None:
    """RFC 6749 6: a new access token and a new refresh token; the first access token lives on."""
    first = server.login("ann")
    answer = refresh(http, server, first["refresh_token"])
    second = answer.json()
    assert answer.headers["Cache-Control"] == "no-store"
    assert (second["token_type"], second["expires_in"]) == ("Bearer", 3600)
    assert isinstance(second["expires_in"], int)
    assert second["refresh_token"] != first["refresh_token"]
    assert lives(http, server, first["access_token"])
    assert lives(http, server, second["access_token"])
    assert refresh(http, server, second["refresh_token"]).status_code == 200
    counts = server.counts
    assert (counts.refresh_calls, counts.refreshes, counts.refresh_refused) == (2, 2, 0)


def test_reuse_of_a_spent_token_ends_the_login(server: AuthServer, http: requests.Session) -> None:
    """A refresh token used twice is theft: all tokens of the login die, other logins live."""
    first, other = server.login(), server.login()
    second = refresh(http, server, first["refresh_token"]).json()
    answer = refresh(http, server, first["refresh_token"])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert not lives(http, server, second["access_token"])
    assert refresh(http, server, second["refresh_token"]).json()["error"] == "invalid_grant"
    assert lives(http, server, other["access_token"])
    counts = server.counts
    assert (counts.reuses, counts.refresh_refused, counts.logins_ended) == (1, 2, 1)


def test_without_reuse_detection_a_spent_token_is_only_refused(
    server: AuthServer, http: requests.Session
) -> None:
    """`reuse_detection=False`: the reuse is refused and counted, the login lives."""
    server.reuse_detection = False
    first = server.login()
    second = refresh(http, server, first["refresh_token"]).json()
    assert refresh(http, server, first["refresh_token"]).status_code == 400
    assert lives(http, server, second["access_token"])
    assert server.logged_in()
    assert server.counts.reuses == 1


def test_grace_lets_the_previous_token_work_again(
    server: AuthServer, http: requests.Session, clock: Any
) -> None:
    """Within the grace a repeat gets the successor again; after it, it is theft."""
    server.grace = 10.0
    first = server.login()["refresh_token"]
    second = refresh(http, server, first).json()["refresh_token"]
    clock.now += 9.0
    assert refresh(http, server, first).json()["refresh_token"] == second
    third = refresh(http, server, second).json()["refresh_token"]
    clock.now += 9.0
    assert refresh(http, server, second).json()["refresh_token"] == third
    clock.now += 1.0
    assert server.counts.reuses == 0
    assert refresh(http, server, second).status_code == 400
    assert not server.logged_in()


def test_grace_is_for_the_previous_token_only(server: AuthServer, http: requests.Session) -> None:
    """The one before the previous is theft, grace or not."""
    server.grace = 10.0
    first = server.login()["refresh_token"]
    second = refresh(http, server, first).json()["refresh_token"]
    assert refresh(http, server, second).status_code == 200
    assert refresh(http, server, first).status_code == 400
    assert server.counts.reuses == 1


@pytest.mark.parametrize(
    ("said", "sent"), [(True, 0.5), (False, None), ("3600", "3600"), (7200.0, 7200.0)]
)
def test_what_is_said_of_the_lifetime(
    server: AuthServer, http: requests.Session, said: Any, sent: Any
) -> None:
    """`expires_in` is sent, left out, or a lie."""
    server.lifetime, server.expires_in = 0.5, said
    reply = server.login()
    assert reply.get("expires_in") == sent
    json = http.post(server.refresh_url, json={"refresh": reply["refresh_token"]}, timeout=JOIN)
    assert json.json().get("expires_in") == sent
    cookies = {"refresh_token": server.login()["refresh_token"]}
    cookie = http.post(server.cookie_url, cookies=cookies, timeout=JOIN)
    assert cookie.json().get("expiresIn") == sent


def test_without_rotation_the_refresh_token_stays(
    server: AuthServer, http: requests.Session
) -> None:
    """`rotation=False`: no reply brings a refresh token, and the first works for ever."""
    server.rotation = False
    token = server.login()["refresh_token"]
    assert "refresh_token" not in refresh(http, server, token).json()
    answer = http.post(server.refresh_url, json={"refresh": token}, timeout=JOIN)
    assert set(answer.json()) == {"access", "expires_in"}
    answer = http.post(server.cookie_url, cookies={"refresh_token": token}, timeout=JOIN)
    assert "Set-Cookie" not in answer.headers
    assert server.counts.refreshes == 3


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "nope"}, "invalid_grant"),
        ([("grant_type", "refresh_token"), ("grant_type", "x")], "invalid_request"),
    ],
)
def test_errors_of_the_token_endpoint(
    server: AuthServer, http: requests.Session, form: Any, error: str
) -> None:
    """RFC 6749 5.2: the code that belongs to the fault, with status 400."""
    answer = http.post(server.token_url, data=form, timeout=JOIN)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert server.counts.refresh_refused == 1


def test_json_is_no_form(server: AuthServer, http: requests.Session) -> None:
    """RFC 6749 6 asks for a form; JSON is an invalid request, here and for revocation."""
    for url in (server.token_url, server.revoke_url):
        answer = http.post(url, json={"grant_type": "refresh_token"}, timeout=JOIN)
        assert answer.json()["error"] == "invalid_request"


def test_scope_may_narrow_and_not_widen(server: AuthServer, http: requests.Session) -> None:
    """RFC 6749 6: no more scope than was granted, and asking costs nothing."""
    server.scope = "read write"
    token = server.login()["refresh_token"]
    answer = refresh(http, server, token, scope="read admin")
    assert answer.json()["error"] == "invalid_scope"
    assert refresh(http, server, token, scope="read").json()["scope"] == "read"


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "form", "error"),
    [
        (basic("my+app", "p%3Aq"), {}, None),
        ({}, {"client_id": "my app", "client_secret": "p:q"}, None),
        (basic("my+app", "wrong"), {}, "invalid_client"),
        (basic("other", "p%3Aq"), {}, "invalid_client"),
        ({"Authorization": "Basic !!!"}, {}, "invalid_client"),
        ({"Authorization": "Basic " + base64.b64encode(b"x").decode()}, {}, "invalid_client"),
        ({}, {"client_id": "my app"}, "invalid_client"),
        ({}, {}, "invalid_client"),
        (basic("my+app", "p%3Aq"), {"client_secret": "p:q"}, "invalid_request"),
    ],
)
def test_the_client_proves_itself(
    http: requests.Session, headers: dict[str, str], form: dict[str, str], error: str | None
) -> None:
    """RFC 6749 2.3.1: Basic with id and secret form-encoded, or the form, never both."""
    with AuthServer(client_id="my app", client_secret="p:q") as server:
        token = server.login()["refresh_token"]
        form = {"grant_type": "refresh_token", "refresh_token": token, **form}
        answer = http.post(server.token_url, data=form, headers=headers, timeout=JOIN)
        assert answer.json().get("error") == error
        assert answer.status_code == {None: 200, "invalid_client": 401}.get(error, 400)
        if error == "invalid_client":
            assert ("WWW-Authenticate" in answer.headers) == bool(headers)
        assert server.logged_in()
        refused = http.post(server.revoke_url, data={"token": token}, timeout=JOIN)
        assert refused.json()["error"] == "invalid_client"


def test_json_refresh(server: AuthServer, http: requests.Session) -> None:
    """The JSON endpoint rotates, and says what Django SimpleJWT says of a bad token."""
    token = server.login()["refresh_token"]
    reply = http.post(server.refresh_url, json={"refresh": token}, timeout=JOIN).json()
    assert lives(http, server, reply["access"])
    assert reply["refresh"] != token
    again = http.post(server.refresh_url, json={"refresh": token}, timeout=JOIN)
    assert (again.status_code, again.json()["code"]) == (401, "token_not_valid")
    for body in (b"{", b"[]", b"{}", b'{"refresh": 1}', b"[" * 100_000):
        assert http.post(server.refresh_url, data=body, timeout=JOIN).status_code == 400
    assert server.counts.refresh_refused == 6


def test_cookie_refresh(server: AuthServer, http: requests.Session) -> None:
    """The cookie endpoint rotates by Set-Cookie, HttpOnly; a dead login clears it."""
    login = http.post(server.login_url, json={"username": "ann", "password": "x"}, timeout=JOIN)
    first = http.cookies["refresh_token"]
    assert login.json()["refresh_token"] == first
    reply = http.post(server.cookie_url, timeout=JOIN)
    assert "HttpOnly" in reply.headers["Set-Cookie"]
    assert http.cookies["refresh_token"] != first
    assert set(reply.json()) == {"accessToken", "expiresIn"}
    assert lives(http, server, reply.json()["accessToken"])
    server.revoke_login("ann")
    assert http.post(server.cookie_url, timeout=JOIN).status_code == 401
    assert "refresh_token" not in http.cookies


def test_a_grant_and_a_source_for_it() -> None:
    """`grant` and `source` are a client that is set up and logged in; options are passed on."""
    with AuthServer(client_id="app", client_secret="p:q") as server:
        tokens = server.source("ann", ahead=1.0)
        assert tokens.identity == "ann"
        first = tokens.token()
        assert tokens.renew(first).refresh_token != first.refresh_token
        assert server.counts.refreshes == 1
        assert server.log[-1].headers["Authorization"].startswith("Basic ")
        other = server.grant(client_auth="client_secret_post")
        own = server.source(grant=other, token=server.login("ben"), identity="ben")
        own.renew(own.token())
        assert b"client_secret=p%3Aq" in server.log[-1].body
        assert server.counts.logins == 2


def test_login(http: requests.Session) -> None:
    """A name and its password, as JSON or form, give dual tokens; anything else gives 401."""
    with AuthServer(users={"ann": "secret"}) as server:
        good = {"username": "ann", "password": "secret"}
        for body in ({"json": good}, {"data": good}):
            reply = http.post(server.login_url, timeout=JOIN, **body).json()  # type: ignore[arg-type]  # json= or data=
            assert lives(http, server, reply["access_token"])
        wrong: list[dict[str, Any]] = [{**good, "password": "x"}, {**good, "username": "ben"}]
        for bad in [*wrong, {"username": []}, {}]:
            assert http.post(server.login_url, json=bad, timeout=JOIN).status_code == 401
        assert http.post(server.login_url, data=b"x", timeout=JOIN).status_code == 401
        assert server.counts.logins == 2
        server.users = None
        assert http.post(server.login_url, data=good, timeout=JOIN).status_code == 200


def test_logout(server: AuthServer, http: requests.Session) -> None:
    """Logout ends the login of the bearer, of the JSON refresh token, or of the cookie."""
    by_bearer, by_json, by_cookie = (server.login(name) for name in "abc")
    headers = {"Authorization": f"Bearer {by_bearer['access_token']}"}
    assert http.post(server.logout_url, headers=headers, timeout=JOIN).status_code == 204
    http.post(server.logout_url, json={"refresh": by_json["refresh_token"]}, timeout=JOIN)
    cookies = {"refresh_token": by_cookie["refresh_token"]}
    http.post(server.logout_url, cookies=cookies, timeout=JOIN)
    http.post(server.logout_url, cookies=cookies, timeout=JOIN)
    assert [server.logged_in(name) for name in "abc"] == [False] * 3
    assert server.counts.logins_ended == 3


def test_revocation(server: AuthServer, http: requests.Session) -> None:
    """RFC 7009: access tokens die alone, refresh tokens with their login; unknown: 200."""
    reply = server.login()
    for token, logged_in in [
        ("unknown", True),
        (reply["access_token"], True),
        (reply["refresh_token"], False),
    ]:
        answer = http.post(server.revoke_url, data={"token": token}, timeout=JOIN)
        assert answer.status_code == 200
        assert server.logged_in() == logged_in
    assert not lives(http, server, reply["access_token"])
    missing = http.post(server.revoke_url, data={"x": "y"}, timeout=JOIN)
    assert missing.json()["error"] == "invalid_request"
