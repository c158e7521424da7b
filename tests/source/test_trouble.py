"""I8: nobody queues behind a provider that is down; whoever has a living token goes on with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from requests_refresh import (
    LoginRequired,
    MemoryStore,
    RefreshError,
    RefreshTimeout,
    RefreshUnavailable,
    Token,
)

from ..adapter.support import Crowd, crowd, wait_until
from .conftest import Fickle, Hold, Make, Provider, dead, login
from .trouble import ask_sure, busy, in_trouble, lost, near_its_end, nudge, slow


@pytest.fixture
def held(make: Make) -> Iterator[Hold]:
    """A call of the provider's that hangs until it is released, at last before `make` ends."""
    hold = Hold()
    yield hold
    hold.release.set()


# ----------------------------------------------------- while the token lives


def test_with_a_living_token_nobody_waits_for_an_answer_that_never_comes(
    make: Make, held: Hold
) -> None:
    """While the provider is silent, all go on with the token that lives, and nobody waits."""
    provider = Provider(held)
    source = near_its_end(make, provider)
    waits = source.stats.waits
    assert {token.access_token for token in crowd(lambda i: source.token(), 8)} == {"a0"}
    held.wait()
    assert {token.access_token for token in crowd(lambda i: source.token(), 8)} == {"a0"}
    assert (provider.calls, source.stats.waits, source.stats.wait_seconds) == (1, waits, 0)


@pytest.mark.parametrize(("took", "patience"), [(0.0, 1.0), (0.5, 2.0), (20.0, 5.0)])
def test_who_wants_a_surer_token_waits_for_as_long_as_a_refresh_may_take(
    took: float, patience: float, make: Make, held: Hold
) -> None:
    """A one-shot body waits until 1 s, or four times the last refresh, 5 s at most."""

    def takes(old: Token | None) -> None:
        make.clock.now += took

    provider = Provider(takes, held, expires_in=100)
    source = make(provider, token=dead(), ahead=50)
    assert source.token().access_token == "a1"
    make.clock.now += 55 - took
    before = source.stats
    waiting = Crowd(lambda i: ask_sure(source), 3)
    wait_until(lambda: source.stats.waits == before.waits + 3)
    held.wait()
    make.clock.now += patience - 0.25
    nudge(source)
    assert source._gate._round is not None
    assert source._gate._round.waiters == 3
    make.clock.now += 0.25
    nudge(source)
    assert waiting.join() == ["a1"] * 3
    assert crowd(lambda i: ask_sure(source), 3) == ["a1"] * 3  # and who comes later does not wait
    after = source.stats
    assert after.waits == before.waits + 3
    assert after.wait_seconds - before.wait_seconds == 3 * patience
    assert provider.calls == 2


@pytest.mark.parametrize("sure", [True, False], ids=["one-shot", "background=False"])
def test_with_a_living_token_who_waits_goes_on_when_a_call_has_failed(
    sure: bool, make: Make, held: Hold, naps: list[float]
) -> None:
    """The first failure, however fast, lets those with a living token go; the round goes on."""
    first = Hold(busy())
    provider = Provider(first, held)
    source = near_its_end(make, provider, background=sure)
    waits = source.stats.waits
    get = (lambda i: ask_sure(source)) if sure else (lambda i: source.token().access_token)
    waiting = Crowd(get, 1)
    first.wait()
    wait_until(lambda: source.stats.waits == waits + 1)
    assert source.token().access_token == "a0"  # the others do not wait at all
    first.release.set()
    assert waiting.join() == ["a0"]
    held.wait()
    assert crowd(get, 4) == ["a0"] * 4
    assert source.stats.waits == waits + 1
    held.release.set()
    make.settle()
    assert source.token().access_token == "a2"
    assert (provider.calls, source.stats.refreshes, source.stats.failures) == (2, 1, 0)


@pytest.mark.parametrize("background", [True, False])
def test_after_a_failure_nobody_with_a_living_token_waits_at_all(
    background: bool, make: Make, held: Hold
) -> None:
    """In a round that begins after a failure no one-shot body waits, and no first caller."""
    provider = Provider(RefreshUnavailable("down", retry_after=5), held)
    source = near_its_end(make, provider, background=background)
    assert source.token().access_token == "a0"
    make.settle()
    before = source.stats
    for _ in range(2):  # first it is held back from, then it is asked, and is silent
        assert {token.access_token for token in crowd(lambda i: source.token(), 4)} == {"a0"}
        assert crowd(lambda i: ask_sure(source), 4) == ["a0"] * 4
        make.clock.now += 6
    held.wait()
    assert source.stats.waits == before.waits
    assert source.stats.wait_seconds == before.wait_seconds
    assert provider.calls == 2


