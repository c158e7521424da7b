"""Programs in a process that can start no more threads."""

from __future__ import annotations

import atexit
import signal
import sys
import threading
from unittest import mock

from requests_refresh import MemoryStore, StoreError, Token, TokenSource, remaining

from ..child import GIVEN, get, hear, in_threads, join, run, say, session, source, try_get


def no_more_threads() -> None:
    """As at the limit of a process or a container. (RLIMIT_NPROC does not bind root.)"""

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    mock.patch.object(threading.Thread, "start", start).start()


def work() -> None:
    """Eight threads, made before, meet one expiry."""

    def refreshed(source: TokenSource, token: Token) -> None:
        say("refreshed", by=threading.current_thread().name.split("-")[0])

    http = session(source(on_refresh=refreshed))
    go = threading.Event()

    def ask(number: int) -> None:
        go.wait()
        say("answer", **try_get(http))

    threads = in_threads(8, ask)
    no_more_threads()
    go.set()
    join(threads)


def near_the_end() -> None:
    """A token near its end, and nobody to renew it in the background."""
    http = session(source(ahead=10_000))
    no_more_threads()
    for _ in range(3):
        say("answer", **try_get(http))


def leave() -> None:
    """A daemon thread does a round itself; main leaves in the middle of it."""
    http = session(source())
    go = threading.Event()

    def ask(number: int) -> None:
        go.wait()
        say("answer", **try_get(http))

    in_threads(1, ask, daemon=True)
    no_more_threads()
    go.set()
    hear()
    atexit.register(say, "exiting")


def interrupted() -> None:
    """The main thread does the round itself, and is interrupted in it."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
    http = session(source())
    no_more_threads()
    try:
        get(http)
    except BaseException as exc:
        say("interrupted", by=type(exc).__name__)
    say("answer", **try_get(http))


class Late(MemoryStore):
    """Takes no token while a round runs, but for the first; later it does."""

    def save(self, identity: str, token: Token, **how: object) -> None:
        if self.load(identity) is not None:
            if remaining() < float("inf"):
                threading.Event().wait(max(0.0, remaining() - 0.1))
                raise StoreError("Out of order.")
            say("saved")
        super().save(identity, token, **how)  # type: ignore[arg-type]  # handed on as it came


def unsaved() -> None:
    """What a round could not save is saved at the exit, though no thread could try."""
    tokens = source(Late(), token=GIVEN["token"], timeout=1.0)
    no_more_threads()
    say("answer", **try_get(session(tokens)))


if __name__ == "__main__":
    run(globals())
