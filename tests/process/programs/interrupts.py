"""Programs that a signal interrupts while the provider works."""

from __future__ import annotations

import atexit
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

from ..child import GIVEN, get, run, say, session, source


def request() -> None:
    """One request of the main thread, which a signal ends."""
    atexit.register(say, "exiting")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
    try:
        get(session(source()))
    except BaseException as exc:
        say("interrupted", by=type(exc).__name__)
        raise


def catch() -> None:
    """Ctrl-C is caught, and the next request goes on as if nothing had been."""
    http = session(source())
    try:
        get(http)
    except KeyboardInterrupt:
        say("interrupted")
    say("answer", status=get(http))


def pool() -> None:
    """The main thread waits for workers, and they for the provider."""
    atexit.register(say, "exiting")
    http = session(source())
    workers = ThreadPoolExecutor(4)
    futures = [workers.submit(get, http) for _ in range(4)]
    try:
        say("waiting")
        for future in futures:
            say("answer", status=future.result())
    except KeyboardInterrupt:
        say("interrupted")
        if not GIVEN["catch"]:
            raise
        for future in futures:
            say("answer", status=future.result())


if __name__ == "__main__":
    run(globals())
