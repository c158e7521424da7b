"""How refusals of just-issued tokens are counted."""

from __future__ import annotations

from requests_refresh import Token
from requests_refresh.strikes import Strikes


def test_a_late_refusal_is_no_second_strike() -> None:
    """I12: two threads had one issue refused; it counts once, though the next came in between."""
    strikes = Strikes((3, 30.0), lambda: 0.0)
    strikes.issued(Token("a1"))
    strikes.strike(Token("a1"))
    strikes.issued(Token("a2"))
    strikes.strike(Token("a1"))
    assert strikes.count == 1
    strikes.strike(Token("a2"))
    assert strikes.count == 2


def test_a_token_that_is_issued_again_strikes_again() -> None:
    """I12: a provider that repeats its token does not evade the strikes."""
    strikes = Strikes((3, 30.0), lambda: 0.0)
    for _ in range(3):
        strikes.issued(Token("same"))
        strikes.strike_if_young(Token("same"))
    assert strikes.count == 3
    assert strikes.forbid(Token("same"), True) is not None


def test_what_was_issued_long_ago_is_forgotten() -> None:
    """The issues that are remembered are bounded."""
    strikes = Strikes((3, 30.0), lambda: 0.0)
    for number in range(1000):
        strikes.issued(Token(f"a{number}"))
    assert len(strikes._numbers) < 100
