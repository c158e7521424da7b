"""What a token is for: scope (RFC 6749), resource (RFC 8707) and audience (RFC 8693)."""

from __future__ import annotations

from typing import Any

import pytest

from requests_refresh import ConfigurationError, RefreshRefused, RefreshTokenGrant, Token
from tests.adapter.support import name_of
from tests.grants.endpoint import Answer, EndpointServer
from tests.grants.support import ASKED_ANEW, Make, fields_of

OLD = Token("old-access", refresh_token="old-refresh")
API, OTHER = "https://api.example.com/", "urn:example:other?x=1"


def refresh_token(url: str, **settings: Any) -> RefreshTokenGrant:
    return RefreshTokenGrant(url, **{"client_id": "sync", **settings})


GRANTS: dict[str, Make] = {"refresh_token": refresh_token, **ASKED_ANEW}
each_grant = pytest.mark.parametrize("make", GRANTS.values(), ids=GRANTS.keys())

SENT: list[tuple[str, Any, list[str] | None]] = [
    ("resource", API, [API]),
    ("resource", [API, OTHER], [API, OTHER]),
    ("resource", (API, OTHER), [API, OTHER]),
    ("resource", "http://127.0.0.1:8000", ["http://127.0.0.1:8000"]),
    ("audience", "api", ["api"]),
    ("audience", ("api", "other api"), ["api", "other api"]),
    ("scope", "read write", ["read write"]),
    ("scope", ["read", "write"], ["read write"]),
    *(
        (name, nothing, None)
        for name in ("resource", "audience", "scope")
        for nothing in (None, "")
    ),
    *((name, [], None) for name in ("resource", "audience", "scope")),
]
NAMES = [f"{name}-{number}" for number, (name, *_) in enumerate(SENT)]


@pytest.mark.parametrize(("name", "given", "sent"), SENT, ids=NAMES)
def test_what_goes_out(
    server: EndpointServer, name: str, given: Any, sent: list[str] | None
) -> None:
    """Each resource and audience is a field of its own; scopes are one, with spaces."""
    server.will(Answer())
    refresh_token(server.url, **{name: given})(OLD)
    assert fields_of(server.only).get(name) == sent


@each_grant
def test_every_grant_sends_them(server: EndpointServer, make: Make) -> None:
    """All three go along with every grant, and their order is kept, at each request."""
    server.will(Answer(), Answer())
    grant = make(server.url, resource=iter([API, OTHER]), audience=["b", "a"], scope=["w", "r"])
    for _ in range(2):
        grant(OLD)
    for request in server.seen:
        form = fields_of(request)
        assert (form["resource"], form["audience"]) == ([API, OTHER], ["b", "a"])
        assert form["scope"] == ["w r"]


WRONG: list[dict[str, Any]] = [
    {"resource": "api.example.com"},
    {"resource": API + "#part"},
    {"resource": [API, "api"]},
    {"resource": [API, ""]},
    {"resource": "https://a\nb"},
    {"audience": ["api", ""]},
    {"audience": 7},
    {"audience": "a\x00b"},
    {"scope": ["read", None]},
    {"resource": 7},
    {"resource": [None]},
    {"resource": API.encode()},
]


@pytest.mark.parametrize("settings", WRONG, ids=name_of)
def test_what_is_no_target(settings: dict[str, Any]) -> None:
    """A resource is an absolute URI without a fragment (RFC 8707 section 2); the rest are texts."""
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        refresh_token("https://auth.example.com/token", **settings)


@pytest.mark.parametrize("name", ["resource", "audience"])
def test_one_place_to_say_it(name: str) -> None:
    """A target that is given twice, once in `extra`, is a mistake, and said to be one."""
    with pytest.raises(ConfigurationError, match=name):
        refresh_token(
            "https://auth.example.com/token", **{name: "https://a.example", "extra": {name: "b:b"}}
        )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("jwt_bearer", "assertion"),
        ("token_exchange", "subject_token"),
        ("token_exchange", "subject_token_type"),
    ],
)
def test_extra_replaces_nothing(kind: str, name: str) -> None:
    """What a grant sets itself cannot be set by `extra`."""
    with pytest.raises(ConfigurationError, match=name):
        ASKED_ANEW[kind]("https://auth.example.com/token", extra={name: lambda: "x"})


@each_grant
def test_a_target_that_is_refused(server: EndpointServer, make: Make) -> None:
    """`invalid_target` is a setting that is wrong, and the message says which (RFC 8707)."""
    server.will(Answer(400, {"error": "invalid_target"}))
    with pytest.raises(RefreshRefused, match="Check resource and audience") as caught:
        make(server.url, resource=API)(OLD)
    assert caught.value.error == "invalid_target"
