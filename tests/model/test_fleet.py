"""The fleet protocol, explored to its last state; each thing it needs is taken away, and missed."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .explore import Graph, explore, in_circle, told
from .fleet import STEPS, Fault, Rules

ONE_FAULT: dict[str, Any] = {"crashes": 1, "stops": 1, "lost": 1}
TWO_FAULTS: dict[str, Any] = {"crashes": 2, "stops": 2, "lost": 2, "faults": 2}
ELSEWHERE: dict[str, Any] = {"logins": 1, "logouts": 1}
PAGE = Path(__file__).parents[2] / "docs" / "operators.md"

Faults = set[tuple[str, str]]  # what befell, and where the process stood


def exceptions(rules: Rules) -> Faults:
    """The faults that cost the login, all that no client can promise."""
    lost: Faults = set()
    if rules.provider == "strict":
        lost |= {("crash", "answer"), ("crash", "save"), ("lost", "answer")}
        if rules.lease:
            lost |= {("stop", "ask"), ("stop", "answer"), ("stop", "save")}
    elif rules.provider == "grace" and rules.lease and rules.expiries > 1:
        lost |= {("stop", "ask")}  # the others have renewed twice meanwhile: grace is over
    return lost


def befell(graph: Graph, faults: tuple[Fault, ...], end: int) -> Faults:
    """What of it hit the login that counts in the end."""
    newest = len(graph.worlds[end].logins) - 1
    return {fault[:2] for fault in faults if fault.login == newest}


def unexplained(graph: Graph) -> list[int]:
    """Where the login is lost, and by none of the exceptions."""
    known = exceptions(graph.rules)
    return [end for f, end in graph.losses().items() if not befell(graph, f, end) & known]


def check(rules: Rules) -> None:
    """No invariant breaks, and the login is lost in exactly the exceptions."""
    graph = explore(rules)
    assert graph.wrong is None, told(graph, graph.wrong)
    for end in unexplained(graph):
        pytest.fail(told(graph, end))
    alone = [befell(graph, f, end) for f, end in graph.losses().items() if len(f) == 1]
    most = {"crash": rules.crashes, "stop": rules.stops, "lost": rules.lost}
    real = {one for one in exceptions(rules) if most[one[0]]}
    assert set().union(*alone) == real


fleets = pytest.mark.parametrize(
    ("lease", "provider"),
    [(lease, p) for lease in (False, True) for p in ("strict", "grace", "fixed")],
    ids=[lock + "-" + p for lock in ("lock", "lease") for p in ("strict", "grace", "fixed")],
)


@fleets
def test_two_processes_two_expiries(lease: bool, provider: str) -> None:
    """I1, I2, I3, I6, I7, I8: whatever single fault befalls whomever at whichever step."""
    check(Rules(2, 0, 2, provider, lease, clock="either", **ONE_FAULT))


@fleets
def test_three_processes_one_expiry(lease: bool, provider: str) -> None:
    """I1, I2, I3, I6, I7, I8: likewise; one of the three has just been started."""
    check(Rules(3, 1, 1, provider, lease, **ONE_FAULT))


@pytest.mark.parametrize("provider", ["strict", "grace"])
def test_a_login_and_a_logout_elsewhere(provider: str) -> None:
    """I2, I7, I8: at any moment, with a fault besides; no logout is undone, no login cleared."""
    check(Rules(2, 0, 1, provider, **ONE_FAULT, **ELSEWHERE))


@pytest.mark.long
@fleets
@pytest.mark.parametrize(
    "more",
    [
        {"processes": 3, "expiries": 2, "clock": "either", **ONE_FAULT},
        {"processes": 2, "expiries": 2, **TWO_FAULTS},
        {"processes": 4, "expiries": 1, "cold": 2, **ONE_FAULT},
        {"processes": 2, "expiries": 2, "cold": 1, "clock": "either", **ELSEWHERE},
        {"processes": 2, "expiries": 1, "clock": "either", **ONE_FAULT, **ELSEWHERE},
    ],
    ids=["3 by 2", "two faults", "4 by 1", "elsewhere", "elsewhere and a fault"],
)
def test_larger_fleets(lease: bool, provider: str, more: dict[str, Any]) -> None:
    """I1, I2, I3, I6, I7, I8: likewise, of what is small enough to be explored to its end."""
    check(Rules(lease=lease, provider=provider)._replace(**more))


class Seeded(NamedTuple):
    """What is taken away, how that shows, and what operators are told of it."""

    without: str
    shows: str  # the invariant, or "" where the login is lost in a way that is no exception
    row: str  # in the table of the page; "" for what is the code's to do and nobody's to give
    rules: Rules


SEEDED = [
    Seeded("exclusive", "", "One holder at a time", Rules()),
    Seeded("compare and swap", "I2", "Compare and swap in one step", Rules(logins=1)),
    Seeded("linearizable", "", "A read sees the last write", Rules()),
    Seeded("durable", "", "What was written stays", Rules(expiries=2)),
    Seeded("end of a lease", "I3", "The place of the dead comes free", Rules(crashes=1)),
    Seeded("lease for as long as a call", "", "A lease outlasts the call", Rules()),
    Seeded("clock", "I1", "Clocks err by less than a token's life", Rules()),
    Seeded("assure", "", "", Rules(stops=1)),
    Seeded("reload", "", "", Rules()),
    Seeded("compare", "I1", "", Rules()),
    Seeded("save before use", "I6", "", Rules()),
    Seeded("second look", "", "", Rules(lost=1, logins=1)),
    Seeded("doubt", "I8", "", Rules(lost=1)),
    Seeded("owner", "I3", "", Rules(stops=1)),
]


@pytest.mark.parametrize("seeded", SEEDED, ids=[one.without for one in SEEDED])
def test_what_is_taken_away_is_missed(seeded: Seeded) -> None:
    """I1, I2, I3, I6, I7, I8: each is needed, and with it all holds."""
    check(seeded.rules)
    # A store that goes back, or a lease that does not last, may do so for ever.
    graph = explore(seeded.rules._replace(without=seeded.without), circles=seeded.shows == "I3")
    wrong = graph.wrong
    if not seeded.shows:
        assert wrong is None, told(graph, wrong)
        wrong = next(iter(unexplained(graph)), None)
    assert wrong is not None
    print(told(graph, wrong))
    assert graph.worlds[wrong].broken.startswith(seeded.shows)


def test_operators_are_told() -> None:
    """Every assumption that is shown to be needed here is one of the page's, and no other is."""
    part = PAGE.read_text("utf-8").partition("\n## What the fleet protocol assumes\n")[2]
    rows = re.findall(r"^\| \*\*(.*?)\*\*", part.partition("\n## ")[0], re.M)
    assert rows == [one.row for one in SEEDED if one.row]


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_one_of_the_code(step: str) -> None:
    """The function that a step of the model names is there."""
    module, owner, name = STEPS[step].rsplit(".", 2)
    found = getattr(importlib.import_module(f"requests_refresh.{module}"), owner)
    assert callable(getattr(found, name))


def test_a_circle_is_found() -> None:
    """I3: the search for circles finds one, and none where two ways meet."""
    assert in_circle([[1, 2], [3], [3], []]) is None
    assert in_circle([[1], [2], [1, 3], []]) in (1, 2, 3)
    assert in_circle([[0]]) == 0
