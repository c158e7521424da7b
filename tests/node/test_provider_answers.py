"""oidc-provider answers as the RFCs say: logins, clients, refreshes, revocation, discovery.

No code of the package runs here. What is shown here, the tests of the package may rely on.
"""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from tests.node.oidc import DEVICE_GRANT, Oidc, new_key

pytestmark = pytest.mark.node

CONFIDENTIAL = ["basic", "post", "secret_jwt", "private_key_jwt"]
CLIENTS = [*CONFIDENTIAL, "public"]
CREDENTIALS = {"grant_type": "client_credentials", "scope": "read"}


def error_of(reply: requests.Response, status: int = 400) -> str:
    """The OAuth error code in a reply of the token endpoint."""
    assert reply.status_code == status, reply.text
    return str(reply.json()["error"])


def start_device(oidc: Oidc, client: str = "public") -> tuple[dict[str, Any], dict[str, str]]:
    """A device authorization, and the form that asks for its token."""
    reply = oidc.ask({"scope": "openid read"}, client=client, url=oidc.device_url)
    assert reply.status_code == 200, reply.text
    given = reply.json()
    return given, {"grant_type": DEVICE_GRANT, "device_code": given["device_code"]}


def test_discovery(oidc: Oidc) -> None:
    """The metadata name the issuer exactly, and each endpoint that tests use (RFC 8414 3.3)."""
    reply = oidc.get(oidc.issuer + "/.well-known/openid-configuration")
    found = reply.json()
    assert found["issuer"] == oidc.issuer
    assert found["token_endpoint"] == oidc.token_url
    assert found["device_authorization_endpoint"] == oidc.device_url
    assert found["authorization_endpoint"] == oidc.authorization_url
    assert found["revocation_endpoint"] == oidc.revocation_url
    assert found["userinfo_endpoint"] == oidc.userinfo_url
    assert "ES256" in found["dpop_signing_alg_values_supported"]
    assert oidc.counts()["discoveries"] == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_login_by_code(oidc: Oidc, client: str) -> None:
    """A code and its verifier are good for a bearer token and a refresh token (RFC 7636 4.5)."""
    reply = oidc.login(client=client)
    assert reply["token_type"] == "Bearer"
    assert reply["expires_in"] == 300
    assert reply["refresh_token"]
    served = oidc.call("items", reply["access_token"])
    assert served.status_code == 200, served.text
    assert served.json()["client"] == oidc.clients[client].client_id
    assert served.json()["account"] == "alice"


def test_wrong_verifier(oidc: Oidc) -> None:
    """A code without the verifier that belongs to it is invalid_grant (RFC 7636 4.6)."""
    form = {
        "client_id": "public",
        "response_type": "code",
        "redirect_uri": "http://127.0.0.1:7/",
        "scope": "read",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
    }
    answer = oidc.authorize(f"{oidc.authorization_url}?{urlencode(form)}")
    assert answer["iss"] == oidc.issuer  # RFC 9207
    reply = oidc.ask(
        {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": form["redirect_uri"],
            "code_verifier": "v" * 43,
        }
    )
    assert error_of(reply) == "invalid_grant"


def test_alice_says_no(oidc: Oidc) -> None:
    """A refused authorization comes back as access_denied (RFC 6749 4.1.2.1)."""
    oidc.settings(deny=True)
    form = {
        "client_id": "public",
        "response_type": "code",
        "redirect_uri": "http://127.0.0.1:7/callback",
        "scope": "read",
        "state": "s",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
    }
    answer = oidc.authorize(f"{oidc.authorization_url}?{urlencode(form)}")
    assert answer["error"] == "access_denied"
    assert answer["state"] == "s"


@pytest.mark.parametrize("client", CONFIDENTIAL)
def test_client_credentials(oidc: Oidc, client: str) -> None:
    """Each way to authenticate gets a token, and no refresh token (RFC 6749 4.4.3)."""
    reply = oidc.ask(CREDENTIALS, client=client)
    assert reply.status_code == 200, reply.text
    assert "refresh_token" not in reply.json()
    assert oidc.call("items", reply.json()["access_token"]).status_code == 200


@pytest.mark.parametrize("key", [0, 1], ids=["ec", "rsa"])
@pytest.mark.parametrize("audience", ["issuer", "token_url"])
def test_signed_assertions(oidc: Oidc, key: int, audience: str) -> None:
    """Either key, either name of the provider: the assertion is good (RFC 7523 3)."""
    form, headers = oidc.authentication("private_key_jwt", key=key, aud=getattr(oidc, audience))
    assert oidc.post(oidc.token_url, {**CREDENTIALS, **form}, headers).status_code == 200


@pytest.mark.parametrize("client", ["secret_jwt", "private_key_jwt"])
def test_an_assertion_used_twice(oidc: Oidc, client: str) -> None:
    """The second use of an assertion is invalid_client (RFC 7523 3, jti)."""
    form, headers = oidc.authentication(client)
    assert oidc.post(oidc.token_url, {**CREDENTIALS, **form}, headers).status_code == 200
    again = oidc.post(oidc.token_url, {**CREDENTIALS, **form}, headers)
    assert error_of(again, 401) == "invalid_client"
    assert oidc.counts()["assertion_replays"] == 1


