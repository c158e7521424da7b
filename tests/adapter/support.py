"""What several tests of the adapter need: a provider in this process, and crowds."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

from requests_refresh import Token, TokenSource

PATIENCE = 30.0  # seconds; a thread that takes longer hangs


class Issuer:
    """A grant that issues new-1, new-2 and so on, and counts."""

    def __init__(self, expires_in: float | None = 3600.0) -> None:
        self.calls = 0
        self.expires_in = expires_in

    def __call__(self, old: Token | None) -> dict[str, Any]:
        self.calls += 1
        return {"access_token": f"new-{self.calls}", "expires_in": self.expires_in}


class Crowd:
    """Threads that run a function each, and what came of it: results or exceptions."""

    def __init__(self, work: Callable[[int], Any], size: int) -> None:
        self.results: list[Any] = [None] * size
        self._work = work
        self._start = threading.Barrier(size)
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        self._start.wait(PATIENCE)
        try:
            self.results[number] = self._work(number)
        except BaseException as exc:
            self.results[number] = exc

    def join(self) -> list[Any]:
        """Wait for all of them; none may hang."""
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads)
        return self.results


def crowd(work: Callable[[int], Any], size: int) -> list[Any]:
    """What `size` threads get that run `work` at once."""
    return Crowd(work, size).join()


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll for a state of a library object that announces no change. Fails after a while."""
    tick = threading.Event()
    for _ in range(3000):
        if condition():
            return
        tick.wait(0.01)
    raise AssertionError("It did not come to that.")


def advance(tokens: TokenSource, seconds: float) -> None:
    """Let the source believe that so many seconds have passed."""
    before = tokens._clock
    tokens._clock = lambda: before() + seconds


def stop_clock(tokens: TokenSource) -> None:
    """Let the source believe that no time passes, but what `advance` adds."""
    now = tokens._clock()
    tokens._clock = lambda: now


def name_of(value: object) -> str:
    """What a test is named after: the same in every process, so without addresses."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))
