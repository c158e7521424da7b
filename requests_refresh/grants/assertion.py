"""`JWTBearerGrant`: an assertion in place of a login (RFC 7523 section 2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ..errors import ConfigurationError
from ..tokens import Token
from .authentication import SigningKey, key_kind_problem
from .client import OAuthGrant
from .settings import Text, first, json_problem, period_problem, problem_in, text_problem

_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_RESERVED = {"iss", "sub", "iat", "exp", "jti"}


class JWTBearerGrant(OAuthGrant):
    """Asks for a token by a signed assertion (RFC 7523): service accounts and the like.

    token_url: the token endpoint; https, or plain http to this host.
    key: the private key, as PEM or JWK: a text, or a function that returns it
        and is called at each request; or a JWK as a mapping. What is given as
        a text or mapping is left behind when the grant is pickled.
    issuer: who asks, `iss`: a service account's address, a client's id.
    subject: for whom, `sub`; None to leave it out.
    claims: more claims, such as Google's `{"scope": "..."}`, or another `aud`
        than the token endpoint's URL.
    lifetime: seconds for which an assertion can be used. Google allows 3600,
        Salesforce 180.
    algorithm, key_id, header: as for PrivateKeyJWT.
    client_id: sent in the form if given; most providers need none here.
    settings: as for RefreshTokenGrant.

    There is no refresh token and no login that could end: a new token is
    simply asked for, and an `invalid_grant` is a setting that is wrong.
    Immutable, so any thread may call it. Needs
    `pip install "requests_refresh[jwt]"`. Raises ConfigurationError for
    settings that cannot be right.
    """

    _FINAL: ClassVar[frozenset[str]] = frozenset()
    _FIELDS: ClassVar[frozenset[str]] = frozenset({"assertion"})

    def __init__(
        self,
        token_url: str,
        *,
        key: Text | Mapping[str, Any],
        issuer: str,
        subject: str | None = None,
        claims: Mapping[str, Any] = MappingProxyType({}),
        lifetime: float = 180.0,
        algorithm: str | None = None,
        key_id: str | None = None,
        header: Mapping[str, Any] = MappingProxyType({}),
        client_id: str | None = None,
        **settings: Any,
    ) -> None:
        problem = problem_in(
            lambda: first(
                key_kind_problem(key),
                text_problem(issuer, "issuer"),
                None if subject is None else text_problem(subject, "subject"),
                _claims_problem(claims),
                period_problem(lifetime, "lifetime"),
            )
        )
        if problem:
            del self, key, settings  # a traceback with locals shows no secret
            raise ConfigurationError(problem)
        try:
            self._key = SigningKey(key, algorithm, key_id, header)
            super().__init__(token_url, client_id=client_id, **settings)
        except BaseException:
            del self, key, settings  # a traceback with locals shows no secret and no half a grant
            raise
        self._claims = {"iss": issuer, "aud": token_url, **claims}
        if subject is not None:
            self._claims["sub"] = subject
        self._lifetime = lifetime

    def _asked(self, token: Token | None) -> tuple[dict[str, Any], list[str]]:
        assertion = self._key.signed(self._claims, self._lifetime)
        return {"grant_type": _GRANT, "assertion": assertion}, [assertion]

    def _id_problem(self, client_id: object, secret: object, client_auth: object) -> str | None:
        needless = client_id is None and secret is None and client_auth in (None, "none")
        return None if needless else text_problem(client_id, "client_id")


def _claims_problem(claims: object) -> str | None:
    if not isinstance(claims, Mapping):
        return "claims must be a mapping of names to JSON values."
    for name in claims:
        if name in _RESERVED:
            return f"claims may not hold {name}, which the grant sets itself."
    return json_problem(dict(claims), "claims")
