"""The gate under every schedule of three threads with at most three preemptions."""

from __future__ import annotations

import os
from functools import partial

import pytest

from .pieces import Rules
from .scenarios import (
    SCENARIOS,
    Scenario,
    alone_and_impatient,
    failing_login,
    impatient,
    interrupted_anywhere,
    login_of_a_dead_token,
    logout,
    one_expiry,
    too_late,
)
from .scheduler import explore
from .trouble import (
    TROUBLE,
    ahead_in_trouble,
    back_too_late,
    login_in_trouble,
    quick_trouble,
    quick_trouble_to_the_end,
)

# The third preemption is for the long run.
LARGE = {failing_login, interrupted_anywhere, login_of_a_dead_token, logout, too_late}


def name(scenario: Scenario) -> str:
    return scenario.__name__


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name)
def test_every_schedule(scenario: Scenario) -> None:
    """I1 to I5 hold in every schedule of each scenario; `SCENARIOS` says what it shows."""
    report = explore(scenario, Rules(2 if scenario in LARGE else 3))
    print(f"{name(scenario)}: {report}. {SCENARIOS[scenario]}")
    assert report.whole


@pytest.mark.parametrize("scenario", [impatient, alone_and_impatient], ids=name)
def test_time_may_pass_at_any_moment(scenario: Scenario) -> None:
    """I5: deadlines hold where time goes on while threads can run."""
    print(f"{name(scenario)}: {explore(scenario, Rules(1, time=True))}")


def test_waiters_may_wake_astray() -> None:
    """I3: a waiter that wakes for no reason goes back to sleep until its round is done."""
    print(explore(one_expiry, Rules(3, stray=True)))


@pytest.mark.parametrize("scenario", TROUBLE, ids=name)
def test_every_schedule_of_an_outage(scenario: Scenario) -> None:
    """I1, I3 and I5 hold while the provider is in trouble; `TROUBLE` says what each shows."""
    report = explore(scenario, Rules(2))
    print(f"{name(scenario)}: {report}. {TROUBLE[scenario]}")
    assert report.whole


@pytest.mark.parametrize("scenario", [ahead_in_trouble, quick_trouble], ids=name)
def test_looks_without_the_lock(scenario: Scenario) -> None:
    """I1: a thread may be preempted between such a look and the next, too."""
    print(f"{name(scenario)}: {explore(scenario, Rules(1, every_point=True))}")


@pytest.mark.parametrize(
    "scenario", [quick_trouble_to_the_end, back_too_late, login_in_trouble], ids=name
)
def test_waiters_may_wake_astray_in_an_outage(scenario: Scenario) -> None:
    """I3: a wake-up for no reason releases nobody."""
    print(f"{name(scenario)}: {explore(scenario, Rules(1, stray=True))}")


@pytest.mark.long
@pytest.mark.parametrize("scenario", TROUBLE, ids=name)
def test_three_preemptions_in_an_outage(scenario: Scenario) -> None:
    """The same with three preemptions, stray wake-ups counted among them."""
    print(f"{name(scenario)}: {explore(scenario, Rules(3, stray=True))}")


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS, ids=name)
def test_more_preemptions_and_stray_wake_ups(scenario: Scenario) -> None:
    """I1 to I5 hold with three preemptions, or four with stray wake-ups counted among them."""
    given, large = os.environ.get("PREEMPTIONS"), scenario in LARGE
    rules = Rules(int(given or (3 if large else 4)), stray=bool(given) or not large)
    print(f"{name(scenario)}: {explore(scenario, rules)}")
    if large and not given:
        print(f"{name(scenario)}: {explore(scenario, Rules(2, stray=True))}")


@pytest.mark.long
@pytest.mark.parametrize("scenario", [impatient, alone_and_impatient], ids=name)
def test_time_may_pass_and_waiters_wake_astray(scenario: Scenario) -> None:
    """I5: deadlines hold where time goes on and waiters wake for no reason."""
    print(f"{name(scenario)}: {explore(scenario, Rules(2, time=True, stray=True))}")


@pytest.mark.long
def test_five_callers() -> None:
    """I1: five callers refused with one token make one call."""
    print(explore(partial(one_expiry, names="abcde"), Rules(3, stray=True)))
