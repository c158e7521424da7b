"""Programs that fork in a bad moment."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from requests.adapters import HTTPAdapter

from requests_refresh import LoginRequired, MemoryStore, Token, TokenSource

from ..child import (
    GIVEN,
    SAFETY,
    get,
    hear,
    in_a_fork,
    in_threads,
    join,
    run,
    say,
    session,
    source,
    try_get,
)


def a_source() -> TokenSource:
    if GIVEN["store"] == "file":
        return source()
    token = Token.from_reply(GIVEN["token"])
    if GIVEN.get("only"):
        token = Token(refresh_token=token.refresh_token)
    return source(MemoryStore(), token=token)


def middle() -> None:
    """Fork in the middle of a round, for which other threads wait."""
    http = session(a_source())
    threads = in_threads(3, lambda number: say("parent", **try_get(http)))
    hear()

    def child() -> None:
        say("forked")
        join(in_threads(3, lambda number: say("child", **try_get(http))))

    pid = in_a_fork(child)
    join(threads)
    os.waitpid(pid, 0)
    say("parent", **try_get(http))


def living() -> None:
    """Fork with a living token in memory; parent and child go on when it is dead."""
    tokens = a_source()
    http = session(tokens)
    say("parent", **try_get(http))
    go, told = os.pipe()

    def child() -> None:
        say("child", **try_get(http))
        say("child", refresh_token=tokens.token().refresh_token)
        os.read(go, 1)
        say("child", **try_get(http))
        say("child", **try_get(http))
        try:
            tokens.token()
        except LoginRequired as exc:
            say("child", text=str(exc))
        tokens.login(GIVEN["another"])
        say("child", **try_get(http))

    pid = in_a_fork(child)
    hear()
    os.write(told, b".")
    os.waitpid(pid, 0)
    say("parent", **try_get(http))


def unused() -> None:
    """Fork with a source that has not been used yet."""
    http = session(a_source())
    os.waitpid(in_a_fork(lambda: say("child", **try_get(http))), 0)
    say("parent", **try_get(http))


def locks() -> None:
    """Fork while another thread holds every lock there is."""
    tokens = a_source()
    http = session(tokens)
    get(http)
    store: Any = tokens._store
    locks = [
        tokens._gate._lock,
        tokens._lock,
        tokens._jobs._lock,
        tokens._strikes._lock,
        store._lock if GIVEN["store"] == "memory" else store._writing._guard,
        store._exclusion._guard,
    ]
    held, done = threading.Event(), threading.Event()

    def hold(number: int) -> None:
        for lock in locks:
            lock.acquire()
        held.set()
        done.wait(SAFETY)
        for lock in locks:
            lock.release()

    threads = in_threads(1, hold)
    held.wait(SAFETY)

    def child() -> None:
        tokens.login(GIVEN["another"])
        say("child", **try_get(http))
        stale = tokens.token()
        say("child", renewed=tokens.renew(stale).access_token != stale.access_token)
        say("child", stats=tokens.stats.refreshes)
        tokens.close()

    os.waitpid(in_a_fork(child), 0)
    done.set()
    join(threads)
    say("parent", **try_get(http))


def sockets() -> None:
    """Fork with a connection in the pool; parent and child use the session at once."""
    inner = {"inner": HTTPAdapter()} if GIVEN["inner"] else {}
    http = session(a_source(), **inner)
    get(http, "parent/first")

    def ask(who: str) -> None:
        right = 0
        for number in range(30):
            url = f"{GIVEN['api']}{who}/{number}"
            right += http.get(url, timeout=SAFETY).json()["path"] == f"/api/{who}/{number}"
        say(who, right=right)

    pid = in_a_fork(lambda: ask("child"))
    ask("parent")
    os.waitpid(pid, 0)


def leave() -> None:
    """The child leaves as any process does, while a round of its own runs in the background."""
    http = session(source(ahead=10_000))
    pid = os.fork()
    if pid == 0:
        signal.alarm(SAFETY)
        say("child", statuses=[get(http), get(http)])
    else:
        os.waitpid(pid, 0)
        say("parent", **try_get(http))


def in_callback() -> None:
    """Fork in the thread of a round, when that is over."""

    def fork(source: TokenSource, token: Token) -> None:
        os.waitpid(in_a_fork(lambda: say("child", **try_get(http))), 0)

    http = session(source(on_refresh=fork))
    say("parent", **try_get(http))


if __name__ == "__main__":
    run(globals())
