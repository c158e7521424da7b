"""What a user gave to a source, checked before anything is sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from .errors import ConfigurationError
from .gate import at_work
from .grants.failures import as_token
from .grants.settings import text_problem
from .stores import MemoryStore, TokenStore, open_store
from .tokens import Token


def require(condition: bool, problem: str) -> None:
    """Raise ConfigurationError with `problem` unless `condition`."""
    if not condition:
        raise ConfigurationError(f"{problem}.")


def as_login(token: Token | Mapping[str, Any] | str) -> Token:
    """The Token in what a user calls one: a Token, an OAuth reply or an access token."""
    try:
        if not isinstance(token, Token):
            kind = isinstance(token, (str, Mapping))
            require(kind, "A login is a Token, an OAuth reply as a mapping, or an access token")
            return as_token(token, None, time.time())
        require(
            token.access_token is not None or token.refresh_token is not None,
            "This Token holds neither an access nor a refresh token",
        )
        return token
    finally:
        del token  # tracebacks with locals show no secret


def check_settings(
    *,
    grant: object,
    store: TokenStore | str | None,
    identity: object,
    relogin: object,
    ahead: object,
    leeway: object,
    background: object,
    timeout: object,
    strikes: Any,
    on_refresh: object,
    on_logout: object,
) -> TokenStore:
    """Raise ConfigurationError for the first setting that cannot be right; returns the store."""
    require(callable(grant), "grant is not callable")
    # It begins lines of the log, so it may end none.
    identity_problem = text_problem(identity, "identity")
    if identity_problem:
        raise ConfigurationError(identity_problem)
    for name, seconds in (("ahead", ahead), ("leeway", leeway)):
        require(seconds is None or is_seconds(seconds), f"{name} is not a number of seconds")
    require(is_seconds(timeout) and timeout != 0, "timeout is not a number of seconds above 0")
    if strikes is not None:
        pair = isinstance(strikes, (tuple, list)) and len(strikes) == 2
        require(
            pair and isinstance(strikes[0], int) and strikes[0] > 0 and is_seconds(strikes[1]),
            "strikes is not (how many, in how many seconds), nor None",
        )
    require(isinstance(background, bool), "background is neither True nor False")
    hooks = {"relogin": relogin, "on_refresh": on_refresh, "on_logout": on_logout}
    for name, hook in hooks.items():
        require(hook is None or callable(hook), f"{name} is not callable")
    if store is None:
        return MemoryStore()
    if isinstance(store, str):
        return open_store(store)
    require(isinstance(store, TokenStore), "store is no TokenStore, nor the URL of one")
    return store


def is_seconds(value: object) -> bool:
    """Whether it is a number of seconds: finite, not negative, and no bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value < threading.TIMEOUT_MAX


def patience(seconds: float) -> float:
    """`seconds`, but no more than are left of the round whose work the caller is, if any is."""
    round_ = at_work()
    return seconds if round_ is None else min(seconds, round_.remaining())
