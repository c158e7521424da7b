"""Rounds whose store comes back with something old, or comes back late."""

from __future__ import annotations

import gc
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from requests_refresh import LoginRequired, MemoryStore, StoreError, Token, TokenPool, TokenSource
from requests_refresh.stores import RedisStore
from requests_refresh.testing import AuthServer
from tests.outages.support import Call
from tests.servers import RedisServer

SAFETY = 60  # seconds


class Strict:
    """A grant that ends the login when a refresh token comes twice, as providers do."""

    def __init__(self) -> None:
        self.spent: list[str | None] = []

    def __call__(self, old: Token | None) -> Any:
        if old is None or old.refresh_token is None or old.refresh_token in self.spent:
            raise LoginRequired("This refresh token was used before.")
        self.spent.append(old.refresh_token)
        number = len(self.spent)
        return {"access_token": f"a{number}", "refresh_token": f"r{number}", "expires_in": 3600}


def dead() -> Token:
    return Token("a0", refresh_token="r0", expires_at=time.time() - 60)


def living() -> Token:
    return Token("a0", refresh_token="r0", expires_at=time.time() + 3600)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_a_spent_token_that_comes_back_after_the_first_refresh(store: MemoryStore) -> None:
    """I7: what a source has refreshed from is never spent again, though it never was in use."""
    grant, old = Strict(), dead()
    store.save("default", old)
    source = TokenSource(grant, store)
    first = source.token()
    store.save("default", old)  # a failover, or a backup, forgets the last write
    assert source.renew(first).access_token == "a2"
    assert grant.spent == ["r0", "r1"]


@pytest.mark.parametrize("alive", [True, False])
def test_a_spent_token_that_comes_back_in_a_pool(store: MemoryStore, alive: bool) -> None:
    """I7: a source that began with a kept access token neither adopts nor spends the old issue."""
    grant, old = Strict(), living() if alive else dead()
    store.save("user", living())
    pool = TokenPool(lambda user: TokenSource(grant, store, identity=user), maxsize=3)
    pool["user"].token()  # it is kept, and its source goes
    end = time.monotonic() + SAFETY
    while len(pool) and time.monotonic() < end:  # a round's thread lets go of it a little later
        gc.collect()
    source = pool["user"]
    assert source._gate.current is not None
    assert source._gate.current.token.refresh_token is None
    first = source.renew(source.token())
    store.save("user", old)
    second = source.renew(first)
    source.renew(second)
    assert grant.spent == ["r0", "r1", "r2"]


class Away(MemoryStore):
    """A store that can be away: then nothing can be saved."""

    away = False

    def save(self, identity: str, token: Token, **options: Any) -> None:
        if self.away:
            raise StoreError("It is away.")
        super().save(identity, token, **options)


def test_what_is_unsaved_outlives_what_it_was_to_replace() -> None:
    """I7: a new refresh token is stored though the access token before it has expired meanwhile."""
    store = Away()
    store.save(
        "default", Token("a0", expires_at=time.time() - 1)
    )  # may go by itself: no refresh token

    def grant(old: Token | None) -> Any:
        store.away = True
        return {"access_token": "a1", "refresh_token": "r1", "expires_in": 3600}

    source = TokenSource(grant, store, timeout=0.5)
    assert source.token(timeout=SAFETY).access_token == "a1"
    assert source._place.unsaved is not None
    store.delete("default")  # as Redis does at the end of a TTL
    store.away = False
    source.close()
    stored = store.load("default")
    assert stored is not None
    assert stored.refresh_token == "r1"


class Late(RedisStore):
    """A store whose saver does something as soon as so many of its saves have failed."""

    def after(self, times: int, then: Callable[[], None]) -> None:
        self.left, self.then = times, then

    def save(self, identity: str, token: Token, **options: Any) -> None:
        try:
            super().save(identity, token, **options)
        except StoreError:
            self.left -= 1
            if not self.left:
                self.then()
            raise


@pytest.fixture
def auth() -> Iterator[AuthServer]:
    with AuthServer() as server:
        yield server


def test_an_outage_that_is_longer_than_a_lease(own_redis: Any, auth: AuthServer) -> None:
    """I1, I7: when the store is back, nobody spends what was spent before it went away."""
    server: RedisServer = own_redis()
    prefix = uuid.uuid4().hex
    mine = Late(server.url, prefix=prefix, lease=0.3)
    others = RedisStore(server.url, prefix=prefix, lease=0.3)
    back = threading.Event()

    def comes_back() -> None:
        server.start()
        back.set()

    mine.after(8, comes_back)  # the pauses have grown to a second by then
    inner = auth.grant()

    def grant(old: Token | None) -> Any:
        reply = inner(old)
        server.kill()
        return reply

    one = auth.source("user", grant=grant, store=mine, timeout=20)
    other = auth.source("user", grant=auth.grant(), store=others, timeout=20)
    stale = one.token()
    others.load("user")
    auth.revoke_access("user")
    try:
        working = Call(lambda: one.renew(stale).access_token)
        assert back.wait(SAFETY)
        late = Call(lambda: other.renew(stale).access_token)
        came = [working.result(), late.result()]
        assert auth.counts.reuses == 0
        assert came[0] == came[1] == one.token().access_token
    finally:
        one.close()
        other.close()
        mine.close()
        others.close()


