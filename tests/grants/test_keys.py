"""Keys that cannot sign are refused at once; those that can stay out of pickles and messages."""

from __future__ import annotations

import copy
import pickle
import sys
import traceback
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc.jwk import ECKey, OKPKey

from requests_refresh import (
    ConfigurationError,
    JWTBearerGrant,
    PrivateKeyJWT,
    RefreshTokenGrant,
    Token,
)
from tests.adapter.support import name_of
from tests.grants.endpoint import Answer, EndpointServer
from tests.grants.support import ec_key, jwk_text, pem_of, rsa_key

URL = "https://auth.example.com/token"
OLD = Token("old-access", refresh_token="old-refresh")
JWK: dict[str, Any] = dict(ec_key().as_dict(private=True))


def late_key() -> str:
    return pem_of(ec_key())


def encrypted() -> str:
    return (
        ec_key()
        .private_key.private_bytes(  # type: ignore[union-attr] # it is a private key
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"CANARY"),
        )
        .decode()
    )


def key_forms(key: Any) -> tuple[Any, Any]:
    return key.as_pem(private=True).decode(), key.as_dict(private=True)


RUBBISH: dict[str, Any] = {
    "no text": b"CANARY",
    "nothing": None,
    "empty": "",
    "a word": "CANARY",
    "half a PEM": pem_of(ec_key())[:-60],
    "public PEM": ec_key().as_pem(private=False).decode(),
    "public JWK": ec_key().as_dict(private=False),
    "encrypted": encrypted(),
    "empty JWK": {},
    "JWK of a secret": {"kty": "oct", "k": "Q0FOQVJZ"},
    "JWK of no kind": {"kty": "CANARY"},
    "JWK of a list": {"kty": []},
    "half a JWK": {**JWK, "d": None},
    "broken JWK": {**JWK, "d": "CANARY"},
    "no JSON": {**JWK, "more": {1}},
    "JSON of a list": "[]",
    "deep": '{"kty":' * 100_000,
    "secp256k1": ECKey.generate_key("secp256k1").as_dict(private=True),
}


@pytest.mark.parametrize("key", RUBBISH.values(), ids=RUBBISH.keys())
def test_what_is_no_key(key: Any) -> None:
    """A ConfigurationError at construction, with no key in its message or its frames."""
    with pytest.raises(ConfigurationError, match="key") as caught:
        PrivateKeyJWT(key)
    assert_no_key(caught.value)


def assert_no_key(error: BaseException) -> None:
    assert error.__traceback__ is not None
    below = error.__traceback__.tb_next
    shown = traceback.TracebackException(type(error), error, below, capture_locals=True)
    text = "".join(shown.format())
    assert not [word for word in ("CANARY", "PRIVATE KEY", JWK["d"]) if word in text]


X25519, ED25519 = OKPKey.generate_key("X25519"), OKPKey.generate_key("Ed25519")
UNFIT: dict[str, tuple[Any, Any]] = {
    "RSA for EC": (pem_of(rsa_key()), "ES256"),
    "EC for RSA": (late_key(), "RS256"),
    "no algorithm": (late_key(), "none"),
    "a secret's": (late_key(), "HS256"),
    "a number": (late_key(), 7),
    "JWK for RSA": ({**JWK, "alg": "RS256"}, None),
    "several": (late_key(), ["ES256"]),
    "other curve": (ec_key("P-384").as_dict(private=True), "ES256"),
    "other curve, PEM": (pem_of(ec_key("P-384")), "ES512"),
    "other curve by the JWK": ({**ec_key("P-384").as_dict(private=True), "alg": "ES256"}, None),
    "for agreement": (X25519.as_dict(private=True), None),
    "for agreement, PEM": (X25519.as_pem(private=True).decode(), None),
    "to encrypt": ({**JWK, "use": "enc"}, None),
    "to verify": ({**JWK, "key_ops": ["verify"]}, None),
}


@pytest.mark.parametrize(("key", "algorithm"), UNFIT.values(), ids=UNFIT.keys())
def test_a_key_that_cannot_sign_so(key: Any, algorithm: Any) -> None:
    """A private key that does not fit its algorithm or its use is refused at construction."""
    with pytest.raises(ConfigurationError, match="The key cannot be used") as caught:
        PrivateKeyJWT(key, algorithm=algorithm)
    assert_no_key(caught.value)


