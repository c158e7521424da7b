"""What Authlib's server answers, shown with plain requests: later tests may trust it.

`test_servers_flows.py` goes on with the flows that a person takes part in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from .asking import EXCHANGE, JWT_BEARER, assertion, authentication, error, token
from .servers import AuthlibServer

METHODS = [
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "none",
]
CONFIDENTIAL = METHODS[:-1]


def refresh(server: AuthlibServer, refresh_token: str, **more: Any) -> requests.Response:
    return token(server, grant_type="refresh_token", refresh_token=refresh_token, **more)


@pytest.mark.parametrize("method", METHODS)
def test_a_refresh_rotates_with_every_client_authentication(
    authlib: AuthlibServer, method: str
) -> None:
    """A refresh token gets a new pair, by each way to authenticate (RFC 6749 section 6)."""
    old = authlib.login(method)
    reply = refresh(authlib, old["refresh_token"], method=method)
    new = reply.json()
    assert reply.status_code == 200
    assert new["token_type"] == "Bearer"
    assert new["expires_in"] == 3600
    assert new["refresh_token"] != old["refresh_token"]
    assert authlib.get(new["access_token"]).json()["user"] == authlib.user
    counts = authlib.counts()
    assert (counts.requests, counts.issued) == ({"refresh_token": 1}, {"refresh_token": 1})
    assert (counts.refreshes, counts.reuses, counts.served) == (1, 0, 1)


def test_a_used_refresh_token_ends_the_login(authlib: AuthlibServer) -> None:
    """Reuse is `invalid_grant`, and no token of that login is good any more."""
    old = authlib.login()
    other = authlib.login()
    new = refresh(authlib, old["refresh_token"]).json()
    assert error(refresh(authlib, old["refresh_token"])) == (400, "invalid_grant")
    assert authlib.get(new["access_token"]).status_code == 401
    assert error(refresh(authlib, new["refresh_token"])) == (400, "invalid_grant")
    assert authlib.counts().reuses == 1
    assert authlib.get(other["access_token"]).status_code == 200


def test_a_refresh_token_serves_one_of_many_at_once(authlib: AuthlibServer) -> None:
    """Of eight uses at the same moment one is the first; each of the others is a reuse."""
    old = authlib.login()
    together = threading.Barrier(8, timeout=30)

    def use(_: int) -> int:
        together.wait()
        return refresh(authlib, old["refresh_token"]).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(use, range(8)))
    assert statuses == [200] + [400] * 7
    assert (authlib.counts().refreshes, authlib.counts().reuses) == (1, 7)


def test_a_refresh_may_narrow_the_scope_and_not_widen_it(authlib: AuthlibServer) -> None:
    """The measure is what was granted, after a narrow refresh too (RFC 6749 section 6)."""
    first = authlib.login(scope="read write")
    narrow = refresh(authlib, first["refresh_token"], scope="read").json()
    assert narrow["scope"] == "read"
    again = refresh(authlib, narrow["refresh_token"]).json()
    assert again["scope"] == "read write"
    wide = refresh(authlib, again["refresh_token"], scope="read admin")
    assert error(wide) == (400, "invalid_scope")
    assert authlib.counts().refreshes == 2


def test_a_client_has_only_its_own_refresh_tokens(authlib: AuthlibServer) -> None:
    """Another client's refresh token is `invalid_grant`, and the login lives on."""
    old = authlib.login("client_secret_basic")
    refused = refresh(authlib, old["refresh_token"], method="client_secret_post")
    assert error(refused) == (400, "invalid_grant")
    assert refresh(authlib, old["refresh_token"]).status_code == 200


@pytest.mark.parametrize("method", CONFIDENTIAL)
def test_client_credentials(authlib: AuthlibServer, method: str) -> None:
    """A confidential client gets a token for itself, and no refresh token."""
    reply = token(authlib, method=method, grant_type="client_credentials", scope="read")
    assert reply.status_code == 200
    assert "refresh_token" not in reply.json()
    served = authlib.get(reply.json()["access_token"]).json()
    assert (served["user"], served["client"]) == (None, authlib.client_id(method))