def test_a_lease_whose_answer_was_lost(own_redis: Any) -> None:
    """I3: after a pause of the server nobody waits for a lease that its owner does not know of."""
    server: RedisServer = own_redis()
    store = RedisStore(server.url, lease=30.0)
    try:
        with store.exclusive("user", 0):
            pass  # connected
        server.pause()
        with pytest.raises(StoreError), store.exclusive("user", 0):
            pass
        server.resume()
        with store.exclusive("user", 5.0):
            pass
    finally:
        store.close()


def test_a_pool_that_is_closed_while_it_is_used(store: MemoryStore) -> None:
    """I7: `close` waits for all sources, though a thread asks for a new one just then."""
    pool = TokenPool(lambda user: TokenSource(Strict(), store, identity=user), maxsize=3)
    held, threads = [pool["one"], pool["two"]], list[threading.Thread]()

    def meddle() -> None:
        thread = threading.Thread(target=lambda: held.append(pool["three"]), daemon=True)
        threads.append(thread)
        thread.start()
        thread.join(1)  # with a lock it comes later

    live = pool._live
    of_all = live.values

    def values() -> Iterator[Any]:
        for value in of_all():
            yield value
            if not threads:
                meddle()

    vars(live)["values"] = values
    pool.close()
    for thread in threads:
        thread.join(SAFETY)
    assert len(held) == 3


def test_a_pool_on_a_dead_store_closes_in_its_time() -> None:
    """I5: `close` of a pool takes one timeout, however many sources have something to save."""
    store = Away()
    for user in range(4):
        store.save(str(user), dead())

    def grant(old: Token | None) -> Any:
        store.away = True
        return {"access_token": "a1", "refresh_token": "r1", "expires_in": 3600}

    pool = TokenPool(lambda user: TokenSource(grant, store, identity=user, timeout=0.5), maxsize=9)
    held = [pool[str(user)] for user in range(4)]
    for source in held:
        store.away = False
        source.token(timeout=SAFETY)
        assert source._place.unsaved is not None
    began = time.monotonic()
    pool.close()
    took = time.monotonic() - began
    store.away = False
    for source in held:
        source.close()
    assert took < 1.5


def test_a_refusal_of_one_who_has_lost_his_lease(redis_server: RedisServer) -> None:
    """I7: he clears nothing, as another may have spent the token, and be about to save."""
    prefix = uuid.uuid4().hex
    stores = [RedisStore(redis_server.url, prefix=prefix, lease=15.0) for _ in range(2)]
    first_asks, second_asks, first_ended = (threading.Event() for _ in range(3))

    def refused(old: Token | None) -> Any:
        first_asks.set()
        assert second_asks.wait(SAFETY)
        raise LoginRequired("It is spent.", error="invalid_grant")

    def issued(old: Token | None) -> Any:
        second_asks.set()
        assert first_ended.wait(SAFETY)
        return {"access_token": "a1", "refresh_token": "r1", "expires_in": 3600}

    now = time.time()
    token = Token("a0", refresh_token="r0", issued_at=now - 3500, expires_at=now + 100)
    stores[0].save("default", token)
    sources = [
        TokenSource(grant, store, timeout=20)
        for grant, store in zip((refused, issued), stores, strict=True)
    ]
    try:
        first = Call(lambda: sources[0].renew(token))
        assert first_asks.wait(SAFETY)
        with redis.Redis.from_url(redis_server.url) as client:  # as a failover would
            assert client.delete(*client.keys(f"{prefix}:*:lease")) == 1
        second = Call(lambda: sources[1].renew(token))
        assert second_asks.wait(SAFETY)
        first._thread.join(1.0)  # if he is wise he waits for the other
        first_ended.set()
        assert getattr(second.result(), "access_token", None) == "a1"
        assert getattr(first.result(), "access_token", None) == "a1"
        assert getattr(stores[0].load("default"), "refresh_token", None) == "r1"
    finally:
        for source, store in zip(sources, stores, strict=True):
            source.close()
            store.close()


def test_a_refused_token_is_not_adopted_without_its_refresh_token(store: MemoryStore) -> None:
    """I2: what another process stored without its refresh token is the token that was refused."""
    whole = living()
    source = TokenSource(Strict(), store, token=whole)
    source.token()
    # Another was refused a refresh ahead, and goes on with the access token until it dies.
    store.save("default", Token(whole.access_token, expires_at=whole.expires_at))
    with pytest.raises(LoginRequired):
        source.renew(whole)


def test_a_pool_tells_once_that_a_login_is_over(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A login that is over is told of once, however often its identity is asked for after that."""
    caplog.set_level(logging.CRITICAL, "requests_refresh")  # a record would keep the source
    told: list[str] = []

    def make(user: str) -> TokenSource:
        return TokenSource(
            Strict(), store, identity=user, on_logout=lambda source, error: told.append(user)
        )

    store.save("user", Token("a0", expires_at=1.0))
    pool = TokenPool(make, maxsize=3)
    for _ in range(3):
        with suppress(LoginRequired):
            pool["user"].token()
        end = time.monotonic() + 10
        while len(pool) and time.monotonic() < end:
            gc.collect()
        assert not len(pool)
    assert told == ["user"]
