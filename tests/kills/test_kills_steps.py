"""SIGKILL of the process that refreshes, at every step of a renewal and at random moments.

Each kill is one of a real process in the middle of a real renewal; real
survivors on the same store then renew, and once more after that. A few of each
are killed in every run of the tests. `pytest -m long tests/kills` kills 20 of
each; for more, or for fewer,

    KILLS=200 pytest -m long -rP tests/kills

which shows (-rP) what became of the logins. The random moments come from a
seed, which is shown too; `KILLS_SEED=7` sets it.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import closing

import pytest

from requests_refresh import LoginRequired, Token
from requests_refresh.testing import AuthServer

from .support import (
    EARLY,
    SURVIVORS,
    Ended,
    Nurseries,
    Nursery,
    Place,
    Survivors,
    kill,
    length,
)
from .victim import open_store

FEW = 2
MANY = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("KILLS_SEED", random.SystemRandom().randrange(10**6)))

#: What becomes of the login by the step at which the renewal is killed, and
#: whether the provider takes the refresh token before the newest one for a while.
STEPS = {
    ("before", False): "refreshed",
    ("inside", False): "refreshed",
    ("asked", False): "refreshed",
    ("rotated", False): "lost",
    ("rotated", True): "again",
    ("replied", False): "lost",
    ("replied", True): "again",
    ("saved", False): "adopted",
    ("left", False): "adopted",
}
steps = pytest.mark.parametrize(
    ("step", "grace"), STEPS, ids=[step + "-grace" * grace for step, grace in STEPS]
)
times = pytest.mark.parametrize(
    "times", [FEW, pytest.param(MANY, marks=pytest.mark.long)], ids=["few", "many"]
)


def tell(place: Place, what: str, ended: list[Ended]) -> None:
    """Print what became of the logins."""
    became = dict(Counter(one.outcome for one in ended))
    slowest = max(one.seconds for one in ended)
    print(f"{place.kind} {what}: {len(ended)} killed, {became}, slowest {slowest:.2f} s")


@times
@steps
def test_killed_at_a_step(
    nurseries: Nurseries, place: Place, step: str, grace: bool, times: int
) -> None:
    """I1, I7, I14: no lock outlives its lease, and no login is lost that a client can save.

    Every second kill finds survivors that wait already, where they have to.
    """

    def one(nursery: Nursery, number: int) -> Ended:
        early = step in EARLY and number % 2 == 1
        return kill(nursery, place, step, grace=grace, early=early)

    ended = nurseries.each(one, list(range(times)))
    tell(place, step + " with grace" * grace, ended)
    assert {end.outcome for end in ended} == {STEPS[step, grace]}


@times
@pytest.mark.parametrize("grace", [False, True], ids=["strict", "grace"])
def test_killed_at_a_random_moment(
    nurseries: Nurseries, place: Place, grace: bool, times: int
) -> None:
    """I1, I7, I14: whenever the kill comes, a login is lost in the one case only, and all are told.

    `kill` itself holds a lost login against what the provider and the store
    knew when the victim was dead.
    """
    moments = random.Random(f"{SEED} {place.kind} {grace}")  # noqa: S311 - no secret
    longest = max(nurseries.each(length, [place] * FEW))
    print(f"KILLS_SEED={SEED}, a renewal takes {longest * 1000:.0f} ms")

    def one(nursery: Nursery, moment: float) -> Ended:
        return kill(nursery, place, "", grace=grace, after=moment)

    ended = nurseries.each(one, [moments.uniform(0, longest) for _ in range(times)])
    tell(place, "at random" + " with grace" * grace, ended)


def test_a_lost_login_is_reported_as_what_it_is(nurseries: Nurseries, place: Place) -> None:
    """I7: who finds the login lost is told that a refresh before him did not come to its end."""

    def one(nursery: Nursery, step: str) -> Ended:
        return kill(nursery, place, step, grace=False)

    ended = nurseries.each(one, ["rotated", "replied"])
    assert [one.outcome for one in ended] == ["lost", "lost"]
    assert ["outcome of the refresh before was unknown" in one.error for one in ended] == [True] * 2


def test_a_login_that_ended_otherwise_is_not_reported_so(place: Place) -> None:
    """What was begun and ended in good order leaves no doubt for those who come later."""
    with AuthServer() as server, closing(open_store(*place)) as store:
        store.save("default", Token.from_reply(server.login()))
        for asked in range(2):
            with closing(Survivors(server, place, "default")) as survivors:
                server.revoke_access()
                assert [*survivors.ask()] == [200] * SURVIVORS, asked
        server.revoke_login()
        with closing(Survivors(server, place, "default")) as survivors:
            for error in survivors.ask():
                assert isinstance(error, LoginRequired)
                assert error.error == "invalid_grant"
                assert "unknown" not in str(error).replace("is unknown, spent or revoked", "")
