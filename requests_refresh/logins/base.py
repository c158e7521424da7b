"""What the logins of OAuth share: how long a person is waited for, and what is said to them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from .. import lifecycle
from ..errors import LoginRequired, RefreshError, RefreshTimeout
from ..gate import remaining
from ..grants.client import OAuthGrant
from ..signing import new_jwk
from ..tokens import Token

TICK = 0.5  # seconds in which a wait notices that the process is ending


class OAuthLogin(OAuthGrant):
    """A login at an OAuth provider that a person confirms. It keeps the refresh token.

    Any thread may call it, and several may at once: each call is a login of its own.
    """

    _clock: Callable[[], float] = staticmethod(time.monotonic)
    _sleep: Callable[[float], None] = staticmethod(time.sleep)

    def __init__(self, token_url: str, *, client_id: str, **settings: Any) -> None:
        try:
            super().__init__(token_url, client_id=client_id, **settings)
        except BaseException:
            # A traceback with locals shows neither secrets nor half a login.
            del self, token_url, settings
            raise
        # It is no field of the request for the token (RFC 6749 section 4.1.3).
        self._asked_scope, self._scope = self._scope, ""

    def _kept_of(self, token: Token) -> Token:
        return token

    def _asked(self, token: Token | None) -> tuple[dict[str, Any], list[str]]:
        """What the person is asked to allow, with which a login begins."""
        scope = {"scope": self._asked_scope} if self._asked_scope else {}
        return {**scope, **self._targets}, []

    def _new_key(self) -> dict[str, Any] | None:
        """The key that the token is to be bound to: one for all requests of a login."""
        return new_jwk() if self._dpop else None


class Patience:
    """How long something is waited for: so many seconds, and no longer than the round.

    over: the error when they have passed. clock: monotonic.
    """

    def __init__(self, seconds: float, over: RefreshError, clock: Callable[[], float]) -> None:
        self._over = over
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        """Seconds, which may be none."""
        return min(self._end - self._clock(), remaining())

    def check(self, needed: float = 0.0) -> None:
        """Raise the error, or RefreshTimeout, unless more than `needed` seconds are left.

        RefreshTimeout, too, when the process is ending, as its end waits for the round.
        """
        if lifecycle.ending():
            raise RefreshTimeout(
                "The process is ending, so the login is not waited for. Nothing was stored."
            )
        if self.left() > needed:
            return
        if self._end - self._clock() <= needed:
            raise self._over
        raise RefreshTimeout(
            "The time of the renewal was over before anybody completed the login. Nothing was"
            " stored. Give the TokenSource a timeout of some minutes, or call"
            " tokens.login(login()) before."
        )

    def sleep(self, seconds: float, sleep: Callable[[float], None]) -> None:
        """Wait so long, if so much and more is left; else raise as `check` does, at once."""
        end = self._clock() + seconds
        self.check(seconds)
        while (left := end - self._clock()) > 0:
            sleep(min(left, TICK))
            self.check()


def not_completed(where: str, error: str | None, description: str | None) -> LoginRequired:
    """What to say where the provider ended a login that was under way, in its own words."""
    said = ": ".join(part for part in (error, description) if part)
    return LoginRequired(
        f"{where} did not complete the login ({said}). Log in again.",
        error=error,
        error_description=description,
    )


def tell(*lines: str) -> None:
    """Show a person what to do, on standard error."""
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()
