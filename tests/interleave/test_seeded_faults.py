"""A test of the tests: each fault that is put into the gate here is found by a schedule."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from requests_refresh.errors import RefreshError, RefreshTimeout
from requests_refresh.gate import Gate, Round
from requests_refresh.tokens import Current, Outcome, Token

from . import scenarios as the
from .pieces import Rules
from .scheduler import Found, explore


class Mute:
    """A condition whose notify is dropped."""

    def __init__(self, condition: Any) -> None:
        self.wait = condition.wait

    def notify_all(self) -> None:
        pass


class DroppedNotify(Gate):
    def reset(self) -> None:
        super().reset()
        self._changed: Any = Mute(self._changed)


class DetachesWithoutNotify(Gate):
    """An abandoned round wakes nobody."""

    def _detach_locked(self) -> None:
        changed, self._changed = self._changed, Mute(self._changed)
        super()._detach_locked()
        self._changed = changed


class ForgetsToAbandon(Gate):
    def _abandon(self, round_: Round) -> None:
        pass


class AbandonsWhatHasBegun(Gate):
    def _abandon(self, round_: Round) -> None:
        with self._lock:
            if self._round is round_:
                self._detach_locked()


class NoCompare(Gate):
    """Any refusal refreshes, an old one too."""

    def _other_locked(self, stale: Token | None) -> tuple[Current | None, bool]:
        return None, super()._other_locked(stale)[1]


class DecidesInTwoSteps(Gate):
    """Somebody fits between "none is running" and "mine is"."""

    def _decide_locked(self, mine: Round, *, refused: bool, may_start: bool) -> Outcome | Round:
        answer = super()._decide_locked(mine, refused=refused, may_start=may_start)
        if answer is mine:
            self._round = None
            self._lock.__exit__(None, None, None)
            self._lock.__enter__()
            self._round = mine
        return answer


class FinishesBeforeItPublishes(Gate):
    """The round is over, and its token not yet in use."""

    def _finish(self, round_: Round, outcome: Any, error: RefreshError | None) -> bool:
        with self._lock:
            if self._round is round_:
                self._round = None
        return super()._finish(round_, outcome, error)


class PublishesBeforeItFinishes(Gate):
    """The token is in use, and its round not yet over: who refuses it joins that."""

    def _finish(self, round_: Round, outcome: Any, error: RefreshError | None) -> bool:
        with self._lock:
            if outcome is not None and not round_.done:
                self._use_locked(outcome.current)
        return super()._finish(round_, outcome, error)


class PublishesWhatIsDetached(Gate):
    """A late result counts, whatever came in between."""

    def _finish(self, round_: Round, outcome: Any, error: RefreshError | None) -> bool:
        with self._lock:
            round_.done = False
        return super()._finish(round_, outcome, error)


class WorksUnderTheLock(Gate):
    def _run(self, round_: Round, inline: bool) -> None:
        work = self._work

        def locked(round_: Round) -> Any:
            with self._lock:
                return work(round_)

        self._work = locked
        super()._run(round_, inline)


class CallsBackUnderTheLock(Gate):
    def _run(self, round_: Round, inline: bool) -> None:
        after = self._after

        def locked(round_: Round) -> None:
            with self._lock:
                after(round_)

        self._after = locked
        super()._run(round_, inline)


class LogsInUnderTheLock(Gate):
    def replace(self, change: Callable[[], Current | None], error: RefreshError | None) -> None:
        def locked() -> Current | None:
            with self._lock:
                return change()

        super().replace(locked, error)


class LogsInBesideARound(Gate):
    """The round goes on, and publishes over the login."""

    def replace(self, change: Callable[[], Current | None], error: RefreshError | None) -> None:
        current = change()
        with self._lock:
            self._use_locked(current)
            self.held = None if error is None else (float("inf"), error)


class LooksOnce(Gate):
    """A waiter takes any wake-up for the end of its time."""

    def _await(self, round_: Round, deadline: float, alive: bool) -> Outcome | None:
        with self._lock:
            if not round_.done:
                self._changed.wait(deadline - self.clock())
            if not round_.done:
                raise RefreshTimeout("over")
        return super()._await(round_, deadline, alive)


class RestartsItsDeadline(Gate):
    """Each wake-up allows the whole time again."""

    def _await(self, round_: Round, deadline: float, alive: bool) -> Outcome | None:
        patience = deadline - self.clock()
        with self._lock:
            while not round_.done:
                if self.clock() >= deadline:
                    raise RefreshTimeout("over")
                self._changed.wait(patience)
        return super()._await(round_, deadline, alive)


class SharesItsError(Gate):
    """All waiters raise one exception object."""

    def _await(self, round_: Round, deadline: float, alive: bool) -> Outcome | None:
        try:
            return super()._await(round_, deadline, alive)
        except RefreshError as exc:
            raise exc.__cause__ or exc from None


class MasksCtrlC(Gate):
    """Ctrl-C between giving the lock back and sleeping comes out as something else."""

    def _await(self, round_: Round, deadline: float, alive: bool) -> Outcome | None:
        with self._lock:
            while not round_.done and self.clock() < deadline:
                self._changed.wait(deadline - self.clock())
        return super()._await(round_, deadline, alive)


class FinishesOnce(Gate):
    """Ctrl-C in a caller who has done the work, and waits for the lock to say so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tried: set[Round] = set()

    def _finish(self, round_: Round, outcome: Any, error: RefreshError | None) -> bool:
        if round_ in self._tried:
            return False
        self._tried.add(round_)
        return super()._finish(round_, outcome, error)


