"""A test of the tests: faults in what the gate does in an outage are found by a schedule."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest

from requests_refresh.errors import RefreshError
from requests_refresh.gate import Gate, Round
from requests_refresh.tokens import Current, Outcome

from . import trouble as the
from .pieces import Rules
from .scenarios import Scenario
from .scheduler import Found, explore
from .test_seeded_faults import Mute, PublishesWhatIsDetached


class TellsNobody(Gate):
    """Trouble is noted, and those who sleep are not woken."""

    def tell_trouble(self, round_: Round, error: RefreshError, *, slow: bool) -> None:
        changed, self._changed = self._changed, Mute(self._changed)
        super().tell_trouble(round_, error, slow=slow)
        self._changed = changed


class TellsWithoutTheLock(Gate):
    def tell_trouble(self, round_: Round, error: RefreshError, *, slow: bool) -> None:
        lock, self._lock = self._lock, nullcontext()
        super().tell_trouble(round_, error, slow=slow)
        self._lock = lock


class WakesBeforeItTells(Gate):
    """They are woken, and told only when the lock is taken again."""

    def tell_trouble(self, round_: Round, error: RefreshError, *, slow: bool) -> None:
        with self._lock:
            self._changed.notify_all()
        with self._lock:
            changed, self._changed = self._changed, Mute(self._changed)
            super_lock, self._lock = self._lock, nullcontext()
            super().tell_trouble(round_, error, slow=slow)
            self._lock, self._changed = super_lock, changed


class LooksAtItsEndOnce(Gate):
    """A waiter sleeps until what was its end when it came, whatever it is told meanwhile."""

    def _await(self, round_: Round, deadline: float, alive: bool) -> Outcome | None:
        ends = min(deadline, round_.sure_until if alive else round_.until)
        with self._lock:
            while not round_.done and self.clock() < ends:
                self._changed.wait(min(ends - self.clock(), threading.TIMEOUT_MAX))
        return super()._await(round_, deadline, alive)


class TakesTheRoundAlong(Gate):
    """Who leaves a round in trouble takes its place with him."""

    def _await(self, round_: Round, deadline: float, alive: bool) -> Outcome | None:
        try:
            return super()._await(round_, deadline, alive)
        except RefreshError:
            with self._lock:
                if self._round is round_:
                    self._round = None
            raise


class NeverForgetsTrouble(Gate):
    """A success leaves what the rounds after a failure are told by."""

    def _finish(self, round_: Round, outcome: Any, error: RefreshError | None) -> bool:
        held, trouble = self.held, self.trouble
        finished = super()._finish(round_, outcome, error)
        if outcome is not None:
            self.held, self.trouble = held, trouble
        return finished


class KeepsTroubleOverALogin(Gate):
    def replace(self, change: Callable[[], Current | None], error: RefreshError | None) -> None:
        round_ = self._round
        super().replace(change, error)
        self.trouble = None if round_ is None else round_.trouble


class KeepsTroubleToItself(Gate):
    """A round that begins after a failed one knows nothing of that."""

    def _decide_locked(self, mine: Round, *, refused: bool, may_start: bool) -> Outcome | Round:
        answer = super()._decide_locked(mine, refused=refused, may_start=may_start)
        mine.until, mine.trouble = math.inf, None
        return answer


class ReleasesTheDead(Gate):
    """A first quick failure sends away even who has no living token."""

    def tell_trouble(self, round_: Round, error: RefreshError, *, slow: bool) -> None:
        super().tell_trouble(round_, error, slow=True)


class HoldsTheLiving(Gate):
    """Who has a living token waits as those who have none."""

    def _await(self, round_: Round, deadline: float, alive: bool) -> Outcome | None:
        return super()._await(round_, deadline, False)


class DecidesByAnOldLook(Gate):
    """Whether a round runs is looked at before the lock is taken, and not again."""

    def _begin(self, mine: Round, refused: bool, may_start: bool, inline: bool) -> Outcome | Round:
        self._saw = {**getattr(self, "_saw", {}), mine: self._at_work()}
        return super()._begin(mine, refused, may_start, inline)

    def _decide_locked(self, mine: Round, *, refused: bool, may_start: bool) -> Outcome | Round:
        if not self._saw[mine]:
            self._round = None
        return super()._decide_locked(mine, refused=refused, may_start=may_start)


class HoldsBackByAnOldLook(Gate):
    """Whether a failure is held back from is looked at before the lock is taken."""

    def _begin(self, mine: Round, refused: bool, may_start: bool, inline: bool) -> Outcome | Round:
        self._saw = {**getattr(self, "_saw", {}), mine: self.holding()}
        return super()._begin(mine, refused, may_start, inline)

    def _decide_locked(self, mine: Round, *, refused: bool, may_start: bool) -> Outcome | Round:
        answer = super()._decide_locked(mine, refused=refused, may_start=may_start)
        if not self._saw[mine]:
            mine.held = None
        return answer


FAULTS: list[tuple[type[Gate], Scenario, str]] = [
    (TellsNobody, the.quick_trouble, "living ended after"),
    (TellsNobody, the.slow_trouble, "dead ended"),
    (TellsWithoutTheLock, the.quick_trouble, "without the lock"),
    (WakesBeforeItTells, the.slow_trouble, "dead ended"),
    (LooksAtItsEndOnce, the.quick_trouble, "living ended after"),
    (LooksAtItsEndOnce, the.slow_trouble, "dead ended"),
    (TakesTheRoundAlong, the.slow_trouble, "I1"),
    (TakesTheRoundAlong, the.back_too_late, "I1"),
    (NeverForgetsTrouble, the.trouble_is_over, "ended with"),
    (NeverForgetsTrouble, the.back_in_time, "held"),
    (KeepsTroubleOverALogin, the.login_in_trouble, "outlived"),
    (KeepsTroubleToItself, the.back_too_late, "dead ended"),
    (ReleasesTheDead, the.quick_trouble, "dead ended"),
    (HoldsTheLiving, the.quick_trouble, "living ended"),
    (HoldsTheLiving, the.back_in_time, "waited for a provider in trouble"),
    (PublishesWhatIsDetached, the.login_in_trouble, "outlived|over the login"),
    (DecidesByAnOldLook, the.ahead_in_trouble, "I1"),
    (HoldsBackByAnOldLook, the.ahead_in_trouble, "I1"),
]


@pytest.mark.parametrize(
    ("kind", "scenario", "how"),
    FAULTS,
    ids=[f"{kind.__name__}-{scenario.__name__}" for kind, scenario, _ in FAULTS],
)
def test_the_fault_is_found(kind: type[Gate], scenario: Scenario, how: str) -> None:
    """A gate with this fault breaks a rule in a schedule of two preemptions or fewer."""
    with pytest.raises(Found, match=how):
        explore(partial(scenario, kind=kind), Rules(2))
