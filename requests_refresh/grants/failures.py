"""What a grant gave or raised, made into a `Token` or one of our errors.

A grant is anybody's callable, and what it raises may hold the refresh token:
in a request, in a reply, in the locals of a frame. Nothing leaves here with
those still on it.
"""

from __future__ import annotations

import http
import json
import re
import ssl
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import requests.exceptions
import urllib3.exceptions

from ..errors import InvalidReply, RefreshError, RefreshRefused, RefreshUnavailable, chain_of
from ..tokens import Token

_T = TypeVar("_T")

_FOR_LATER = {
    http.HTTPStatus.REQUEST_TIMEOUT,
    http.HTTPStatus.TOO_EARLY,
    http.HTTPStatus.TOO_MANY_REQUESTS,
}
# What a network does; requests calls a reply cut in the middle ChunkedEncodingError.
_NETWORK = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


def as_refresh_error(exc: BaseException, handled: BaseException | None = None) -> RefreshError:
    """The `RefreshError` that says what a grant's exception means for the login.

    exc: what the grant raised. RefreshErrors are returned as they are.
        requests' ConnectionError and Timeout, a reply cut in the middle, and
        HTTPError with 408, 425, 429 or 5xx are RefreshUnavailable; other
        HTTPErrors RefreshRefused; anything else is a RefreshError with `exc`
        as its `__cause__`.
    handled: what was being handled when the grant was called, if anything:
        it and its frames are the caller's and are left alone.

    Requests, replies and the locals of finished frames are taken off `exc` and
    its chain, because they hold secrets. Does not raise, does not block.
    """
    error = _classified(exc)
    without_secrets(exc, handled)
    return error


def as_token(result: object, previous: Token | None, issued_at: float) -> Token:
    """The token in what a grant returned.

    result: a Token, whose missing refresh token and `issued_at` are filled in;
        an OAuth reply (RFC 6749 section 5.1); or a str, an access token.
    previous: the token that was refreshed, or None.
    issued_at: seconds since the epoch when the grant was called.

    Raises InvalidReply, which quotes nothing, for anything else and for a
    token with no access token. Does not block.
    """
    outcome = _token_in(result, previous, issued_at)
    if isinstance(outcome, InvalidReply):
        del result  # tracebacks with locals show no secret
        raise outcome
    return outcome


def shielded(work: Callable[[], _T]) -> _T | BaseException:
    """What `work` returned, or what it raised with every trace of its frames removed.

    The caller raises it, from a frame that holds no secret.
    """
    handled = sys.exc_info()[1]
    try:
        return work()
    except BaseException as exc:
        found = as_refresh_error(exc, handled) if isinstance(exc, Exception) else exc
    found.__context__ = None  # where something was being handled, `raise` sets it again
    return found.with_traceback(None)


def failure_of(call: Any, tokens: Iterable[Token]) -> RefreshError | None:
    """What `call` fails with first when handed each of them, with no secret on it; or None."""
    handled, first = sys.exc_info()[1], None
    for token in tokens:
        try:
            call(token)
        except Exception as exc:
            first = first or as_refresh_error(exc, handled)
    return first


def is_for_later(status: int) -> bool:
    """True for the statuses that say: not now. They say nothing about the login."""
    return status in _FOR_LATER or status >= 500


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds in a `Retry-After` header (RFC 9110 section 10.2.3), or None.

    A date is measured from the reply's own `Date`, as this host's clock may be
    wrong. What is neither, or is past, is ignored.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", value):
        return float(value)
    end = date_seconds(value)
    if end is None:
        return None
    start = date_seconds(headers.get("Date", ""))
    seconds = end - (time.time() if start is None else start)
    return seconds if seconds > 0 else None


def kind_of(exc: BaseException) -> str:
    """The name of what went wrong, of the innermost that urllib3 tells."""
    reason = _reason_of(exc)
    return type(reason if isinstance(reason, Exception) else exc).__name__


