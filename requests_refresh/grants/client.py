"""`OAuthGrant`: what all grants of OAuth 2.0 share, the client that asks and its settings.

Each attempt authenticates the client anew: an assertion is signed for it alone,
and so is a DPoP proof.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from urllib.parse import urlencode

from ..errors import ConfigurationError, RefreshError, RefreshRefused, RefreshUnavailable
from ..signing import JWK_FIELD, Signer, new_jwk, nonce_in, proof, signer_of
from ..tokens import Token
from .authentication import PrivateKeyJWT, auth_problem, authentication
from .base import Grant
from .discovery import discovered
from .failures import shielded
from .http import Auth, Endpoint, Reply
from .replies import FINAL, error_code, error_of, is_markup, oauth_token
from .settings import (
    Text,
    Timeout,
    first,
    is_sendable,
    listed,
    problem_in,
    reach_problem,
    resolved,
    text_problem,
    url_problem,
)

if TYPE_CHECKING:
    from typing_extensions import Self

_G = TypeVar("_G", bound="OAuthGrant")
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_OWN_FIELDS = {"grant_type", "refresh_token", "scope", "client_id", "client_secret"}


class OAuthGrant(Grant):
    """A grant of OAuth 2.0: a form is sent to a token endpoint (RFC 6749 section 3.2).

    The reply may be JSON or a form (RFC 6749 section 5.1).
    """

    _FINAL: ClassVar[frozenset[str]] = FINAL  # errors after which only a new login helps
    _FIELDS: ClassVar[frozenset[str]] = frozenset()  # of the form, set by the grant itself
    _ENDPOINTS: ClassVar[Mapping[str, str]] = {  # setting -> what it is called in metadata
        "token_url": "token_endpoint",
        "revocation_url": "revocation_endpoint",
    }

    def __init__(
        self,
        token_url: str,
        *,
        client_id: str | None,
        client_secret: Text | None = None,
        client_auth: str | PrivateKeyJWT | Auth | None = None,
        scope: str | Iterable[str] | None = None,
        resource: str | Iterable[str] | None = None,
        audience: str | Iterable[str] | None = None,
        extra: Mapping[str, Text] = MappingProxyType({}),
        login_over_errors: Iterable[str] = (),
        dpop: bool = False,
        revocation_url: str | None = None,
        timeout: Timeout = (5, 15),
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        """Check and keep the settings. Does not block.

        token_url: the token endpoint; https, or plain http to this host.
        client_id: as the provider registered the client.
        client_secret: a text, or a function that returns it and is called at each
            request. A text is left behind when the grant is pickled; what is
            unpickled says so at its first use. A function travels as it pickles.
        client_auth: how the client proves who it is (RFC 6749 section 2.3.1):
            "client_secret_basic", the default with a secret, which form-encodes
            id and secret each, as the RFC says; "client_secret_post";
            "client_secret_jwt", which signs with the secret (RFC 7523); a
            PrivateKeyJWT; "tls_client_auth" or "self_signed_tls_client_auth", by
            the certificate in `cert` (RFC 8705); "none", the default without a
            secret; or a requests auth object, beside which the client_id is sent
            in the form (RFC 6749 section 3.2.1). For a provider that does not
            decode Basic: HTTPBasicAuth(client_id, client_secret).
        scope: a text or several; sent if given. Most providers need none.
        resource: the URI of the API that the token is for, or several (RFC 8707).
        audience: the same by a name, for providers that take it so (RFC 8693,
            Auth0).
        extra: more fields of the form. Texts are taken for settings; a secret
            goes in as a function that returns it, and is called at each request.
        login_over_errors: more values of a reply's `error` that mean that only a
            new login helps, beside `invalid_grant` (RFC 6749 section 5.2) and its
            like.
        dpop: ask for tokens that are bound to a key (RFC 9449); use the scheme
            DPoP with them. The key is made at the first request and kept with the
            token, in its `extra`. Needs `pip install "requests_refresh[jwt]"`.
        revocation_url: where `TokenSource.logout(revoke=True)` tells the provider
            (RFC 7009); without one it cannot.
        timeout: seconds for (connecting, the whole reply), or one number for each.
        verify: True, False, or the path of a CA bundle. cert: the path of a
            certificate with its key, or (certificate, key). proxies: scheme ->
            URL. The environment's proxies and CA bundle count too, but plain
            http goes through no proxy of the environment's.

        Raises ConfigurationError for settings that cannot be right.
        """
        lists: dict[str, list[Any]] = {}

        def check() -> str | None:
            several = {"scope": scope, "resource": resource, "audience": audience}
            lists.update({name: listed(values) for name, values in several.items()})
            own = self._FIELDS | {name for name in several if lists[name]}
            lists["login_over_errors"] = listed(login_over_errors)
            return first(
                url_problem(token_url, "token_url"),
                self._id_problem(client_id, client_secret, client_auth),
                auth_problem(client_auth, client_secret, cert),
                *(text_problem(one, name) for name, values in lists.items() for one in values),
                *(_resource_problem(one) for one in lists["resource"]),
                _extra_problem(extra, own),
                None if isinstance(dpop, bool) else "dpop is neither True nor False.",
                None if revocation_url is None else url_problem(revocation_url, "revocation_url"),
                reach_problem(timeout, verify, cert, proxies),
            )

        problem = problem_in(check)
        if problem:
            # A traceback with locals shows neither secrets nor half a grant.
            del self, token_url, client_secret, client_auth, extra, proxies, revocation_url
            raise ConfigurationError(problem)
        if dpop:
            new_jwk()  # where joserfc is missing it is said now
        self._reach: dict[str, Any] = {
            "timeout": timeout,
            "verify": verify,
            "cert": cert,
            "proxies": proxies,
        }
        self._endpoint = self._at(token_url)
        self._client_id = client_id
        self._auth = authentication(client_id, client_secret, client_auth)
        self._scope = " ".join(lists["scope"])
        self._targets = {"resource": lists["resource"], "audience": lists["audience"]}
        self._extra = dict(extra)
        self._final = self._FINAL | {error.lower() for error in lists["login_over_errors"]}
        self._dpop = dpop
        self._nonce: str | None = None  # what the provider wants in the next proof
        self._revocation = None if revocation_url is None else self._at(revocation_url)

    @classmethod
    def discover(cls, issuer: str, /, **settings: Any) -> Self:
        """The grant for a provider that says itself where its endpoints are.

        issuer: the provider's issuer identifier, exactly as it names itself.
            Its metadata is looked for by RFC 8414 section 3 and by OpenID
            Connect Discovery, and kept for an hour in this process.
        settings: as for the constructor; they win over what was found.

        Blocks, for the network. Raises RefreshUnavailable, RefreshRefused or
        InvalidReply where there is no metadata to be had or it is another
        issuer's, and ConfigurationError as the constructor does. Thread-safe.
        """
        try:
            made = shielded(partial(_discovered, cls, issuer, settings))
        finally:
            del settings  # a traceback with locals shows no secret
        if isinstance(made, BaseException):
            raise made
        return made

    @property
    def revoke(self) -> Callable[[Token], None] | None:
        """`revoke(token)`: have the provider end it (RFC 7009); None without a revocation_url.

        Blocks for two requests at most. Raises RefreshUnavailable or
        RefreshRefused where the provider did not.
        """
        return None if self._revocation is None else partial(_revoke, self)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self._endpoint.shown!r}, client_id={self._client_id!r},"
            f" client_auth={self._auth.name!r})"
        )

    @abstractmethod
    def _asked(self, token: Token | None) -> tuple[dict[str, Any], list[str]]:
        """The fields of the form, `grant_type` first, and the secrets among them."""

    def _renewed(self, token: Token | None) -> Token:
        secrets: list[str] = []

        def asked() -> dict[str, Any]:
            fields, more = self._asked(token)
            secrets.extend(more)
            return fields

        return self._exchanged(asked, secrets, self._previous(token), _jwk_of(token))

    def _previous(self, token: Token | None) -> Token | None:
        """The token whose parts count where the reply has none."""
        return None

    def _exchanged(
        self,
        fields: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        secrets: list[str],
        previous: Token | None = None,
        jwk: Mapping[str, Any] | None = None,
    ) -> Token:
        """The token that the provider issues for these fields. jwk: the key to bind it to.

        fields: of the form, or a function that makes them for one request alone.
        """

        def form() -> dict[str, Any]:
            asked = fields() if callable(fields) else fields
            more, unquotable = resolved(self._extra, "extra")
            secrets.extend(unquotable)
            scope = {"scope": self._scope} if self._scope else {}
            return {**asked, **scope, **self._targets, **more}

        # A login that has its key is lost without it: a refresh is proved, asked for or not.
        bound = jwk if self._dpop or previous is not None else None
        if self._dpop and bound is None:
            bound = new_jwk()
        reply = self._ask(self._endpoint, form, secrets, bound)
        token = oauth_token(reply, previous, self._endpoint.shown, secrets, final=self._final)
        if bound is not None:  # for a Bearer token too: its refresh token may be bound (section 5)
            token = replace(token, extra={**token.extra, JWK_FIELD: dict(bound)})
        return self._kept_of(token)

    def _kept_of(self, token: Token) -> Token:
        """What is kept of an issue. A refresh token that will never be used is not."""
        return replace(token, refresh_token=None)

    def _ask(
        self,
        endpoint: Endpoint,
        fields: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        secrets: list[str],
        jwk: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Send a form, once more if the provider wanted another nonce (RFC 9449 section 8).

        fields: of the form; a function that makes them is called for each of the two.
        What must not be quoted is added to `secrets`.
        """
        signer = None if jwk is None else _usable(jwk)
        form = fields() if callable(fields) else fields  # it may wait for another source
        end = time.monotonic() + sum(self.timeout)
        nonce, own = self._nonce, None
        while True:
            proven = self._auth.proven(self._endpoint.url)
            secrets += proven.secrets
            body = urlencode({**form, **proven.fields}, doseq=True).encode()
            headers = dict(_FORM)
            if signer is not None:
                headers["DPoP"] = proof(signer, "POST", endpoint.url, nonce=nonce)
            reply = endpoint.ask(headers, body, proven.auth, end)
            found = nonce_in(reply.response.headers)
            wanted = signer is not None and error_code(reply) == "use_dpop_nonce"
            if wanted and own is None and found not in (None, nonce):
                nonce = own = found  # it may be good only once, so nobody else gets it yet
                form = fields() if callable(fields) else fields
                continue
            if found or own:
                self._nonce = found or own
            return reply

    def _at(self, url: str) -> Endpoint:
        return Endpoint(url, method="POST", **self._reach)

    def _id_problem(self, client_id: object, secret: object, client_auth: object) -> str | None:
        return text_problem(client_id, "client_id")


