"""A proof by itself: what it says, by which keys, and that none is ever made twice (RFC 9449 4)."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from joserfc.jwk import ECKey, OKPKey, RSAKey

from requests_refresh import ConfigurationError, DPoP, Token
from requests_refresh.signing import Signer, new_jwk, nonce_in, proof, signer_of
from tests.adapter.conftest import Mount
from tests.adapter.support import crowd
from tests.dpop.conftest import grant_for, source_for
from tests.dpop.programs import claims
from tests.dpop.server import FIXED, DPoPServer
from tests.dpop.verifier import PUBLIC, decoded, verified

KEYS: dict[str, Any] = {
    "P-256": ECKey.generate_key("P-256"),
    "RSA": RSAKey.generate_key(2048),
    "P-384": ECKey.generate_key("P-384"),
    "P-521": ECKey.generate_key("P-521"),
    "Ed25519": OKPKey.generate_key("Ed25519"),
    "Ed448": OKPKey.generate_key("Ed448"),
}
NEW: Any = new_jwk()


def jwk_of(name: str, **more: Any) -> dict[str, Any]:
    return {**KEYS[name].as_dict(private=True), **more}


def pem_of(name: str, form: str = "PKCS8", password: bytes | None = None) -> str:
    hidden = serialization.NoEncryption() if password is None else None
    text: bytes = KEYS[name].private_key.private_bytes(
        serialization.Encoding.PEM,
        getattr(serialization.PrivateFormat, form),
        hidden or serialization.BestAvailableEncryption(password or b""),
    )
    return text.decode()


def signer(key: Any, algorithm: str | None = None) -> Signer:
    made = signer_of(key, algorithm)
    assert isinstance(made, Signer)
    return made


URLS = {
    "https://api.example.com": "https://api.example.com/",
    "https://api.example.com:443/a": "https://api.example.com/a",
    "http://127.0.0.1:80/a": "http://127.0.0.1/a",
    "https://api.example.com:80/a": "https://api.example.com:80/a",
    "http://localhost:443/a": "http://localhost:443/a",
    "https://API.Example.com/A?b=/c#d": "https://api.example.com/A",
    "https://u:p@api.example.com/a;b": "https://api.example.com/a;b",
    "https://u%40x@api.example.com:8443/": "https://api.example.com:8443/",
    "http://[::1]:8080/a?b": "http://[::1]:8080/a",
    "http://[::1]:80": "http://[::1]/",
    "https://api.example.com/?": "https://api.example.com/",
    "https://api.example.com/a%2Fb%20c/": "https://api.example.com/a%2Fb%20c/",
}


@pytest.mark.parametrize(("url", "htu"), URLS.items(), ids=URLS)
def test_the_url_that_is_proved(url: str, htu: str) -> None:
    """`htu` is the origin that is asked and the path: no query, fragment, user, default port."""
    assert claims(proof(signer(NEW), "GET", url, nonce=None))["htu"] == htu


def test_what_a_proof_says() -> None:
    """Type, algorithm and public key; method, URL, time and `jti`; nonce and `ath` where due."""
    before = int(time.time())
    text = proof(signer(NEW), "PUT", "https://a.example/x?y", nonce="n", access_token="t")
    header = json.loads(decoded(text.split(".")[0]))
    assert header == {
        "typ": "dpop+jwt",
        "alg": "ES256",
        "jwk": {name: NEW[name] for name in ("kty", "crv", "x", "y")},
    }
    said = claims(text)
    assert sorted(said) == ["ath", "htm", "htu", "iat", "jti", "nonce"]
    assert before <= int(str(said["iat"])) <= time.time()
    verified(text, "PUT", "https://a.example/x", "t")
    bare = claims(proof(signer(NEW), "POST", "https://a.example/", nonce=None))
    assert sorted(bare) == ["htm", "htu", "iat", "jti"]


@pytest.mark.parametrize(
    "name",
    [
        "P-256",
        "RSA",
        "P-384",
        "P-521",
        "Ed25519",
    ],
)
def test_any_key_of_a_login(server: DPoPServer, mount: Mount, name: str) -> None:
    """A login that was bound to another key than ours would be is proved and refreshed with it."""
    server.wants(FIXED, FIXED)
    login = server.login(jwk_of(name))
    login["dpop_jwk"] |= {"kid": "a name", "use": "sig"}
    session = mount(source_for(server, token=login), server.url, scheme=DPoP())
    assert session.get(server.url, timeout=30).status_code == 200
    server.revoke()
    assert session.get(server.url, timeout=30).status_code == 200
    assert server.counts["refreshes"] == 1


GOOD: dict[str, tuple[Any, str | None, str]] = {
    "P-256 PEM": (pem_of("P-256"), None, "ES256"),
    "P-256 SEC 1": (pem_of("P-256", "TraditionalOpenSSL"), None, "ES256"),
    "P-256 JSON": (json.dumps(jwk_of("P-256")), None, "ES256"),
    "P-256 in lines": ("\n" + pem_of("P-256") + "\n\n", "ES256", "ES256"),
    "RSA PEM": (pem_of("RSA"), None, "RS256"),
    "RSA PKCS 1": (pem_of("RSA", "TraditionalOpenSSL"), None, "RS256"),
    "RSA JWK": (jwk_of("RSA"), None, "RS256"),
}
OTHERS: dict[str, tuple[Any, str | None, str]] = {
    "RSA PS256": (pem_of("RSA"), "PS256", "PS256"),
    "RSA RS512": (jwk_of("RSA"), "RS512", "RS512"),
    "RSA by the JWK": (jwk_of("RSA", alg="PS384"), None, "PS384"),
    "P-384 PEM": (pem_of("P-384"), None, "ES384"),
    "P-384 JWK": (jwk_of("P-384"), "ES384", "ES384"),
    "P-521 PEM": (pem_of("P-521"), None, "ES512"),
    "P-521 JWK": (jwk_of("P-521"), None, "ES512"),
    "Ed25519 PEM": (pem_of("Ed25519"), None, "EdDSA"),
    "Ed25519 JWK": (jwk_of("Ed25519"), None, "EdDSA"),
    "Ed25519 by its name": (jwk_of("Ed25519"), "Ed25519", "Ed25519"),
    "Ed448 PEM": (pem_of("Ed448"), None, "EdDSA"),
}


@pytest.mark.parametrize(
    ("key", "algorithm", "expected"),
    [
        *GOOD.values(),
        *OTHERS.values(),
    ],
    ids=[*GOOD, *OTHERS],
)
def test_keys_that_sign(key: Any, algorithm: str | None, expected: str) -> None:
    """Each kind of key signs, with its usual algorithm or the one that was asked for."""
    made = signer(key, algorithm)
    header = json.loads(decoded(made.sign({}, {}).split(".")[0]))
    assert header["alg"] == expected
    assert repr(made) == f"<Signer {expected}>"
    assert set(made.public_jwk()) <= PUBLIC


RUBBISH: dict[str, tuple[Any, str | None]] = {
    "public PEM": (KEYS["RSA"].as_pem(private=False).decode(), None),
    "public JWK": (KEYS["P-384"].as_dict(private=False), None),
    "encrypted PEM": (pem_of("P-256", password=b"canary"), None),
    "half a PEM": (pem_of("RSA")[:-100], None),
    "empty": ("", None),
    "a word": ("canary", None),
    "no JSON": ("{", None),
    "JSON of a list": ("[]", None),
    "no JWK": ({}, None),
    "a secret": ({"kty": "oct", "k": "Y2FuYXJ5"}, None),
    "of no kind": ({"kty": ["canary"]}, None),
    "broken": (jwk_of("P-256", d="canary"), None),
    "another key's d": (jwk_of("P-256", d=NEW["d"], crv="P-384"), None),
    "RSA for EC": (jwk_of("RSA"), "ES256"),
    "EC for RSA": (pem_of("P-256"), "RS256"),
    "EC for EdDSA": (jwk_of("P-521"), "EdDSA"),
    "none": (jwk_of("P-256"), "none"),
    "HS256": (pem_of("RSA"), "HS256"),
    "of no name": (jwk_of("P-256", alg="canary"), None),
}
UNFIT: dict[str, tuple[Any, str | None]] = {
    "another curve's": (jwk_of("P-384"), "ES256"),
    "another curve's by the JWK": (jwk_of("P-384", alg="ES256"), None),
    "Ed448 for Ed25519": (pem_of("Ed448"), "Ed25519"),
    "secp256k1": (ECKey.generate_key("secp256k1").as_dict(private=True), "ES256"),
    "X25519": (OKPKey.generate_key("X25519").as_dict(private=True), None),
    "to encrypt": (jwk_of("P-256", use="enc"), None),
    "to verify": (jwk_of("P-256", key_ops=["verify"]), None),
}


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        *RUBBISH.values(),
        *UNFIT.values(),
    ],
    ids=[*RUBBISH, *UNFIT],
)
def test_keys_that_do_not_sign(key: Any, algorithm: str | None) -> None:
    """I9: what cannot sign is refused in words that quote nothing of it."""
    problem = signer_of(key, algorithm)
    assert isinstance(problem, str)
    assert "canary" not in problem


def test_no_proof_is_made_twice() -> None:
    """Twenty threads that share a key and make the same proofs have a `jti` for each."""
    shared = signer(NEW)

    def work(_: int) -> list[str]:
        made = [proof(shared, "GET", "https://a.example/", nonce="n") for _ in range(50)]
        return [str(claims(text)["jti"]) for text in made]

    found = [jti for some in crowd(work, 20) for jti in some]
    assert len(set(found)) == 1000


def test_twenty_threads_one_key(server: DPoPServer, mount: Mount) -> None:
    """One scheme for logins with different keys proves each with its own, in twenty threads."""
    scheme = DPoP()
    keys = [jwk_of("P-256"), new_jwk()]
    sessions = [
        mount(source_for(server, token=server.login(key)), server.url, scheme=scheme)
        for key in keys
    ]
    answers = crowd(lambda n: sessions[n % 2].get(server.url, timeout=30).status_code, 20)
    assert answers == [200] * 20
    assert len({seen.key for seen in server.seen}) == 2


NONCES = {"n": "n", "!~#[]": "!~#[]", "a" * 1024: "a" * 1024, "a b": None, 'a"': None, "\\": None}


@pytest.mark.parametrize(("value", "nonce"), NONCES.items(), ids=range(len(NONCES)))
def test_what_a_nonce_is(value: str, nonce: str | None) -> None:
    """Visible ASCII but for the quote and the backslash (RFC 9449 8.1), of a sane length."""
    assert nonce_in({"DPoP-Nonce": value}) == nonce
    assert nonce_in({}) is None


@pytest.mark.parametrize("name", ["P-256", "RSA"])
def test_the_name_of_a_key(name: str) -> None:
    """A key's thumbprint is what a server takes it for (RFC 7638)."""
    made = signer(jwk_of(name, kid="a name", use="sig"))
    text = proof(made, "GET", "https://a.example/", nonce=None)
    assert made.thumbprint() == verified(text, "GET", "https://a.example/", None)[0]


def test_without_joserfc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where joserfc is missing the error names the extra: at construction, and at a request."""
    monkeypatch.setitem(sys.modules, "joserfc.jwk", None)
    with pytest.raises(ConfigurationError, match=r"requests_refresh\[jwt\]"):
        grant_for("https://a.example/token")
    request = requests.Request("GET", "https://a.example/").prepare()
    with pytest.raises(ConfigurationError, match=r"requests_refresh\[jwt\]"):
        DPoP().attach(request, Token("t", token_type="DPoP", extra={"dpop_jwk": NEW}))
    assert "Authorization" not in request.headers


def test_a_new_key_is_new() -> None:
    """Each new key is P-256 and private, and another one."""
    assert (NEW["kty"], NEW["crv"]) == ("EC", "P-256")
    assert new_jwk()["d"] != NEW["d"]
    assert Token("t", extra={"dpop_jwk": NEW}).to_mapping()["extra"]["dpop_jwk"] == NEW