def without_secrets(exc: BaseException, handled: BaseException | None = None) -> None:
    """Take requests, replies and frame locals off `exc` and all it is chained to.

    Lines of tracebacks stay. `handled` and what lies beyond it is not touched.
    """
    for one in chain_of(exc, handled):
        traceback.clear_frames(one.__traceback__)
        if isinstance(one, requests.RequestException):
            one.request = one.response = None
        if isinstance(one, UnicodeEncodeError):
            one.object, one.args = "", ()
        if isinstance(one, (json.JSONDecodeError, requests.JSONDecodeError)):
            one.doc = ""
        if isinstance(one, UnicodeDecodeError):
            one.object, one.args = b"", one.args[:1]


def _classified(exc: BaseException) -> RefreshError:
    name = type(exc).__name__
    if isinstance(exc, RefreshError):
        return exc
    if isinstance(exc, requests.HTTPError):
        status = None if exc.response is None else exc.response.status_code
        if exc.response is not None and is_for_later(exc.response.status_code):
            return RefreshUnavailable(
                f"The grant failed with {name}, status {status}: the provider cannot answer now."
                " The login is intact; try again later.",
                retry_after=retry_after(exc.response.headers),
            )
        return RefreshRefused(
            f"The grant failed with {name}, status {status}: the provider refused the request."
            " The login is intact. Check the grant's settings; where this status means that"
            " the login is over, let the grant raise LoginRequired."
        )
    if isinstance(exc, _NETWORK):
        lost = _may_have_arrived(exc)
        what = (
            "had no answer from the provider, which may have renewed the token all the same"
            if lost
            else "could not reach the provider"
        )
        return RefreshUnavailable(
            f"The grant {what} ({kind_of(exc)}). The login is kept; try again later.",
            outcome_unknown=lost,
        )
    error = RefreshError(
        f"The grant raised {name}, of which nothing is known. The stored token was left as it"
        " is. See __cause__, and let the grant raise one of the errors of this library where"
        " it knows what happened."
    )
    error.__cause__ = exc
    return error


def _may_have_arrived(exc: requests.RequestException) -> bool:
    """False only where the connection to the provider surely never opened."""
    if isinstance(exc, (requests.ConnectTimeout, requests.exceptions.ProxyError)):
        return False
    reason = _reason_of(exc)
    if isinstance(reason, urllib3.exceptions.SSLError) and reason.args:
        reason = reason.args[0]  # a certificate is checked before anything is sent
    return not isinstance(
        reason, (urllib3.exceptions.ConnectTimeoutError, ssl.SSLCertVerificationError)
    )


def _reason_of(exc: BaseException) -> object:
    """What urllib3 gave as the reason: requests wraps it in a MaxRetryError."""
    first = exc.args[0] if exc.args else None
    return getattr(first, "reason", first)


def _token_in(result: object, previous: Token | None, issued_at: float) -> Token | InvalidReply:
    if isinstance(result, str):
        result = {"access_token": result}
    if isinstance(result, Mapping):
        try:
            return Token.from_reply(result, previous, issued_at)
        except InvalidReply as error:
            return error.with_traceback(None)
    if not isinstance(result, Token):
        return InvalidReply(
            f"The grant returned {type(result).__name__}, which is no token. Nothing was stored."
            " Let it return a Token, an OAuth reply as a mapping, or an access token as a str."
        )
    if result.access_token is None:
        return InvalidReply(
            "The grant returned a token with no access token. Nothing was stored. Let it return"
            " what the provider issued."
        )
    values = {field.name: getattr(result, field.name) for field in fields(Token)}
    if result.refresh_token is None and previous is not None:
        values["refresh_token"] = previous.refresh_token
    if result.issued_at is None:
        values["issued_at"] = issued_at
    return Token(**values)


def date_seconds(date: str) -> float | None:
    """Seconds since the epoch of an HTTP date, or None."""
    try:
        found = parsedate_to_datetime(date)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