def _discovered(cls: type[_G], issuer: str, settings: dict[str, Any]) -> _G:
    reach = {name: settings[name] for name in ("timeout", "verify", "proxies") if name in settings}
    found = discovered(issuer, **reach).settings(cls._ENDPOINTS, settings)
    try:
        return cls(**{**found, **settings})
    except TypeError as error:  # a setting that there is not; it quotes names alone
        raise ConfigurationError(f"discover() cannot set up the grant: {error}.") from None


def _revoke(grant: OAuthGrant, token: Token) -> None:
    outcome = shielded(partial(_revoked, grant, token))
    if outcome is not None:
        del token
        raise outcome


def _revoked(grant: OAuthGrant, token: Token) -> None:
    """Both parts of it: not every provider ends the access tokens with the refresh token."""
    endpoint = grant._revocation
    failures: list[RefreshError] = []
    assert endpoint is not None
    for hint, value in (
        ("refresh_token", token.refresh_token),
        ("access_token", token.access_token),
    ):
        if value is None:
            continue
        secrets = [value]
        try:
            reply = grant._ask(endpoint, {"token": value, "token_type_hint": hint}, secrets)
        except RefreshUnavailable as exc:
            failures.append(
                RefreshUnavailable(
                    f"{endpoint.shown} could not revoke the {hint.replace('_', ' ')} now, which may"
                    " live on until it expires.",
                    retry_after=exc.retry_after,
                )
            )
            continue
        except RefreshError as exc:
            failures.append(exc)
            continue
        code = error_code(reply)
        # RFC 7009 section 2.2.1. An access token ends with its refresh token, or soon after.
        spared = hint == "access_token" and token.refresh_token is not None
        if (reply.ok and not code and not is_markup(reply)) or code == "invalid_token":
            continue  # the latter from those that do not say 200 to what is dead (section 2.2)
        if code == "unsupported_token_type" and spared:
            continue
        error, _, said = error_of(reply, token, secrets)
        failures.append(
            RefreshRefused(
                f"{endpoint.shown} answered {reply.status} and did not revoke the"
                f" {hint.replace('_', ' ')}{said}. It may live on until it expires.",
                error=error,
            )
        )
    if failures:
        raise failures[0]


