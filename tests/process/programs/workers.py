"""Programs whose work is done by the children of multiprocessing and concurrent.futures."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import util
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

import requests

from requests_refresh import TokenSource, lifecycle

from ..child import (
    GIVEN,
    SAFETY,
    get,
    hear,
    in_threads,
    run,
    say,
    session,
    source,
    try_get,
)


def child(work: Any, *args: Any) -> None:
    """Have a child do `work`, and tell how it ended."""
    context = multiprocessing.get_context(GIVEN["method"])
    process = context.Process(target=work, args=args)
    process.start()
    process.join(SAFETY)
    say("joined", code=process.exitcode)


def leave() -> None:
    """The child's main thread leaves while a round runs that it does not wait for."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context(GIVEN["method"]).Process(
        target=ask_and_leave, args=(session(source()), theirs)
    )
    process.start()
    hear()
    ours.send("go")
    process.join(SAFETY)
    say("joined", code=process.exitcode)


def ask_and_leave(http: requests.Session, told: Connection) -> None:
    in_threads(1, lambda number: say("answer", **try_get(http)), daemon=True)
    told.recv()


def leave_at_once() -> None:
    """The child begins a round in the background, and leaves before its thread has run."""
    child(begin_and_leave, session(source(ahead=10_000)))


def begin_and_leave(http: requests.Session) -> None:
    ending = threading.Event()
    util.Finalize(None, ending.set, exitpriority=1000)  # called before all others
    first = get(http)
    ordinary: Any = lifecycle.Jobs._run

    def delayed(*args: Any) -> None:
        ending.wait(SAFETY)
        ordinary(*args)

    mock.patch.object(lifecycle.Jobs, "_run", delayed).start()
    say("answers", statuses=[first, get(http)])


def go_on_after_main() -> None:
    """Threads of the child go on when its main function has returned."""
    child(begin_when_main_is_over, session(source(ahead=10_000)))


def begin_when_main_is_over(http: requests.Session) -> None:
    def work(number: int) -> None:
        threading.main_thread().join()
        say("answers", statuses=[get(http), get(http)])

    in_threads(1, work)


def leave_by_os_exit() -> None:
    """The child leaves by os._exit, after close()."""
    child(close_and_exit, source(ahead=10_000))


def close_and_exit(tokens: TokenSource) -> None:
    http = session(tokens)
    say("answers", statuses=[get(http), get(http)])
    tokens.close()
    os._exit(5)


def pool() -> None:
    """A session travels to the workers of a pool in a pickle, again and again."""
    http = session(source())
    context = multiprocessing.get_context(GIVEN["method"])
    with ProcessPoolExecutor(2, mp_context=context) as workers:
        for _ in range(2):
            say("answers", statuses=list(workers.map(get, [http] * 8)))
            hear()


if __name__ == "__main__":
    run(globals())
