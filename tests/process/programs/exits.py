"""Programs that end, in every way there is, while a round runs."""

from __future__ import annotations

import atexit
import os
import sys
import threading

from ..child import GIVEN, get, hear, in_threads, join, run, say, session, source, try_get


def leave() -> None:
    """A thread asks for a token, and the main thread leaves in the middle of it."""
    http = session(source())
    in_threads(1, lambda number: say("answer", **try_get(http)), daemon=GIVEN["daemon"])
    atexit.register(say, "exiting")
    say("leaving", why=hear())
    if GIVEN["how"] == "sys.exit":
        sys.exit(3)
    if GIVEN["how"] == "exception":
        raise ValueError("for the test")


def leave_by_os_exit() -> None:
    """A round begins in the background; close() lets it end, os._exit would not."""
    tokens = source(ahead=10_000)
    http = session(tokens)
    say("answers", statuses=[get(http), get(http)])  # the second knows that the end is near
    tokens.close()
    say("closed")
    os._exit(0)


def after_main() -> None:
    """Threads that outlive the main thread ask when it is over."""
    http = session(source())

    def work(number: int) -> None:
        threading.main_thread().join()
        say("answer", **try_get(http))

    in_threads(4, work)


def at_exit() -> None:
    """An exit handler that runs before the package's own: it asks, in threads too."""
    http = session(source())

    def handler() -> None:
        try:
            join(in_threads(4, lambda number: say("answer", **try_get(http))))
        except RuntimeError:  # no thread can be started in an exit handler of this version
            for _ in range(4):
                say("answer", **try_get(http))

    atexit.register(handler)


if __name__ == "__main__":
    run(globals())
