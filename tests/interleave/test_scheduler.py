"""The scheduler finds what is there to be found, and leaves out nothing that matters."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .pieces import Rules
from .scenarios import Scenario, adopts_what_is_refused, late_refusal, one_expiry, two_expiries
from .scheduler import Found, Run, explore
from .world import World


def lost_update(run: Run) -> Callable[[], None]:
    """Two threads read, then write, without a lock in between."""
    count = [0]
    lock = run.lock()

    def add() -> None:
        with lock:
            read = count[0]
        with lock:
            count[0] = read + 1

    run.add("a", add)
    run.add("b", add)

    def check() -> None:
        assert count == [2], f"an update was lost: {count}"

    return check


def test_a_lost_update_needs_one_preemption() -> None:
    """A race that needs one preemption is found with one, and with none it is not."""
    assert explore(lost_update, Rules(0), pruning=False).whole == 2
    with pytest.raises(Found, match=r"an update was lost: \[1\]"):
        explore(lost_update, Rules(1), pruning=False)


def test_a_deadlock_is_found() -> None:
    """Two locks taken in opposite order: a schedule is found in which nobody can run."""

    def scenario(run: Run) -> Callable[[], None]:
        one, other = run.lock(), run.lock()

        def work(first: object, second: object) -> Callable[[], None]:
            def nested() -> None:
                with first, second:  # type: ignore[attr-defined]  # they are scheduled Locks
                    pass

            return nested

        run.add("a", work(one, other))
        run.add("b", work(other, one))
        return lambda: None

    with pytest.raises(Found, match="deadlock"):
        explore(scenario, Rules(1), pruning=False)


def test_a_waiter_that_nobody_wakes_is_a_deadlock_or_a_timeout() -> None:
    """A wait with no timeout that nobody ends is a deadlock; one with a timeout ends at it."""

    def scenario(timeout: float | None) -> Callable[[Run], Callable[[], None]]:
        def start(run: Run) -> Callable[[], None]:
            lock = run.lock()
            condition = run.condition(lock)

            def wait() -> None:
                with lock:
                    assert condition.wait(timeout) is False

            run.add("waiter", wait)

            def check() -> None:
                assert run.now == 1007.0

            return check

        return start

    with pytest.raises(Found, match="deadlock"):
        explore(scenario(None), pruning=False)
    assert explore(scenario(7.0), pruning=False).whole == 1


def test_what_a_thread_raises_is_found() -> None:
    """An exception that leaves a thread fails the run that it happens in."""

    def scenario(run: Run) -> Callable[[], None]:
        run.add("a", lambda: 1 / 0)
        return lambda: None

    with pytest.raises(Found, match="ZeroDivisionError"):
        explore(scenario, pruning=False)


def test_misuse_of_a_lock_is_found() -> None:
    """A release without the lock, and a notify without it, fail the run."""

    def scenario(misuse: Callable[[Run], object]) -> Callable[[Run], Callable[[], None]]:
        def start(run: Run) -> Callable[[], None]:
            run.add("a", lambda: misuse(run))
            return lambda: None

        return start

    with pytest.raises(Found, match="un-acquired lock"):
        explore(scenario(lambda run: run.lock().__exit__()), pruning=False)
    with pytest.raises(Found, match="notify without the lock"):
        explore(scenario(lambda run: run.condition(run.lock()).notify_all()), pruning=False)


@pytest.mark.parametrize(
    ("scenario", "preemptions"),
    [(one_expiry, 1), (late_refusal, 1), (two_expiries, 1), (adopts_what_is_refused, 0)],
)
def test_what_is_left_out_shows_nothing_new(scenario: Scenario, preemptions: int) -> None:
    """Every end that all schedules together have is found among those that are explored."""

    def ends(*, all_of_them: bool) -> set[object]:
        found: set[object] = set()

        def note(run: Run) -> None:
            world = run.values
            assert isinstance(world, World)
            found.add(tuple(map(repr, world.shared([]))))

        rules = Rules(preemptions, every_point=all_of_them)
        explore(scenario, rules, pruning=not all_of_them, ended=note)
        return found

    assert ends(all_of_them=False) == ends(all_of_them=True)
