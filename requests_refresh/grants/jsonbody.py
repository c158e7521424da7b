"""`JSONGrant`: a refresh by a JSON body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import ConfigurationError
from ..tokens import Token
from .base import needed
from .custom import READABLE, CustomGrant, is_path, read_problem, shared_problem
from .http import Auth, Endpoint
from .replies import LoginOver
from .settings import (
    Text,
    Timeout,
    first,
    json_problem,
    method_problem,
    problem_in,
    resolved,
    url_problem,
)

_SENDABLE = ("access_token", "refresh_token")


class JSONGrant(CustomGrant):
    """Renews by a JSON body to an endpoint of your own back end's, such as Django SimpleJWT's.

    url: the endpoint; https, or plain http to this host.
    send: field of the body -> attribute of the token, access_token or
        refresh_token. Dots nest: {"data.token": "refresh_token"} sends
        {"data": {"token": ...}}.
    read: attribute of the token (access_token, refresh_token, expires_in,
        expires_at, token_type, scope) -> dotted path in the reply, in which
        digits count in lists. Only what it names is read, nothing is guessed.
        Where the reply has no refresh token, the old one is kept. expires_in
        counts seconds, expires_at seconds since the epoch.
    headers: more headers. extra: more fields of the body, any JSON; dots nest.
        Their values are taken for settings; a secret goes in as a function
        that returns it and is called at each refresh.
    method: "POST", "PUT" or "PATCH".
    login_over: given a reply that has no token, whether that means that the
        login is over; without it, 400, 401 and 403 do. It is asked about no
        redirect, no 408, 425, 429 or 5xx and no web page: these never do.
        Its `Response` has the body and no request.
    auth: a requests auth object, or None.
    timeout, verify, cert, proxies: as for RefreshTokenGrant.

    Called with a token that lacks what is to be sent, it raises LoginRequired
    and asks nobody. Immutable, so any thread may call it. Raises
    ConfigurationError for settings that cannot be right.
    """

    def __init__(
        self,
        url: str,
        *,
        send: Mapping[str, str] = MappingProxyType({"refresh": "refresh_token"}),
        read: Mapping[str, str] = MappingProxyType(
            {"access_token": "access", "refresh_token": "refresh"}
        ),
        headers: Mapping[str, Text] = MappingProxyType({}),
        extra: Mapping[str, Any] = MappingProxyType({}),
        method: str = "POST",
        login_over: LoginOver | None = None,
        auth: Auth | None = None,
        timeout: Timeout = (5, 15),
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        problem = problem_in(
            lambda: first(
                url_problem(url, "url"),
                read_problem(read, READABLE),
                _body_problem(send, extra),
                method_problem(method, ("POST", "PUT", "PATCH")),
                shared_problem(headers, login_over, auth, timeout, verify, cert, proxies),
            )
        )
        if problem:
            # A traceback with locals shows neither secrets nor half a grant.
            del self, url, headers, extra, auth, proxies
            raise ConfigurationError(problem)
        super().__init__(
            Endpoint(
                url, method=method, timeout=timeout, verify=verify, cert=cert, proxies=proxies
            ),
            read,
            headers,
            login_over,
            auth,
        )
        self._send = dict(send)
        self._extra = dict(extra)

    def __repr__(self) -> str:
        return f"JSONGrant({self._endpoint.shown!r}, send={self._send}, read={self._read})"

    def _renewed(self, token: Token | None) -> Token:
        sent = {name: needed(token, attribute) for name, attribute in self._send.items()}
        extra, secrets = resolved(self._extra, "extra")
        return self._exchanged(
            token,
            secrets,
            {"Content-Type": "application/json"},
            json.dumps(nested({**extra, **sent})).encode(),
        )


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` with dotted names unfolded. Raises ValueError where two are in each other's way."""
    body: dict[str, Any] = {}
    for path, value in fields.items():
        *folders, name = path.split(".")
        inner = body
        for folder in folders:
            found = inner.get(folder, {})
            if not isinstance(found, dict):
                raise ValueError(path)
            inner[folder] = inner = dict(found)  # a copy: what is in extra stays as it is
        if name in inner:
            raise ValueError(path)
        inner[name] = value
    return body


def _body_problem(send: object, extra: object) -> str | None:
    if not isinstance(send, Mapping) or not send or not isinstance(extra, Mapping):
        return "send must be a mapping that names at least one field, and extra a mapping."
    for attribute in send.values():
        if attribute not in _SENDABLE:
            return f"send takes {' or '.join(_SENDABLE)} from the token, and not {attribute!r}."
    return fields_problem(send, extra)


def fields_problem(send: Mapping[str, str], extra: Mapping[str, Any]) -> str | None:
    """What is wrong with the fields of a body, or None."""
    for name, value in extra.items():
        problem = None if callable(value) else json_problem(value, f"{name!r} in extra")
        if problem:
            return problem
    if not all(is_path(name) for name in [*send, *extra]) or send.keys() & extra.keys():
        return "A field in send or extra has no name, or two have the same."
    try:
        nested({**extra, **send})
    except ValueError:
        return "Two fields of the body are in each other's way: one would be inside the other."
    return None
