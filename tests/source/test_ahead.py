"""Refresh ahead: what happens in the last part of a token's life."""

from __future__ import annotations

import gc
import math
import threading
import time
from typing import Any

import pytest
import requests

from requests_refresh import (
    LoginRequired,
    MemoryStore,
    RefreshAdapter,
    Token,
    TokenPool,
    TokenSource,
)
from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

from ..adapter.support import PATIENCE, Crowd, crowd, wait_until
from .conftest import Clock, Fickle, Hold, Make, Provider, login

# ------------------------------------------------------- one renewal, no waits


class Counting:
    """A lock that counts how often it is taken."""

    def __init__(self) -> None:
        self.taken = 0
        self._lock: Any = threading.RLock()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def acquire(self, *how: Any) -> bool:
        self.taken += 1
        return bool(self._lock.acquire(*how))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)


def counting(source: TokenSource) -> Counting:
    """Have the source's gate use a lock that counts."""
    lock = Counting()
    source._gate._make_lock = lambda: lock
    source._gate.reset()
    return lock


def to_its_last_part(make: Make, source: TokenSource) -> None:
    current = source._gate.current
    assert current is not None
    make.clock.now = current.ahead_at


def test_rotations_in_a_crowd(make: Make) -> None:
    """I1, I15: each last part makes one renewal; meanwhile nobody waits, nor takes the lock."""
    holds = [Hold(), Hold(), Hold()]
    provider = Provider(*holds, expires_in=100)
    store = Fickle()
    source = make(provider, store, token=login(100))
    source.token()
    lock = counting(source)
    for number, hold in enumerate(holds):
        old = f"a{number}"
        waits = source.stats.waits
        to_its_last_part(make, source)
        seen = crowd(lambda i: source.token(), 16)  # that may all be the first
        hold.wait()
        lock.taken = 0
        store.calls.clear()
        seen += crowd(lambda i: [source.token() for _ in range(20)][-1], 16)
        assert {token.access_token for token in seen} == {old}
        assert (lock.taken, store.calls) == (0, [])
        hold.release.set()
        make.settle()
        lock.taken = 0
        assert source.token().access_token == f"a{number + 1}"
        assert lock.taken == 0
        assert source.stats.waits == waits
        assert provider.calls == number + 1
    assert (source.stats.refreshes, source.stats.failures) == (3, 0)


def test_who_comes_late_begins_nothing(make: Make) -> None:
    """I1: a thread that stood still over the whole renewal, with the old token, makes no other."""
    provider = Provider(expires_in=100)
    source = make(provider, token=login(100))
    source.token()
    to_its_last_part(make, source)
    old = source.token()
    make.settle()
    assert not source._gate.start(old, source._limit(), refused=False)
    outcome = source._gate.get(old, math.inf, source._limit(), refused=False, may_start=False)
    assert outcome.token.access_token == "a1"
    make.settle()
    assert provider.calls == 1


def test_in_the_foreground_one_of_a_crowd_waits(make: Make) -> None:
    """background=False: of threads that come at once, one waits; the others have the old one."""
    hold = Hold()
    source = make(Provider(hold, expires_in=100), token=login(100), background=False)
    source.token()
    waits = source.stats.waits
    to_its_last_part(make, source)
    asking = Crowd(lambda i: source.token(), 8)
    hold.wait()
    wait_until(lambda: asking.results.count(None) == 1 and source.stats.waits == waits + 1)
    hold.release.set()
    assert sorted(str(token.access_token) for token in asking.join()) == 7 * ["a0"] + ["a1"]
    assert source.stats.waits == waits + 1


def test_one_shot_bodies_wait_and_the_others_go(make: Make) -> None:
    """I11: who may send once only waits for the round that the others have begun, or begins it."""
    hold = Hold()
    provider = Provider(hold, expires_in=100)
    source = make(provider, token=login(100))
    source.token()
    waits = source.stats.waits
    to_its_last_part(make, source)
    deadline = source._deadline(None)
    mixed = Crowd(lambda i: source._for_request(deadline, sure=i % 2 == 0), 12)
    hold.wait()
    wait_until(lambda: mixed.results.count(None) == 6)
    wait_until(lambda: source.stats.waits == waits + 6)
    hold.release.set()
    got = [outcome.token.access_token for outcome in mixed.join()]
    assert got == 6 * ["a1", "a0"]
    assert provider.calls == 1


