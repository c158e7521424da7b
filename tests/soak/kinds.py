"""What may go wrong in a soak, what each fault explains, and when it comes.

A fault has a *window*: from its beginning to its end, and an *aftermath* on top, in
which what it has caused may still be seen. Windows that touch are one: each goes on
explaining what it explains until the last of them has ended, as one fault delays the
recovery from another (a lease that nobody gives back, say, or a longer backoff).

Whoever fails outside the windows fails the soak, and whoever fails within one by
anything that its faults do not explain. What each may cause:

- The provider is away, refuses connections or loses its answers: no new token, so
  RefreshUnavailable once the old one is dead. The backoff doubles: after D seconds
  it lasts for 2 D + 1 at most.
- The store is away: StoreError, as nothing is refreshed that could not be saved, or
  RefreshTimeout for those who wait for the answer.
- A worker stands still: it may find its time over as it goes on.
- All others explain no failure at all: nobody notices.

One-shot bodies get the API's 401 where the token died too early; that is the contract,
and it is counted, not judged.

And of refreshes, one for each expiry, these may come twice ("repeat": the refresh token
before the newest is used once more):

- The answer was lost, or who got it was killed before it was saved. The provider has
  rotated, and nobody has the new refresh token: the old one is all that is left. With a
  provider that allows it for a while (grace) the login lives on; with one that does not
  it is lost, and no client can mend that.
- The store is away between the answer and the save: the lease ends, and who finds the
  store back first may find the old token there.
- Who refreshes is stopped.

Or too soon ("early"): who was stopped on his way to the provider counts the life of his
token from before the stop.

A stop that is longer than the lease, between the last look at it and the request to the
provider, spends a refresh token that others have replaced twice meanwhile: that is theft
to any provider. So the long stops here spare whoever holds the lease.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

LIFE = 2.0  # seconds of an access token
LEASE = 5.0  # seconds
GRACE = 30.0  # seconds; the longest row of faults must be over in it
SLACK = 3.0  # seconds; for machines that have other things to do
LONGEST_HELD = 2.0  # seconds that who holds the lease is stopped for; a lease has more left
_QUIET = 1.0, 4.0  # seconds between two rows of faults in which nothing is explained
_TOGETHER = 0.5  # how often the next fault comes while this one lasts


@dataclass(frozen=True)
class Kind:
    """A kind of fault. aftermath: seconds, and so many more for each that it lasted."""

    name: str
    where: str  # two faults at one place do not overlap: "provider", "store", "worker"
    lasts: tuple[float, float]  # seconds
    aftermath: tuple[float, float]
    errors: frozenset[str] = frozenset()
    refreshes: frozenset[str] = frozenset()  # "repeat", "early"
    own: bool = False  # the errors are those of the worker that it befalls


_AWAY = frozenset({"RefreshUnavailable"})
_NO_STORE = frozenset({"StoreError", "RefreshTimeout"})
_TWICE = frozenset({"repeat"})
_DOUBLED = (3.0 + SLACK, 2.0)
_STORE_BACK = (7.0 + SLACK, 0.0)  # an answer waited for twice, a pause, the others' saves first
KINDS = {
    kind.name: kind
    for kind in (
        Kind("token revoked", "provider", (0.1, 0.1), (SLACK, 0)),
        Kind("provider slow", "provider", (1, 3), (SLACK, 0)),
        Kind("provider 503", "provider", (0.5, 3), _DOUBLED, _AWAY),
        Kind("provider refuses", "provider", (0.5, 3), _DOUBLED, _AWAY, _TWICE),
        Kind("one answer lost", "provider", (2, 2), (SLACK, 0), frozenset(), _TWICE),
        Kind("answers lost", "provider", (0.5, 3), _DOUBLED, _AWAY, _TWICE),
        Kind("redis restarted", "store", (0.1, 1), _STORE_BACK, _NO_STORE, _TWICE),
        Kind("redis paused", "store", (0.5, 3), _STORE_BACK, _NO_STORE, _TWICE),
        Kind("clients killed", "store", (0.1, 0.1), (SLACK, 0)),
        Kind("worker killed", "worker", (0.1, 0.1), (LEASE + 1 + SLACK, 0), frozenset(), _TWICE),
        Kind(
            "worker stopped",
            "worker",
            (0.5, LEASE + 3),
            (LEASE + 1 + SLACK, 0),
            frozenset({"RefreshTimeout"}),
            _TWICE | {"early"},
            own=True,
        ),
        Kind("worker ended", "worker", (0.1, 0.1), (SLACK, 0)),
    )
}
#: Those that nobody may notice, and that are over soon.
UNSEEN = ("token revoked", "one answer lost", "clients killed")


@dataclass
class Fault:
    """One fault. Its seconds: `at` since the start of the soak, the others of the clock."""

    kind: Kind
    at: float
    lasts: float
    worker: int = -1
    began: float = 0.0
    ended: float = 0.0
    pid: int = 0  # of the worker that it befell
    row_ends: float = field(default=0.0)  # when the last of those that touch it has ended

    @property
    def place(self) -> str:
        return f"worker {self.worker}" if self.worker >= 0 else self.kind.where

    @property
    def over(self) -> float:
        """When it explains nothing more, were it alone."""
        most, times = self.kind.aftermath
        return self.ended + most + times * (self.ended - self.began)

    def touches(self, began: float, ended: float) -> bool:
        return self.began <= ended and began <= self.row_ends


def plan(seed: int, seconds: float, processes: int, names: Iterable[str]) -> list[Fault]:
    """The faults of a soak, by their time: each kind once, in any order, then again.

    Workers with an even number are stopped at most, so that some live for the whole time.
    """
    drawn = random.Random(seed)  # noqa: S311 - to be replayed
    faults: list[Fault] = []
    bag: list[str] = []
    free: dict[str, float] = {}
    at, row_ends = 2.0, 0.0  # a start in peace
    while names := tuple(names):
        if not bag:
            bag = [*names]
            drawn.shuffle(bag)
        kind = KINDS[bag.pop()]
        fault = Fault(kind, at, drawn.uniform(*kind.lasts))
        if kind.where == "worker":
            odd = kind.name != "worker stopped" and processes > 1
            fault.worker = drawn.randrange(1, processes, 2) if odd else drawn.randrange(processes)
        fault.at = fault.began = max(at, free.get(fault.place, 0.0))
        fault.ended = fault.at + fault.lasts
        row_ends = max(row_ends, fault.over)
        if row_ends > seconds:
            break
        faults.append(fault)
        free[fault.place] = fault.ended + 0.5
        together = drawn.random() < _TOGETHER
        quiet, within = drawn.uniform(*_QUIET), drawn.uniform(0, fault.lasts)
        at = fault.at + within if together else row_ends + quiet
    return sorted(faults, key=lambda fault: fault.at)


def join_rows(faults: list[Fault]) -> None:
    """Find out which windows touch, and how long each goes on explaining for that."""
    row: list[Fault] = []
    for fault in sorted(faults, key=lambda fault: fault.began):
        if row and fault.began > row[0].row_ends:
            row = []
        row.append(fault)
        row_ends = max(row[0].row_ends, fault.over)
        for one in row:
            one.row_ends = row_ends
