"""`JWTBearerGrant`: the assertion that it sends, and settings that cannot be right."""

from __future__ import annotations

import pickle
import time
from typing import Any

import pytest

from requests_refresh import ConfigurationError, JWTBearerGrant, PrivateKeyJWT, TokenSource
from tests.adapter.support import name_of
from tests.grants.endpoint import Answer, EndpointServer, reset
from tests.grants.support import (
    ASKED_ANEW,
    ASSERTION_TYPE,
    JWT_BEARER,
    ec_key,
    jwk_text,
    jwt_bearer,
    opened,
    pem_of,
    read,
    rsa_key,
)

URL = "https://auth.example.com/token"


def late_key() -> str:
    return pem_of(ec_key())


def test_what_goes_out(server: EndpointServer) -> None:
    """Grant type and assertion, and no client where none was given (RFC 7523 section 2.1)."""
    server.will(Answer())
    before = int(time.time())
    jwt_bearer(server.url, subject="alice", claims={"scope": "read write"})(None)
    form = server.only.form
    assertion = opened(form.pop("assertion"), ec_key())
    assert form == {"grant_type": JWT_BEARER}
    assert "Authorization" not in server.only.headers
    assert assertion.header == {"typ": "JWT", "alg": "ES256"}
    claims = assertion.claims
    assert before <= claims["iat"] <= time.time()
    assert claims["exp"] == claims["iat"] + 180
    assert len(claims.pop("jti")) >= 16
    del claims["iat"], claims["exp"]
    assert claims == {"iss": "robot", "sub": "alice", "aud": server.url, "scope": "read write"}


def test_what_google_wants(server: EndpointServer) -> None:
    """A service account: RS256 with a key's id, an audience of its own and an hour's lifetime."""
    server.will(Answer())
    jwt_bearer(
        server.url,
        key=pem_of(rsa_key()),
        key_id="k1",
        lifetime=3600,
        claims={"aud": "https://oauth2.googleapis.com/token", "scope": "https://a.example/read"},
    )(None)
    assertion = opened(server.only.form["assertion"], rsa_key(), "RS256")
    assert assertion.header == {"typ": "JWT", "alg": "RS256", "kid": "k1"}
    assert assertion.claims["aud"] == "https://oauth2.googleapis.com/token"
    assert assertion.claims["exp"] == assertion.claims["iat"] + 3600
    assert "sub" not in assertion.claims


def test_each_attempt_has_its_own(server: EndpointServer) -> None:
    """A `jti` goes out once: the retry within a round has a new one."""
    server.will(reset, Answer(503, ""), Answer())
    tokens = TokenSource(jwt_bearer(server.url))
    assert tokens.token().access_token == "new-access"
    sent = [opened(request.form["assertion"], ec_key()).claims["jti"] for request in server.seen]
    assert len(set(sent)) == 3


def test_a_client_that_proves_itself_too(server: EndpointServer) -> None:
    """Two assertions, one for the grant and one for the client, each with its own claims."""
    server.will(Answer())
    jwt_bearer(server.url, client_id="sync", client_auth=PrivateKeyJWT(late_key))(None)
    form = server.only.form
    assert form["client_assertion_type"] == ASSERTION_TYPE
    grant, client = (
        opened(form[name], ec_key()).claims for name in ("assertion", "client_assertion")
    )
    assert (grant["iss"], client["iss"], client["sub"]) == ("robot", "sync", "sync")
    assert grant["jti"] != client["jti"]


@pytest.mark.parametrize(
    "key", [late_key(), jwk_text(ec_key()), ec_key().as_dict(private=True), late_key], ids=range(4)
)
def test_forms_of_a_key(server: EndpointServer, key: Any) -> None:
    """PEM, JWK as a text or a mapping, and a function sign alike."""
    server.will(Answer())
    jwt_bearer(server.url, key=key)(None)
    assert opened(server.only.form["assertion"], ec_key()).claims["iss"] == "robot"


def test_the_key_stays_behind(server: EndpointServer) -> None:
    """I9: a pickle has no key that was given as a text, and says so at its first use."""
    grant = pickle.loads(pickle.dumps(jwt_bearer(server.url)))  # noqa: S301 # made on this line
    with pytest.raises(ConfigurationError, match="key was left behind"):
        grant(None)
    assert server.seen == []
    server.will(Answer())
    again = pickle.loads(pickle.dumps(jwt_bearer(server.url, key=late_key)))  # noqa: S301 # as above
    assert again(None).access_token == "new-access"


def test_settings_are_the_grants_own(server: EndpointServer) -> None:
    """Changing claims or a header afterwards changes no grant."""
    claims, header = {"scope": "read"}, {"x": "1"}
    grant = jwt_bearer(server.url, claims=claims, header=header)
    claims["scope"], header["x"] = "admin", "2"
    server.will(Answer())
    grant(None)
    sent_header, sent_claims = read(server.only.form["assertion"])
    assert (sent_header["x"], sent_claims["scope"]) == ("1", "read")


WRONG: list[dict[str, Any]] = [
    {"issuer": ""},
    {"issuer": None},
    {"issuer": "a\nb"},
    {"subject": ""},
    {"subject": 7},
    {"claims": ["scope"]},
    {"claims": {"scope": {1}}},
    {"claims": {"scope": float("nan")}},
    *({"claims": {name: "x"}} for name in ("iss", "sub", "iat", "exp", "jti")),
    {"lifetime": 0},
    {"lifetime": -1},
    {"lifetime": True},
    {"lifetime": float("inf")},
    {"header": ["x"]},
    {"header": {"alg": "none"}},
    {"header": {"typ": "at+jwt"}},
    {"header": {"x": {1}}},
    {"key_id": ""},
    {"key_id": 7},
    {"key": "CANARY"},
    {"key": b"CANARY"},
    {"key": None},
    {"client_auth": "client_secret_basic"},
    {"client_auth": "tls_client_auth", "cert": "c.pem"},
    {"client_auth": PrivateKeyJWT(late_key)},
    {"scope": 7},
]


@pytest.mark.parametrize("settings", WRONG, ids=name_of)
def test_settings_that_cannot_be_right(settings: dict[str, Any]) -> None:
    """Each is a ConfigurationError at once, which shows nothing of the key."""
    with pytest.raises(ConfigurationError) as caught:
        JWTBearerGrant(URL, **{"key": late_key(), "issuer": "robot", **settings})
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("make", ["jwt_bearer", "token_exchange"])
def test_a_secret_needs_a_client(make: str) -> None:
    """A client_secret with no client_id authenticates nobody, and is refused at once."""
    with pytest.raises(ConfigurationError, match="client_id"):
        ASKED_ANEW[make](URL, client_id=None, client_secret="hush")
