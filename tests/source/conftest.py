"""Providers that do what a test says, stores that fail on demand, and sources that are closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from requests_refresh import ANY, LoginRequired, MemoryStore, Token, TokenSource, TokenStore
from requests_refresh.stores.base import Replacing

from ..adapter.support import PATIENCE


class Hold:
    """A call of the provider that goes on when it is told to."""

    def __init__(self, then: Any = None) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        self._then = then

    def __call__(self, old: Token | None) -> Any:
        self.entered.set()
        assert self.release.wait(PATIENCE)
        if isinstance(self._then, BaseException):
            raise self._then
        return self._then

    def wait(self) -> None:
        """Block until the call has come."""
        assert self.entered.wait(PATIENCE)


class Provider:
    """A grant. Call n issues a{n} and r{n}, unless its script has something else for it.

    A step of the script is raised, if it is an exception; called with the old
    token, if it can be called; else returned. None issues as usual.
    """

    def __init__(self, *script: Any, expires_in: float | None = 3600.0) -> None:
        self.script = list(script)
        self.given: list[Token | None] = []
        self.expires_in = expires_in
        self._lock = threading.Lock()

    @property
    def calls(self) -> int:
        return len(self.given)

    def __call__(self, old: Token | None) -> Any:
        with self._lock:
            self.given.append(old)
            number = len(self.given)
            step = self.script.pop(0) if self.script else None
        if isinstance(step, BaseException):
            raise step
        if callable(step):
            step = step(old)
        return self.issue(number) if step is None else step

    def issue(self, number: int) -> dict[str, Any]:
        reply: dict[str, Any] = {"access_token": f"a{number}", "refresh_token": f"r{number}"}
        return reply if self.expires_in is None else {**reply, "expires_in": self.expires_in}


class Fickle(MemoryStore):
    """A store whose methods do something first, if a test says what: raise, wait, count."""

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[str, Callable[[], object]] = {}
        self.after_save: Callable[[], object] = lambda: None
        self.calls: list[str] = []

    def _note(self, name: str) -> None:
        self.calls.append(name)
        self.before.get(name, lambda: None)()

    def load(self, identity: str) -> Token | None:
        self._note("load")
        stored = super().load(identity)  # told anew, as a store on a disk would
        return stored and Token.from_mapping(stored.to_mapping())

    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        self._note("save")
        super().save(identity, token, replacing=replacing)
        self.after_save()

    def delete(self, identity: str, *, replacing: Replacing = ANY) -> None:
        self._note("delete")
        super().delete(identity, replacing=replacing)

    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        self._note("exclusive")
        with super().exclusive(identity, timeout):
            yield
        self._note("leave")

    def __reduce__(self) -> Any:
        raise TypeError("It is not for pickles.")


class Clock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Make:
    """Makes sources on a clock that stands still, and notes what they call back."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sources: list[TokenSource] = []
        self.refreshed: list[Token] = []
        self.logouts: list[LoginRequired] = []

    def __call__(
        self, grant: Any, store: TokenStore | str | None = None, **options: Any
    ) -> TokenSource:
        options.setdefault("on_refresh", lambda source, token: self.refreshed.append(token))
        options.setdefault("on_logout", lambda source, error: self.logouts.append(error))
        source = TokenSource(grant, store, **options)
        source._clock = self.clock
        self.sources.append(source)
        return source

    def settle(self) -> None:
        """Let every round and callback end."""
        for source in self.sources:
            source.close()


@pytest.fixture
def make() -> Iterator[Make]:
    maker = Make()
    yield maker
    maker.settle()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses become short, and what they should have been is noted."""
    noted: list[float] = []
    really = time.sleep

    def nap(seconds: float) -> None:
        noted.append(seconds)
        really(min(seconds, 0.001))

    monkeypatch.setattr(time, "sleep", nap)
    return noted


def login(life: float | None = 3600.0, name: str = "0") -> Token:
    """A token as a login gives it: a0 and r0, just issued."""
    now = time.time()
    return Token(
        f"a{name}",
        refresh_token=f"r{name}",
        issued_at=now,
        expires_at=None if life is None else now + life,
    )


def dead(name: str = "0") -> Token:
    """As `login`, but at its end."""
    now = time.time()
    return Token(f"a{name}", refresh_token=f"r{name}", issued_at=now - 100, expires_at=now - 1)