def test_refused_while_its_refresh_ahead_runs(make: Make) -> None:
    """I1, I12: whose token the API refuses in the middle of it gets what that round brings."""
    hold = Hold()
    provider = Provider(hold, expires_in=100)
    source = make(provider, token=login(100))
    source.token()
    waits = source.stats.waits
    to_its_last_part(make, source)
    old = source.token()
    hold.wait()
    refused = Crowd(lambda i: source.renew(old), 4)
    wait_until(lambda: source.stats.waits == waits + 4)
    after = Crowd(lambda i: source.token(), 2)  # the token is known to be dead by now
    wait_until(lambda: source.stats.waits == waits + 6)
    hold.release.set()
    assert {token.access_token for token in refused.join() + after.join()} == {"a1"}
    assert source.renew(old).access_token == "a1"
    assert provider.calls == 1


def test_it_dies_while_its_refresh_ahead_runs(make: Make) -> None:
    """I1: a refresh ahead that takes too long is the one that is waited for at the end."""
    hold = Hold()
    provider = Provider(hold, expires_in=100)
    source = make(provider, token=login(100))
    source.token()
    waits = source.stats.waits
    to_its_last_part(make, source)
    source.token()
    hold.wait()
    make.clock.now += 15
    waiting = Crowd(lambda i: source.token(), 4)
    wait_until(lambda: source.stats.waits == waits + 4)
    hold.release.set()
    assert {token.access_token for token in waiting.join()} == {"a1"}
    assert provider.calls == 1


def test_without_a_thread_the_next_request_begins_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3: where no thread can be started now, nobody is delayed, and a later request renews."""
    provider = Provider(expires_in=100)
    for background in (True, False):
        source = make(provider, token=login(100), background=background)
        source.token()
        waits, calls = source.stats.waits, provider.calls
        to_its_last_part(make, source)
        with monkeypatch.context() as patch:
            patch.setattr(source._gate, "_spawn", no_thread)
            assert {source.token().access_token for _ in range(3)} == {"a0"}
            once = source._for_request(source._deadline(None), sure=True)
            assert once.token.access_token == "a0"
        assert (source.stats.waits, provider.calls) == (waits, calls)
        source.token()
        make.settle()
        assert source.token().access_token == f"a{calls + 1}"


def no_thread(work: object) -> None:
    raise RuntimeError("can't start new thread")


# --------------------------------------------- other sources on the same store


@pytest.mark.parametrize("hours", [-6, 6])
def test_the_wall_clock_steps_in_the_last_part(
    hours: int, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1: the renewal of an issued token goes by the monotonic clock, before and after."""
    hold = Hold()
    provider = Provider(None, hold, expires_in=100)
    source = make(provider)
    source.token()
    waits = source.stats.waits
    to_its_last_part(make, source)
    assert source.token().access_token == "a1"
    hold.wait()
    really = time.time
    monkeypatch.setattr(time, "time", lambda: really() + hours * 3600)
    assert source.token().access_token == "a1"
    hold.release.set()
    make.settle()
    assert source.token().access_token == "a2"
    make.clock.now += 85
    assert source.token().access_token == "a2"
    make.settle()
    assert (provider.calls, source.stats.waits) == (2, waits)


def test_another_adopts_before_the_end(make: Make) -> None:
    """I1: of sources that share a store one refreshes ahead; the other takes that, unnoticed."""
    store, provider = Fickle(), Provider(expires_in=100)
    one, other = make(provider, store, token=login(100)), make(provider, store)
    assert one.token() == other.token()
    waits = one.stats.waits, other.stats.waits
    make.settle()
    store.calls.clear()
    for number in (1, 2, 3):
        make.clock.now += 92
        for source in (one, other):
            assert source.token().access_token == f"a{number - 1}"
            make.settle()
            assert source.token().access_token == f"a{number}"
        assert provider.calls == number
        one, other = other, one
    assert (one.stats.waits, other.stats.waits) in (waits, waits[::-1])
    assert one.stats.refreshes + other.stats.refreshes == 3
    assert store.calls.count("exclusive") == 3  # who adopts is in nobody's way


