"""When the last part of a token's life begins, and its end, for whatever lifetimes and settings."""

from __future__ import annotations

import math
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from requests_refresh import Token, lifetimes
from requests_refresh.lifetimes import Lifetimes

from .support import steady

NOW = 1_700_000_000.0  # on the wall
START = 1000.0  # on the monotonic clock

lives = st.floats(1e-3, 1e9) | st.sampled_from([0.5, 1.0, 2.0, 3600.0, 86400.0, 1e9])
set_seconds = st.none() | st.floats(0, 1e10)
took_seconds = st.just(0.25) | st.floats(0, 1e5)
parts = st.floats(0, 0.9)  # of a life, that are over


def moments(
    token: Token,
    *,
    took: float = 0.25,
    ahead: float | None = None,
    leeway: float | None = None,
    sent: float | None = None,
) -> tuple[float, float]:
    """How long from now a token is fresh, and how long it lives."""
    ours = Lifetimes(ahead, leeway, lambda: START)
    ours.took = took
    with mock.patch.object(lifetimes, "time", SimpleNamespace(time=lambda: NOW)):
        current = ours.current(token, sent)
    return current.ahead_at - START, current.dead_at - START


def token_of(life: float, since: float = 0.0) -> Token:
    return Token("a", refresh_token="r", issued_at=NOW - since, expires_at=NOW - since + life)


def dead_before(life: float, leeway: float | None) -> float:
    return min(0.02 * life, 5.0) if leeway is None else min(leeway, life / 2)


def about(life: float) -> float:
    return 1e-6 * max(1.0, life)  # what floats lose around NOW


@steady
@given(lives, took_seconds, set_seconds, parts)
@example(1.0, 0.0, None, 0.0)
@example(0.5, 1e5, None, 0.9)
@example(1e9, 0.0, 1e10, 0.0)
@example(3600.0, 0.25, 600.0, 0.0)
def test_the_last_part_by_default(
    life: float, took: float, leeway: float | None, over: float
) -> None:
    """A tenth, 300 s at most, four times the last refresh, under half, and a third of jitter."""
    token = token_of(life)
    fresh, lives_for = moments(token, took=took, leeway=leeway, sent=START - over * life)
    left, least = life * (1 - over), dead_before(life, leeway)
    if left <= least + about(life):
        return  # dead as it was issued; see below
    assert left - lives_for == pytest.approx(least, abs=about(life))
    before = left - fresh
    wished = min(max(min(0.1 * life, 300.0), 4 * took), 0.375 * life)
    assert before >= max(wished, least) - about(life)
    if leeway is not None:  # room for a refresh before that is as good
        wished = max(wished, min(least + 4 * took, 0.375 * life))
    assert before <= max(min(wished * 4 / 3, life / 2), least) + about(life)


@steady
@given(lives, took_seconds, st.floats(0, 1e10), set_seconds)
@example(100.0, 0.0, 0.0, 0.0)
@example(100.0, 1e5, 1.0, 60.0)
@example(1.0, 0.25, 1e10, None)
def test_the_last_part_as_said(
    life: float, took: float, ahead: float, leeway: float | None
) -> None:
    """`ahead=` holds to the second, whatever a refresh took: under half, never after `leeway=`."""
    token = token_of(life)
    fresh, lives_for = moments(token, took=took, ahead=ahead, leeway=leeway, sent=START)
    least = dead_before(life, leeway)
    assert life - lives_for == pytest.approx(least, abs=about(life))
    assert life - fresh == pytest.approx(max(min(ahead, life / 2), least), abs=about(life))
    assert fresh <= lives_for


@steady
@given(lives, parts, st.floats(-6 * 3600, 6 * 3600))
@example(100.0, 0.0, 6 * 3600.0)
@example(100.0, 0.0, -6 * 3600.0)
def test_the_last_part_of_a_stored_token(life: float, over: float, skew: float) -> None:
    """A stored token never lives longer than it said, and a tenth means a tenth of its whole life.

    skew: by how many seconds the clock of who stored it is ahead of ours.
    """
    fresh, lives_for = moments(token_of(life, over * life - skew), took=0.0)
    left = min(life, life * (1 - over) + skew)
    before = left - fresh
    tenth = max(min(0.1 * life, 300.0), dead_before(life, None))
    assert left - lives_for == pytest.approx(dead_before(life, None), abs=about(life))
    assert tenth - about(life) <= before <= tenth * 4 / 3 + about(life)


@steady
@given(lives)
def test_the_last_part_of_a_token_that_does_not_say_when_it_was_issued(left: float) -> None:
    """What is left of it is all of its life that is known."""
    fresh, lives_for = moments(Token("a", expires_at=NOW + left), took=0.0)
    assert left - lives_for == pytest.approx(dead_before(left, None), abs=about(left))
    tenth = max(min(0.1 * left, 300.0), dead_before(left, None))
    assert tenth - about(left) <= left - fresh <= tenth * 4 / 3 + about(left)


@steady
@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e6))
def test_what_is_dead_by_its_times_is_dead(ago: float, life: float, before: float) -> None:
    """A stored token that is over, or that ended before it began, is not handed out."""
    over = Token("a", issued_at=NOW - ago - life - 1, expires_at=NOW - ago - 1)
    turned = Token("a", issued_at=NOW + before + 1, expires_at=NOW)
    for token in (over, turned, Token("a", expires_at=NOW - ago - 1)):
        assert max(moments(token)) <= 0


@steady
@given(st.floats(0, 1e9), st.floats(1, 1e6))
def test_what_is_dead_as_it_is_issued_is_for_the_api_to_judge(life: float, late: float) -> None:
    """I12: an answer that took longer than its token lives makes no round after the other."""
    fresh, lives_for = moments(token_of(life), sent=START - life - late)
    assert fresh == lives_for == math.inf


@pytest.mark.parametrize("life", [0.5, 1.0, 1e9])
@pytest.mark.parametrize("took", [0.0, 1.0, 1e9])
def test_a_fleet_does_not_begin_at_once(life: float, took: float) -> None:
    """Also where the cap decides, each source begins at a moment of its own."""
    begins = {moments(token_of(life), took=took, sent=START)[0] for _ in range(20)}
    assert len(begins) > 10


@pytest.mark.parametrize(("life", "leeway"), [(600.0, 60.0), (3600.0, 400.0), (100.0, 30.0)])
def test_there_is_time_for_a_refresh_before_the_leeway(life: float, leeway: float) -> None:
    """With `leeway=` alone, the last part is still four times what a refresh takes, or all wait."""
    for _ in range(50):
        fresh, lives_for = moments(token_of(life), leeway=leeway, sent=START)
        assert lives_for - fresh >= 4 * 0.25
