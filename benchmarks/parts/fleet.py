"""The fleet: 2 to 16 processes on each store, through forced expiries.

Real processes and real servers, all on this host. The refresh of each expiry is
answered when every other process waits for it; measured is the time from the
return of the save to the first request with the new token that the last of the
processes sends.

The processes are forks of one that has imported everything: sixteen interpreters
that each import it all would take longer than what is measured. Each opens its
store and makes its source after the fork, as under a preloading web server.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.base import Count, Figure, Found, Plot, Size, Table, WentOn
from requests_refresh import ConfigurationError
from tests.fleet.support import SAFETY, STORES, Fleet, Place, Storm, new_place, storm
from tests.servers import MariaServer, PostgresServer, RedisServer, temporary_directory

TITLE = "Fleet: how soon the last process goes on"
NAMES = {
    "file": "file",
    "sqlite": "SQLite",
    "redis": "Redis",
    "postgres": "PostgreSQL",
    "maria": "MariaDB",
}
SERVERS: dict[str, type[RedisServer | PostgresServer | MariaServer]] = {
    "redis": RedisServer,
    "postgres": PostgresServer,
    "maria": MariaServer,
}
COLUMNS = ("store", "processes", "expiries", "refreshes", "reuses", "requests", "failed")
TEXT = """\
Processes with one thread each share one login on one store, and send ordinary requests. Again and
again the server kills their access token; its refresh is answered when every other process waits
for it. The time runs from the return of the save, in the process that refreshed, to the first
request with the new token that the last of the processes sends: how long the news takes, and what
each needs to act on it.

What bounds it: Redis and PostgreSQL tell those who wait. A file is looked at every few
milliseconds; SQLite and MariaDB are asked again and again, so there the time is mostly what was
left of a pause. All processes and the servers share this machine's {processors} processors, so with
many processes the time is also that of their turns on them. {left_out}"""

Storms = dict[tuple[str, int], list[Storm]]  # by store and number of processes


class Forked(Fleet):
    """A fleet whose processes are forks of one, which passes on to all what it is told."""

    def __init__(self, program: str, processes: int, directory: Path, **given: Any) -> None:
        super().__init__(program, processes, directory, **given, forks=processes)
        self._command[2] = "benchmarks.parts.fleet"

    def _start(self) -> None:
        if not self._running:
            super()._start()


def steps(size: Size) -> int:
    return _rounds(size) * len(STORES) * len(_processes(size))


def run(size: Size, went_on: WentOn) -> Found:
    with ExitStack() as stack:
        directory = stack.enter_context(temporary_directory())
        directory.chmod(0o700)
        urls: dict[str, str] = {}
        missing: dict[str, str] = {}
        for kind in STORES:
            problem = _prepare(kind, stack, directory, urls)
            if problem:
                missing[kind] = problem
        cases = [(kind, processes) for kind in STORES for processes in _processes(size)]
        found: Storms = {case: [] for case in cases if case[0] not in missing}
        for _ in range(_rounds(size)):
            for kind, processes in random.sample(cases, len(cases)):
                if kind not in missing:
                    place = new_place(kind, directory, urls.__getitem__)
                    found[kind, processes].append(
                        storm(
                            place,
                            directory,
                            processes=processes,
                            threads=1,
                            expiries=3 if size.small else 5,
                            kind=Forked,
                        )
                    )
                went_on(f"{NAMES[kind]}, {processes} processes")
    return _tell(found, missing)


def _rounds(size: Size) -> int:
    return 1 if size.small else size.rounds


def _processes(size: Size) -> list[int]:
    return [2, 16] if size.small else [2, 4, 8, 16]


def _prepare(kind: str, stack: ExitStack, directory: Path, urls: dict[str, str]) -> str:
    """Start the store's server, if it has one. Why the store is left out, or an empty text."""
    try:
        if kind in SERVERS:
            server = SERVERS[kind](stack.enter_context(temporary_directory()))
            urls[kind] = stack.enter_context(server).url
        store = new_place(kind, directory, urls.__getitem__).open()
        store.load("default")
        store.close()
    except (ImportError, ConfigurationError, pytest.skip.Exception) as exc:
        return str(exc)
    return ""


def _tell(found: Storms, missing: Mapping[str, str]) -> Found:
    counts, rows = [], []
    for (kind, processes), storms in found.items():
        expiries, refreshes, reuses, requests, failed = (
            sum(figures)
            for figures in zip(
                *(
                    (s.expiries, s.refreshes, s.reuses, s.requests, sum(s.failed.values()))
                    for s in storms
                ),
                strict=True,
            )
        )
        what = f"{NAMES[kind]}, {processes} processes"
        counts += [
            Count(f"{what}: refreshes, of as many expiries", refreshes, expiries),
            Count(f"{what}: uses of a spent refresh token", reuses, 0),
            Count(f"{what}: failed requests", failed, 0),
        ]
        delays = _delays(storms)
        times = f"{statistics.median(delays):.1f}", f"{max(delays):.1f}"
        rows.append((NAMES[kind], processes, expiries, refreshes, reuses, requests, failed, *times))
    most = max(processes for _, processes in found)
    per_expiry = [
        sum(s.refreshes for s in storms) / sum(s.expiries for s in storms)
        for (_, processes), storms in found.items()
        if processes == most
    ]
    left_out = " ".join(f"Left out: {NAMES[kind]}; {why}." for kind, why in missing.items())
    return Found(
        TEXT.format(processors=os.cpu_count(), left_out=left_out).strip(),
        tables=[Table((*COLUMNS, "median ms", "worst ms"), rows)],
        plots=[Plot("fleet", _drawing(found), "From the save to the last process that goes on.")],
        counts=counts,
        figures=[
            Figure(
                f"Fleet of {most}: refreshes per expiry, the most on any store",
                max(per_expiry),
                at_most=1.0,
            )
        ],
    )


def _delays(storms: list[Storm]) -> list[float]:
    return [delay * 1000 for one in storms for delay in one.delays]


def _drawing(found: Storms) -> Callable[[Any], None]:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        numbers = sorted({processes for _, processes in found})
        for kind in dict.fromkeys(kind for kind, _ in found):
            medians = [statistics.median(_delays(found[kind, number])) for number in numbers]
            axes.plot(numbers, medians, marker="o", label=NAMES[kind])
        axes.set_xscale("log", base=2)
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("processes")
        axes.set_ylabel("median, ms")
        axes.legend(frameon=False)

    return draw


def _be_the_fleet() -> None:
    """What `Forked` starts: import all, fork, pass on each word, and wait for the end."""
    # It reads this program's arguments when it is imported.
    from tests.fleet import programs
    from tests.process.child import GIVEN

    signal.alarm(SAFETY)
    store = Place(**GIVEN["place"]).open()
    store.load("default")  # which imports the driver
    store.close()
    tellings: list[int] = []
    children: list[int] = []
    for _ in range(GIVEN["forks"]):
        hearing, telling = os.pipe()
        tellings.append(telling)
        child = os.fork()
        if not child:
            for end in tellings:  # else those of the others would not end with this process
                os.close(end)
            os.dup2(hearing, 0)
            signal.alarm(SAFETY)
            programs.works()
            os._exit(0)  # all is closed; taking the interpreter down, 16 times, takes seconds
        os.close(hearing)
        children.append(child)
    word = "go"
    while word == "go":
        word = sys.stdin.readline().strip()
        for end in tellings:
            os.write(end, f"{word}\n".encode())
    codes = [os.waitpid(child, 0)[1] for child in children]  # of all, whatever the first one's
    sys.exit(any(codes))


if __name__ == "__main__":
    _be_the_fleet()
