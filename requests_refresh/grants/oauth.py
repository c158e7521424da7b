"""`RefreshTokenGrant`: the refresh token grant of OAuth 2.0 (RFC 6749 section 6)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote_plus, urlencode

import requests

from ..errors import ConfigurationError
from ..tokens import Token
from .base import Grant, needed
from .http import Auth, Endpoint
from .replies import oauth_token
from .settings import (
    Secret,
    Text,
    Timeout,
    first,
    proxies_problem,
    read_secret,
    resolved,
    text_problem,
    timeout_problem,
    url_problem,
)

_BASIC, _POST, _NONE = "client_secret_basic", "client_secret_post", "none"
_OWN_FIELDS = {"grant_type", "refresh_token", "client_id", "client_secret", "scope"}


class RefreshTokenGrant(Grant):
    """Renews by the refresh token at an OAuth 2.0 token endpoint (RFC 6749 section 6).

    token_url: the token endpoint; https, or plain http to this host.
    client_id: as the provider registered the client.
    client_secret: a text, or a function that returns it and is called at each
        refresh. A text is left behind when the grant is pickled; what is
        unpickled says so at its first use. A function travels as it pickles.
    client_auth: how the client proves who it is (RFC 6749 section 2.3.1):
        "client_secret_basic", the default with a secret, which form-encodes
        id and secret each, as the RFC says; "client_secret_post"; "none", the
        default without a secret; or a requests auth object, beside which the
        client_id is sent in the form (RFC 6749 section 3.2.1). For a provider
        that does not decode Basic: HTTPBasicAuth(client_id, client_secret).
    scope: a text or several; sent if given. Most providers need none.
    extra: more fields of the form. Texts are taken for settings; a secret
        goes in as a function that returns it, and is called at each refresh.
    timeout: seconds for (connecting, the whole reply), or one number for each.
    verify, cert, proxies: as requests takes them. The environment's proxies
        and CA bundle count too, but plain http goes through no proxy of the
        environment's.

    The reply may be JSON or a form. Called with no refresh token, it raises
    LoginRequired and asks nobody. Raises ConfigurationError for settings that
    cannot be right.
    """

    def __init__(
        self,
        token_url: str,
        *,
        client_id: str,
        client_secret: Text | None = None,
        client_auth: str | Auth | None = None,
        scope: str | Iterable[str] | None = None,
        extra: Mapping[str, Text] = MappingProxyType({}),
        timeout: Timeout = (5, 15),
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        if client_auth is None:
            client_auth = _NONE if client_secret is None else _BASIC
        scopes = _listed(scope)
        problem = first(
            url_problem(token_url, "token_url"),
            text_problem(client_id, "client_id"),
            _auth_problem(client_auth, client_secret),
            *(text_problem(one, "scope") for one in scopes),
            _extra_problem(extra),
            timeout_problem(timeout),
            proxies_problem(proxies),
        )
        if problem:
            # A traceback with locals shows neither secrets nor half a grant.
            del self, token_url, client_secret, client_auth, extra, proxies
            raise ConfigurationError(problem)
        self._endpoint = Endpoint(
            token_url, method="POST", timeout=timeout, verify=verify, cert=cert, proxies=proxies
        )
        self._client_id = client_id
        self._secret = (
            Secret(client_secret, "client_secret")
            if isinstance(client_secret, str)
            else client_secret
        )
        self._auth = client_auth
        self._scope = " ".join(scopes)
        self._extra = dict(extra)

    def __repr__(self) -> str:
        auth = self._auth if isinstance(self._auth, str) else type(self._auth).__name__
        return (
            f"RefreshTokenGrant({self._endpoint.shown!r}, client_id={self._client_id!r},"
            f" client_auth={auth!r})"
        )

    def _renewed(self, token: Token | None) -> Token:
        refresh_token = needed(token, "refresh_token")
        extra, secrets = resolved(self._extra, "extra")
        fields = {"grant_type": "refresh_token", "refresh_token": refresh_token, **extra}
        auth = None if isinstance(self._auth, str) else self._auth
        if self._auth != _BASIC:
            fields["client_id"] = self._client_id
        if self._scope:
            fields["scope"] = self._scope
        if self._secret is not None:
            secret = read_secret(self._secret, "client_secret")
            secrets.append(secret)
            if self._auth == _BASIC:
                auth = _Basic(self._client_id, secret)
            else:
                fields["client_secret"] = secret
        reply = self._endpoint.ask(
            {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(fields).encode(), auth
        )
        return oauth_token(reply, token, self._endpoint.shown, secrets)


class _Basic:
    """HTTP Basic with id and secret form-encoded each (RFC 6749 section 2.3.1)."""

    def __init__(self, client_id: str, secret: str) -> None:
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        self._header = "Basic " + base64.b64encode(pair.encode()).decode()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


def _listed(scope: object) -> list[Any]:
    if not scope:
        return []
    if isinstance(scope, str) or not isinstance(scope, Iterable):
        return [scope]
    return list(scope)


def _auth_problem(client_auth: object, client_secret: object) -> str | None:
    if client_secret is not None and not callable(client_secret):
        problem = text_problem(client_secret, "client_secret")
        if problem:
            return f"{problem} A client without one is given client_secret=None."
    if client_auth in (_BASIC, _POST):
        return f"client_auth={client_auth!r} needs a client_secret." if not client_secret else None
    if client_auth != _NONE and not callable(client_auth):
        return (
            f"client_auth must be {_BASIC!r}, {_POST!r}, {_NONE!r} or a requests auth object,"
            " such as HTTPBasicAuth(client_id, client_secret)."
        )
    if client_secret is not None:
        return (
            "client_secret would not be used with this client_auth. Leave one of them out;"
            " an auth object brings its own secret."
        )
    return None


def _extra_problem(extra: object) -> str | None:
    if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
        return "extra must be a mapping of names to texts."
    for name, value in extra.items():
        if name in _OWN_FIELDS:
            return f"extra may not hold {name}, which the grant sets itself."
        if not callable(value) and not isinstance(value, str):
            return f"{name!r} in extra is neither a text nor a function that returns one."
    return None
