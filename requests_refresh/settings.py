"""What a user gave to a source, checked before anything is sent."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from .errors import ConfigurationError
from .grants.failures import as_token
from .stores import MemoryStore, TokenStore, open_store
from .tokens import Token


def require(condition: bool, problem: str) -> None:
    """Raise ConfigurationError with `problem` unless `condition`."""
    if not condition:
        raise ConfigurationError(f"{problem}.")


def as_login(token: Token | Mapping[str, Any] | str) -> Token:
    """The Token in what a user calls one: a Token, an OAuth reply or an access token."""
    if not isinstance(token, Token):
        return as_token(token, None, time.time())
    if token.access_token is None and token.refresh_token is None:
        raise ConfigurationError("This Token holds neither an access nor a refresh token.")
    return token


def check_settings(
    grant: object,
    store: TokenStore | str | None,
    identity: object,
    ahead: object,
    leeway: object,
    timeout: object,
    strikes: Any,
    hooks: tuple[object, ...],
) -> TokenStore:
    """Raise ConfigurationError for the first setting that cannot be right; returns the store."""
    require(callable(grant), "grant is not callable")
    require(isinstance(identity, str) and bool(identity), "identity is not a non-empty string")
    for name, seconds in (("ahead", ahead), ("leeway", leeway)):
        require(seconds is None or _is_seconds(seconds), f"{name} is not a number of seconds")
    require(_is_seconds(timeout) and timeout != 0, "timeout is not a number of seconds above 0")
    if strikes is not None:
        pair = isinstance(strikes, (tuple, list)) and len(strikes) == 2
        require(
            pair and isinstance(strikes[0], int) and strikes[0] > 0 and _is_seconds(strikes[1]),
            "strikes is not (how many, in how many seconds), nor None",
        )
    for name, hook in zip(("relogin", "on_refresh", "on_logout"), hooks, strict=True):
        require(hook is None or callable(hook), f"{name} is not callable")
    if store is None:
        return MemoryStore()
    if isinstance(store, str):
        return open_store(store)
    require(isinstance(store, TokenStore), "store is no TokenStore, nor the URL of one")
    return store


def _is_seconds(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value < math.inf  # type: ignore[operator]  # a number, says the line before
