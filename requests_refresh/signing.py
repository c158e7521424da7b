"""Keys and signatures: proofs of DPoP (RFC 9449) and assertions (RFC 7523).

joserfc does the work. It comes with the extra [jwt] and is imported at the
first use. What fails is returned as a text or raised without a cause, as what
it was made of is a private key.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from .errors import ConfigurationError
from .origins import origin_of

JWK_FIELD = "dpop_jwk"  # where a token's `extra` has the private key that it is bound to

_DEFAULTS = {"RSA": "RS256", "OKP": "EdDSA", "oct": "HS256"}
_OF_CURVE = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_FITTING = {
    "RSA": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
    "EC": {"ES256", "ES384", "ES512"},
    "OKP": {"EdDSA", "Ed25519"},
    "oct": {"HS256", "HS384", "HS512"},
}
_MISSING = 'signing needs joserfc: pip install "requests_refresh[jwt]"'
_ESCAPE = re.compile("%[0-9a-fA-F]{2}")
_UNQUOTED = "/%:@!$&'()*+,;="  # in a path, beside what never needs quoting
_DEFAULT_PORTS = {"https": 443, "http": 80}


class Signer:
    """A private key and the algorithm it signs with. Thread-safe; shows nothing of the key."""

    def __init__(self, key: Any, algorithm: str) -> None:
        self._key = key
        self._algorithm = algorithm

    def __repr__(self) -> str:
        return f"<Signer {self._algorithm}>"

    def sign(self, claims: Mapping[str, Any], header: Mapping[str, Any]) -> str:
        """A compact JWT of `claims` (RFC 7519)."""
        full = {"typ": "JWT", **header, "alg": self._algorithm}
        text: str = _joserfc().jwt.encode(
            full, dict(claims), self._key, registry=_registry(self._algorithm)
        )
        return text

    def public_jwk(self) -> dict[str, Any]:
        """The public half of the key, with nothing beside it (RFC 7517)."""
        public: dict[str, Any] = self._key.as_dict(private=False)
        return {name: public[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in public}

    def thumbprint(self) -> str:
        """The SHA-256 thumbprint of the public key (RFC 7638), as `dpop_jkt` takes it."""
        text: str = self._key.thumbprint()
        return text


def signer_of(key: str | Mapping[str, Any], algorithm: str | None = None) -> Signer | str:
    """The signer that `key` makes, or what is wrong with it: a text, so that no frame raises.

    key: a private key as PEM or as JWK, the latter as JSON or as a mapping.
    algorithm: of JWS (RFC 7518 section 3.1); None for the JWK's own or the
        usual one for such a key.
    """
    try:
        joserfc = _joserfc()
    except ConfigurationError:
        return _MISSING
    try:
        kind, made = _imported(joserfc, key)
        if not made.is_private:
            return "it is a public key, and cannot sign"
        usual = _OF_CURVE.get(made.curve_name) if kind == "EC" else _DEFAULTS[kind]
        chosen = algorithm or made.get("alg") or usual
    except Exception:  # of several libraries, and what it says may quote the key
        return "it is no private key in PEM or JWK, or it is encrypted"
    if not isinstance(chosen, str) or chosen not in _FITTING[kind]:
        return f"such a key signs with {', '.join(sorted(_FITTING[kind]))} only"
    signer = Signer(made, chosen)
    try:
        signer.sign({}, {})
    except Exception:  # another curve than the algorithm's, or a JWK that says what it is not for
        return f"it does not sign with {chosen}"
    return signer


def missing() -> str | None:
    """What to install before anything can be signed, or None."""
    try:
        _joserfc()
    except ConfigurationError as error:
        return str(error)
    return None


def secret_signer(secret: str, algorithm: str) -> Signer:
    """The signer for a secret that both sides know (RFC 7518 section 3.2)."""
    return Signer(_joserfc().jwk.OctKey.import_key(secret), algorithm)


def new_jwk() -> dict[str, Any]:
    """A new private key for DPoP: P-256, for ES256, which every server must know."""
    made: dict[str, Any] = _joserfc().jwk.ECKey.generate_key("P-256").as_dict(private=True)
    return made


def proof(
    signer: Signer, method: str, url: str, *, nonce: str | None, access_token: str | None = None
) -> str:
    """A new DPoP proof for one attempt (RFC 9449 section 4.2).

    access_token: the token that goes with it, for `ath`; None at a token
        endpoint. nonce: what the server gave last, if anything.
    """
    claims: dict[str, Any] = {
        "jti": uuid.uuid4().hex,
        "htm": method,
        "htu": _without_query(url),
        "iat": int(time.time()),
    }
    if nonce is not None:
        claims["nonce"] = nonce
    if access_token is not None:
        digest = hashlib.sha256(access_token.encode()).digest()
        claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return signer.sign(claims, {"typ": "dpop+jwt", "jwk": signer.public_jwk()})


def nonce_in(headers: Mapping[str, str]) -> str | None:
    """The nonce that a server wants in the next proof, if it is one (RFC 9449 section 8.1)."""
    nonce = headers.get("DPoP-Nonce", "")
    fits = 0 < len(nonce) <= 1024 and all(
        "!" <= character <= "~" and character not in '"\\' for character in nonce
    )
    return nonce if fits else None


def _without_query(url: str) -> str:
    """`url` as `htu` has it: no query, no fragment, no user, no port that goes without saying.

    The path is as it goes over the wire: requests takes slashes off its beginning, and urllib3
    quotes what a redirect or a request made by hand has left unquoted.
    """
    parts, origin = urlsplit(url), origin_of(url)
    assert origin is not None
    scheme, host, port = origin
    host = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORTS.get(scheme):
        host = f"{host}:{port}"
    path = _ESCAPE.sub(lambda found: found[0].upper(), quote(parts.path, safe=_UNQUOTED))
    return f"{scheme}://{host}/{path.lstrip('/') if path.startswith('//') else path[1:]}"


def _imported(joserfc: Any, key: str | Mapping[str, Any]) -> tuple[str, Any]:
    kinds = {
        "RSA": joserfc.jwk.RSAKey,
        "EC": joserfc.jwk.ECKey,
        "OKP": joserfc.jwk.OKPKey,
    }
    if isinstance(key, str) and not key.lstrip().startswith("{"):
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        loaded = load_pem_private_key(key.strip().encode(), password=None)
        kind = "OKP"
        if isinstance(loaded, rsa.RSAPrivateKey):
            kind = "RSA"
        elif isinstance(loaded, ec.EllipticCurvePrivateKey):
            kind = "EC"
        return kind, kinds[kind].import_key(key.strip())
    fields = json.loads(key) if isinstance(key, str) else dict(key)
    return fields["kty"], kinds[fields["kty"]].import_key(fields)


def _joserfc() -> Any:
    try:
        import joserfc.jwk
        import joserfc.jwt
    except ImportError:
        raise ConfigurationError(f"This cannot be done: {_MISSING}.") from None
    return joserfc


def _registry(algorithm: str) -> Any:
    """One for this algorithm, that lets header fields of providers pass, as Entra's x5t#S256."""
    from joserfc.jws import JWSRegistry

    # joserfc ignores `algorithms` beside a registry, and knows RS256 and ES256 alone without.
    registry: Any = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    # Without its warning of EdDSA, which is the only name that many servers know (RFC 8037).
    registry.get_alg = registry.algorithms.__getitem__
    return registry
