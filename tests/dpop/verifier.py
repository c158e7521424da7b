"""Verifies a DPoP proof as a server has to (RFC 9449 section 4.3), with joserfc alone."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.jwk import import_key
from joserfc.jws import JWSRegistry

ALGORITHMS = ["ES256", "ES384", "ES512", "RS256", "PS256", "Ed25519", "EdDSA"]
PUBLIC = {"kty", "crv", "x", "y", "n", "e"}
CLOCK_MAY_DIFFER = 60  # seconds

REGISTRY: Any = JWSRegistry(algorithms=ALGORITHMS)
REGISTRY.max_header_length = 4096  # bytes; an RSA key is in it
REGISTRY.get_alg = {
    name: REGISTRY.algorithms[name] for name in ALGORITHMS
}.__getitem__  # no warning


class BadProof(Exception):
    """A proof that must not be taken."""


def verified(text: str, method: str, url: str, token: str | None) -> tuple[str, Mapping[str, Any]]:
    """The key and the claims of a proof for this very request (RFC 9449 section 4.3)."""
    try:
        header = json.loads(decoded(text.split(".")[0]))
        jwk = header["jwk"]
        key = import_key(jwk)
        claims: dict[str, Any] = jwt.decode(text, key, registry=REGISTRY).claims
    except Exception as exc:
        raise BadProof(f"unreadable: {exc!r}") from None
    expected = {"typ": "dpop+jwt", "htm": method, "htu": url}
    if token is not None:
        expected["ath"] = encoded(hashlib.sha256(token.encode()).digest())
    for name, value in expected.items():
        found = {**header, **claims}.get(name)
        if found != value:
            raise BadProof(f"{name} is {found!r} and not {value!r}")
    if set(jwk) - PUBLIC or header.keys() != {"typ", "alg", "jwk"}:
        raise BadProof(f"header: {sorted(header)}, {sorted(jwk)}")
    if not isinstance(claims["iat"], int) or abs(time.time() - claims["iat"]) > CLOCK_MAY_DIFFER:
        raise BadProof(f"iat is {claims['iat']!r}")
    if not isinstance(claims["jti"], str) or len(claims["jti"]) < 16:
        raise BadProof("this jti can be guessed")
    if token is None and "ath" in claims:
        raise BadProof("ath where there is no token")
    return key.thumbprint(), claims


def encoded(value: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def decoded(value: str) -> bytes:
    """What `encoded` made a text of."""
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
