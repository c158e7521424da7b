"""What the tests of trouble share: providers that fail slowly, and wake-ups for no reason."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests

from requests_refresh import RefreshUnavailable, Token, TokenSource

from ..adapter.support import wait_until
from .conftest import Clock, Make, Provider, dead, login


def busy() -> RefreshUnavailable:
    return RefreshUnavailable("503")


def lost() -> requests.ReadTimeout:
    return requests.ReadTimeout("no answer")


class Watched:
    """A clock that knows how often each thread has looked at it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.looks: dict[int, int] = {}

    def __call__(self) -> float:
        me = threading.get_ident()
        self.looks[me] = self.looks.get(me, 0) + 1
        return self._clock()


def slow(clock: Clock, error: Exception, seconds: float = 20.0) -> Callable[[Token | None], Any]:
    """A call that fails after so many seconds of the clock."""

    def fail(old: Token | None) -> None:
        clock.now += seconds
        raise error

    return fail


def nudge(source: TokenSource) -> None:
    """Wake all who wait, for no reason, and let each of them look at the clock once."""
    gate, watched = source._gate, Watched(source._clock)  # type: ignore[arg-type]  # a Clock
    round_ = gate._round
    assert round_ is not None
    source._clock = watched
    with gate._changed:
        waiting = round_.waiters
        gate._changed.notify_all()
    # Who leaves has looked at it as well, to know how long it waited.
    wait_until(lambda: round_.done or len(watched.looks) >= waiting)
    wait_until(lambda: gate._lock.acquire(blocking=False))
    gate._lock.release()
    source._clock = watched._clock


def ask_sure(source: TokenSource) -> str | None:
    """What a request with a one-shot body is sent with."""
    return source._for_request(source._deadline(None), sure=True).token.access_token


def near_its_end(make: Make, provider: Provider, **options: Any) -> TokenSource:
    """A source whose token is in its last part, and has 45 s to live."""
    source = make(provider, token=login(100), ahead=50, **options)
    assert source.token().access_token == "a0"
    make.clock.now += 55
    return source


def in_trouble(make: Make, *then: Any, **options: Any) -> tuple[TokenSource, Provider]:
    """A source with a dead token whose provider has failed once, slowly, and may be asked again."""
    provider = Provider(slow(make.clock, RefreshUnavailable("it was down", retry_after=5)), *then)
    source = make(provider, options.pop("store", None), token=dead(), **options)
    with pytest.raises(RefreshUnavailable):
        source.token()
    make.settle()  # who waited is released before the round ends
    make.clock.now += 6
    assert not source._gate.holding()
    return source, provider