@pytest.mark.parametrize("jitter", [0.0, 1.0])
@pytest.mark.parametrize("asked", [None, 7.0])
def test_ahead_of_time_it_is_asked_again_after_a_pause(
    asked: float | None, jitter: float, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retries in the background back off, with jitter, and honour Retry-After; one call each."""
    monkeypatch.setattr(
        random.SystemRandom, "uniform", lambda self, low, high: low + jitter * (high - low)
    )
    monkeypatch.setattr("requests_refresh.asking._CALLS", 1)
    provider = Provider(*[RefreshUnavailable("down", retry_after=asked)] * 3)
    source = near_its_end(make, provider)
    waits = source.stats.waits
    for number in range(1, 4):
        crowd(lambda i: source.token(), 4)
        make.settle()
        assert provider.calls == number
        pause = max(asked or 0.0, 0.5 * 2.0**number * (0.5 + 0.5 * jitter))
        make.clock.now += pause - 0.01
        crowd(lambda i: source.token(), 4)
        crowd(lambda i: ask_sure(source), 4)
        make.settle()
        assert provider.calls == number
        make.clock.now += 0.02
    assert source.token().access_token == "a0"
    make.settle()
    assert source.token().access_token == "a4"
    assert source.stats.waits == waits
    assert (source.stats.refreshes, source.stats.failures) == (1, 3)


# ------------------------------------------------------ when the token is dead


def test_a_slow_failure_lets_all_go_while_the_round_goes_on(
    make: Make, held: Hold, naps: list[float]
) -> None:
    """I3: released by the first failure, with an error each; what comes after is not lost (I7)."""
    first = Hold(lost())
    provider, store = Provider(first, held), MemoryStore()
    source = make(provider, store, token=login())
    stale = source.token()
    waiting = Crowd(lambda i: source.renew(stale), 8)
    first.wait()
    wait_until(lambda: source.stats.waits == 9)
    make.clock.now += 15
    first.release.set()
    errors = waiting.join()
    held.wait()  # the second try is on its way
    assert {type(error) for error in errors} == {RefreshUnavailable}
    assert len({id(error) for error in errors}) == 8
    assert all(error.outcome_unknown for error in errors)
    later = crowd(lambda i: source.renew(stale), 8)
    assert {type(error) for error in later} == {RefreshUnavailable}
    assert len({id(error) for error in later}) == 8
    assert (source.stats.waits, source.stats.failures, provider.calls) == (9, 0, 2)
    stored = store.load("default")
    assert stored is not None
    assert stored.refresh_token == "r0"
    held.release.set()
    make.settle()
    assert source.renew(stale).access_token == "a2"  # who left early gets it at once
    stored = store.load("default")
    assert stored is not None
    assert stored.refresh_token == "r2"
    assert (provider.calls, source.stats.refreshes, source.stats.failures) == (2, 1, 0)
    assert [token.access_token for token in make.refreshed] == ["a2"]
    assert make.logouts == []


def test_a_fast_failure_lets_nobody_go(make: Make, held: Hold, naps: list[float]) -> None:
    """A hiccup is not noticed: with a dead token, all wait for the second try."""
    provider = Provider(slow(make.clock, busy(), 0.9), held)
    source = make(provider, token=dead())
    waiting = Crowd(lambda i: source.token().access_token, 4)
    wait_until(lambda: source.stats.waits == 4)
    held.wait()
    make.clock.now += 5
    nudge(source)
    held.release.set()
    assert waiting.join() == ["a2"] * 4


def test_the_next_round_has_its_patience_then_all_fail_at_once(make: Make, held: Hold) -> None:
    """After a slow failure: the first ones wait for 1 s, those after them not, one call for all."""
    store = MemoryStore()
    source, provider = in_trouble(make, held, store=store)
    before = source.stats
    waiting = Crowd(lambda i: source.token(), 4)
    wait_until(lambda: source.stats.waits == before.waits + 4)
    held.wait()
    make.clock.now += 0.75
    nudge(source)
    assert source._gate._round is not None
    assert source._gate._round.waiters == 4
    make.clock.now += 0.25
    nudge(source)
    errors = waiting.join()
    errors += crowd(lambda i: source.token(), 4)
    assert {type(error) for error in errors} == {RefreshUnavailable}
    assert {str(error) for error in errors} == {"it was down"}
    assert len({id(error) for error in errors}) == 8
    after = source.stats
    assert (after.waits, provider.calls) == (before.waits + 4, 2)
    assert after.wait_seconds - before.wait_seconds == 4.0
    held.release.set()
    make.settle()
    assert {token.access_token for token in crowd(lambda i: source.token(), 4)} == {"a2"}
    stored = store.load("default")
    assert stored is not None
    assert stored.refresh_token == "r2"
    assert [old and old.refresh_token for old in provider.given] == ["r0", "r0"]
    assert provider.calls == 2
    assert make.logouts == []


@pytest.mark.parametrize(
    ("problems", "calls"), [([busy], 1), ([lost, lost], 2), ([lost, busy], 2), ([busy, lost], 1)]
)
def test_the_round_after_a_failure_makes_one_call(
    problems: list[Callable[[], Exception]], calls: int, make: Make, naps: list[float]
) -> None:
    """With a provider known to be down: one call, and one more only where the answer was lost."""
    source, provider = in_trouble(make, *(problem() for problem in problems))
    with pytest.raises(RefreshUnavailable):
        source.token()
    assert provider.calls == 1 + calls


def test_when_it_is_back_those_who_wait_get_its_token(make: Make, held: Hold) -> None:
    """The provider is back within the patience: nobody notices, and the trouble is forgotten."""
    again = Hold()
    source, provider = in_trouble(make, held, again)
    waiting = Crowd(lambda i: source.token().access_token, 4)
    held.wait()
    make.clock.now += 0.5
    held.release.set()
    assert waiting.join() == ["a2"] * 4
    stale = source.token()
    waiting = Crowd(lambda i: source.renew(stale).access_token, 4)
    again.wait()
    wait_until(lambda: source._gate._round is not None and source._gate._round.waiters == 4)
    make.clock.now += 5
    nudge(source)  # a round after a success is waited for
    again.release.set()
    assert waiting.join() == ["a3"] * 4
    assert provider.calls == 3


def test_a_wake_up_for_nothing_ends_no_wait(make: Make, held: Hold) -> None:
    """I3: waiters that are woken before their time go on waiting, and are counted once."""
    source, _ = in_trouble(make, held)
    waits = source.stats.waits
    waiting = Crowd(lambda i: source.token().access_token, 4)
    wait_until(lambda: source.stats.waits == waits + 4)
    for _ in range(3):
        nudge(source)
    held.release.set()
    assert waiting.join() == ["a2"] * 4
    assert source.stats.waits == waits + 4


@pytest.mark.parametrize(
    "problem", [RefreshError("bug"), {"no": "token"}, LoginRequired("over")], ids=str
)
def test_trouble_in_the_middle_and_another_end(problem: Any, make: Make, naps: list[float]) -> None:
    """Who is still there when the round ends gets what it ended with, not its first failure."""
    provider = Provider(busy(), problem)
    source = make(provider, token=dead())
    with pytest.raises(RefreshError) as caught:
        source.token()
    assert not isinstance(caught.value, RefreshUnavailable)
    assert provider.calls == 2


# ------------------------------------------- somebody else is at it, and hangs


def test_nobody_queues_time_after_time_behind_another_who_hangs(make: Make, held: Hold) -> None:
    """Another holds `exclusive` in a call that hangs: one wait of ours is long, no other."""
    store = MemoryStore()
    store.save("default", dead())
    other = make(Provider(held), store)
    theirs = Crowd(lambda i: other.token().access_token, 1)
    held.wait()
    provider = Provider()
    source = make(provider, store, timeout=10)
    first = Crowd(lambda i: source.token(), 2)
    wait_until(lambda: source.stats.waits == 2)
    make.clock.now += 11
    assert all(isinstance(error, RefreshTimeout) for error in first.join())
    wait_until(lambda: source._idle)
    second = Crowd(lambda i: source.token(), 2)
    wait_until(lambda: source.stats.waits == 4)
    make.clock.now += 1
    nudge(source)
    assert all(isinstance(error, RefreshTimeout) for error in second.join())
    third = crowd(lambda i: source.token(), 2)
    assert all(isinstance(error, RefreshTimeout) for error in third)
    assert source.stats.waits == 4
    held.release.set()
    assert theirs.join() == ["a1"]
    wait_until(lambda: source._idle)
    assert source.token().access_token == "a1"
    assert provider.calls == 0
    assert make.logouts == []


def test_a_store_in_trouble_holds_back_as_before(make: Make) -> None:
    """A StoreError is told at once while it is held back from; it is no outage of the provider."""
    store = Fickle()
    provider = Provider()
    source = make(provider, store, token=dead())

    def broken() -> None:
        raise OSError("disk")

    store.before["exclusive"] = broken
    kinds = [type(error).__name__ for error in crowd(lambda i: source.token(), 4)]
    assert kinds == ["StoreError"] * 4
    assert source._gate.trouble is None
    store.before.clear()
    make.clock.now += 2
    assert source.token().access_token == "a1"
