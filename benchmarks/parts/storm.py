"""The storm: many threads send at the moment when their one token is dead."""

from __future__ import annotations

import logging
import random
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from benchmarks.base import Count, Figure, Found, Plot, Size, Table, WentOn
from benchmarks.peers import BARE, OURS, TIMEOUT, Contender, Peer, peers
from benchmarks.server import Server

TITLE = "The storm"

LATENCY = 0.3  # seconds that the provider takes
THREADS = (20, 64, 500, 2000)

CLOCK, KILLED = "dead by the clock", "killed by the server"


@dataclass(frozen=True)
class _Storm:
    """What came of one: counts of the server, failed requests, and seconds."""

    refreshes: int
    reuses: int
    refused: int
    failed: int
    alive: bool
    wall: float


class _Warm(HTTPAdapter):
    """Connections that are open before a storm, and stay so whoever closes his session.

    meet(threads): from now on the first 401 of each thread is handed on when all of them
    have theirs. Else the first few to wake up would have the new token before the others send.
    """

    _together: threading.Barrier | None = None

    def meet(self, threads: int) -> None:
        self._together, self._met = threading.Barrier(threads), set[int]()

    def send(self, *args: Any, **options: Any) -> requests.Response:
        response = super().send(*args, **options)
        if response.status_code == 401 and self._together is not None:
            thread = threading.get_ident()
            if thread not in self._met:
                self._met.add(thread)
                self._together.wait(timeout=60)
        return response

    def open(self, server: Server, connections: int) -> None:
        with requests.Session() as session:
            session.mount(server.api, self)
            url = server.api + "open"
            # Each is kept back, unread, until all are open.
            held = [session.get(url, stream=True, timeout=TIMEOUT) for _ in range(connections)]
            for response in held:
                response.content  # noqa: B018 - reading it gives the connection back

    def part(self) -> None:
        self._together = None

    def close(self) -> None:
        pass

    def end(self) -> None:
        super().close()


def _rage(contender: Contender, threads: int, again: bool) -> tuple[list[int], float]:
    """The status of each thread's request, 0 for an exception; seconds until the last end.

    again: each sends a second time, to where no token is wanted, as the bare session has none.
    """
    barrier = threading.Barrier(threads + 1)
    statuses, ends = [0] * threads, [0.0] * threads

    def work(number: int) -> None:
        barrier.wait()
        # Whatever a peer raises is a request that failed.
        with suppress(Exception):
            statuses[number] = contender.get("storm")
            if again:
                statuses[number] = contender.get("open")
        ends[number] = time.perf_counter()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    while barrier.n_waiting < threads:
        time.sleep(0.005)
    begun = time.perf_counter()
    barrier.wait()
    for worker in workers:
        worker.join()
    return statuses, max(ends) - begun


def _storm(server: Server, peer: Peer, kind: str, threads: int, transport: _Warm) -> _Storm:
    reply: dict[str, Any] = server.login()
    if kind == CLOCK:
        reply["expires_in"] = 0  # so it has been kept, and is used again when it is over
    contender = peer.make(server, reply, transport)
    try:
        if kind == KILLED:
            contender.get("before")
            transport.meet(threads)
        if kind:
            server.kill()
        statuses, wall = _rage(contender, threads, again=peer is BARE and kind == KILLED)
        transport.part()
        counts = server.counts()
        alive = False
        with suppress(Exception):
            alive = contender.get("afterwards") == 200
    finally:
        contender.close()
    failed = sum(status != 200 for status in statuses)
    return _Storm(counts["refreshes"], counts["reuses"], counts["refused"], failed, alive, wall)


def _makes_sense(peer: Peer, size: Size, threads: int, round_: int) -> bool:
    """Counts do not change from round to round, and storms of peers can be long."""
    if peer is OURS or peer is BARE:
        return True
    if not peer.in_storms or round_ >= (1 if size.small else 3) or (size.small and threads != 64):
        return False
    return not peer.in_turn or (round_ == 0 and threads <= 64 and not size.small)


def _rounds(size: Size, threads: int) -> int:
    return 1 if size.small and threads > 64 else size.rounds


def steps(size: Size) -> int:
    return sum(_rounds(size, threads) for threads in THREADS)


_Key = tuple[int, str, str]  # threads, peer's name, kind


def run(size: Size, went_on: WentOn) -> Found:
    here, _ = peers()
    storms: dict[_Key, list[_Storm]] = defaultdict(list)
    with _many_threads(), Server(lifetime=3600, latency=LATENCY) as server:
        transport = _Warm(pool_maxsize=max(THREADS))
        try:
            for threads in THREADS:
                transport.open(server, threads)
                for round_ in range(_rounds(size, threads)):
                    turns = [
                        (peer, kind)
                        for peer in here
                        if _makes_sense(peer, size, threads, round_)
                        for kind in (("", KILLED) if peer is BARE else (CLOCK, KILLED))
                    ]
                    random.Random(round_).shuffle(turns)
                    for peer, kind in turns:
                        storm = _storm(server, peer, kind, threads, transport)
                        storms[threads, peer.name, kind].append(storm)
                    went_on(f"{threads:,} threads")
        finally:
            transport.end()
    return _found(storms)


