"""What all grants of this library are: callables that leave no secret behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial

from ..errors import LoginRequired
from ..tokens import Token
from .failures import shielded
from .http import Endpoint


class Grant(ABC):
    """A way to get a new token: a callable `(Token or None) -> Token`.

    Immutable, so any thread may call it, and it survives a fork. It pickles
    without a client secret that it was given as a text; an auth object pickles
    with all that it holds.
    """

    _endpoint: Endpoint

    @property
    def timeout(self) -> tuple[float, float]:
        """Seconds for (connecting, the reply): the longest that a call works is their sum."""
        return self._endpoint.timeout

    def __call__(self, token: Token | None = None) -> Token:
        """The token that the provider issues in place of `token`.

        Blocks for connect + read seconds at most, or what remains of the round
        that calls it. Raises LoginRequired, RefreshRefused, RefreshUnavailable,
        RefreshTimeout, InvalidReply or ConfigurationError, and a bare
        RefreshError where a callable among its settings failed.
        """
        # This frame is all that a traceback shows, and holds no secret.
        outcome = shielded(partial(self._renewed, token))
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    @abstractmethod
    def _renewed(self, token: Token | None) -> Token:
        """Ask the provider. May raise anything, from frames that hold secrets."""


def needed(token: Token | None, attribute: str) -> str:
    """What `token` holds there. Raises LoginRequired if nothing, as then nothing can be asked."""
    value: str | None = getattr(token, attribute, None)
    if value is None:
        raise LoginRequired(
            f"There is no {attribute.replace('_', ' ')} to renew the login with. The provider was"
            " not asked. Log in."
        )
    return value