@pytest.mark.parametrize(
    "claims",
    [{"aud": "https://elsewhere.example"}, {"exp": 1}, {"iss": "another"}],
    ids=["audience", "expired", "issuer"],
)
@pytest.mark.parametrize("client", ["secret_jwt", "private_key_jwt"])
def test_wrong_assertions(oidc: Oidc, client: str, claims: dict[str, Any]) -> None:
    """An assertion for somebody else, too old, or by another is invalid_client (RFC 7523 3)."""
    form, headers = oidc.authentication(client, **claims)
    assert (
        error_of(oidc.post(oidc.token_url, {**CREDENTIALS, **form}, headers), 401)
        == "invalid_client"
    )


def test_basic_wants_its_parts_encoded(oidc: Oidc) -> None:
    """An id and secret that are not form-encoded are refused (RFC 6749 2.3.1)."""
    client = oidc.clients["basic"]
    assert client.client_secret is not None
    pair = f"{client.client_id}:{client.client_secret}".encode()
    headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    reply = oidc.post(oidc.token_url, CREDENTIALS, headers)
    assert error_of(reply) == "invalid_request"


def test_a_wrong_secret(oidc: Oidc) -> None:
    """A wrong secret is invalid_client with 401 (RFC 6749 5.2)."""
    form = {**CREDENTIALS, "client_id": "post", "client_secret": "wrong"}
    assert error_of(oidc.post(oidc.token_url, form), 401) == "invalid_client"


@pytest.mark.parametrize("client", CLIENTS)
def test_rotation_and_reuse(oidc: Oidc, client: str) -> None:
    """Each refresh rotates; a reuse ends the login, its newest tokens too (RFC 9700 4.14.2)."""
    first = oidc.login(client=client)
    oidc.reset()
    second = oidc.refresh(first["refresh_token"], client=client).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert oidc.call("items", second["access_token"]).status_code == 200
    assert error_of(oidc.refresh(first["refresh_token"], client=client)) == "invalid_grant"
    assert error_of(oidc.refresh(second["refresh_token"], client=client)) == "invalid_grant"
    assert oidc.call("items", second["access_token"]).status_code == 401
    counts = oidc.counts()
    assert counts["reuses"] == 1
    assert counts["refreshes"] == 1
    assert counts["refresh_requests"] == counts["token_requests"] == 3
    assert counts["refused"] == 2


def test_forty_refreshes_at_once(oidc: Oidc) -> None:
    """Of many uses of one refresh token at once one is served at most, and the login is over."""
    token = oidc.login()
    oidc.reset()
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: oidc.refresh(token["refresh_token"]), range(40)))
    (served,) = [reply.json() for reply in replies if reply.status_code == 200]
    assert error_of(oidc.refresh(served["refresh_token"])) == "invalid_grant"
    assert oidc.call("items", served["access_token"]).status_code == 401
    assert oidc.counts()["refreshes"] == oidc.counts()["reuses"] == 1


def test_logins_are_apart(oidc: Oidc) -> None:
    """A reuse ends one login, and no other of the same account and client."""
    one, other = oidc.login(), oidc.login()
    oidc.refresh(one["refresh_token"])
    assert error_of(oidc.refresh(one["refresh_token"])) == "invalid_grant"
    assert oidc.refresh(other["refresh_token"]).status_code == 200


def test_the_scope_of_a_refresh(oidc: Oidc) -> None:
    """A refresh may ask for less, and not for more than was granted (RFC 6749 6)."""
    form = {"grant_type": "refresh_token", "refresh_token": oidc.login()["refresh_token"]}
    assert error_of(oidc.ask({**form, "scope": "read write"})) == "invalid_scope"
    less = oidc.ask({**form, "scope": "read"})
    assert less.json()["scope"] == "read"


def test_another_clients_refresh_token(oidc: Oidc) -> None:
    """A refresh token is good for the client only that it was issued to (RFC 6749 6)."""
    refresh_token = oidc.login(client="post")["refresh_token"]
    assert error_of(oidc.refresh(refresh_token, client="basic")) == "invalid_grant"
    assert oidc.refresh(refresh_token, client="post").status_code == 200


def test_expire_and_end_logins(oidc: Oidc) -> None:
    """`expire` ends access tokens and leaves the login; `end_logins` ends both."""
    token = oidc.login()
    machine = oidc.ask(CREDENTIALS, client="post").json()
    oidc.expire()
    for dead in (token, machine):
        refused = oidc.call("items", dead["access_token"])
        assert refused.status_code == 401
        assert 'Bearer error="invalid_token"' in refused.headers["WWW-Authenticate"]
    token = oidc.refresh(token["refresh_token"]).json()
    assert oidc.call("items", token["access_token"]).status_code == 200
    oidc.end_logins()
    assert oidc.call("items", token["access_token"]).status_code == 401
    assert error_of(oidc.refresh(token["refresh_token"])) == "invalid_grant"


