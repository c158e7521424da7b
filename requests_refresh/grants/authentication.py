"""How a client proves who it is: RFC 6749 section 2.3, RFC 7523, RFC 8705.

Each attempt has a proof of its own; an assertion is signed for one attempt
alone, with a `jti` of its own.
"""

from __future__ import annotations

import base64
import json
import math
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import quote_plus

import requests

from ..errors import ConfigurationError
from ..signing import missing, secret_signer, signer_of
from .http import Auth
from .settings import (
    Secret,
    Text,
    first,
    json_problem,
    period_problem,
    problem_in,
    read_secret,
    text_problem,
)

BASIC, POST, SECRET_JWT, NONE = (
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "none",
)
_CERTIFICATE = ("tls_client_auth", "self_signed_tls_client_auth")
_WITH_SECRET = (BASIC, POST, SECRET_JWT)
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_RESERVED = {"alg", "typ"}


class SigningKey:
    """A private key and how it signs, for assertions; parsed anew for each.

    key: PEM or JWK as a text, or a function that returns it; or a JWK as a
        mapping. algorithm, key_id, header: as for PrivateKeyJWT.
    """

    def __init__(
        self,
        key: Text | Mapping[str, Any],
        algorithm: str | None,
        key_id: str | None,
        header: Mapping[str, Any],
    ) -> None:
        problem = problem_in(
            lambda: first(
                json_problem(dict(key), "key") if isinstance(key, Mapping) else None,
                missing() if callable(key) else _key_problem(key, algorithm),
                None if key_id is None else text_problem(key_id, "key_id"),
                None if isinstance(header, Mapping) else "header must be a mapping.",
                json_problem(dict(header), "header") if isinstance(header, Mapping) else None,
                "header may not hold alg or typ, which are set already."
                if isinstance(header, Mapping) and _RESERVED & header.keys()
                else None,
            )
        )
        if problem:
            del self, key  # a traceback with locals shows no secret
            raise ConfigurationError(problem)
        self._algorithm = algorithm
        self._header = dict(header) if key_id is None else {"kid": key_id, **header}
        if isinstance(key, Mapping):
            if key_id is None and isinstance(key.get("kid"), str):
                self._header.setdefault("kid", key["kid"])
            key = json.dumps(dict(key))
        self._key = Secret(key, "key") if isinstance(key, str) else key

    def signed(self, claims: Mapping[str, Any], lifetime: float) -> str:
        """An assertion of `claims` with a new `jti`, for so many seconds from now."""
        signer = signer_of(read_key(self._key), self._algorithm)
        if isinstance(signer, str):
            raise ConfigurationError(
                f"The key cannot be used: {signer}. The login is intact. Look at what returned it."
            )
        return signer.sign({**claims, **_times(lifetime)}, self._header)


class PrivateKeyJWT:
    """Authenticates a client by a signed assertion, `private_key_jwt` (RFC 7523 section 2.2).

    key: the private key, as PEM or JWK: a text, or a function that returns it
        and is called at each attempt; or a JWK as a mapping. What is given as
        a text or mapping is left behind by pickle, as a client secret is.
    algorithm: of JWS, such as "RS256", "PS256", "ES256"; None for the usual
        one for such a key.
    key_id: the `kid` by which the provider knows the key, if it wants one.
    audience: for whom the assertion is; None for the token endpoint's URL.
        Some providers want their issuer.
    lifetime: seconds for which an assertion can be used.
    header: more header fields, such as Entra's "x5t#S256".

    Each attempt has an assertion with a `jti` of its own. Needs
    `pip install "requests_refresh[jwt]"`. Raises ConfigurationError for a key
    that cannot sign. Immutable, so any thread may use it.
    """

    def __init__(
        self,
        key: Text | Mapping[str, Any],
        *,
        algorithm: str | None = None,
        key_id: str | None = None,
        audience: str | None = None,
        lifetime: float = 60.0,
        header: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        problem = first(
            key_kind_problem(key),
            None if audience is None else text_problem(audience, "audience"),
            period_problem(lifetime, "lifetime"),
        )
        if problem:
            del self, key
            raise ConfigurationError(problem)
        try:
            self._key = SigningKey(key, algorithm, key_id, header)
        finally:
            del key  # a traceback with locals shows no secret
        self._audience = audience
        self._lifetime = lifetime

    def __repr__(self) -> str:
        return "<PrivateKeyJWT>"

    def assertion(self, client_id: str, token_url: str) -> str:
        """A new assertion that the bearer is this client."""
        claims = {"iss": client_id, "sub": client_id, "aud": self._audience or token_url}
        return self._key.signed(claims, self._lifetime)


@dataclass(frozen=True, slots=True, repr=False)
class Proven:
    """What goes along with one request to prove who the client is."""

    fields: dict[str, str] = field(default_factory=dict)
    auth: Auth | None = None
    secrets: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, repr=False)
