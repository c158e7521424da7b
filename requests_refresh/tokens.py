"""`Token`: one immutable issue of credentials, and how an OAuth reply becomes one.

A token guards its secrets: no `repr`, `str`, log or traceback with locals
shows them, and it refuses to be pickled. `to_mapping()` is the one way out.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

from .errors import ConfigurationError, InvalidReply

# What may never stand in a header or in UTF-8: C0, DEL, C1 and lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_PAST_KEPT = 256
_LONGEST_LIFE = 1e12  # seconds; what is beyond is no lifetime but rubbish
DEEPEST = 32  # levels of nesting in an extra value; far below what any JSON library bears
_KNOWN_TYPES = {"bearer": "Bearer", "dpop": "DPoP"}


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Token:
    """One issue of credentials. Immutable, so any thread may read it.

    access_token: what goes on a request, or None where only a refresh token is
        at hand: such a token is dead from the start, and its first use
        refreshes it.
    refresh_token: what the provider takes for a new issue, or None.
    token_type: as the provider named it (RFC 6749 section 7.1).
    expires_at: seconds since the epoch, or None for a token that says no end.
    issued_at: seconds since the epoch when it was asked for, or None.
    scope: space-separated, as granted, or None.
    extra: whatever else came with it; JSON values.

    Raises ConfigurationError for values that cannot be a token: an empty
    string, a control character, a time that is no finite number.
    """

    access_token: str | None
    refresh_token: str | None
    token_type: str
    expires_at: float | None
    issued_at: float | None
    scope: str | None
    extra: Mapping[str, Any] = field(hash=False)

    def __init__(
        self,
        access_token: str | None = None,
        *,
        refresh_token: str | None = None,
        token_type: str = "Bearer",
        expires_at: float | None = None,
        issued_at: float | None = None,
        scope: str | None = None,
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        problem = (
            _text_problem("access_token", access_token)
            or _text_problem("refresh_token", refresh_token)
            or _text_problem("token_type", token_type)
            or _time_problem("expires_at", expires_at)
            or _time_problem("issued_at", issued_at)
            or (None if scope == "" else _text_problem("scope", scope))
            or (None if isinstance(extra, Mapping) else "extra is not a mapping")
        )
        if problem:
            del self, access_token, refresh_token, extra  # tracebacks with locals show none
            raise ConfigurationError(f"This cannot be a token: {problem}.")
        put = object.__setattr__
        put(self, "access_token", access_token)
        put(self, "refresh_token", refresh_token)
        put(self, "token_type", token_type)
        put(self, "expires_at", None if expires_at is None else float(expires_at))
        put(self, "issued_at", None if issued_at is None else float(issued_at))
        put(self, "scope", scope)
        put(self, "extra", MappingProxyType(dict(extra)))

    @classmethod
    def from_reply(
        cls,
        mapping: Mapping[str, Any],
        previous: Token | None = None,
        issued_at: float | None = None,
    ) -> Token:
        """The token in an OAuth reply (RFC 6749 section 5.1).

        mapping: the decoded reply. Of its fields, `access_token` is required;
            a missing `token_type` means Bearer, a missing `expires_in` a token
            that says no end; numeric strings are numbers.
        previous: the token that was refreshed. Its refresh token and scope are
            kept where the reply brings none (RFC 6749 section 6).
        issued_at: seconds since the epoch when the request was sent; now, if
            None. Counting from there errs on the safe side.

        Raises InvalidReply, which never quotes the reply. Does not block.
        """
        token = _read_reply(cls, mapping, previous, issued_at)
        if isinstance(token, str):
            del mapping, previous  # tracebacks with locals show none
            raise InvalidReply(
                f"The reply is no token: {token}. Nothing was stored. Check that the URL is"
                " the token endpoint's and that the names of the reply's fields are right."
            )
        return token

    def to_mapping(self) -> dict[str, Any]:
        """The stored form: a new dict of JSON values, secrets included."""
        return {
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "token_type": self.token_type,
            "expires_at": self.expires_at,
            "issued_at": self.issued_at,
            "scope": self.scope,
            "extra": dict(self.extra),
        }

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Token:
        """The token that `to_mapping` wrote. Unknown names are ignored.

        Raises ConfigurationError where it is none; the message quotes nothing.
        """
        token = _read_stored(cls, mapping)
        if isinstance(token, str):
            del mapping  # tracebacks with locals show none
            raise ConfigurationError(f"This is no stored token: {token}.")
        return token

    def same_issue(self, other: Token | None) -> bool:
        """True when `other` is the same issue: access and refresh token are equal."""
        return (
            other is not None
            and self.access_token == other.access_token
            and self.refresh_token == other.refresh_token
        )

    def fingerprint(self) -> bytes:
        """What tells this issue from others without holding its secrets: a SHA-256."""
        text = json.dumps([self.access_token, self.refresh_token])
        return hashlib.sha256(text.encode()).digest()

    def __repr__(self) -> str:
        parts = ["access" if self.access_token else "no access"]
        if self.refresh_token:
            parts.append("refresh")
        if self.expires_at is not None:
            parts.append(f"expires_at={self.expires_at:.0f}")
        return f"<Token {', '.join(parts)}>"

    def __copy__(self) -> Token:
        return self

    def __deepcopy__(self, memo: object) -> Token:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "A Token does not pickle, so that no pickle holds a secret by accident."
            " Keep it in a store, or use to_mapping() and Token.from_mapping()."
        )


@dataclass(frozen=True, slots=True)
class Current:
    """The token in use, and its moments on the gate's clock."""

    token: Token
    ahead_at: float  # from here on it is worth renewing in the background
    dead_at: float  # from here on it counts as dead; -inf once it was refused


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round ended with, or what the gate found."""

    current: Current
    refreshed: bool  # False: adopted

    @property
    def token(self) -> Token:
        return self.current.token


class Past:
    """Which tokens went before, by their fingerprints; the oldest are forgotten. Thread-safe."""

    def __init__(self) -> None:
        self._went: dict[bytes, bool] = {}  # whether it was replaced, not merely refused

    def refused(self, token: Token) -> None:
        """The API refused it. Its refresh token may be good."""
        self._note(token.fingerprint(), False)

    def replaced(self, token: Token) -> None:
        """Another took its place, so its refresh token is used up."""
        self._note(token.fingerprint(), True)

    def forget(self, token: Token) -> None:
        """It is in use again."""
        self._went.pop(token.fingerprint(), None)

    def has(self, token: Token) -> bool:
        """Whether it was refused or replaced, and must not come back."""
        return token.fingerprint() in self._went

    def has_replaced(self, token: Token) -> bool:
        """Whether its refresh token is used up."""
        return self._went.get(token.fingerprint(), False)

    def _note(self, mark: bytes, replaced: bool) -> None:
        self._went[mark] = replaced or self._went.get(mark, False)
        while len(self._went) > _PAST_KEPT:
            self._went.pop(next(iter(self._went)), None)


_FIELDS = tuple(Token.__dataclass_fields__)
_REPLY_FIELDS = {
    "access_token",
    "refresh_token",
    "token_type",
    "expires_in",
    "expires_at",
    "scope",
}


def _text_problem(name: str, value: object) -> str | None:
    if value is None and name != "token_type":
        return None
    if not isinstance(value, str):
        return f"{name} is not a string"
    if not value.strip():
        return f"{name} is empty"
    if _UNSAFE.search(value):
        return f"{name} holds a control character"
    if name == "access_token" and value != value.strip():
        return f"{name} begins or ends with a space"
    return None


def _time_problem(name: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"{name} is not a number of seconds since the epoch"
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    return None if finite else f"{name} is not a finite number"


def _seconds(name: str, value: object) -> float | str | None:
    """A number of seconds, None where there is none, or what is wrong with it."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return f"{name} is not a number"
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return f"{name} is not a number"
    if not 0 <= number <= _LONGEST_LIFE:
        return f"{name} is not a sensible number of seconds"
    return number


