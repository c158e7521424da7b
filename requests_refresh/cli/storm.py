"""The demo's work: threads that send requests, and what becomes of each.

One process has its threads here. Several are children that share a store, and
tell what they saw when they are done.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import requests
from requests.adapters import HTTPAdapter

from ..adapter import RefreshAdapter
from ..grants import RefreshTokenGrant
from ..source import TokenSource
from ..stores import open_store
from . import naive

IDLE, HELD, SENT, AGAIN = range(4)  # what a thread does at a moment
_AFTER_FAILURE = 0.1  # seconds of pause, for what fails fails quickly
_REPORT_EVERY = 16  # one request in so many is slow: its 401 comes late
_KEPT = 500  # requests of each thread that are remembered, for the picture
_JOIN = 60.0  # seconds


class Sent(NamedTuple):
    """One time that a request was on the wire: monotonic seconds, and the status or 0."""

    began: float
    ended: float
    status: int


class Done(NamedTuple):
    """One request as its caller saw it: monotonic seconds, its status or 0 for an error."""

    row: int  # the thread
    began: float
    ended: float
    status: int
    sent: tuple[Sent, ...]


@dataclass(frozen=True)
class Job:
    """What the threads of one process are to do. It goes to a child, login and all."""

    naive: bool
    threads: int
    first: int  # the row of the first of them
    url: str
    api: str
    token_url: str
    reply: dict[str, Any]
    store: str | None  # the URL of the one that all share
    identity: str
    patience: float  # seconds that the naive queue is waited in


class Event(Protocol):
    """A threading.Event, or that of multiprocessing."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Tally:
    """What the callers saw."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests = 0  # all of these guarded by lock
        self.refused = 0
        self.errors = 0
        self.first_error = ""
        self.longest_hold = 0.0
        self.held = 0
        self.done: list[Done] = []

    def note(self, seen: int | Exception, held: float) -> None:
        """Count one request: its status or its error, and the seconds it was held."""
        with self.lock:
            self.requests += 1
            self.longest_hold = max(self.longest_hold, held)
            if isinstance(seen, Exception):
                self.errors += 1
                self.first_error = self.first_error or f"{type(seen).__name__}: {seen}"
            elif seen == 401:
                self.refused += 1
            elif seen != 200:
                self.errors += 1
                self.first_error = self.first_error or f"status {seen}"

    def add(self, other: dict[str, Any]) -> None:
        """Take in what another process saw, as `plain` told it."""
        with self.lock:
            for name in ("requests", "refused", "errors", "held"):
                setattr(self, name, getattr(self, name) + other[name])
            self.first_error = self.first_error or other["first_error"]
            self.longest_hold = max(self.longest_hold, other["longest_hold"])
            self.done += other["done"]

    def plain(self) -> dict[str, Any]:
        """The same as what can be sent to another process."""
        with self.lock:
            return {name: value for name, value in vars(self).items() if name != "lock"}


class Wire(HTTPAdapter):
    """Does the sending, and knows when the calling thread's request was on the wire.

    What a call lasts beyond that, it was held.
    """

    def __init__(self, threads: int, cells: MutableSequence[int]) -> None:
        super().__init__(pool_maxsize=threads)
        self.mine = threading.local()
        self.cells = cells

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """As HTTPAdapter's."""
        began, status = time.monotonic(), 0
        self.cells[self.mine.row] = AGAIN if self.mine.sent else SENT
        try:
            response = super().send(*args, **kwargs)
            status = response.status_code
            return response
        finally:
            self.mine.sent.append(Sent(began, time.monotonic(), status))
            self.cells[self.mine.row] = HELD


