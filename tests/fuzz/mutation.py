"""Changes to JSON as JSON, which bytes changed at random seldom are.

What is no JSON, and every second input, libFuzzer changes in its own way.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from .judges import ACCESS, REFRESH, SECRET

NAMES = (
    *("access_token", "refresh_token", "token_type", "expires_in", "expires_at", "scope", "ok"),
    *("error", "error_description", "code", "detail", "message", "access", "refresh", "data"),
    *("tokens", "value", "scopes", "accessToken", "expiresIn", "type", "issued_at", "extra", "x"),
    *("issuer", "token_endpoint", "revocation_endpoint", "mtls_endpoint_aliases"),
    "token_endpoint_auth_methods_supported",
    *("schema", "identity", "token", "sealed", "\ud800", ""),
)
VALUES: tuple[Any, ...] = (
    *("a", "", " ", "b c", "a\r\nb", "\x00", "\ud800", "\u2028", "ü", "bearer", "dpop", "somebody"),
    *("https://auth.test", "https://a.test/x", "HTTP://127.0.0.1/", "http://localhost/", "https:"),
    *("client_secret_basic", "client_secret_post", "client_secret_jwt", "none"),
    *("invalid_grant", "invalid_client", "slow_down", ACCESS, REFRESH, SECRET, REFRESH.upper()),
    *(f"x\x00{SECRET}\n", "3600", "1_0", "nan", "٣", "-1", "1e400", "9" * 300),
    *(0, 1, -1, 3600, 1.5, 1e12, 1e300, 10**400, float("inf"), float("nan"), True, False, None),
    *([], {}, ["a", "b"], ["a", 1], {"a": {"b": "c"}}, [[[[]]]], [{"value": "a"}]),
)
Mutate = Callable[[bytes, int], bytes]


def changing(mutate: Mutate) -> Callable[[bytes, int, int], bytes]:
    """A mutator for libFuzzer. mutate: its own."""

    def change(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)  # noqa: S311 # no secret comes of it
        head, blank, body = data.rpartition(b"\n\n")
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return mutate(data, most)
        if draw.random() < 0.5:
            return mutate(data, most)
        for _ in range(draw.randint(1, 3)):
            value = changed(value, draw)
        try:
            return (head + blank + json.dumps(value).encode())[:most]
        except RecursionError:
            return mutate(data, most)

    return change


def changed(value: Any, draw: random.Random) -> Any:
    """`value` with one thing put in, taken out or wrapped, somewhere in it."""
    if isinstance(value, dict):
        key = draw.choice([*value, draw.choice(NAMES)])
        what = draw.random()
        if what < 0.2:
            return {k: v for k, v in value.items() if k != key}
        if what < 0.4 and key in value:
            return {**value, key: changed(value[key], draw)}
        return {**value, key: draw.choice(VALUES)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        at = draw.randrange(len(value))
        return [*value[:at], changed(value[at], draw), *value[at + 1 :]]
    what = draw.random()
    if what < 0.2:
        return [value, draw.choice(VALUES)]
    if what < 0.4:
        return {draw.choice(NAMES): value}
    if what < 0.5 and isinstance(value, str):
        return value + draw.choice([ACCESS, "\ud800", "\x00", " ", "é"])
    return draw.choice(VALUES)
