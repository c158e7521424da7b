"""How long a refresh took, and what that means for the next."""

from __future__ import annotations

from typing import Any

from requests_refresh import LoginRequired, Token, TokenSource

from .conftest import Make, Provider


def test_one_slow_refresh_does_not_last(make: Make) -> None:
    """Ahead is at least four times what the *last* refresh took: the next quick one ends it."""

    def slow(old: Token | None) -> None:
        make.clock.now += 3000

    source = make(Provider(slow, expires_in=100_000.0), timeout=9000)
    source.token()
    assert 12_000 <= last_part(source, 100_000.0 - 3000) <= 16_001
    source.renew(source.token())
    assert 300 <= last_part(source, 100_000.0) <= 400


def last_part(source: TokenSource, left: float) -> float:
    """Seconds before the end of its current token, of which so much is left now."""
    current = source._gate.current
    assert current is not None
    return source._clock() + left - current.ahead_at


def test_a_person_who_logs_in_is_no_slow_refresh(make: Make) -> None:
    """A relogin that waits for a person says nothing of how long the provider's calls take."""

    def browser() -> dict[str, Any]:
        make.clock.now += 200
        return {"access_token": "new", "refresh_token": "r", "expires_in": 36_000.0}

    source = make(Provider(LoginRequired("nobody")), relogin=browser, timeout=1000)
    source.token()
    assert 300 <= last_part(source, 36_000.0 - 200) <= 400
    assert source._gate.patience == 1.0  # how long an outage may keep somebody waiting