def test_a_public_client_has_no_client_credentials(authlib: AuthlibServer) -> None:
    """Who cannot authenticate is `invalid_client` (RFC 6749 section 4.4)."""
    reply = token(authlib, method="none", grant_type="client_credentials")
    assert error(reply) == (401, "invalid_client")


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_wrong_secret_is_refused(authlib: AuthlibServer, method: str) -> None:
    """Wrong credentials are `invalid_client` with a 401 (RFC 6749 section 5.2)."""
    reply = token(authlib, method=method, secret="wrong", grant_type="client_credentials")
    assert error(reply) == (401, "invalid_client")
    assert authlib.counts().issued == {}


def test_a_client_has_only_its_own_method(authlib: AuthlibServer) -> None:
    """Right credentials by a method that was not agreed on are `invalid_client`."""
    form = {
        "grant_type": "client_credentials",
        "client_id": authlib.client_id("client_secret_basic"),
        "client_secret": authlib.client_secret("client_secret_basic"),
    }
    reply = token(authlib, method=None, **form)
    assert error(reply) == (401, "invalid_client")


def test_two_authentications_are_refused(authlib: AuthlibServer) -> None:
    """One request authenticates by one method (RFC 6749 section 2.3)."""
    reply = token(authlib, grant_type="client_credentials", client_secret="more")
    assert error(reply) == (400, "invalid_request")


def test_a_parameter_sent_twice_is_refused(authlib: AuthlibServer) -> None:
    """Parameters come once (RFC 6749 section 3.2)."""
    reply = token(authlib, grant_type="client_credentials", scope=["read", "write"])
    assert error(reply) == (400, "invalid_request")


Claims = Callable[[AuthlibServer], dict[str, Any]]
BAD_CLAIMS: dict[str, Claims] = {
    "another's audience": lambda server: {"aud": "https://elsewhere.example/token"},
    "expired": lambda server: {"lifetime": -10},
    "lives too long": lambda server: {"lifetime": 7200},
    "no audience": lambda server: {"aud": None},
    "no end": lambda server: {"exp": None},
    "another subject": lambda server: {"sub": "somebody"},
}


@pytest.mark.parametrize("wrong", [*BAD_CLAIMS, "no id"])
@pytest.mark.parametrize("method", ["client_secret_jwt", "private_key_jwt"])
def test_a_wrong_client_assertion_is_refused(
    authlib: AuthlibServer, method: str, wrong: str
) -> None:
    """Each claim of a client assertion is checked (RFC 7523 section 3)."""
    claims = {"jti": None} if wrong == "no id" else BAD_CLAIMS[wrong](authlib)
    reply = token(authlib, method=method, claims=claims, grant_type="client_credentials")
    assert reply.json()["error"] == "invalid_client"


@pytest.mark.parametrize("method", ["client_secret_jwt", "private_key_jwt"])
def test_a_client_assertion_serves_once(authlib: AuthlibServer, method: str) -> None:
    """A `jti` that came before is refused (RFC 7523 section 3)."""
    proof = authentication(authlib, method)
    first, second = (token(authlib, **proof, grant_type="client_credentials") for _ in range(2))
    assert (first.status_code, second.json()["error"]) == (200, "invalid_client")
    assert (authlib.counts().jtis, authlib.counts().repeated_jtis) == (1, 1)


@pytest.mark.parametrize("key_id", ["named", None])
@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_both_keys_sign_with_and_without_their_id(
    authlib: AuthlibServer, kind: str, key_id: str | None
) -> None:
    """RS256 and ES256 are checked with the key that the client registered."""
    signed = assertion(authlib, kind=kind, key_id=kind if key_id else None)
    proof = authentication(authlib, "private_key_jwt", signed)
    reply = token(authlib, **proof, grant_type="client_credentials")
    assert reply.status_code == 200