def _jwk_of(token: Token | None) -> Mapping[str, Any] | None:
    found = None if token is None else token.extra.get(JWK_FIELD)
    if found is None or isinstance(found, Mapping):
        return found
    raise _unusable("it is no JWK")


def _usable(jwk: Mapping[str, Any]) -> Signer:
    signer = signer_of(jwk)
    if isinstance(signer, str):
        raise _unusable(signer)
    return signer


def _unusable(problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"The key that is stored with the token cannot be used: {problem}. Nothing was sent"
        " and the login is kept. Log in again, or restore what was stored."
    )


def _resource_problem(resource: object) -> str | None:
    if isinstance(resource, str) and ":" in resource and "#" not in resource:
        return None
    return "resource is not an absolute URI without a fragment (RFC 8707 section 2)."


def _extra_problem(extra: object, own: Set[str]) -> str | None:
    if not isinstance(extra, Mapping) or not all(
        isinstance(name, str) and is_sendable(name) for name in extra
    ):
        return "extra must be a mapping of names to texts."
    for name, value in extra.items():
        if name in _OWN_FIELDS or name in own:
            return f"extra may not hold {name}, which the grant sets itself."
        if not callable(value) and not (isinstance(value, str) and is_sendable(value)):
            return f"{name!r} in extra is neither a text nor a function that returns one."
    return None
