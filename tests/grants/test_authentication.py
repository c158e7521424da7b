"""How a client proves who it is: for every `client_auth`, what goes over the wire exactly."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from requests.auth import HTTPBasicAuth

from requests_refresh import (
    ConfigurationError,
    PrivateKeyJWT,
    RefreshTokenGrant,
    RefreshUnavailable,
    Token,
    TokenSource,
)
from requests_refresh.errors import RefreshError
from tests.grants.endpoint import PEM, Answer, EndpointServer, reset
from tests.grants.support import (
    ASSERTION_TYPE,
    ec_key,
    jwk_text,
    opened,
    pem_of,
    read,
    rsa_key,
)

OLD = Token("old-access", refresh_token="old-refresh")
REFRESH = {"grant_type": "refresh_token", "refresh_token": "old-refresh"}
LONG = "a client secret that is long enough: %/+ é"


def grant_for(server: EndpointServer, **settings: Any) -> RefreshTokenGrant:
    return RefreshTokenGrant(server.url, **{"client_id": "sync", **settings})


def late_key() -> str:
    return pem_of(ec_key())


def key_header(request: requests.PreparedRequest) -> requests.PreparedRequest:
    request.headers["X-Client"] = "sync"
    return request


BASIC = "Basic " + base64.b64encode(b"sync:hush").decode()
PLAIN: list[tuple[str, dict[str, Any], dict[str, str], dict[str, str]]] = [
    ("none", {}, {"client_id": "sync"}, {}),
    ("none said", {"client_auth": "none"}, {"client_id": "sync"}, {}),
    ("basic", {"client_secret": "hush"}, {}, {"Authorization": BASIC}),
    (
        "basic said",
        {"client_secret": "hush", "client_auth": "client_secret_basic"},
        {},
        {"Authorization": BASIC},
    ),
    (
        "post",
        {"client_secret": "hush", "client_auth": "client_secret_post"},
        {"client_id": "sync", "client_secret": "hush"},
        {},
    ),
    ("object", {"client_auth": key_header}, {"client_id": "sync"}, {"X-Client": "sync"}),
    (
        "requests' own",
        {"client_auth": HTTPBasicAuth("sync", "hush")},
        {"client_id": "sync"},
        {"Authorization": BASIC},
    ),
]


@pytest.mark.parametrize(
    ("settings", "fields", "headers"), [c[1:] for c in PLAIN], ids=[c[0] for c in PLAIN]
)
def test_what_goes_out(
    server: EndpointServer,
    settings: dict[str, Any],
    fields: dict[str, str],
    headers: dict[str, str],
) -> None:
    """The form has these fields and no others, and no header says more (RFC 6749 section 2.3)."""
    server.will(Answer())
    grant_for(server, **settings)(OLD)
    assert server.only.form == {**REFRESH, **fields}
    more = {"Authorization", "X-Client", "Cookie", "Dpop"} & server.only.headers.keys()
    assert {name: server.only.headers[name] for name in more} == headers


@pytest.mark.parametrize("way", ["tls_client_auth", "self_signed_tls_client_auth"])
def test_a_certificate_needs_the_id_only(server: EndpointServer, way: str) -> None:
    """RFC 8705 section 2: the client_id is in the form, and nothing else is there to prove it."""
    server.will(Answer())
    grant_for(server, client_auth=way, cert=str(PEM))(OLD)
    assert server.only.form == {**REFRESH, "client_id": "sync"}
    assert "Authorization" not in server.only.headers


def asserted(server: EndpointServer, number: int = 0) -> str:
    """The assertion in that request, all else of which is as it should be."""
    form = server.seen[number].form
    assertion = form.pop("client_assertion")
    expected = {**REFRESH, "client_id": "sync", "client_assertion_type": ASSERTION_TYPE}
    assert form == expected
    assert "Authorization" not in server.seen[number].headers
    return assertion


def assert_claims(claims: dict[str, Any], server: EndpointServer, lifetime: int = 60) -> None:
    assert claims.keys() == {"iss", "sub", "aud", "iat", "exp", "jti"}
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("sync", "sync", server.url)
    assert isinstance(claims["iat"], int)
    assert time.time() - 60 < claims["iat"] <= time.time()
    assert claims["exp"] == claims["iat"] + lifetime
    assert len(claims["jti"]) >= 16


def test_client_secret_jwt(server: EndpointServer) -> None:
    """The secret signs, HS256 over its bytes, and is itself nowhere (RFC 7523 section 2.2)."""
    server.will(Answer())
    grant_for(server, client_secret=LONG, client_auth="client_secret_jwt")(OLD)
    assertion = opened(asserted(server), OctKey.import_key(LONG), "HS256")
    assert assertion.header == {"typ": "JWT", "alg": "HS256"}
    assert_claims(assertion.claims, server)
    assert b"secret" not in server.only.body.partition(b"client_assertion=")[2]


def test_a_secret_that_rotates_signs_at_once(server: EndpointServer) -> None:
    """A function for the secret is asked at each attempt, for signatures too."""
    secrets = [LONG, LONG + " and new"]
    grant = grant_for(
        server, client_secret=lambda: secrets[len(server.seen)], client_auth="client_secret_jwt"
    )
    server.will(Answer(), Answer())
    for number, secret in enumerate(secrets):
        grant(OLD)
        opened(asserted(server, number), OctKey.import_key(secret), "HS256")


@pytest.mark.parametrize("secret", ["short", "-----BEGIN of a long secret", "ssh-rsa and so on"])
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_any_secret_signs(server: EndpointServer, secret: str) -> None:
    """A secret is what the provider gave, and it signs without a word of how good it is."""
    server.will(Answer())
    grant_for(server, client_secret=secret, client_auth="client_secret_jwt")(OLD)
    assert read(asserted(server))[0]["alg"] == "HS256"


def test_private_key_jwt(server: EndpointServer) -> None:
    """iss and sub are the client, aud the token endpoint, exp a minute on (RFC 7523 section 3)."""
    server.will(Answer())
    grant_for(server, client_auth=PrivateKeyJWT(pem_of(ec_key())))(OLD)
    assertion = opened(asserted(server), ec_key())
    assert assertion.header == {"typ": "JWT", "alg": "ES256"}
    assert_claims(assertion.claims, server)


def test_private_key_jwt_as_a_provider_wants_it(server: EndpointServer) -> None:
    """Audience, lifetime, algorithm, the key's id and more of a header are as they are given."""
    server.will(Answer())
    auth = PrivateKeyJWT(
        pem_of(rsa_key()),
        algorithm="RS256",
        key_id="k1",
        audience="https://issuer.example",
        lifetime=300,
        header={"x5t#S256": "thumb"},
    )
    grant_for(server, client_auth=auth)(OLD)
    header, claims = read(asserted(server))
    assert header == {"typ": "JWT", "alg": "RS256", "kid": "k1", "x5t#S256": "thumb"}
    assert (claims["aud"], claims["exp"] - claims["iat"]) == ("https://issuer.example", 300)


ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), rsa_key),
    "ES256": ec_key,
    "ES384": lambda: ec_key("P-384"),
    "ES512": lambda: ec_key("P-521"),
    "EdDSA": lambda: OKPKey.generate_key("Ed25519"),
}


