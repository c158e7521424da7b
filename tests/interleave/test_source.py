"""A whole source under every schedule of a few threads, and larger ones at random."""

from __future__ import annotations

import os
import random
from functools import partial

import pytest

from .pieces import Rules
from .scheduler import Found, Run
from .scheduler import explore as explore_all
from .source_changes import CHANGES, logout, logout_and_revoke, sibling, sibling_by_the_clock
from .source_pieces import in_place
from .source_runs import draw, explore
from .source_scenarios import (
    SCENARIOS,
    ahead_in_an_outage,
    an_end_and_a_refusal,
    deadline,
    first_looks,
    invalid_grant,
    one_shot_refused,
    only_tokens,
    strikes,
    two_ends,
    two_refusals,
    unavailable,
)
from .source_world import Scenario, SourceWorld

ALL = SCENARIOS | CHANGES
# All others are run with one preemption here, and with two in the long run.
SMALL: dict[Scenario, int] = {first_looks: 3, deadline: 3, only_tokens: 2, ahead_in_an_outage: 2}
LARGE: set[Scenario] = {logout, logout_and_revoke, strikes}  # they stay with one
if "PREEMPTIONS" in os.environ:
    LARGE.clear()


def name(scenario: Scenario) -> str:
    return scenario.__name__


@pytest.mark.parametrize("scenario", ALL, ids=name)
def test_every_schedule_of_a_source(scenario: Scenario) -> None:
    """I1 to I8 hold in every schedule of each scenario; `ALL` says what it shows."""
    report = explore(scenario, Rules(SMALL.get(scenario, 1)))
    print(f"{name(scenario)}: {report}. {ALL[scenario]}")
    assert report.whole


@pytest.mark.parametrize("scenario", [partial(first_looks, names="ab")], ids=["first_looks"])
def test_what_a_source_leaves_out_shows_nothing_new(scenario: Scenario) -> None:
    """Every end that all schedules together have is found among those that are explored."""

    def ends(*, all_of_them: bool) -> set[object]:
        found: set[object] = set()

        def note(run: Run) -> None:
            world = run.values
            assert isinstance(world, SourceWorld)
            found.add(tuple(map(repr, world.shared([]))))

        rules = Rules(1, every_point=all_of_them)
        with in_place():
            explore_all(scenario, rules, pruning=not all_of_them, ended=note)
        return found

    assert ends(all_of_them=False) == ends(all_of_them=True)


CROWDS: dict[str, Scenario] = {
    "two_refusals": partial(two_refusals, names="abcdef"),
    "two_ends": partial(two_ends, names="abcdef"),
    "an_end_and_a_refusal": partial(an_end_and_a_refusal, names="abcdef", warm=False),
    "logout": partial(logout, names="abcd"),
    "logout_and_revoke": partial(logout_and_revoke, names="abcd"),
    "sibling": partial(sibling, names="abc"),
    "sibling_by_the_clock": sibling_by_the_clock,
    "unavailable": unavailable,
    "invalid_grant": invalid_grant,
    "one_shot_refused": one_shot_refused,
    "strikes": strikes,
}


@pytest.mark.parametrize("which", CROWDS)
def test_schedules_of_a_crowd_at_random(which: str) -> None:
    """I1 to I8 hold in schedules with any number of preemptions, of six callers."""
    seed = random.randrange(10**9)  # noqa: S311  # draws a schedule, no secret
    print(f"draw(CROWDS[{which!r}], {seed}, 25)")
    draw(CROWDS[which], seed, 25)


def test_a_seed_gives_its_schedule_again() -> None:
    """What a random schedule breaks, its seed breaks again, step by step."""

    def wrong(run: Run) -> object:
        check = two_refusals(run)

        def strict() -> None:
            check()
            assert "-- b goes on" not in run.steps[:3], "b came early"

        return strict

    with pytest.raises(Found, match="b came early") as first:
        draw(wrong, 1, 200)  # type: ignore[arg-type]  # it is a Scenario but for its name
    seed = int(str(first.value).split()[1].rstrip(":"))
    with pytest.raises(Found) as again:
        draw(wrong, seed, 1)  # type: ignore[arg-type]  # as above
    assert str(again.value) == str(first.value)


@pytest.mark.long
@pytest.mark.parametrize("scenario", [s for s in ALL if s not in LARGE], ids=name)
def test_one_preemption_more(scenario: Scenario) -> None:
    """I1 to I8 hold with two preemptions, and with one more than that in what is small."""
    depth = int(os.environ.get("PREEMPTIONS", SMALL.get(scenario, 1) + 1))
    print(f"{name(scenario)}: {explore(scenario, Rules(depth))}")


@pytest.mark.long
@pytest.mark.parametrize("which", CROWDS)
def test_many_schedules_of_a_crowd_at_random(which: str) -> None:
    """I1 to I8 hold in many more of them."""
    seed = random.randrange(10**9)  # noqa: S311  # draws a schedule, no secret
    print(f"draw(CROWDS[{which!r}], {seed}, 150)")
    draw(CROWDS[which], seed, 150)
