"""What the gate decides in single steps: rounds that begin when a test says so."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from requests_refresh import (
    RefreshError,
    RefreshLoop,
    StoreError,
    Token,
)
from requests_refresh.gate import Round
from requests_refresh.tokens import Current, Outcome

from .steps import NEW, OLD, Steps, at_once, fails, issued, living, locals_below, no_thread


def test_who_adopts_what_he_called_stale_asks_once_more() -> None:
    """I3: a round that ends with the stale token is followed by one more, and no third."""
    steps = at_once(lambda round_: Outcome(living(OLD), refreshed=False))
    assert steps.get().token is OLD
    assert len(steps.rounds) == 2
    answers = [Outcome(living(OLD), refreshed=False), issued()]
    steps = at_once(lambda round_: answers.pop(0))
    assert steps.get().token is NEW


def test_a_refusal_that_comes_while_a_round_runs_is_noted() -> None:
    """I2: from then on the refused token counts as dead, and must not come back."""
    steps = Steps(lambda round_: issued())
    assert steps.start(refused=False) is True
    assert steps.gate.current == living(OLD)  # its end is merely near
    assert not steps.gate.past.has(OLD)
    assert steps.start(refused=False) is False  # one runs
    assert steps.start(refused=True) is False
    assert steps.gate.current == Current(OLD, -math.inf, -math.inf)
    assert steps.gate.past.has(OLD)
    assert len(steps.jobs) == 1


def test_what_may_not_be_started_is_not() -> None:
    """I12: where a start is forbidden, `start` says so, and the token stays as it was."""
    steps = Steps(lambda round_: issued(), forbid=lambda stale, alive: RefreshLoop("used up"))
    assert steps.start() is False
    assert steps.jobs == []
    assert steps.gate.current == living(OLD)
    assert isinstance(steps.gate.hopeless(OLD, may_start=True), RefreshLoop)
    assert steps.gate.hopeless(Token("older"), may_start=True) is None  # OLD can be adopted


def test_who_had_his_refresh_joins_a_round_or_gets_told() -> None:
    """I12: with may_start=False nothing is begun, but what runs is waited for."""
    steps = Steps(lambda round_: issued())
    assert isinstance(steps.gate.hopeless(OLD, may_start=False), RefreshLoop)
    with pytest.raises(RefreshLoop):
        steps.get(may_start=False)
    with pytest.raises(RefreshLoop):
        steps.get(stale=OLD, refused=False, may_start=False)
    assert steps.jobs == []
    assert steps.start(refused=False)
    assert steps.gate.hopeless(OLD, may_start=False) is None


def test_a_round_whose_thread_does_not_come() -> None:
    """I3: until its time is over it counts as running; then another takes its place."""
    steps = Steps(lambda round_: issued())
    assert steps.start()
    steps.now += 29.5
    assert not steps.start()
    steps.now += 0.5
    assert steps.start()
    steps.jobs[0]()  # it comes too late
    assert steps.rounds == []
    steps.jobs[1]()
    assert steps.gate.current == living(NEW)
    steps.jobs[1]()  # it begins twice
    assert len(steps.rounds) == len(steps.after) == 1


def test_a_round_is_begun_once() -> None:
    """I1: where a thread comes after all, it neither works nor ends the round of its caller."""
    jobs: list[Callable[[], None]] = []

    def work(round_: Round) -> Outcome:
        jobs[0]()
        assert not round_.done
        return issued()

    def spawn(job: Callable[[], None]) -> None:
        jobs.append(job)
        raise RuntimeError("no thread")

    steps = Steps(work, spawn=spawn)
    assert steps.get().token is NEW
    assert len(steps.rounds) == len(steps.after) == 1
    assert steps.gate.current == living(NEW)


def test_a_round_that_lost_its_place_calls_nobody_back() -> None:
    """I14: a login that comes in the middle of a round stands; the round publishes nothing."""

    def work(round_: Round) -> Outcome:
        steps.gate.replace(lambda: living(Token("login")), None)
        assert round_.done
        return issued()

    steps = at_once(work)
    assert steps.start()
    assert steps.gate.current == living(Token("login"))
    assert steps.after == []


def test_an_outcome_may_be_public_before_the_work_is_over() -> None:
    """I3: who waits need not wait for the store to be left; callbacks come once, at the end."""

    def work(round_: Round) -> Outcome:
        steps.gate.publish(round_, issued())
        assert round_.done
        assert steps.gate.current == living(NEW)
        assert steps.after == []
        return issued()

    steps = at_once(work)
    assert steps.start()
    assert steps.after == steps.rounds
    assert steps.after[0].outcome == issued()


def test_the_child_of_a_fork_begins_anew() -> None:
    """I14: the round of the parent is none of the child's, not even where the child is its work."""
    inside: list[bool] = []

    def work(round_: Round) -> Outcome:
        inside.append(steps.gate.within_round())
        steps.gate.reset()
        inside.append(steps.gate.within_round())
        return issued()

    steps = Steps(work)
    assert steps.start()
    steps.gate.reset()
    assert steps.start()
    steps.jobs[1]()
    assert inside == [True, False]
    assert steps.gate.current is not None
    assert steps.gate.current.token is OLD  # what the parent's round ends with is the parent's


