"""`PasswordLogin`: a first token for a user name and a password, at an API of the older kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import ConfigurationError, LoginRequired
from ..grants.cookie import cookie_value
from ..grants.custom import READABLE, CustomGrant, read_problem, shared_problem
from ..grants.failures import date_seconds
from ..grants.http import Auth, Endpoint, Reply
from ..grants.jsonbody import fields_problem, nested
from ..grants.settings import (
    Secret,
    Text,
    Timeout,
    first,
    name_problem,
    problem_in,
    read_secret,
    resolved,
    text_problem,
    url_problem,
)
from ..tokens import Token

_SENDABLE = ("username", "password")


class PasswordLogin(CustomGrant):
    """Logs in by a JSON body with a user name and a password, such as to Django SimpleJWT.

    For APIs that offer nothing better; a password in a program is a secret
    more to keep. It is no grant of OAuth.

    url: the endpoint; https, or plain http to this host.
    username: a text, or a function that returns it.
    password: the same, and called at each login. A text is left behind by
        pickle, and what is unpickled says so at its first use.
    send: field of the body -> "username" or "password". Dots nest.
    read: attribute of the token -> dotted path in the reply, as for JSONGrant.
    extra: more fields of the body; headers: more headers; as for JSONGrant.
    cookie: the cookie whose `Set-Cookie` in the reply has the refresh token,
        for a CookieGrant; None: it is in the body, or there is none.
    auth: a requests auth object, or None.
    timeout, verify, cert, proxies: as for RefreshTokenGrant.

    Blocks for connect + read seconds at most, or what remains of the round.
    400, 401 and 403 mean that user name or password are wrong: LoginRequired.
    A web page never does. Other errors as for JSONGrant. Immutable, so any
    thread may call it. Raises ConfigurationError for settings that cannot be right.
    """

    def __init__(
        self,
        url: str,
        *,
        username: Text,
        password: Text,
        send: Mapping[str, str] = MappingProxyType(
            {"username": "username", "password": "password"}
        ),
        read: Mapping[str, str] = MappingProxyType(
            {"access_token": "access", "refresh_token": "refresh"}
        ),
        extra: Mapping[str, Any] = MappingProxyType({}),
        headers: Mapping[str, Text] = MappingProxyType({}),
        cookie: str | None = None,
        auth: Auth | None = None,
        timeout: Timeout = (5, 15),
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        problem = problem_in(
            lambda: first(
                url_problem(url, "url"),
                None if callable(username) else text_problem(username, "username"),
                None if callable(password) else text_problem(password, "password"),
                read_problem(read, READABLE),
                _body_problem(send, extra),
                None if cookie is None else name_problem(cookie, "cookie"),
                shared_problem(headers, None, auth, timeout, verify, cert, proxies),
            )
        )
        if problem:
            # A traceback with locals shows neither secrets nor half a login.
            del self, url, username, password, headers, extra, auth, proxies
            raise ConfigurationError(problem)
        super().__init__(
            Endpoint(
                url, method="POST", timeout=timeout, verify=verify, cert=cert, proxies=proxies
            ),
            read,
            headers,
            None,
            auth,
        )
        self._texts = {
            "username": Secret(username, "username") if isinstance(username, str) else username,
            "password": Secret(password, "password") if isinstance(password, str) else password,
        }
        self._send = dict(send)
        self._extra = dict(extra)
        self._cookie = cookie

    def __repr__(self) -> str:
        return f"PasswordLogin({self._endpoint.shown!r}, send={self._send}, read={self._read})"

    def _renewed(self, token: Token | None) -> Token:
        texts = {name: read_secret(text, name) for name, text in self._texts.items()}
        sent = {field: texts[name] for field, name in self._send.items()}
        extra, secrets = resolved(self._extra, "extra")
        secrets = [*secrets, texts["password"]]
        try:
            return self._exchanged(
                None,
                [*secrets, *(json.dumps(secret)[1:-1] for secret in secrets)],  # either is echoed
                {"Content-Type": "application/json"},
                json.dumps(nested({**extra, **sent})).encode(),
                cookie_in=self._cookie_in,
            )
        except LoginRequired as exc:
            error, description = exc.error, exc.error_description
        said = ": ".join(part for part in (error, description) if part)
        raise LoginRequired(
            f"{self._endpoint.shown} refused the user name or password"
            f"{f' ({said})' if said else ''}. Nothing was stored. Correct them and log in again.",
            error=error,
            error_description=description,
        )

    def _cookie_in(self, reply: Reply) -> str | None:
        if self._cookie is None:
            return None
        now = date_seconds(reply.response.headers.get("Date", "")) or reply.sent_at
        return cookie_value(reply.cookies, self._cookie, now)


def _body_problem(send: object, extra: object) -> str | None:
    if not isinstance(send, Mapping) or not isinstance(extra, Mapping):
        return "send and extra must be mappings."
    if sorted(map(str, send.values())) != sorted(_SENDABLE):
        return "send must name one field for the username and one for the password."
    return fields_problem(send, extra)
