"""Programs whose exit handlers run after the package's own: they were there before it."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any

HANDLERS: list[Any] = []


def late_handler() -> None:
    for handler in HANDLERS:
        handler()


atexit.register(late_handler)


def request() -> None:
    """The handler asks, twice, and lets what began in the background end."""
    from ..child import GIVEN, join, say, session, source, try_get

    http = session(source(ahead=GIVEN.get("ahead")))
    HANDLERS.extend(2 * [lambda: say("answer", **try_get(http))])
    HANDLERS.append(lambda: join([one for one in threading.enumerate() if one.daemon]))


def daemon() -> None:
    """A daemon thread asks, for which no exit waits any more."""
    from ..child import in_threads, join, say, session, source, try_get

    http = session(source())
    now = threading.Event()

    def work(number: int) -> None:
        now.wait()
        say("answer", **try_get(http))

    threads = in_threads(1, work, daemon=True)
    HANDLERS.extend([now.set, lambda: join(threads)])


def fork() -> None:
    """The handler forks, and in the child a daemon thread asks."""
    from ..child import in_a_fork, in_threads, join, say, session, source, try_get

    http = session(source())

    def child() -> None:
        join(in_threads(1, lambda number: say("answer", **try_get(http)), daemon=True))

    HANDLERS.append(lambda: os.waitpid(in_a_fork(child), 0))


if __name__ == "__main__":
    from ..child import run

    run(globals())
