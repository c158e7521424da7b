"""A store's server that comes back, and the processes that meet there."""

from __future__ import annotations

import threading
import time

import pytest

from requests_refresh import (
    RedisStore,
    RefreshError,
    RefreshTimeout,
    StoreError,
    Token,
    TokenSource,
)
from tests.servers.fixtures import OwnRedis

SAFETY = 60.0


class Provider:
    """A strict one: each refresh token is good once."""

    def __init__(self) -> None:
        self.spent: list[str] = []
        self.asked, self.go = threading.Event(), threading.Event()

    def __call__(self, token: Token | None) -> Token:
        assert token is not None
        assert token.refresh_token is not None
        assert token.refresh_token not in self.spent, "a refresh token was used twice"
        self.spent.append(token.refresh_token)
        self.asked.set()
        assert self.go.wait(SAFETY)
        number = len(self.spent)
        return Token(f"access-{number}", refresh_token=f"refresh-{number}")


def test_who_comes_first_does_not_spend_what_another_has_replaced(own_redis: OwnRedis) -> None:
    """I7: a token that could be kept in memory only is saved before others renew from the old."""
    server, provider, dead = own_redis(), Provider(), Token("dead", refresh_token="refresh-0")
    stores = [RedisStore(server.url, lease=0.5) for _ in range(2)]
    one, two = (TokenSource(provider, store, timeout=3.0) for store in stores)
    stores[0].save("default", dead)
    starter = threading.Thread(target=lambda: one.renew(dead))
    starter.start()
    assert provider.asked.wait(SAFETY)
    server.kill()
    provider.go.set()
    starter.join(SAFETY)  # it goes on with the new token in memory, and its lease is over
    assert one.token().access_token == "access-1"
    with pytest.raises(StoreError):
        stores[1].load("default")
    server.restart()
    until, got = time.monotonic() + SAFETY, None
    while got is None and time.monotonic() < until:
        try:
            got = two.renew(dead)
        except RefreshError:
            continue  # it is backing off from the store still
    assert got is not None
    assert (got.access_token, provider.spent) == ("access-1", ["refresh-0"])
    for source, store in zip((one, two), stores, strict=True):
        source.close()
        store.close()


def test_a_server_that_is_back_is_given_a_moment(own_redis: OwnRedis) -> None:
    """I7: no lease is taken in the first half second after an outage that this process saw."""
    server = own_redis()
    store = RedisStore(server.url)
    store.save("default", Token("a", refresh_token="r"))
    server.kill()
    with pytest.raises(StoreError):
        store.load("default")
    server.restart()
    assert store.load("default") is not None
    with pytest.raises(RefreshTimeout, match="just come back"), store.exclusive("default", 0.0):
        pass
    with store.exclusive("default", SAFETY):
        pass
    with store.exclusive("default", 0.0):
        pass
    store.close()
