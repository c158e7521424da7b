"""The settings that grants share, checked at construction, and where they keep secrets.

A check returns what is wrong as a text, so that the constructor can drop its
secrets before it raises.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from ..errors import ConfigurationError
from ..origins import require_private

Timeout = float | tuple[float, float]
Text = str | Callable[[], str]
_T = TypeVar("_T")

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2: a token
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_OURS = {"accept-encoding", "connection", "content-length", "content-type", "transfer-encoding"}


class Secret:
    """A text that shows in no `repr` and is left behind by pickle."""

    __slots__ = ("_text", "_what")

    def __init__(self, text: str | None, what: str) -> None:
        self._text = text
        self._what = what

    def __call__(self) -> str:
        if self._text is None:
            raise ConfigurationError(
                f"The {self._what} was left behind when this grant was pickled, as a pickle is no"
                f" place for a secret. The login is intact. Make the grant anew in this process,"
                f" or give {self._what} as a function that returns it."
            )
        return self._text

    def __repr__(self) -> str:
        return f"<{self._what}>"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[type[Secret], tuple[None, str]]:
        return Secret, (None, self._what)


def first(*problems: str | None) -> str | None:
    """The first of the problems that is one."""
    return next((problem for problem in problems if problem), None)


def looked_at(work: Callable[[], _T]) -> tuple[_T | None, str | None]:
    """What `work` makes of settings, and why it could not look at them, or None.

    A mapping, an iterable or a text of a user's may raise when it is looked at, in frames that
    hold secrets.
    """
    try:
        return work(), None
    except Exception as exc:
        return None, f"A setting cannot be looked at: that raises {type(exc).__name__}."


def problem_in(check: Callable[[], str | None]) -> str | None:
    """What `check` finds wrong, or that it could not look."""
    problem, blind = looked_at(check)
    return blind or problem


def url_problem(url: object, what: str) -> str | None:
    """Why no token may be asked for at `url` (RFC 6749 section 3.2), or None."""
    if not isinstance(url, str) or not url.isprintable() or " " in url or "\\" in url:
        return f"{what} is not a URL: a text of printable characters and no spaces."
    try:
        require_private(url, what)
    except ConfigurationError as error:
        return str(error)
    if "@" in urlsplit(url).netloc:
        return f"{what} holds a user name. Give it as client_id or auth instead."
    if "#" in url:
        return f"{what} has a fragment, which a token endpoint may not (RFC 6749 section 3.2)."
    return None


def shown(url: str) -> str:
    """`url` as it may stand in a message: its query can hold a key."""
    return urlunsplit(urlsplit(url)._replace(query=""))


def listed(values: object) -> list[Any]:
    """What was given as one text, as several, or not at all."""
    if not values:
        return []
    if isinstance(values, str) or not isinstance(values, Iterable):
        return [values]
    return list(values)


def period_problem(value: object, what: str) -> str | None:
    """Why `value` cannot be a period, or None."""
    return None if _is_period(value) else f"{what} must be a number of seconds above 0."


def timeout_problem(timeout: object) -> str | None:
    """Why `timeout` cannot be one, or None."""
    values = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    if len(values) == 2 and all(_is_period(value) for value in values):
        return None
    return (
        "timeout must be seconds above 0, one number or (connect, read); a refresh for which"
        " others wait always has an end."
    )


def method_problem(method: object, allowed: tuple[str, ...]) -> str | None:
    """Why `method` cannot be used, or None."""
    return None if method in allowed else f"method must be one of {', '.join(allowed)}."


def reach_problem(timeout: object, verify: object, cert: object, proxies: object) -> str | None:
    """Why an endpoint cannot be reached like this, or None."""
    return first(
        timeout_problem(timeout),
        _verify_problem(verify),
        _cert_problem(cert),
        _proxies_problem(proxies),
    )


def _verify_problem(verify: object) -> str | None:
    # requests takes all else that is false, an empty text too, for False.
    if verify is None or isinstance(verify, bool) or _is_path(verify):
        return None
    return "verify must be True, False or the path of a CA bundle."


def _cert_problem(cert: object) -> str | None:
    if cert is None or (isinstance(cert, str) and cert):
        return None
    if isinstance(cert, tuple) and len(cert) == 2 and all(map(_is_path, cert)):
        return None
    return "cert must be the path of a certificate with its key, or (certificate, key)."


def _is_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike)) and bool(os.fspath(value))


def _proxies_problem(proxies: object) -> str | None:
    if proxies is None:
        return None
    if isinstance(proxies, Mapping) and all(
        isinstance(scheme, str) and (url is None or isinstance(url, str))
        for scheme, url in proxies.items()
    ):
        return None
    return "proxies must be a mapping of schemes to URLs, as requests takes it."


def headers_problem(headers: object, *, refused: Iterable[str] = ()) -> str | None:
    """Why `headers` cannot be sent, or None. Names no value: it may be a secret."""
    if not isinstance(headers, Mapping):
        return "headers must be a mapping of names to texts."
    for name, value in headers.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return "headers has a name that is not one for HTTP."
        if name.lower() in _OURS or name.lower() in refused:
            return f"headers may not hold {name}, which this grant sets itself."
        if not callable(value) and not is_header_text(value):
            return f"The value of the header {name} cannot be sent: no such text, or a control one."
    return None


def is_header_text(value: object) -> bool:
    """True for a text that reaches the wire as it is and ends no header."""
    return (
        isinstance(value, str)
        and value == value.strip()
        and not _CONTROL.search(value)
        and all(ord(character) < 256 for character in value)
    )


def name_problem(name: object, what: str) -> str | None:
    """Why `name` cannot be the name of a header or cookie, or None."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return None
    return f"{what} is not a name of letters, digits and !#$%&'*+.^_`|~- alone."


def text_problem(value: object, what: str) -> str | None:
    """Why `value` cannot be a non-empty text to send, or None."""
    if isinstance(value, str) and value and not _CONTROL.search(value):
        return None
    return f"{what} is empty, or not a text, or holds a control character."


def is_sendable(text: str) -> bool:
    """False for half a character, which has no form on the wire."""
    return text.isascii() or not re.search("[\ud800-\udfff]", text)


def json_problem(value: object, what: str) -> str | None:
    """Why `value` cannot stand in a JSON body, or None."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return f"{what} cannot be sent as JSON."
    return None


def read_secret(secret: Callable[[], str], what: str) -> str:
    """What `secret` returns, checked. Raises ConfigurationError if it cannot be sent."""
    text = secret()
    problem = text_problem(text, what)
    if problem:
        raise ConfigurationError(f"{problem} The login is intact. Look at what returned it.")
    return text


def resolved(values: Mapping[str, Any], what: str) -> tuple[dict[str, Any], list[str]]:
    """`values` with those that are functions called, and what these returned: secrets."""
    texts = {
        name: read_secret(value, f"{name!r} in {what}")
        for name, value in values.items()
        if callable(value)
    }
    return {**values, **texts}, list(texts.values())


def _is_period(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 < value < threading.TIMEOUT_MAX
    )
