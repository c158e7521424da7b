"""The short forms of the soak; the hour is `python -m tests.soak`."""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.servers.redis import binary

from .kinds import KINDS, UNSEEN, Fault, join_rows, plan
from .ledger import Issue
from .run import Failed, Process, Sample, Soak
from .verdict import Verdict, explains, growth, needless

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")


def soak(**how: Any) -> None:
    binary()  # skips where there is no Redis
    seed = random.SystemRandom().randrange(10**9)
    print(f"python -m tests.soak --seed {seed}: {how}")
    one = Soak(seed=seed, **how)
    one.run()
    verdict = Verdict(one)
    print(verdict.table())
    assert one.faults
    assert not verdict.broken, "\n".join(verdict.broken)


@needs_linux
def test_soak_for_a_moment() -> None:
    """I1, I3, I8: faults that nobody may notice are noticed by nobody."""
    soak(seconds=7.5, processes=2, threads=16, kinds=UNSEEN)


@needs_linux
@pytest.mark.long
def test_soak_for_two_minutes() -> None:
    """I1, I3, I7, I8, I13: through all kinds of faults only what they explain fails, once each."""
    soak(seconds=88.0)


def test_plan_is_replayed_and_leaves_time() -> None:
    """The same seed gives the same faults, all kinds of them, over before the soak is."""
    for seed in range(20):
        faults = plan(seed, 3600.0, 4, KINDS)
        assert faults == plan(seed, 3600.0, 4, KINDS)
        times = Counter(fault.kind.name for fault in faults)
        assert min(times[name] for name in KINDS) + 1 >= max(times.values()) > 10
        join_rows(faults)
        assert max(fault.row_ends for fault in faults) <= 3600.0
        rows = {fault.row_ends for fault in faults}
        assert len(rows) > 50  # with time between them in which nothing explains anything
        ends = [one for one in faults if one.worker >= 0 and one.worker % 2 == 0]
        assert {one.kind.name for one in ends} == {"worker stopped"}


def away(began: float, name: str = "provider 503", pid: int = 0) -> Fault:
    return Fault(KINDS[name], began, 1.0, began=began, ended=began + 1.0, pid=pid)


def test_explained_is_what_a_fault_of_that_moment_may_cause() -> None:
    """A failure is explained by its kind and moment, and by the worker where that is all."""
    faults = [away(10.0), away(100.0, "worker stopped", 7), away(110.0, "token revoked")]
    join_rows(faults)
    failed = Failed(7, "GET", "RefreshUnavailable", 12.0, 13.0, "")
    assert explains(faults, failed) is faults[0]
    assert explains(faults, replace(failed, began=9.0, ended=30.0)) is faults[0]
    assert explains(faults, replace(failed, began=8.0, ended=9.9)) is None
    assert explains(faults, replace(failed, began=20.0, ended=21.0)) is None
    assert explains(faults, replace(failed, outcome="401")) is None
    late = replace(failed, outcome="RefreshTimeout", began=112.0, ended=112.5)
    assert explains(faults, late) is faults[1]  # the revocation prolongs it
    assert explains(faults, replace(late, pid=8)) is None
    assert explains(faults, replace(late, began=114.5, ended=115.0)) is None


def test_needless_refreshes_are_found() -> None:
    """I1: a second refresh for one expiry shows, be it in the time of grace or too soon."""
    first = Issue(0.0, 0.1, 1)
    repeat, early, due = Issue(0.0, 0.2, 2, repeat=True), Issue(0.2, 0.3, 2), Issue(1.5, 1.6, 2)
    assert [way for way, *_ in needless([first, repeat])] == ["repeat"]
    assert [way for way, *_ in needless([first, early])] == ["early"]
    assert not [*needless([first, due])]
    assert not [*needless([replace(first, revoked=True), early])]


def process(sizes: list[int]) -> Process:
    samples = [Sample(20.0 + at, size, 3, 9, 18) for at, size in enumerate(sizes)]
    return Process(0, cast(Any, SimpleNamespace(pid=7)), 0.0, samples=samples)


def test_growth_is_found() -> None:
    """I13: what grows over the run is seen, a burst in the middle of it is none."""
    burst = growth(process([40] * 20 + [90] * 5 + [40] * 20))
    assert burst["rss"] == (40, 40)
    assert growth(process([*range(100)]))["rss"] == (9.5, 89.5)
    assert growth(process([40] * 10)) == {}
