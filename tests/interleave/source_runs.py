"""Running scenarios of a whole source: every schedule, or some drawn at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from . import scheduler
from .pieces import Option, Rules, Task
from .scheduler import Found, Report, Run
from .source_pieces import in_place
from .source_world import Scenario


def explore(
    scenario: Scenario,
    rules: Rules,
    *,
    fault: Callable[[pytest.MonkeyPatch], None] = lambda patch: None,
    **rest: Any,
) -> Report:
    """As `scheduler.explore`, for a scenario with a `SourceWorld`. fault: put in before."""
    with in_place() as patch:
        fault(patch)
        return scheduler.explore(scenario, rules, **rest)


class Drawn(Run):
    """One schedule at random: mostly the running thread goes on."""

    def __init__(self, seed: int, rules: Rules) -> None:
        super().__init__([], None, rules)
        self._random = random.Random(seed)  # noqa: S311  # draws a schedule, no secret

    def _pick(self, me: Task | None) -> Option:
        options = self._options(me)
        if not options or options[0].cost:
            self.fail("deadlock: nobody can run")
        stays = options[0].what == "run" and me is not None and options[0].task == me.number
        rest = options[1:] if stays and len(options) > 1 else options
        chosen = options[0] if stays and self._random.random() < 0.8 else self._random.choice(rest)
        self.taken.append(chosen)
        return chosen


def draw(scenario: Scenario, seed: int, count: int, rules: Rules | None = None) -> None:
    """Run `count` schedules at random, the n-th drawn with `seed + n`.

    Raises Found with the seed to give for that one alone, with a count of 1.
    """
    with in_place():
        for number in range(seed, seed + count):
            run = Drawn(number, rules or Rules(preemptions=10**9))
            check = scenario(run)
            run.go()
            if not run.aborting:
                try:
                    check()
                except AssertionError as exc:
                    run.failure = str(exc)
            if run.failure is not None:
                raise Found("\n".join([f"seed {number}: {run.failure}", *run.steps]))
