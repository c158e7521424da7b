"""`CookieGrant`: a refresh by a cookie, as web pages do it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from ..errors import ConfigurationError
from ..tokens import Token
from .base import needed
from .custom import READABLE, CustomGrant, read_problem, shared_problem
from .failures import date_seconds
from .http import Auth, Endpoint
from .replies import LoginOver
from .settings import (
    Text,
    Timeout,
    first,
    is_header_text,
    method_problem,
    name_problem,
    problem_in,
    url_problem,
)

_READABLE = tuple(name for name in READABLE if name != "refresh_token")


class CookieGrant(CustomGrant):
    """Renews by a refresh token in a cookie, as back ends of web pages do.

    url: the endpoint; https, or plain http to this host.
    cookie: the cookie's name. `Token.refresh_token` is its value, sent with
        this request alone, as it is; a `Set-Cookie` of that name in the reply
        brings the next. Only its value counts: Path, Domain, Secure and the
        like speak to browsers. Where none comes, or one that deletes the
        cookie beside a good access token, the old one is kept, and the next
        refresh shows what it is worth.
    read, headers, login_over, auth: as for JSONGrant. The refresh token is
        read from the cookie only.
    method: "POST", "GET", "PUT" or "PATCH"; no body is sent.
    timeout, verify, cert, proxies: as for RefreshTokenGrant.

    Called with no refresh token, it raises LoginRequired and asks nobody; with
    one that cannot stand in a cookie, ConfigurationError, as it is another
    grant's. Immutable, so any thread may call it. Raises ConfigurationError for
    settings that cannot be right.
    """

    def __init__(
        self,
        url: str,
        *,
        cookie: str = "refresh_token",
        read: Mapping[str, str] = MappingProxyType({"access_token": "accessToken"}),
        headers: Mapping[str, Text] = MappingProxyType({}),
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
                name_problem(cookie, "cookie"),
                read_problem(read, _READABLE),
                method_problem(method, ("POST", "GET", "PUT", "PATCH")),
                shared_problem(
                    headers,
                    login_over,
                    auth,
                    timeout,
                    verify,
                    cert,
                    proxies,
                    refused=("cookie",),
                ),
            )
        )
        if problem:
            # A traceback with locals shows neither secrets nor half a grant.
            del self, url, headers, auth, proxies
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
        self._cookie = cookie

    def __repr__(self) -> str:
        return f"CookieGrant({self._endpoint.shown!r}, cookie={self._cookie!r}, read={self._read})"

    def _renewed(self, token: Token | None) -> Token:
        value = needed(token, "refresh_token")
        if ";" in value or not is_header_text(value):
            raise ConfigurationError(
                "The stored refresh token cannot stand in a cookie. It is left as it is and nothing"
                " was sent. Check that this is the grant that it was issued for."
            )
        return self._exchanged(
            token,
            [],
            {"Cookie": f"{self._cookie}={value}"},
            cookie_in=lambda reply: cookie_value(
                reply.cookies,
                self._cookie,
                date_seconds(reply.response.headers.get("Date", "")) or reply.sent_at,
            ),
        )


def cookie_value(headers: list[str], name: str, now: float) -> str | None:
    """The value that `Set-Cookie` headers give to the cookie `name`, or None.

    The last one counts that does not delete it: a cookie may be deleted at one
    path and set at another. Quotes are part of the value and go back as they
    came (RFC 6265 section 5.2). now: seconds since the epoch, by the server's
    clock where it tells, as `Expires` is of that clock.
    """
    found = None
    for header in headers:
        (key, value), *attributes = map(_pair, header.split(";"))
        if key == name and value.strip('"') and not _is_over(attributes, now):
            found = value
    return found


def _is_over(attributes: list[tuple[str, str]], now: float) -> bool:
    """True where they delete the cookie. Max-Age goes before Expires."""
    values = {key.lower(): value for key, value in attributes}
    if re.fullmatch("-?[0-9]{1,18}", values.get("max-age", "")):
        return int(values["max-age"]) <= 0
    end = date_seconds(values.get("expires", ""))
    return end is not None and end <= now


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key.strip(), value.strip()