class ClientAuthentication:
    """One client's way to prove who it is. name: the way, for messages."""

    name: str
    client_id: str | None
    secret: Callable[[], str] | None
    auth: PrivateKeyJWT | Auth | None

    def proven(self, token_url: str) -> Proven:
        """A proof for one attempt. Raises ConfigurationError for a secret that cannot be sent."""
        secrets = [] if self.secret is None else [read_secret(self.secret, "client_secret")]
        if self.name == BASIC:
            return Proven({}, _Basic(self.client_id or "", secrets[0]), secrets)
        fields = {} if self.client_id is None else {"client_id": self.client_id}
        if self.name == POST:
            fields["client_secret"] = secrets[0]
        if self.name == SECRET_JWT:
            own = {"iss": self.client_id, "sub": self.client_id, "aud": token_url}
            claims = {**own, **_times(60.0)}
            fields["client_assertion"] = secret_signer(secrets[0], "HS256").sign(claims, {})
        if isinstance(self.auth, PrivateKeyJWT):
            fields["client_assertion"] = self.auth.assertion(self.client_id or "", token_url)
        if "client_assertion" in fields:
            fields["client_assertion_type"] = _ASSERTION
            return Proven(fields, None, [*secrets, fields["client_assertion"]])
        return Proven(fields, self.auth, secrets)  # type: ignore[arg-type]  # no PrivateKeyJWT


def authentication(
    client_id: str | None, secret: Text | None, client_auth: str | PrivateKeyJWT | Auth | None
) -> ClientAuthentication:
    """The way that these settings ask for, which `auth_problem` has passed."""
    if client_auth is None:
        client_auth = NONE if secret is None else BASIC
    kept = Secret(secret, "client_secret") if isinstance(secret, str) else secret
    if isinstance(client_auth, str):
        return ClientAuthentication(client_auth, client_id, kept, None)
    return ClientAuthentication(type(client_auth).__name__, client_id, kept, client_auth)


def auth_problem(client_auth: object, client_secret: object, cert: object) -> str | None:
    """What is wrong with a client's way to prove who it is, or None."""
    if client_secret is not None and not callable(client_secret):
        problem = text_problem(client_secret, "client_secret")
        if problem:
            return f"{problem} A client without one is given client_secret=None."
    if client_auth is None:
        return None
    if client_auth in _WITH_SECRET:
        return f"client_auth={client_auth!r} needs a client_secret." if not client_secret else None
    if client_auth == "private_key_jwt":
        return "client_auth must hold the key: PrivateKeyJWT(key) in place of 'private_key_jwt'."
    known = client_auth == NONE or client_auth in _CERTIFICATE
    made = callable(client_auth) and not isinstance(client_auth, type)  # a class is none yet
    if not (known or isinstance(client_auth, PrivateKeyJWT) or made):
        names = ", ".join(map(repr, (*_WITH_SECRET, *_CERTIFICATE, NONE)))
        return (
            f"client_auth must be {names}, a PrivateKeyJWT or a requests auth object, such as"
            " HTTPBasicAuth(client_id, client_secret)."
        )
    if client_secret is not None:
        return (
            "client_secret would not be used with this client_auth. Leave one of them out;"
            " an auth object brings its own secret."
        )
    if client_auth in _CERTIFICATE and cert is None:
        return f"client_auth={client_auth!r} needs the certificate, as cert=."
    return None


def _key_problem(key: str | Mapping[str, Any], algorithm: str | None) -> str | None:
    signer = signer_of(key, algorithm)
    return f"The key cannot be used: {signer}." if isinstance(signer, str) else None


def key_kind_problem(key: object) -> str | None:
    """Why `key` cannot even be looked at, or None."""
    if isinstance(key, (str, Mapping)) or callable(key):
        return None
    return "key must be PEM or JWK as a text, a function that returns it, or a JWK as a mapping."


def read_key(key: Callable[[], str]) -> str:
    """What `key` returns, if it is a text at all."""
    text = key()
    if isinstance(text, str):
        return text
    del text
    raise ConfigurationError(
        "The key is not a text. The login is intact. Look at what returned it."
    )


def _times(lifetime: float) -> dict[str, Any]:
    now = int(time.time())
    return {"iat": now, "exp": now + math.ceil(lifetime), "jti": uuid.uuid4().hex}


class _Basic:
    """HTTP Basic with id and secret form-encoded each (RFC 6749 section 2.3.1)."""

    def __init__(self, client_id: str, secret: str) -> None:
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        self._header = "Basic " + base64.b64encode(pair.encode()).decode()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request
