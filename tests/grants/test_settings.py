"""Settings that cannot be right are refused at construction; grants are copied and pickled."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any

import pytest
from requests.auth import HTTPBasicAuth

from requests_refresh import (
    ConfigurationError,
    CookieGrant,
    JSONGrant,
    RefreshTokenGrant,
    Token,
)
from tests.adapter.support import name_of
from tests.grants.endpoint import Answer, EndpointServer

URL = "https://auth.example.com/token"
OLD = Token("old-access", refresh_token="old-refresh")
NAN = float("nan")


def late_secret() -> str:
    return "read-late"


BAD_URLS: list[Any] = [
    "",
    "auth.example.com/token",
    "http://auth.example.com/token",
    "ftp://auth.example.com/token",
    "https://",
    "https:///token",
    "https://[::1/token",
    "https://auth.example.com:x/token",
    "https://CANARY:CANARY@auth.example.com/token",
    "https://CANARY@auth.example.com/token",
    URL + "#CANARY",
    URL + "#",
    URL + "\n",
    " " + URL,
    "https://auth.example.com\\@evil.example/token",
    "https://auth.example.com\t/token",
    URL.encode(),
    None,
]


@pytest.mark.parametrize("url", BAD_URLS, ids=repr)
def test_urls_that_no_token_may_go_to(url: Any) -> None:
    """I9: a token endpoint is https or on this host, and plain to read."""
    for make in (lambda: RefreshTokenGrant(url, client_id="c"), lambda: JSONGrant(url)):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert "CANARY" not in str(caught.value)
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/t", "http://127.0.0.1/t", "http://[::1]:80/t", "HTTPS://A.b/t?x"]
)
def test_urls_that_are_fine(url: str) -> None:
    """https anywhere, and plain http to this host."""
    assert repr(CookieGrant(url)).startswith("CookieGrant('")


OAUTH: list[dict[str, Any]] = [
    {"client_id": ""},
    {"client_id": None},
    {"client_id": "a\nb"},
    {"client_secret": ""},
    {"client_secret": b"CANARY"},
    {"client_secret": "CANARY\n"},
    {"client_secret": "CANARY\ud800"},
    {"client_auth": "client_secret_basic"},
    {"client_auth": "client_secret_post"},
    {"client_auth": "private_key_jwt"},
    {"client_auth": ("sync", "CANARY")},
    {"client_auth": 7},
    {"client_auth": "none", "client_secret": "CANARY"},
    {"client_auth": HTTPBasicAuth("sync", "x"), "client_secret": "CANARY"},
    {"scope": 7},
    {"scope": ["a", ""]},
    {"scope": ["a", 7]},
    {"scope": "a\nb"},
    {"extra": ["a"]},
    {"extra": {7: "a"}},
    {"extra": {"a": 7}},
    {"extra": {"grant_type": "password"}},
    {"extra": {"refresh_token": "CANARY"}},
    {"extra": {"client_id": "CANARY"}},
    {"extra": {"client_secret": "CANARY"}},
    {"extra": {"scope": "CANARY"}},
    {"timeout": None},
    {"timeout": 0},
    {"timeout": -1},
    {"timeout": NAN},
    {"timeout": float("inf")},
    {"timeout": True},
    {"timeout": "5"},
    {"timeout": (5,)},
    {"timeout": (5, None)},
    {"timeout": (5, 5, 5)},
    {"proxies": "http://CANARY@proxy"},
]

CUSTOM: list[dict[str, Any]] = [
    {"read": {}},
    {"read": "access"},
    {"read": {"refresh_token": "r"}},
    {"read": {"access_token": "a", "expires": "e"}},
    {"read": {"access_token": ""}},
    {"read": {"access_token": "a..b"}},
    {"read": {"access_token": 7}},
    {"headers": ["CANARY"]},
    {"headers": {"": "CANARY"}},
    {"headers": {"X Y": "CANARY"}},
    {"headers": {7: "CANARY"}},
    {"headers": {"X-Y": "CANARY\r\nZ: 1"}},
    {"headers": {"X-Y": " CANARY"}},
    {"headers": {"X-Y": "CANARY\u20ac"}},
    {"headers": {"X-Y": 7}},
    {"headers": {"content-length": "7"}},
    {"headers": {"Accept-Encoding": "gzip"}},
    {"method": "DELETE"},
    {"method": "post"},
    {"method": None},
    {"login_over": 401},
    {"auth": ("me", "CANARY")},
    {"timeout": 0},
    {"proxies": ["CANARY"]},
]

JSON: list[dict[str, Any]] = [
    {"send": {}},
    {"send": ["refresh"]},
    {"send": {"a": "expires_at"}},
    {"send": {"": "refresh_token"}},
    {"send": {"a.": "refresh_token"}},
    {"send": {7: "refresh_token"}},
    {"send": {"a": "refresh_token", "a.b": "access_token"}},
    {"send": {"a.b": "refresh_token", "a": "access_token"}},
    {"extra": ["CANARY"]},
    {"extra": {"a": {1}}},
    {"extra": {"a": NAN}},
    {"extra": {"refresh": "CANARY"}},
    {"extra": {"refresh.a": "CANARY"}},
    {"extra": {7: "CANARY"}},
    {"method": "GET"},
]

COOKIE: list[dict[str, Any]] = [
    {"cookie": ""},
    {"cookie": "a b"},
    {"cookie": "a;b"},
    {"cookie": "a=b"},
    {"cookie": 7},
    {"read": {"access_token": "a", "refresh_token": "r"}},
    {"headers": {"Cookie": "CANARY"}},
]

ALL = [
    *((RefreshTokenGrant, {"client_id": "sync", **settings}) for settings in OAUTH),
    *((kind, settings) for kind in (JSONGrant, CookieGrant) for settings in CUSTOM),
    *((JSONGrant, settings) for settings in JSON),
    *((CookieGrant, settings) for settings in COOKIE),
]


@pytest.mark.parametrize(("kind", "settings"), ALL, ids=name_of)
def test_settings_that_cannot_be_right(kind: Any, settings: dict[str, Any]) -> None:
    """Each is a ConfigurationError at once, and no message or frame shows what it was given."""
    with pytest.raises(ConfigurationError) as caught:
        kind(URL, **settings)
    assert "CANARY" not in str(caught.value)
    shown = caught.value.with_traceback(caught.value.__traceback__.tb_next)  # type: ignore[union-attr] # raised, so it has one
    lines = traceback.TracebackException.from_exception(shown, capture_locals=True)
    assert "CANARY" not in "".join(lines.format())


@pytest.mark.parametrize("scope", [None, "", [], ()])
def test_no_scope(server: EndpointServer, scope: Any) -> None:
    """An empty scope is none."""
    server.will(Answer())
    RefreshTokenGrant(server.url, client_id="sync", scope=scope)(OLD)
    assert "scope" not in server.only.form


@pytest.mark.parametrize("value", ["", 7, None, b"x", "a\nb"])
def test_a_secret_that_is_read_wrong(server: EndpointServer, value: Any) -> None:
    """What a function for a secret returns is checked before anything is sent."""
    grant = RefreshTokenGrant(server.url, client_id="sync", client_secret=lambda: value)
    with pytest.raises(ConfigurationError, match="client_secret is empty"):
        grant(OLD)
    grant = RefreshTokenGrant(server.url, client_id="sync", extra={"assertion": lambda: value})
    with pytest.raises(ConfigurationError, match="'assertion' in extra"):
        grant(OLD)
    assert server.seen == []


def test_what_repr_shows() -> None:
    """I9: a repr shows where and how, and no secret: no query, header, extra or secret."""
    url = URL + "?key=CANARY"
    grants = [
        RefreshTokenGrant(
            url, client_id="sync", client_secret="CANARY", extra={"x": "CANARY"}, proxies={"a": "b"}
        ),
        RefreshTokenGrant(url, client_id="sync", client_auth=HTTPBasicAuth("sync", "CANARY")),
        JSONGrant(url, headers={"X-Key": "CANARY"}, extra={"key": "CANARY"}),
        CookieGrant(url, headers={"X-Key": "CANARY"}),
    ]
    read = {"access_token": "access", "refresh_token": "refresh"}
    assert [repr(grant) for grant in grants] == [
        f"RefreshTokenGrant('{URL}', client_id='sync', client_auth='client_secret_basic')",
        f"RefreshTokenGrant('{URL}', client_id='sync', client_auth='HTTPBasicAuth')",
        f"JSONGrant('{URL}', send={{'refresh': 'refresh_token'}}, read={read})",
        f"CookieGrant('{URL}', cookie='refresh_token', read={{'access_token': 'accessToken'}})",
    ]
    assert "CANARY" not in repr(vars(grants[0])["_auth"].secret) + repr(
        vars(grants[0])["_endpoint"]
    )


def test_settings_are_the_grants_own(server: EndpointServer) -> None:
    """Changing a mapping afterwards changes no grant."""
    extra = {"audience": "api"}
    grant = RefreshTokenGrant(server.url, client_id="sync", extra=extra)
    extra["refresh_token"] = "other"
    server.will(Answer())
    grant(OLD)
    assert server.only.form["refresh_token"] == "old-refresh"


def test_the_timeout_can_be_asked() -> None:
    """Whoever holds a lease can ask how long a call may work."""
    assert RefreshTokenGrant(URL, client_id="c").timeout == (5, 15)
    assert JSONGrant(URL, timeout=3).timeout == (3, 3)
    assert CookieGrant(URL, timeout=(0.5, 2)).timeout == (0.5, 2)


def test_a_pickle_leaves_the_secret_behind(server: EndpointServer) -> None:
    """I9, I14: a text for a secret does not travel, and what is unpickled says so when used."""
    grant = RefreshTokenGrant(server.url, client_id="sync", client_secret="CANARY")
    data = pickle.dumps(grant)
    assert b"CANARY" not in data
    again = pickle.loads(data)  # noqa: S301 # made a line above
    assert repr(again) == repr(grant)
    with pytest.raises(ConfigurationError, match="left behind when this grant was pickled"):
        again(OLD)
    assert server.seen == []
    server.will(Answer())
    grant(OLD)


def test_a_pickle_with_no_secret_works(server: EndpointServer) -> None:
    """I14: a function for a secret travels by its name, and what has no secret travels whole."""
    grants = [
        RefreshTokenGrant(server.url, client_id="sync", client_secret=late_secret),
        RefreshTokenGrant(server.url, client_id="sync", extra={"audience": "api"}),
        JSONGrant(server.url, read={"access_token": "access_token"}),
        CookieGrant(server.url, read={"access_token": "access_token"}),
    ]
    for grant in grants:
        server.will(Answer())
        again = pickle.loads(pickle.dumps(grant))  # noqa: S301 # made on this line
        assert again(OLD).access_token == "new-access"


def test_a_copy_has_all(server: EndpointServer) -> None:
    """I14: copies stay in this process, so they keep the secret."""
    grant = RefreshTokenGrant(server.url, client_id="sync", client_secret="hush")
    for again in (copy.copy(grant), copy.deepcopy(grant)):
        server.will(Answer())
        again(OLD)
    assert copy.copy(vars(grant)["_auth"].secret) is vars(grant)["_auth"].secret
