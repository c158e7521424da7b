"""Programs with a token in its last part."""

from __future__ import annotations

import os
import time

from ..child import get, hear, in_a_fork, run, say, session, source


def forked() -> None:
    """Fork just before the last part; in it parent and child both use the token, and go on."""
    tokens = source()
    http = session(tokens)
    get(http)
    first = tokens.token()
    tokens._clock = lambda: time.monotonic() + 3400  # of an hour
    begun, begin = os.pipe()
    over, end = os.pipe()

    def work(who: str) -> None:
        say(who, statuses=[get(http) for _ in range(3)], waits=tokens.stats.waits)

    def go_on(who: str) -> None:
        tokens.close()
        say(who, status=get(http), new=tokens.token() != first, refreshes=tokens.stats.refreshes)

    def child() -> None:
        os.read(begun, 1)
        work("child")
        os.read(over, 1)
        go_on("child")

    pid = in_a_fork(child)
    os.write(begin, b".")
    work("parent")
    hear()
    os.write(end, b".")
    go_on("parent")
    os.waitpid(pid, 0)


if __name__ == "__main__":
    run(globals())
