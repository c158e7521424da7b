"""How times and tokens are shown to a person. No secret is."""

from __future__ import annotations

import time

from ..tokens import Token

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_WIDTH = 20  # characters of a bar


def span(seconds: float) -> str:
    """A length of time in its two largest units: `2 h 5 min`; never negative."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts[:2])


def left_of(token: Token, now: float | None = None) -> float | None:
    """Seconds that the access token has to live; negative when dead, None if it says no end."""
    if token.access_token is None:
        return -1.0
    if token.expires_at is None:
        return None
    return token.expires_at - (time.time() if now is None else now)


def lifetime_of(token: Token) -> str:
    """What is to be said of a token's life in a sentence."""
    left = left_of(token)
    if left is None:
        return "the access token says no end"
    if left <= 0:
        return "the access token is dead"
    return f"the access token lives {span(left)}"


def bar(token: Token) -> str:
    """The part of its life that a token has before it, as a bar; empty where that is not known."""
    left = left_of(token)
    if left is None or token.expires_at is None:
        return ""
    whole = token.expires_at - (token.issued_at if token.issued_at is not None else time.time())
    full = round(_WIDTH * min(1.0, max(0.0, left / whole))) if whole > 0 else 0
    return "█" * full + "░" * (_WIDTH - full)


def printable(text: str) -> str:
    """A text of somebody else's with nothing in it that moves a terminal's cursor."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
