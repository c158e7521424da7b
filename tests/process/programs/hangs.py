"""Programs in which something of the user's never comes back."""

from __future__ import annotations

import threading
from typing import Any

from requests_refresh import MemoryStore, StoreError, Token, TokenSource, remaining

from ..child import GIVEN, in_threads, join, run, say, session, source, try_get


def hang(*args: object) -> Any:
    say("hangs")
    threading.Event().wait()


def in_grant() -> None:
    """A grant of the user's hangs."""
    say("answer", **try_get(session(TokenSource(hang, token="a", timeout=1.0))))


def in_call() -> None:
    """The provider never answers."""
    say("answer", **try_get(session(source(timeout=1.0))))


def in_callback() -> None:
    """on_refresh hangs; the waiters have their answers by then."""
    http = session(source(timeout=1.0, on_refresh=hang))
    join(in_threads(4, lambda number: say("answer", **try_get(http))))


class Stuck(MemoryStore):
    """Takes the first token only; then fails when the round is nearly over, and then hangs."""

    def save(self, identity: str, token: Token, **how: Any) -> None:
        if self.load(identity) is None:
            super().save(identity, token, **how)
            return
        if _published.is_set():
            hang()
        threading.Event().wait(max(0.0, remaining() - 0.1))
        raise StoreError("Out of order.")


_published = threading.Event()


def in_store() -> None:
    """The store fails until the token is used from memory, and hangs in the saving after that."""
    tokens = source(
        Stuck(),
        token=GIVEN["token"],
        timeout=1.0,
        on_refresh=lambda source, token: _published.set(),
    )
    say("answer", **try_get(session(tokens)))


if __name__ == "__main__":
    run(globals())