class RunsTwice(Gate):
    """A round is worked on by whoever comes."""

    def _run(self, round_: Round, inline: bool) -> None:
        with self._lock:
            round_.claimed = False
        super()._run(round_, inline)


class AsksOnlyOnce(Gate):
    """A waiter is content with the very token that it had refused."""

    def _await(self, round_: Round, deadline: float, alive: bool) -> Outcome | None:
        outcome = super()._await(round_, deadline, alive)
        return outcome and Outcome(outcome.current, refreshed=True)


class HoldsNothingBack(Gate):
    """A failure is forgotten at once, so each caller asks the provider again."""

    def _finish(self, round_: Round, outcome: Any, error: RefreshError | None) -> bool:
        round_.hold = None
        return super()._finish(round_, outcome, error)


FAULTS: list[tuple[type[Gate], the.Scenario, str]] = [
    (DroppedNotify, the.one_expiry, "slept until a timeout"),
    (DetachesWithoutNotify, the.interrupted_before_the_thread, "RefreshTimeout"),
    (ForgetsToAbandon, the.interrupted_before_the_thread, "left behind"),
    (AbandonsWhatHasBegun, the.interrupted_after_the_thread, "had begun was taken back"),
    (NoCompare, the.late_refusal, "I2"),
    (NoCompare, the.one_expiry, "I1"),
    (DecidesInTwoSteps, the.one_expiry, "I1"),
    (FinishesBeforeItPublishes, the.one_expiry, "I1"),
    (PublishesBeforeItFinishes, the.two_expiries, "came back to who refused it"),
    (PublishesWhatIsDetached, the.login, "memory and store differ"),
    (PublishesWhatIsDetached, the.logout, "brought the login back"),
    (WorksUnderTheLock, the.one_expiry, "I4"),
    (CallsBackUnderTheLock, the.one_expiry, "I4"),
    (LogsInUnderTheLock, the.login, "I4"),
    (LogsInBesideARound, the.login_of_a_dead_token, "differ"),
    (LogsInBesideARound, the.logout, "brought the login back"),
    (LooksOnce, the.one_expiry, "gave up"),
    (RestartsItsDeadline, the.impatient, "goes to sleep until"),
    (SharesItsError, the.failing_round, "shared"),
    (MasksCtrlC, the.interrupted_anywhere, "ended with RuntimeError"),
    (FinishesOnce, the.no_thread_and_interrupted, "left behind"),
    (RunsTwice, the.an_error_in_spite_of_a_thread, "taken back"),
    (AsksOnlyOnce, the.adopts_what_is_refused, "what it had called refused"),
    (HoldsNothingBack, the.failing_round, "I1"),
]


@pytest.mark.parametrize(
    ("kind", "scenario", "how"),
    FAULTS,
    ids=[f"{kind.__name__}-{scenario.__name__}" for kind, scenario, _ in FAULTS],
)
def test_the_fault_is_found(kind: type[Gate], scenario: the.Scenario, how: str) -> None:
    """A gate with this fault breaks a rule in a schedule of three preemptions or fewer."""
    with pytest.raises(Found, match=how):
        explore(partial(scenario, kind=kind), Rules(3, stray=True))