def test_what_was_adopted_is_not_adopted_back(make: Make) -> None:
    """I1, I7: an older token that comes back in the last part is not taken, nor is it spent."""
    store, provider = MemoryStore(), Provider(expires_in=100)
    one, other = make(provider, store, token=login(100)), make(provider, store)
    first = one.token()
    other.token()
    one.renew(first)
    assert other.renew(first).access_token == "a1"
    store.save("default", first)
    to_its_last_part(make, other)
    assert other.token().access_token == "a1"
    make.settle()
    assert other.token().access_token == "a2"
    assert [old and old.refresh_token for old in provider.given] == ["r0", "r1"]


def test_refused_for_good_ahead_of_time_by_a_real_endpoint() -> None:
    """I3: nobody here or beside us asks again, the token is used to its end, then it is over."""
    store = MemoryStore()
    logouts: list[TokenSource] = []
    with AuthServer() as server:
        server.faults("token", Fault(status=400, body={"error": "invalid_grant"}), times=None)
        now = time.time()
        given = Token.from_reply(server.login(), issued_at=now - 3400)
        clock = Clock()

        def another() -> TokenSource:
            end = lambda source, error: logouts.append(source)  # noqa: E731  # is all it does
            source = TokenSource(server.grant(), store, on_logout=end)
            source._clock = clock
            return source

        store.save("default", given)
        sources = [another(), another()]
        before = [source.token().access_token for source in sources]
        for source in sources:
            source.close()
        sources.append(another())  # the next process
        for source in [*sources, *sources]:
            assert source.token().access_token == given.access_token
            source.close()
        stored = store.load("default")
        assert stored is not None
        assert before == 2 * [stored.access_token]
        assert stored.refresh_token is None
        assert (server.counts.refresh_calls, logouts) == (1, [])
        clock.now += 200
        for source in sources:
            with pytest.raises(LoginRequired):
                source.token()
            source.close()
        assert server.counts.refresh_calls == 1
    assert logouts == sources
    assert store.load("default") is None


def test_a_kept_token_keeps_its_last_part() -> None:
    """A pool's next source of an identity renews when the one before would have, and once."""
    hold = Hold()
    provider = Provider(None, hold, expires_in=100)
    store, clock = MemoryStore(), Clock()

    def make(identity: str) -> TokenSource:
        source = TokenSource(provider, store, identity=identity)
        source._clock = clock
        return source

    pool = TokenPool(make, maxsize=3)
    clock.now = time.monotonic()  # what the pool goes by
    pool["u"].token()
    pool.close()
    gc.collect()
    assert len(pool) == 0
    source = pool["u"]
    assert source.token().access_token == "a1"
    current = source._gate.current
    assert current is not None
    clock.now = current.ahead_at - 0.01
    assert source.token().access_token == "a1"
    assert provider.calls == 1
    clock.now = current.ahead_at
    assert {token.access_token for token in crowd(lambda i: pool["u"].token(), 8)} == {"a1"}
    hold.wait()
    hold.release.set()
    pool.close()
    assert source.token().access_token == "a2"
    assert (provider.calls, source.stats.waits) == (2, 0)
    assert [old and old.refresh_token for old in provider.given] == [None, "r1"]


# ------------------------------------------------------------ under real load


@pytest.mark.long
def test_rotation_under_load() -> None:
    """I1: 8 threads through three rotations by the clock: none waited, none failed or saw a 401."""
    life, over = 3.0, threading.Event()
    with AuthServer(lifetime=life, latency={"token": 0.3}) as server, requests.Session() as http:
        source = server.source()
        http.trust_env = False
        http.mount(server.api, RefreshAdapter(source, origins=server.api))

        def load(number: int) -> int:
            sent = 0
            while not over.wait(0.01):
                assert http.get(server.api, timeout=PATIENCE).status_code == 200
                sent += 1
            return sent

        source.token()
        waits, began = source.stats.waits, time.monotonic()
        threads = Crowd(load, 8)
        server.wait_for("refreshes", 3, PATIENCE)
        over.set()
        sent = threads.join()
        source.close()
        took = time.monotonic() - began
        assert all(isinstance(one, int) and one for one in sent), sent
        counts = server.counts
        assert counts.refreshes <= 1 + took / (life / 2)  # each lives for half its life at least
        assert (counts.refresh_calls, counts.refreshes, counts.reuses) == (3, 3, 0)
        assert (counts.api_401, counts.expiries) == (0, 0)
        assert (source.stats.refreshes, source.stats.failures) == (3, 0)
        assert (source.stats.waits, source.stats.replays) == (waits, 0)