@contextmanager
def _many_threads() -> Iterator[None]:
    """Small stacks, as many open files as are allowed, and no word of the errors to come."""
    import resource  # not on Windows

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    stack = threading.stack_size(256 * 1024)
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        threading.stack_size(stack)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _wall(storms: dict[_Key, list[_Storm]], threads: int, name: str, kind: str) -> float:
    return statistics.median(storm.wall for storm in storms[threads, name, kind])


def _beside(storms: dict[_Key, list[_Storm]], threads: int, kind: str) -> float:
    """The provider's time, and the storm of a bare session that sends as many requests."""
    return LATENCY + _wall(storms, threads, BARE.name, KILLED if kind == KILLED else "")


def _found(storms: dict[_Key, list[_Storm]]) -> Found:
    found = Found(_TEXT)
    for kind in (CLOCK, KILLED):
        for threads in THREADS:
            rows = _rows(storms, threads, kind)
            found.tables.append(Table(_COLUMNS, rows, f"{threads:,} threads, {kind}"))
            ours = storms[threads, OURS.name, kind]
            what = f"storm of {threads:,}, {kind}"
            refused = threads if kind == KILLED else 0
            found.counts += [
                Count(f"{what}: refreshes", max(storm.refreshes for storm in ours), 1),
                Count(f"{what}: reuses", max(storm.reuses for storm in ours), 0),
                Count(f"{what}: 401s", min(storm.refused for storm in ours), refused),
                Count(f"{what}: failed requests", max(storm.failed for storm in ours), 0),
                Count(f"{what}: logins lost", sum(not storm.alive for storm in ours), 0),
            ]
        most = THREADS[-1]
        ratio = _wall(storms, most, OURS.name, kind) / _beside(storms, most, kind)
        found.figures.append(
            Figure(
                f"storm of {most:,}, {kind}: wall time over 0.3 s and a bare storm",
                ratio,
                at_most=1.10,
            )
        )
    found.plots.append(_plot(storms))
    return found


def _rows(storms: dict[_Key, list[_Storm]], threads: int, kind: str) -> list[list[object]]:
    rows: list[list[object]] = []
    beside = _beside(storms, threads, kind)
    for number, name, of_kind in storms:
        if (number, of_kind) == (threads, kind) and name != BARE.name:
            all_of_it = storms[number, name, of_kind]
            worst = max(all_of_it, key=lambda storm: (storm.failed, storm.refreshes))
            wall = _wall(storms, threads, name, kind)
            alive = "yes" if all(storm.alive for storm in all_of_it) else "no"
            counts = [worst.refreshes, worst.reuses, worst.refused, worst.failed]
            rows.append([name, *counts, alive, f"{wall:.2f}", f"{wall / beside:.2f}"])
    rows.sort(key=lambda row: (row[0] != OURS.name, str(row[0]).lower()))
    return rows


_COLUMNS = [
    "",
    "refreshes",
    "reuses of a spent refresh token",
    "401s",
    "failed requests",
    "200 afterwards",
    "seconds",
    "over 0.3 s and a bare storm",
]


def _plot(storms: dict[_Key, list[_Storm]]) -> Plot:
    counts = {
        name: max(storm.refreshes + storm.reuses for storm in of_it)
        for (threads, name, kind), of_it in storms.items()
        if threads == 64 and kind == CLOCK
    }
    names = sorted(counts, key=lambda name: (counts[name], name != OURS.name, name.lower()))

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        colours = ["#0072b2" if name == OURS.name else "#999999" for name in names]
        bars = axes.barh(names, [counts[name] for name in names], color=colours)
        axes.bar_label(bars, padding=3)
        axes.set_xscale("log")
        axes.set_xlim(0.8, 100)
        axes.invert_yaxis()
        axes.set_xlabel("refresh tokens sent by 64 threads at one expiry")

    caption = "Refresh tokens sent at one expiry, fresh or spent. 64 threads; logarithmic."
    return Plot("storm-refreshes", draw, caption)


_TEXT = f"""\
So many threads share one session and one login, wait at a barrier, and each sends one GET when
their token is dead. In the first kind of storm the clock says so: the login was kept and is used
again too late. In the second the server has killed a token that the clock calls alive, and the
transport hands on no 401 until every thread has one. The provider takes {LATENCY} s, its refresh
tokens work once, and whoever uses a spent one ends the login. All find the connections to the API
open.

A request failed if it raised or was not answered with 200. Seconds go from the release of the
barrier to the last answer, and are medians of rounds in turns; the counts are of the worst round.
They are compared with the provider's {LATENCY} s and a storm of a bare session on the same
connections: each thread sends once with a living token; in the second kind twice, refused and then
answered. A peer that fails at once is below 1, which is no gain.

What bounds the seconds is the interpreter lock that all threads share, and how soon so many are
woken: some still wake up while the provider works, so that a ratio can be under 1. Peers run in
fewer rounds, in the small run with 64 threads only; requests-auth, whose threads refresh one after
the other, in one round of the nightly run with 20 and with 64 threads.
"""
