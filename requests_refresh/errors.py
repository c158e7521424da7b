"""The tree of errors, all under `RefreshError`.

Every message says what happened, what is still intact and what to do next.
No message, attribute or argument ever holds a token, a client secret or the
body of a reply. All are `requests.exceptions.RequestException`, so code that
already catches that goes on to work.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any, TypeVar

import requests.exceptions

_E = TypeVar("_E", bound="RefreshError")
_X = TypeVar("_X", bound=BaseException)


def scrub(error: _X, stop: BaseException | None = None) -> _X:
    """Clear the locals of the frames that `error` and its chain hold; returns `error`.

    The lines of the traceback stay, the secrets in its frames do not. What
    `stop` is, and what lies behind it, was there before and is the caller's.
    Frames that still run are not cleared.
    """
    for exc in chain_of(error, stop):
        traceback.clear_frames(exc.__traceback__)
    return error


def chain_of(error: BaseException, stop: BaseException | None = None) -> Iterator[BaseException]:
    """`error` and all that it holds: causes, contexts, and what it wraps, each once.

    urllib3 and requests wrap: the exception that tells what happened is among
    the arguments. `stop`, and what only it leads to, is left out.
    """
    todo: list[object] = [error]
    seen = {id(stop)}
    while todo:
        exc = todo.pop()
        if isinstance(exc, BaseException) and id(exc) not in seen:
            seen.add(id(exc))
            yield exc
            todo += [exc.__cause__, exc.__context__, *exc.args]


class RefreshError(requests.exceptions.RequestException):
    """Raised when a token could not be renewed for a reason that no subclass names.

    `response` is the API's 401 where there was one, else None. `request` is
    the caller's own request, without a token on it, or None. The cause, for
    example what a grant of your own raised, is in `__cause__`.
    """

    def own_copy(self: _E) -> _E:
        """A new error like this one, with this one as its `__cause__`.

        Many threads share one outcome; each needs an exception object of its
        own, because raising one object in several threads mixes tracebacks.
        """
        copy = type(self).__new__(type(self), *self.args)
        copy.args = self.args
        copy.__dict__.update(self.__dict__)
        copy.__cause__ = self
        return copy


class LoginRequired(RefreshError):
    """Raised when only a new login helps.

    Nothing is stored, the login was ended elsewhere, or the provider refused
    the refresh for good (`invalid_grant`, RFC 6749 section 5.2). `error` and
    `error_description` are what the provider said, or None.
    """

    def __init__(
        self,
        *args: Any,
        error: str | None = None,
        error_description: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.error = error
        self.error_description = error_description


class RefreshRefused(RefreshError):
    """Raised when the provider refused the client, not the login.

    `invalid_client`, `invalid_scope` and other 4xx (RFC 6749 section 5.2): the
    login is intact and a setting is wrong. `error` and `error_description`
    are what the provider said, or None.
    """

    def __init__(
        self,
        *args: Any,
        error: str | None = None,
        error_description: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.error = error
        self.error_description = error_description


class RefreshUnavailable(RefreshError):
    """Raised when the provider could not be reached or answered 408, 425, 429 or 5xx.

    The login is intact. `retry_after` is the number of seconds after which the
    provider asked to be tried again, or None. `outcome_unknown` is True when
    the request may have reached the provider and its answer was lost.
    """

    def __init__(
        self,
        *args: Any,
        retry_after: float | None = None,
        outcome_unknown: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.retry_after = retry_after
        self.outcome_unknown = outcome_unknown


class RefreshTimeout(RefreshError, requests.exceptions.Timeout):
    """Raised when the deadline passed while waiting. The round itself goes on."""


class InvalidReply(RefreshError):
    """Raised when the refresh endpoint answered with something that is no token.

    The message names what is wrong and never quotes the reply.
    """


class RefreshLoop(RefreshError):
    """Raised when the API refused too many tokens that had just been issued.

    Only `TokenSource.renew` raises it. The adapter hands the API's 401 to the
    caller instead, and logs a warning.
    """


class StoreError(RefreshError):
    """Raised when the token store is unreachable, corrupt, full or not private."""


class StoreConflict(StoreError):
    """Raised when another token was stored than the one that was to be replaced."""


class ConfigurationError(RefreshError, ValueError):
    """Raised when a setting cannot be right: at construction, before anything is sent."""