def test_a_dead_store_is_told_at_once() -> None:
    """I3: while a store's failure holds back, nothing is begun, and each gets its own error."""
    steps = at_once(fails(StoreError("gone")))
    steps.gate.held = (steps.now + 5.0, StoreError("gone"))
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            steps.get(stale=None if steps.gate.current is None else OLD)
        assert caught.value is not steps.gate.held[1]
    assert steps.rounds == []


def test_a_token_is_dead_at_its_end() -> None:
    """I2: at the very moment of its end it is adopted no more."""
    steps = at_once(lambda round_: issued())
    steps.gate.current = Current(OLD, steps.now, steps.now)
    assert steps.get(stale=None).token is NEW
    assert steps.rounds[0].stale is None


def test_what_a_work_of_ones_own_raises() -> None:
    """I3, I9: an exception ends the round with an error of ours; its cause holds no frames."""

    def work(round_: Round) -> Outcome:
        secret = "secret"
        raise ValueError(len(secret))

    for steps in (at_once(work), Steps(work, spawn=no_thread)):
        with pytest.raises(RefreshError, match="ValueError") as caught:
            steps.get()
        found: BaseException | None = caught.value
        while isinstance(found, RefreshError):
            found = found.__cause__
        assert isinstance(found, ValueError)
        assert found.__traceback__ is not None
        frame = found.__traceback__
        while frame.tb_next is not None:
            frame = frame.tb_next
        assert frame.tb_frame.f_locals == {}


def test_ctrl_c_is_for_the_thread_that_it_came_in() -> None:
    """I14: a caller that works himself gets his own Ctrl-C; in a round's thread it is an error."""
    steps = Steps(interrupted, spawn=no_thread)
    with pytest.raises(KeyboardInterrupt):
        steps.get()
    assert steps.rounds[0].done  # I3: no round is left behind
    steps = at_once(interrupted)
    with pytest.raises(RefreshError, match="KeyboardInterrupt"):
        steps.get()


def interrupted(round_: Round) -> Outcome:
    raise KeyboardInterrupt


def test_what_the_caller_was_handling_stays_whole() -> None:
    """I9: where the caller works himself, the frames of his own exception are not cleared."""

    def fail() -> None:
        kept = ["his"]
        raise KeyError(len(kept))

    def work(round_: Round) -> Outcome:
        raise ValueError

    steps = Steps(work, spawn=no_thread)
    kept: dict[str, Any] = {}
    try:
        fail()
    except KeyError as his:
        with pytest.raises(RefreshError):
            steps.get()
        kept = locals_below(his)
    assert kept == {"kept": ["his"]}