def _read_reply(
    cls: type[Token], reply: object, previous: Token | None, issued_at: float | None
) -> Token | str:
    """The token in a reply, or what is wrong with it: a text, so that no frame raises."""
    if not isinstance(reply, Mapping):
        return "it is not a mapping of names to values"
    if reply.get("access_token") is None:
        return "it has no access_token"
    sent = time.time() if issued_at is None else issued_at
    lifetime = _seconds("expires_in", reply.get("expires_in"))
    if isinstance(lifetime, str):
        return lifetime
    if lifetime is not None:
        expires_at: float | str | None = sent + lifetime
    else:  # not in the RFC, but in the dicts of other OAuth clients
        expires_at = _seconds("expires_at", reply.get("expires_at"))
    if isinstance(expires_at, str):
        return expires_at
    token_type = reply.get("token_type") or "Bearer"
    scope = reply.get("scope")
    if isinstance(scope, (list, tuple)) and all(isinstance(part, str) for part in scope):
        scope = " ".join(scope)
    # An empty refresh token is no new one.
    refresh_token = reply.get("refresh_token") or None
    problem = (
        _text_problem("access_token", reply["access_token"])
        or _text_problem("refresh_token", refresh_token)
        or _text_problem("token_type", token_type)
        or _time_problem("issued_at", sent)
        or (None if scope == "" else _text_problem("scope", scope))
    )
    if problem:
        return problem
    extra = {k: v for k, v in reply.items() if k not in _REPLY_FIELDS and _is_json(k, v)}
    if previous is not None:
        refresh_token = refresh_token or previous.refresh_token
        scope = previous.scope if scope is None else scope
        extra = {**previous.extra, **extra}
    return cls(
        reply["access_token"],
        refresh_token=refresh_token,
        token_type=_KNOWN_TYPES.get(token_type.lower(), token_type),
        expires_at=expires_at,
        issued_at=sent,
        scope=scope,
        extra=extra,
    )


def _read_stored(cls: type[Token], mapping: object) -> Token | str:
    """The token that `to_mapping` wrote, or what is wrong: a text, so that no frame raises."""
    if not isinstance(mapping, Mapping):
        return "it is not a mapping of names to values"
    values = {name: mapping[name] for name in _FIELDS if mapping.get(name) is not None}
    if "access_token" not in values and "refresh_token" not in values:
        return "it has neither an access_token nor a refresh_token"
    try:
        return cls(**values)
    except ConfigurationError as error:
        return str(error).rstrip(".")


def _is_json(name: object, value: object) -> bool:
    """Whether a store can keep it. What it cannot keep is left out, the token is not lost."""
    if not isinstance(name, str) or _UNSAFE.search(name) or is_deep(value, DEEPEST):
        return False
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError):
        return False
    return True


def is_deep(value: object, levels: int) -> bool:
    """Whether lists and mappings are in each other for more than so many levels."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        return False
    return levels == 0 or any(is_deep(part, levels - 1) for part in value)