@pytest.mark.parametrize(("algorithm", "make"), ALGORITHMS.items(), ids=ALGORITHMS.keys())
@pytest.mark.parametrize("said", [True, False], ids=["said", "by the JWK"])
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # and still what servers know it by
def test_algorithms(
    server: EndpointServer, algorithm: str, make: Callable[[], Any], said: bool
) -> None:
    """Each algorithm of RFC 7518 that fits a private key signs what that key opens."""
    key = make()
    jwk = key.as_dict(private=True) | ({} if said else {"alg": algorithm})
    auth = PrivateKeyJWT(jwk, algorithm=algorithm if said else None)
    server.will(Answer())
    grant_for(server, client_auth=auth)(OLD)
    assert opened(asserted(server), key, algorithm).header["alg"] == algorithm


@pytest.mark.parametrize(
    "key", [late_key(), jwk_text(ec_key()), ec_key().as_dict(private=True), late_key], ids=range(4)
)
def test_forms_of_a_key(server: EndpointServer, key: Any) -> None:
    """PEM, JWK as a text or a mapping, and a function sign alike."""
    server.will(Answer())
    grant_for(server, client_auth=PrivateKeyJWT(key))(OLD)
    assert_claims(opened(asserted(server), ec_key()).claims, server)


def test_a_jwk_brings_its_id(server: EndpointServer) -> None:
    """The `kid` of a JWK goes along, unless another is named."""
    jwk = {**ec_key().as_dict(private=True), "kid": "own"}
    for number, (key_id, sent) in enumerate([(None, "own"), ("other", "other")]):
        server.will(Answer())
        grant_for(server, client_auth=PrivateKeyJWT(jwk, key_id=key_id))(OLD)
        assert opened(asserted(server, number), ec_key()).header["kid"] == sent


def test_every_attempt_has_a_jti_of_its_own(server: EndpointServer) -> None:
    """A retry within a round proves anew: no assertion goes over the wire twice."""
    server.will(reset, Answer(503, ""), Answer(), Answer())
    tokens = TokenSource(grant_for(server, client_auth=PrivateKeyJWT(late_key)), token=OLD)
    first = tokens.renew(OLD)
    assert first.access_token == "new-access"
    tokens.renew(tokens.token())
    sent = [opened(asserted(server, n), ec_key()).claims["jti"] for n in range(3)]
    assert len(set(sent)) == 3
    assert len({read(request.form["client_assertion"])[1]["jti"] for request in server.seen}) == 4


def test_a_key_that_rotates(server: EndpointServer) -> None:
    """A function for the key is asked at each attempt, so a new key counts at once."""
    keys: list[ECKey | RSAKey] = [ec_key(), rsa_key()]
    grant = grant_for(
        server, client_auth=PrivateKeyJWT(lambda: pem_of(keys[min(len(server.seen), 1)]))
    )
    server.will(Answer(), Answer())
    grant(OLD)
    grant(OLD)
    opened(asserted(server, 0), keys[0])
    opened(asserted(server, 1), keys[1], "RS256")


RUBBISH: list[Any] = ["CANARY", "", "{}", '{"kty": []}', 7, None, b"CANARY", "[" * 100_000]


@pytest.mark.parametrize("number", range(len(RUBBISH)))
def test_a_function_that_returns_rubbish(server: EndpointServer, number: int) -> None:
    """What a function for a key returns is looked at before anything is sent."""
    grant = grant_for(server, client_auth=PrivateKeyJWT(lambda: RUBBISH[number]))
    with pytest.raises(ConfigurationError, match="The login is intact") as caught:
        grant(OLD)
    assert "CANARY" not in str(caught.value)
    assert server.seen == []


def test_a_function_that_fails(server: EndpointServer) -> None:
    """What it raises is the cause of the error, and nothing is sent."""

    def no_key() -> str:
        raise requests.ConnectionError("the vault is down")

    with pytest.raises(RefreshUnavailable):
        grant_for(server, client_auth=PrivateKeyJWT(no_key))(OLD)

    def no_idea() -> str:
        raise LookupError("no key")

    with pytest.raises(RefreshError, match="LookupError"):
        grant_for(server, client_auth=PrivateKeyJWT(no_idea))(OLD)
    assert server.seen == []