WRONG: list[dict[str, Any]] = [
    {"audience": ""},
    {"audience": 7},
    {"audience": "a\nb"},
    {"lifetime": 0},
    {"lifetime": -1},
    {"lifetime": True},
    {"lifetime": float("nan")},
    {"key_id": ""},
    {"key_id": 7},
    {"header": ["x"]},
    {"header": {"alg": "none"}},
    {"header": {"typ": "x"}},
    {"header": {"x": {1}}},
    {"header": {"x": float("nan")}},
]


@pytest.mark.parametrize("settings", WRONG, ids=name_of)
def test_settings_that_cannot_be_right(settings: dict[str, Any]) -> None:
    """Each is a ConfigurationError at once, and no frame shows the key."""
    with pytest.raises(ConfigurationError) as caught:
        PrivateKeyJWT(late_key(), **settings)
    assert_no_key(caught.value)


def test_client_auth_takes_the_key_itself() -> None:
    """The name of the way is not enough, and the message says what to write."""
    with pytest.raises(ConfigurationError, match=r"PrivateKeyJWT\(key\)"):
        RefreshTokenGrant("https://a.example/t", client_id="c", client_auth="private_key_jwt")
    with pytest.raises(ConfigurationError, match="client_secret would not be used"):
        RefreshTokenGrant(
            "https://a.example/t",
            client_id="c",
            client_secret="s",
            client_auth=PrivateKeyJWT(late_key()),
        )


@pytest.mark.parametrize("key", [late_key(), jwk_text(ec_key()), JWK], ids=["PEM", "text", "JWK"])
def test_a_pickle_leaves_the_key_behind(server: EndpointServer, key: Any) -> None:
    """I9, I14: a key does not travel, and what is unpickled says so when it is used."""
    grant = RefreshTokenGrant(server.url, client_id="sync", client_auth=PrivateKeyJWT(key))
    data = pickle.dumps(grant)
    assert b"PRIVATE" not in data
    assert JWK["d"].encode() not in data
    again = pickle.loads(data)  # noqa: S301 # made above
    assert repr(again) == repr(grant)
    with pytest.raises(ConfigurationError, match="key was left behind when this grant was pickled"):
        again(OLD)
    assert server.seen == []


def test_a_function_for_the_key_travels(server: EndpointServer) -> None:
    """I14: what reads the key late travels by its name, and signs on the other side."""
    grant = RefreshTokenGrant(server.url, client_id="sync", client_auth=PrivateKeyJWT(late_key))
    server.will(Answer())
    assert pickle.loads(pickle.dumps(grant))(OLD).access_token == "new-access"  # noqa: S301 # made here


def test_a_copy_has_the_key(server: EndpointServer) -> None:
    """I14: copies stay in this process, so they keep it."""
    grant = RefreshTokenGrant(server.url, client_id="sync", client_auth=PrivateKeyJWT(late_key()))
    for again in (copy.copy(grant), copy.deepcopy(grant)):
        server.will(Answer())
        assert again(OLD).access_token == "new-access"


def test_what_signs_without_joserfc(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the extra is missing the error names it; who signs with a key learns it at once."""
    monkeypatch.setitem(sys.modules, "joserfc.jwk", None)
    for make in (PrivateKeyJWT, partial(JWTBearerGrant, server.url, issuer="robot")):
        with pytest.raises(ConfigurationError, match=r"requests_refresh\[jwt\]"):
            make(key=late_key())
    grant = RefreshTokenGrant(
        server.url, client_id="c", client_secret="s", client_auth="client_secret_jwt"
    )
    with pytest.raises(ConfigurationError, match=r"requests_refresh\[jwt\]"):
        grant(OLD)
    assert server.seen == []


@pytest.mark.parametrize(
    "make",
    [
        PrivateKeyJWT,
        partial(JWTBearerGrant, URL, issuer="robot"),
    ],
    ids=["auth", "grant"],
)
def test_no_key_in_a_frame_without_joserfc(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """I9: the error of a missing extra shows nothing of the key either."""
    monkeypatch.setitem(sys.modules, "joserfc.jwk", None)
    with pytest.raises(ConfigurationError) as caught:
        make(key=pem_of(ec_key()))
    assert_no_key(caught.value)


def test_what_repr_shows() -> None:
    """I9: a repr names the way, and nothing of the key."""
    auth = PrivateKeyJWT(late_key(), header={"x": "y"})
    assert repr(auth) == "<PrivateKeyJWT>"
    grant = RefreshTokenGrant("https://a.example/t", client_id="c", client_auth=auth)
    assert repr(grant).endswith("client_auth='PrivateKeyJWT')")
    kept = [*vars(auth).values(), *vars(vars(auth)["_key"]).values()]
    assert not [value for value in kept if "PRIVATE" in repr(value)]
