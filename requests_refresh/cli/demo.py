"""The demo: many threads, one session, tokens that die under their hands.

The server leaves out `expires_in`, so the client cannot renew ahead of time
and learns of each expiry by the 401s alone: that is the hard way. The demo
does not run for a time but until so many tokens have died in use, and the
server itself counts expiries, refreshes and 401s.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from ..adapter import RefreshAdapter
from ..testing import AuthServer, Counts
from . import naive

_LOOK = 0.1  # seconds between two looks at the counts, for the progress line
_AFTER_FAILURE = 0.1  # seconds of pause, for what fails fails quickly
_REPORT_EVERY = 16  # one request in so many is slow: its 401 comes late


@dataclass(frozen=True)
class Settings:
    """What the command line says; lifetime and latency in seconds."""

    naive: bool = False
    threads: int = 32
    expiries: int = 5
    lifetime: float = 2.0
    latency: float = 0.3


class Wire(HTTPAdapter):
    """Does the sending, and knows how long the calling thread's request was on the wire.

    What a call lasts beyond that, it was held.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(pool_maxsize=threads)
        self.mine = threading.local()

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """As HTTPAdapter's."""
        began = time.monotonic()
        try:
            return super().send(*args, **kwargs)
        finally:
            self.mine.seconds += time.monotonic() - began


class Tally:
    """What the callers saw."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.requests = 0  # all of these guarded by lock
        self.refused = 0
        self.errors = 0
        self.first_error = ""
        self.longest_hold = 0.0

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


def run(settings: Settings) -> int:
    """Run the demo, print its table, return the exit status: 0, 1 or 130. Blocks."""
    server = AuthServer(
        lifetime=settings.lifetime,
        expires_in=False,
        log_size=0,
        # A request and its repetition must fit well into a token's life.
        latency={
            "token": settings.latency,
            "api": min(0.05, settings.lifetime / 10),
            "/api/report": min(2 * settings.latency, settings.lifetime / 4),
        },
    )
    try:
        print(
            f"{settings.threads} threads on one session, {settings.expiries} expiries;"
            f" access tokens live {settings.lifetime:g} s, a refresh takes {settings.latency:g} s.",
            flush=True,
        )
        if settings.naive:
            print("The refresh queue of browser code, carried over to threads (--naive).")
        with server:
            tally, held = _work(settings, server)
            counts, alive = server.counts, server.logged_in()
    except KeyboardInterrupt:
        print("\nInterrupted.")
        return 130
    print(_table(counts, tally, held, alive))
    broken = broken_promises(settings, counts, tally, alive)
    print("\nBroken:" if broken else "\nKept: one expiry, one refresh, nobody noticed.")
    for promise in broken:
        print(f"  - {promise}")
    return 1 if broken else 0


def broken_promises(settings: Settings, counts: Counts, tally: Tally, alive: bool) -> list[str]:
    """What went wrong, in words; empty when all was kept."""
    broken = []
    if counts.refreshes + counts.refresh_refused != counts.expiries:
        broken.append(
            f"expiries: {counts.expiries}, refreshes: {counts.refreshes},"
            f" refused ones: {counts.refresh_refused}"
        )
    if tally.refused:
        broken.append(f"401s that a caller saw: {tally.refused}")
    if tally.errors:
        broken.append(f"errors that a caller saw: {tally.errors}; the first: {tally.first_error}")
    if not alive:
        broken.append(
            "the login is dead" + ": a refresh token was used twice" * bool(counts.reuses)
        )
    if counts.expiries < settings.expiries and not broken:
        broken.append(f"only {counts.expiries} of {settings.expiries} expiries came to pass")
    return broken


def _work(settings: Settings, server: AuthServer) -> tuple[Tally, int]:
    """Let the threads work through the expiries: what their callers saw, how many were held."""
    tally, stop, wire = Tally(), threading.Event(), Wire(settings.threads)
    with requests.Session() as session, _log_to_nowhere():
        session.trust_env = False  # no netrc and no proxy between this host and itself
        held: Callable[[], int]
        if settings.naive:
            interceptor = naive.Interceptor(
                server.token_url, server.login(), patience=2 * settings.latency + 2
            )
            session.auth = interceptor
            session.mount(server.url, wire)
            held = interceptor.held.__len__
        else:
            tokens = server.source()
            tokens.token()  # reading the store for the first time is no hold
            waits = tokens.stats.waits
            session.mount(server.api, RefreshAdapter(tokens, origins=server.api, inner=wire))

            def held() -> int:
                return tokens.stats.waits - waits

        workers = []
        try:
            for n in range(settings.threads):
                work = (session, wire, server.api, tally, stop, n)
                worker = threading.Thread(target=_worker, args=work, name="demo", daemon=True)
                worker.start()
                workers.append(worker)
            _watch(settings, server, tally)
        finally:  # after Ctrl-C, too, what is under way ends; a second Ctrl-C ends that
            stop.set()
            for worker in workers:
                worker.join()
        return tally, held()


def _worker(
    session: requests.Session, wire: Wire, api: str, tally: Tally, stop: threading.Event, n: int
) -> None:
    """One thread's work: request after request, as if tokens lived for ever."""
    done = n
    while not stop.is_set():
        done += 1
        path = "report" if done % _REPORT_EVERY == 0 else f"items/{done}"
        wire.mine.seconds = 0.0
        began = time.monotonic()
        seen: int | Exception
        try:
            seen = session.get(api + path, timeout=60).status_code
        except Exception as error:  # whatever a caller would see is to be counted
            seen = error
        tally.note(seen, time.monotonic() - began - wire.mine.seconds)
        if seen != 200:
            stop.wait(_AFTER_FAILURE)


def _watch(settings: Settings, server: AuthServer, tally: Tally) -> None:
    """Block until enough tokens have died in use, or the login, or all patience is over."""
    show = sys.stdout.isatty()
    limit = 10 + 2 * settings.expiries * (settings.lifetime + settings.latency)
    until = time.monotonic() + limit
    counts = server.counts

    def over(counts: Counts) -> bool:
        return counts.expiries >= settings.expiries or counts.logins_ended > 0

    while not over(counts) and time.monotonic() < until:
        try:
            counts = server.wait_for(over, timeout=_LOOK)
        except TimeoutError:
            counts = server.counts
        if show:
            line = f"expiry {counts.expiries} of {settings.expiries}, {tally.requests} requests"
            print(f"\r  {line}", end="", flush=True)
    if show:
        print("\r" + " " * 60, end="\r", flush=True)


def _table(counts: Counts, tally: Tally, held: int, alive: bool) -> str:
    rows = [
        ("requests", f"{tally.requests}"),
        ("expiries: tokens that died in use", f"{counts.expiries}"),
        ("refreshes", f"{counts.refreshes}"),
        ("refreshes that were refused", f"{counts.refresh_refused}"),
        ("401s on the wire", f"{counts.api_401}"),
        ("requests held", f"{held}"),
        ("longest hold", f"{tally.longest_hold:.2f} s"),
        ("401s that a caller saw", f"{tally.refused}"),
        ("errors that a caller saw", f"{tally.errors}"),
        ("login at the end", "alive" if alive else "dead"),
    ]
    return "\n" + "\n".join(f"  {name:<36}{value:>10}" for name, value in rows)


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