def test_lifetime(oidc: Oidc) -> None:
    """The lifetime that a test sets is the one that replies tell."""
    oidc.settings(lifetime=7)
    assert oidc.login()["expires_in"] == 7
    assert oidc.ask(CREDENTIALS, client="post").json()["expires_in"] == 7


@pytest.mark.parametrize("client", CLIENTS)
def test_revocation(oidc: Oidc, client: str) -> None:
    """A revoked refresh token ends the login; an unknown one is 200 too (RFC 7009 2.2)."""
    token = oidc.login(client=client)
    form = {"token": token["refresh_token"], "token_type_hint": "refresh_token"}
    for _ in range(2):
        reply = oidc.ask(form, client=client, url=oidc.revocation_url)
        assert reply.status_code == 200, reply.text
    assert error_of(oidc.refresh(token["refresh_token"], client=client)) == "invalid_grant"
    assert oidc.call("items", token["access_token"]).status_code == 401
    assert oidc.counts()["revocations"] == 2


def test_revocation_by_another_client(oidc: Oidc) -> None:
    """Who is not the client, or shows no secret, revokes nothing (RFC 7009 2.1)."""
    token = oidc.login(client="post")
    form = {"token": token["refresh_token"]}
    for reply in (
        oidc.ask(form, client="basic", url=oidc.revocation_url),
        oidc.post(oidc.revocation_url, {**form, "client_id": "post"}),
    ):
        assert reply.status_code in (400, 401)
    assert oidc.refresh(token["refresh_token"], client="post").status_code == 200
    assert oidc.counts()["revocations"] == 0


@pytest.mark.parametrize("client", CLIENTS)
def test_device_login(oidc: Oidc, client: str) -> None:
    """Pending until the code is confirmed, then a token; the code is good once (RFC 8628 3.5)."""
    given, form = start_device(oidc, client)
    assert given["verification_uri"] == oidc.issuer + "/device"
    assert given["user_code"] in given["verification_uri_complete"]
    assert error_of(oidc.ask(form, client=client)) == "authorization_pending"
    oidc.confirm(given["user_code"])
    token = oidc.ask(form, client=client).json()
    assert oidc.call("items", token["access_token"]).status_code == 200
    assert oidc.refresh(token["refresh_token"], client=client).status_code == 200
    assert error_of(oidc.ask(form, client=client)) == "invalid_grant"
    assert oidc.counts()["device_polls"] == 1


def test_device_login_refused(oidc: Oidc) -> None:
    """A no at the provider's page is access_denied at the token endpoint (RFC 8628 3.5)."""
    given, form = start_device(oidc)
    oidc.confirm(given["user_code"], deny=True)
    assert error_of(oidc.ask(form)) == "access_denied"


def test_resource_indicators(oidc: Oidc) -> None:
    """A token for a resource is good there, its refreshes too, and nowhere else (RFC 8707 2)."""
    token = oidc.login(resource=oidc.api, scope="openid read")
    served = oidc.call("items", token["access_token"])
    assert served.json()["audience"] == oidc.api
    refreshed = oidc.refresh(token["refresh_token"]).json()
    assert oidc.call("items", refreshed["access_token"]).json()["audience"] == oidc.api
    elsewhere = oidc.login(resource=oidc.other, scope="read")
    assert oidc.call("items", elsewhere["access_token"]).status_code == 401


def test_resource_of_client_credentials(oidc: Oidc) -> None:
    """`resource` of a request decides, and an unknown one is invalid_target (RFC 8707 2)."""
    token = oidc.ask({**CREDENTIALS, "resource": oidc.api}, client="post").json()
    assert oidc.call("items", token["access_token"]).json()["audience"] == oidc.api
    unknown = oidc.ask({**CREDENTIALS, "resource": "https://elsewhere.example/"}, client="post")
    assert error_of(unknown) == "invalid_target"


def test_scopes_at_the_api(oidc: Oidc) -> None:
    """A token of too little scope is 403 insufficient_scope (RFC 6750 3.1)."""
    read = oidc.login(scope="read")["access_token"]
    write = oidc.login(scope="read write")["access_token"]
    refused = oidc.call("write/items", read)
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
    assert oidc.call("write/items", write).status_code == 200


def test_a_request_without_a_token(oidc: Oidc) -> None:
    """No token: a challenge without an error code (RFC 6750 3.1)."""
    reply = oidc.get(oidc.api + "items")
    assert reply.status_code == 401
    assert reply.headers["WWW-Authenticate"].startswith("DPoP algs=")
    assert "error" not in reply.headers["WWW-Authenticate"]


def test_bound_client(oidc: Oidc) -> None:
    """A client registered for bound tokens gets none without a proof (RFC 9449 5.2)."""
    key = new_key()
    token = oidc.login(key, client="bound")
    assert token["token_type"] == "DPoP"
    bare = oidc.refresh(token["refresh_token"], client="bound")
    assert error_of(bare) == "invalid_grant"
    assert oidc.refresh(token["refresh_token"], client="bound", jwk=key).status_code == 200