def work(
    job: Job,
    cells: MutableSequence[int],
    tally: Tally,
    stop: Event,
    watch: Callable[[], object],
) -> None:
    """Start the threads of one process, `watch`, then wait for the threads' end.

    cells: what each row does, for whoever watches. Blocks; Ctrl-C ends the wait,
    and what is under way ends.
    """
    wire = Wire(job.threads, cells)
    with requests.Session() as session, _log_to_nowhere(), _mounted(job, session, wire) as held:
        session.trust_env = False  # no netrc and no proxy between this host and itself
        workers, kept = [], [deque[Done](maxlen=_KEPT) for _ in range(job.threads)]
        try:
            for n in range(job.threads):
                given = (session, wire, job, tally, stop, job.first + n, kept[n])
                worker = threading.Thread(target=_worker, args=given, name="demo", daemon=True)
                worker.start()
                workers.append(worker)
            watch()
        finally:  # after Ctrl-C, too, what is under way ends; a second Ctrl-C ends that
            stop.set()
            for worker in workers:
                worker.join()
        tally.held += held()
        for done in kept:
            tally.done += done


@contextmanager
def _mounted(job: Job, session: requests.Session, wire: Wire) -> Iterator[Callable[[], int]]:
    """Set the session up, by this package or naively; yields how many requests were held."""
    if job.naive:
        interceptor = naive.Interceptor(job.token_url, job.reply, patience=job.patience)
        session.auth = interceptor
        session.mount(job.url, wire)
        yield interceptor.held.__len__
        return
    grant = RefreshTokenGrant(job.token_url, client_id="demo")
    store = open_store(job.store or "memory:")
    tokens = TokenSource(grant, store, identity=job.identity, token=job.reply)
    try:
        tokens.token()  # reading the store for the first time is no hold
        before = tokens.stats.waits
        session.mount(job.api, RefreshAdapter(tokens, origins=job.api, inner=wire))
        yield lambda: tokens.stats.waits - before
    finally:
        tokens.close()
        store.close()


def _worker(
    session: requests.Session,
    wire: Wire,
    job: Job,
    tally: Tally,
    stop: Event,
    row: int,
    kept: deque[Done],
) -> None:
    """One thread's work: request after request, as if tokens lived for ever."""
    done, wire.mine.row = row, row
    while not stop.is_set():
        done += 1
        path = "report" if done % _REPORT_EVERY == 0 else f"items/{done}"
        wire.mine.sent = []
        began = time.monotonic()
        wire.cells[row] = HELD
        seen: int | Exception
        try:
            seen = session.get(job.api + path, timeout=60).status_code
        except Exception as error:  # whatever a caller would see is to be counted
            seen = error
        ended, sent = time.monotonic(), tuple(wire.mine.sent)
        wire.cells[row] = IDLE
        tally.note(seen, ended - began - sum(one.ended - one.began for one in sent))
        kept.append(Done(row, began, ended, seen if isinstance(seen, int) else 0, sent))
        if seen != 200:
            stop.wait(_AFTER_FAILURE)


class Children:
    """Processes that do one job each, on a store that they share."""

    def __init__(self, jobs: list[Job], rows: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.cells: MutableSequence[int] = context.RawArray("b", rows)
        self._stop = context.Event()
        self._pipes, self._processes = [], []
        for job in jobs:
            here, there = context.Pipe(duplex=False)
            process = context.Process(
                target=_child, args=(job, self.cells, self._stop, there), name="demo", daemon=True
            )
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def finish(self, tally: Tally) -> None:
        """Let what is under way end, and take in what the children saw. Blocks."""
        self._stop.set()
        for pipe in self._pipes:
            with suppress(EOFError, OSError):  # one that Ctrl-C has ended says nothing
                if pipe.poll(_JOIN):
                    tally.add(pipe.recv())
            pipe.close()
        for process in self._processes:
            process.join(_JOIN)


def _child(job: Job, cells: MutableSequence[int], stop: Any, pipe: Any) -> None:
    """The whole life of a child. Ctrl-C at the terminal reaches it, too, and it is silent then."""
    tally = Tally()
    with suppress(KeyboardInterrupt):
        work(job, cells, tally, stop, stop.wait)
        pipe.send(tally.plain())
    pipe.close()


@contextmanager
def _log_to_nowhere() -> Iterator[None]:
    """The naive code logs as such code does; the lines are written, where nobody reads them."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        handler = logging.StreamHandler(nowhere)
        naive.log.addHandler(handler)
        naive.log.propagate = False
        try:
            yield
        finally:
            naive.log.removeHandler(handler)
            naive.log.propagate = True
