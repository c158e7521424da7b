"""Programs of which several run at once on one file."""

from __future__ import annotations

import threading
import time
from typing import Any

from requests_refresh import FileStore, Token

from ..child import GIVEN, hear, in_threads, join, run, say, session, source, try_get


def works() -> None:
    """Threads that ask again and again. At each word: say when all have been answered since."""
    tokens = source()
    http = session(tokens)
    changed = threading.Condition()
    begun_after: dict[int, int] = {}  # by thread: the last word that came before its last request
    words, over = 0, False
    outcomes: set[str] = set()

    def work(number: int) -> None:
        while not over:
            before = words
            outcome = try_get(http, f"{GIVEN['number']}/{number}")
            with changed:
                outcomes.add(str(outcome))
                begun_after[number] = before
                changed.notify_all()
                changed.wait(0.005)  # no faster than a server on two cores can bear

    def all_have_worked() -> bool:
        return list(begun_after.values()) == [words] * GIVEN["threads"]

    threads = in_threads(GIVEN["threads"], work)
    while hear() == "go":
        words += 1
        with changed:
            changed.wait_for(all_have_worked)
        say("worked")
    over = True
    join(threads)
    say("over", outcomes=sorted(outcomes), refreshes=tokens.stats.refreshes)


class Watched(FileStore):
    """Tells when it waits, and when it has saved."""

    waited = False

    def wait(self, identity: str, timeout: float) -> None:
        if not self.waited:
            self.waited = True
            say("waits")
        super().wait(identity, timeout)

    def save(self, identity: str, token: Token, **how: Any) -> None:
        super().save(identity, token, **how)
        say("saved", at=time.monotonic())


def adopts() -> None:
    """At each word: renew, be it by refreshing ("lead") or by waiting for who does."""
    store = Watched(GIVEN["path"])
    tokens = source(store)
    stale = tokens.token()
    say("ready")
    while (word := hear()) != "over":
        store.waited = word == "lead"  # who leads may have to wait for the one before it to leave
        stale = tokens.renew(stale)
        say("renewed", at=time.monotonic())
    say("over", refreshes=tokens.stats.refreshes)


if __name__ == "__main__":
    run(globals())