def test_an_assertion_is_a_grant(authlib: AuthlibServer) -> None:
    """A signed assertion is exchanged for the subject's token (RFC 7523 section 2.1)."""
    signed = assertion(authlib, sub=authlib.user)
    reply = token(authlib, method=None, grant_type=JWT_BEARER, assertion=signed, scope="read")
    assert reply.status_code == 200
    assert "refresh_token" not in reply.json()
    assert authlib.get(reply.json()["access_token"]).json()["user"] == authlib.user


@pytest.mark.parametrize("wrong", BAD_CLAIMS)
def test_a_wrong_assertion_grant_is_refused(authlib: AuthlibServer, wrong: str) -> None:
    """What is wrong with the assertion is `invalid_grant` (RFC 7523 section 3.1)."""
    claims = {"sub": authlib.user, **BAD_CLAIMS[wrong](authlib)}
    signed = assertion(authlib, **claims)
    reply = token(authlib, method=None, grant_type=JWT_BEARER, assertion=signed)
    assert error(reply) == (400, "invalid_grant")


def test_an_assertion_grant_needs_a_subject_and_serves_once(authlib: AuthlibServer) -> None:
    """No subject is `invalid_grant`, and so is a `jti` that came before."""
    form = {"method": None, "grant_type": JWT_BEARER}
    nobody = token(authlib, **form, assertion=assertion(authlib, sub=None))
    assert error(nobody) == (400, "invalid_grant")
    signed = assertion(authlib)  # for the client itself
    assert token(authlib, **form, assertion=signed).status_code == 200
    assert error(token(authlib, **form, assertion=signed)) == (400, "invalid_grant")


@pytest.mark.parametrize("name", ["resource", "audience"])
def test_a_token_is_good_for_its_target_only(authlib: AuthlibServer, name: str) -> None:
    """What was asked for binds the token's audience (RFC 8707 section 2)."""
    ours = authlib.api if name == "resource" else "items-api"
    elsewhere = "https://elsewhere.example/"
    for target, wanted in [(ours, 200), (elsewhere, 401), ([elsewhere, ours], 200)]:
        reply = token(authlib, grant_type="client_credentials", **{name: target})
        assert authlib.get(reply.json()["access_token"]).status_code == wanted
    assert authlib.last()[name] == [elsewhere, ours]


def test_a_target_that_is_no_uri_or_was_not_granted_is_refused(authlib: AuthlibServer) -> None:
    """Both are `invalid_target`, and the refresh token is not spent (RFC 8707 section 2)."""
    reply = token(authlib, grant_type="client_credentials", resource="items")
    assert error(reply) == (400, "invalid_target")
    login = authlib.login(audience=[authlib.api, "https://b.example/"])
    wrong = refresh(authlib, login["refresh_token"], resource="https://c.example/")
    assert error(wrong) == (400, "invalid_target")
    narrow = refresh(authlib, login["refresh_token"], resource="https://b.example/").json()
    assert authlib.get(narrow["access_token"]).status_code == 401
    whole = refresh(authlib, narrow["refresh_token"]).json()
    assert authlib.get(whole["access_token"]).status_code == 200


def test_a_token_is_exchanged(authlib: AuthlibServer) -> None:
    """A living token gets another for the same user, no wider than it (RFC 8693 section 2)."""
    kind = "urn:ietf:params:oauth:token-type:access_token"
    subject = {"subject_token": authlib.login(scope="read")["access_token"]}
    form = {"grant_type": EXCHANGE, "subject_token_type": kind, "audience": "items-api"}
    reply = token(authlib, **form, **subject)
    assert reply.status_code == 200
    assert reply.json()["issued_token_type"] == kind
    served = authlib.get(reply.json()["access_token"]).json()
    assert (served["user"], served["audience"]) == (authlib.user, ["items-api"])
    wide = token(authlib, **form, **subject, scope="read write")
    assert error(wide) == (400, "invalid_scope")
    assert error(token(authlib, **form, subject_token="x")) == (400, "invalid_request")
    untyped = token(authlib, grant_type=EXCHANGE, **subject)
    assert error(untyped) == (400, "invalid_request")
    authlib.expire()
    assert error(token(authlib, **form, **subject)) == (400, "invalid_request")
