"""Programs under gevent, which wants to patch before anything else is imported."""

from __future__ import annotations

import sys
from typing import Any

from gevent import monkey


def patched_first() -> None:
    """As it should be."""
    monkey.patch_all()
    from ..child import session, source

    crowd(session(source()))


def patched_late() -> None:
    """The source and the session are older than the patching."""
    from ..child import session, source

    http = session(source())
    monkey.patch_all(ssl=False)
    crowd(http)


def patched_in_use() -> None:
    """Threads have used the source by then."""
    from ..child import hear, in_threads, join, say, session, source, try_get

    http = session(source())
    join(in_threads(4, lambda number: say("before", **try_get(http))))
    hear()
    monkey.patch_all(ssl=False)
    crowd(http)


def crowd(http: Any) -> None:
    import gevent

    from ..child import SAFETY, say, try_get

    crowd = [gevent.spawn(try_get, http) for _ in range(32)]
    gevent.joinall(crowd, timeout=SAFETY)
    say("answers", answers=[one.value for one in crowd])


def leave() -> None:
    """The main greenlet leaves while a round runs in the background."""
    monkey.patch_all()
    from ..child import say, session, source, try_get

    http = session(source(ahead=10_000))
    for _ in range(2):
        say("answer", **try_get(http))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
