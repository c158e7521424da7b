"""What `JSONGrant` and `CookieGrant` share: refresh endpoints that know no OAuth.

Each names what it sends and where the reply has what it needs. 400, 401 and
403 mean that the login is over, unless `login_over` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import ConfigurationError
from ..tokens import Token
from .base import Grant
from .http import Auth, Endpoint, Reply
from .replies import LoginOver, custom_token
from .settings import Text, first, headers_problem, reach_problem, resolved

READABLE = ("access_token", "refresh_token", "expires_in", "expires_at", "token_type", "scope")


class CustomGrant(Grant):
    """A grant whose reply is JSON with names of its own."""

    def __init__(
        self,
        endpoint: Endpoint,
        read: Mapping[str, str],
        headers: Mapping[str, Text],
        login_over: LoginOver | None,
        auth: Auth | None,
    ) -> None:
        self._endpoint = endpoint
        self._read = dict(read)
        self._headers = dict(headers)
        self._login_over = login_over
        self._auth = auth

    def _exchanged(
        self,
        token: Token | None,
        secrets: Iterable[str],
        headers: Mapping[str, str],
        body: bytes | None = None,
        cookie_in: Callable[[Reply], str | None] = lambda reply: None,
    ) -> Token:
        """The token for which `headers` and `body` are exchanged.

        secrets: those of the body; what is in headers and the old token is known.
        """
        more, _ = resolved(self._headers, "headers")
        problem = headers_problem(more)
        if problem:  # a function's, as the others were checked at construction
            raise ConfigurationError(f"{problem} The login is intact. Look at what returned it.")
        reply = self._endpoint.ask({**more, **headers}, body, self._auth)
        return custom_token(
            reply,
            token,
            self._endpoint.shown,
            read=self._read,
            login_over=self._login_over,
            secrets=secrets,
            refresh_token=cookie_in(reply),
        )


def shared_problem(
    headers: object,
    login_over: object,
    auth: object,
    timeout: object,
    verify: object,
    cert: object,
    proxies: object,
    *,
    refused: Iterable[str] = (),
) -> str | None:
    """What is wrong with the settings that both have, or None."""
    return first(
        headers_problem(headers, refused=refused),
        reach_problem(timeout, verify, cert, proxies),
        None if login_over is None or callable(login_over) else "login_over is not callable.",
        None
        if auth is None or callable(auth)
        else "auth must be a requests auth object, such as HTTPBasicAuth(name, password).",
    )


def read_problem(read: object, allowed: tuple[str, ...]) -> str | None:
    """What is wrong with a mapping of attributes to paths, or None."""
    if not isinstance(read, Mapping) or "access_token" not in read:
        return "read must be a mapping that says where the access_token is."
    for attribute, path in read.items():
        if attribute not in allowed:
            return f"read knows {', '.join(allowed)}, and not {attribute!r}."
        if not is_path(path):
            return f"The path of {attribute} in read is not one: names with dots between them."
    return None


def is_path(value: Any) -> bool:
    """True for one name or several with dots between them."""
    return isinstance(value, str) and all(value.split("."))
