"""Who waits at the gate in single steps, what is counted, and what the lock guards."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from requests_refresh import (
    RefreshLoop,
    RefreshTimeout,
    RefreshUnavailable,
)
from requests_refresh.gate import Gate, Round
from requests_refresh.tokens import Outcome

from .steps import NEW, OLD, Steps, at_once, issued, living, no_thread


class Sleepless(threading.Condition):
    """Nobody may wait on it."""

    def wait(self, timeout: float | None = None) -> bool:
        raise AssertionError(f"waited for {timeout} s")


def elsewhere(ask: Callable[[], object]) -> object:
    """What comes of it in a thread that has nothing to do with a round."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(ask())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30.0)
    return results[0] if results else "hangs"


@pytest.mark.parametrize("passed", [30.0, 31.0])
def test_nobody_waits_for_a_round_whose_time_is_over(passed: float) -> None:
    """I3: what hangs in a round at its deadline, and after it, keeps nobody."""
    seen: list[object] = []

    def work(round_: Round) -> Outcome:
        steps.now += passed
        seen.append(elsewhere(steps.get))
        return issued()

    steps = at_once(work, condition=Sleepless)
    assert steps.start()
    assert isinstance(seen[0], RefreshTimeout)


def test_a_refusal_that_may_start_nothing_leaves_the_round_that_runs() -> None:
    """I1: an asker who is turned away takes back no round but his own."""
    forbidden: list[RefreshLoop] = []
    steps = Steps(
        lambda round_: issued(), forbid=lambda stale, alive: forbidden[0] if forbidden else None
    )
    assert steps.start()
    forbidden.append(RefreshLoop("used up"))
    with pytest.raises(RefreshLoop):
        steps.get()
    assert not steps.start(refused=False)
    steps.jobs[0]()
    assert steps.gate.current == living(NEW)


def test_a_token_that_is_used_again_is_no_more_of_the_past() -> None:
    """I8: who logs in with what was in use before can adopt it from the store again."""
    steps = at_once(lambda round_: issued())
    assert steps.get().token is NEW
    assert steps.gate.past.has(OLD)
    steps.gate.replace(lambda: living(OLD), None)
    assert not steps.gate.past.has(OLD)
    assert steps.gate.past.has_replaced(NEW)


def test_what_is_waited_is_counted() -> None:
    """I5: a caller sleeps until his own deadline at most, and the seconds are told in the stats."""
    slept: list[float | None] = []

    class Passing(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            slept.append(timeout)
            steps.now += 2.0
            if len(slept) == 2:
                steps.jobs[0]()  # this thread has the lock already
            return True

    steps = Steps(lambda round_: issued(), condition=Passing)
    assert steps.get(patience=10.0).token is NEW
    assert slept == [10.0, 8.0]
    assert (steps.gate.waits, steps.gate.wait_seconds) == (1, 4.0)
    assert steps.rounds[0].waiters == 0


@pytest.mark.parametrize("interrupted_by", [None, KeyboardInterrupt("his")])
def test_a_wait_that_ends_astray(interrupted_by: BaseException | None) -> None:
    """I14: Ctrl-C is raised as such where it came before the sleep, and took the lock away."""

    class Broken(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            error = RuntimeError("cannot notify on un-acquired lock")
            error.__context__ = interrupted_by
            raise error

    steps = Steps(lambda round_: issued(), condition=Broken)
    with pytest.raises(BaseException, match="his" if interrupted_by else "un-acquired") as caught:
        steps.get()
    assert type(caught.value) is (KeyboardInterrupt if interrupted_by else RuntimeError)
    assert steps.rounds == []


GUARDED = {"claimed", "done", "outcome", "error", "waiters", "trouble", "until", "sure_until"}
GUARDED |= {"_round", "current", "held", "adoptions", "waits", "wait_seconds"}


class GuardedRound(Round):
    def __setattr__(self, name: str, value: object) -> None:
        assert name not in GUARDED or self.gate._lock._is_owned(), name
        super().__setattr__(name, value)


class GuardedGate(Gate):
    def __setattr__(self, name: str, value: object) -> None:
        if name == "_round" and type(value) is Round:
            value.__class__ = GuardedRound
        assert name not in GUARDED or self._lock._is_owned(), name
        super().__setattr__(name, value)


@pytest.mark.parametrize("ends", ["refreshed", "adopted", "failed", "login", "no thread"])
def test_what_the_lock_guards_is_written_under_it(ends: str) -> None:
    """I1, I3: what waiters look at changes under the lock only, however a round ends."""

    def work(round_: Round) -> Outcome | None:
        assert isinstance(round_, GuardedRound)
        steps.gate.tell_trouble(round_, RefreshUnavailable("down"), slow=True)
        if ends == "failed":
            round_.hold = 5.0
            raise RefreshUnavailable("down")
        if ends == "login":
            steps.gate.replace(lambda: living(NEW), None)
        return Outcome(living(NEW), refreshed=ends != "adopted")

    steps = at_once(work)
    steps.gate.__class__ = GuardedGate
    if ends == "no thread":
        steps.gate._spawn = no_thread
        assert not steps.start()
        assert not steps.gate._at_work()
        return
    if ends == "failed":
        with pytest.raises(RefreshUnavailable):
            steps.get()
        assert steps.gate.holding()
        return
    assert steps.get().token is NEW
    assert steps.gate.current == living(NEW)
    assert steps.gate.get(OLD, steps.now, steps.now).token is NEW
    assert len(steps.rounds) == 1


class InterruptedOnce:
    """The gate's lock; Ctrl-C comes to the first who waits for it."""

    def __init__(self, lock: Any) -> None:
        self._lock, self._left = lock, 1

    def __enter__(self) -> None:
        if self._left:
            self._left = 0
            raise KeyboardInterrupt
        self._lock.__enter__()

    def __exit__(self, *exc: object) -> None:
        self._lock.__exit__(*exc)

    def _is_owned(self) -> bool:
        return bool(self._lock._is_owned())


def test_ctrl_c_before_an_outcome_is_public() -> None:
    """I3, I14: a caller that works himself gets it, and all others get the outcome."""

    def work(round_: Round) -> Outcome:
        gate: Any = steps.gate
        gate._lock = InterruptedOnce(gate._lock)
        return issued()

    steps = Steps(work, spawn=no_thread)
    with pytest.raises(KeyboardInterrupt):
        steps.get()
    assert steps.rounds[0].done
    assert steps.gate.current == living(NEW)
