"""TokenPool: many identities in one process, on one store."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from requests_refresh import (
    ConfigurationError,
    FileStore,
    LoginRequired,
    MemoryStore,
    RefreshAdapter,
    Token,
    TokenPool,
    TokenSource,
    TokenStore,
)
from requests_refresh.testing import AuthServer
from tests.adapter.support import crowd


class Looked(TokenStore):
    """A MemoryStore that counts how often it is looked at."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.loads: list[str] = []

    def load(self, identity: str) -> Token | None:
        self.loads.append(identity)
        return self.inner.load(identity)

    def save(self, identity: str, token: Token, **settings: Any) -> None:
        self.inner.save(identity, token, **settings)

    def delete(self, identity: str, **settings: Any) -> None:
        self.inner.delete(identity, **settings)


class Provider:
    """A grant: each call issues one token more, of one identity's chain."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.hold: threading.Event | None = None
        self.asked = threading.Event()

    def __call__(self, token: Token | None) -> Token:
        if token is None or token.refresh_token is None:
            raise LoginRequired("No refresh token.")
        self.asked.set()
        if self.hold is not None:
            assert self.hold.wait(60)
        self.calls.append(token.refresh_token)
        name, _, number = token.refresh_token.rpartition("-")
        return issue(name, int(number) + 1)


def issue(name: str, number: int, life: float = 3600.0) -> Token:
    now = time.time()
    return Token(
        f"access-{name}-{number}",
        refresh_token=f"{name}-{number}",
        expires_at=now + life,
        issued_at=now,
    )


@pytest.fixture
def store() -> Looked:
    return Looked()


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def pool(store: Looked, provider: Provider) -> TokenPool:
    return TokenPool(lambda name: TokenSource(provider, store, identity=name), maxsize=3)


def drop() -> None:
    gc.collect()


def test_one_source_for_an_identity(pool: TokenPool) -> None:
    """I1: while a source of an identity lives, the pool hands out that very one."""
    mine = pool["a"]
    assert pool["a"] is mine
    assert pool["b"] is not mine
    assert pool["b"].identity == "b"
    drop()
    assert len(pool) == 1


def test_threads_get_the_same_source(store: Looked, provider: Provider) -> None:
    """I1: of threads that ask for a new identity at once, all get one source."""
    together = threading.Barrier(8, timeout=60)

    def make(name: str) -> TokenSource:
        together.wait()  # all are making one before any has been taken
        return TokenSource(provider, store, identity=name)

    pool = TokenPool(make, maxsize=1)
    got: list[TokenSource] = []
    crowd(lambda i: got.append(pool["a"]), 8)
    assert len({id(source) for source in got}) == 1
    assert pool["a"] is got[0]


def test_an_access_token_outlives_its_source(
    pool: TokenPool, store: Looked, provider: Provider
) -> None:
    """I15: the next source of an identity begins with its token, and looks into no store."""
    store.save("a", issue("a", 1))
    assert pool["a"].token().access_token == "access-a-1"
    drop()
    assert len(pool) == 0
    looks = len(store.loads)
    source = pool["a"]
    assert source.token().access_token == "access-a-1"
    assert len(store.loads) == looks
    assert provider.calls == []


def test_no_refresh_token_is_kept(pool: TokenPool, store: Looked) -> None:
    """I9: what the pool keeps is the access token; the refresh token is in the store alone."""
    store.save("a", issue("a", 1))
    pool["a"].token()
    drop()
    assert pool["a"].token().refresh_token is None
    assert [kept.token.refresh_token for kept in pool._last.values()] == [None]


def test_a_kept_token_that_is_refused_is_refreshed_once(
    pool: TokenPool, store: Looked, provider: Provider
) -> None:
    """I1: a source that began with a kept token refreshes from the store's, and adopts no twin."""
    store.save("a", issue("a", 1))
    pool["a"].token()
    drop()
    source = pool["a"]
    stale = source.token()
    new = source.renew(stale)
    assert (new.access_token, provider.calls) == ("access-a-2", ["a-1"])
    assert new.refresh_token == "a-2"
    assert source.stats.adoptions == 0


def test_a_kept_token_gives_way_to_a_newer_one(
    pool: TokenPool, store: Looked, provider: Provider
) -> None:
    """I2: a source that began with a kept token adopts what another process has obtained."""
    store.save("a", issue("a", 1))
    pool["a"].token()
    drop()
    source = pool["a"]
    stale = source.token()
    store.save("a", issue("a", 7))
    assert source.renew(stale).access_token == "access-a-7"
    assert provider.calls == []


def test_what_is_new_is_kept(pool: TokenPool, store: Looked, provider: Provider) -> None:
    """A refresh and a login replace what is kept, a logout removes it."""
    store.save("a", issue("a", 1))
    source = pool["a"]
    source.renew(source.token())
    source.close()
    del source
    drop()
    assert pool["a"].token().access_token == "access-a-2"
    pool["a"].login(issue("a", 5))
    drop()
    assert pool["a"].token().access_token == "access-a-5"
    pool["a"].logout()
    drop()
    with pytest.raises(LoginRequired):
        pool["a"].token()
    assert len(pool._last) == 0


def test_a_late_note_brings_no_logged_out_token_back(
    pool: TokenPool, store: Looked, provider: Provider
) -> None:
    """I9: whatever is noted late is read at that time, so nothing comes back after a logout."""
    store.save("a", issue("a", 1))
    source = pool["a"]
    source.token()
    source.logout()
    source._note()
    assert len(pool._last) == 0


def test_the_cache_is_bounded(pool: TokenPool, store: Looked) -> None:
    """No more than maxsize tokens are kept, and the least recently used go first."""
    for name in "abcd":
        store.save(name, issue(name, 1))
        pool[name].token()
        drop()
    assert sorted(pool._last) == ["b", "c", "d"]
    looks = len(store.loads)
    assert pool["a"].token().access_token == "access-a-1"  # it is read again
    assert len(store.loads) > looks


def test_a_dead_token_is_not_kept(pool: TokenPool, store: Looked, provider: Provider) -> None:
    """What is kept goes at its end: a token that is over is never handed out again."""
    store.save("a", issue("a", 1, life=-5.0))
    assert pool["a"].token().access_token == "access-a-2"
    past = [issue("b", 1, life=0.0), Token(refresh_token="b-1")]
    for token in past:
        store.save("b", token)
        source = pool["b"]
        source.login(token)
        del source
        drop()
        assert "b" not in pool._last


def test_no_eviction_makes_a_second_round(store: Looked, provider: Provider) -> None:
    """I1: while a round of an identity runs, its source is found, however many others come."""
    pool = TokenPool(lambda name: TokenSource(provider, store, identity=name), maxsize=1)
    provider.hold = threading.Event()
    store.save("a", issue("a", 1, life=-5.0))
    got: list[Token] = []

    def first() -> None:
        got.append(pool["a"].token())

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert provider.asked.wait(60)
    for number in range(50):
        store.save(f"other-{number}", issue("x", 1))
        pool[f"other-{number}"].token()
    drop()
    for _ in range(5):
        threads.append(threading.Thread(target=first))
        threads[-1].start()
    provider.hold.set()
    for thread in threads:
        thread.join(60)
    assert [token.access_token for token in got] == ["access-a-2"] * 6
    assert provider.calls == ["a-1"]


def test_sources_are_not_kept_alive(pool: TokenPool, store: Looked) -> None:
    """A source that nobody uses any more goes, and its memory with it."""
    store.save("a", issue("a", 1))
    source = pool["a"]
    source.token()
    gone = weakref.ref(source)
    del source
    drop()
    assert gone() is None


def test_wrong_settings() -> None:
    """A setting that cannot be right is a clear error at once."""
    wrong_make: Any = 3
    with pytest.raises(ConfigurationError, match="make is not callable"):
        TokenPool(wrong_make, maxsize=1)
    for maxsize in (0, -1, True, 1.5, None):
        wrong: Any = maxsize
        with pytest.raises(ConfigurationError, match="maxsize"):
            TokenPool(lambda name: TokenSource(Provider(), identity=name), maxsize=wrong)


def test_a_wrong_source_is_not_taken(store: Looked, provider: Provider) -> None:
    """I9: make must return the source of the identity that was asked for, no other user's."""
    made: list[Any] = [TokenSource(provider, store, identity="b"), None, "token"]
    pool = TokenPool(lambda name: made.pop(), maxsize=1)
    for _ in range(3):
        with pytest.raises(ConfigurationError, match="make was to return"):
            pool["a"]
    unnamed: Any = 3
    with pytest.raises(ConfigurationError, match="identity"):
        pool[unnamed]
    assert len(pool) == 0


def make_for_pickle(name: str) -> TokenSource:
    return TokenSource(Provider(), identity=name)


def test_pickles_and_copies(store: Looked, provider: Provider, pool: TokenPool) -> None:
    """I14: a pickle of a pool holds how sources are made, and no token."""
    picklable = TokenPool(make_for_pickle, maxsize=7)
    source = picklable["a"]
    source.login("canary-1")
    data = pickle.dumps(picklable)
    assert b"canary" not in data
    again = pickle.loads(data)  # noqa: S301 # it was made here
    assert again["b"].identity == "b"
    assert "canary" not in repr(picklable)
    assert repr(picklable) == "<TokenPool of 1 sources in use, 1 tokens kept>"
    assert copy.copy(picklable)["a"] is not None


def test_closing_waits_for_what_runs(pool: TokenPool, store: Looked, provider: Provider) -> None:
    """I7: `close` lets the rounds of all sources end."""
    provider.hold = threading.Event()
    store.save("a", issue("a", 1, life=-5.0))
    source = pool["a"]
    waiter = threading.Thread(target=source.token)
    waiter.start()
    assert provider.asked.wait(60)
    closer = threading.Thread(target=pool.close)
    closer.start()
    provider.hold.set()
    closer.join(60)
    waiter.join(60)
    assert store.inner.load("a") is not None
    assert provider.calls == ["a-1"]


@pytest.fixture
def server() -> Iterator[AuthServer]:
    with AuthServer() as server:
        yield server


def test_identities_share_connections(server: AuthServer) -> None:
    """I13: many identities send through one pool of connections, each with its own token."""
    transport = HTTPAdapter(pool_connections=1, pool_maxsize=1)
    store = MemoryStore()
    names = [f"user-{number}" for number in range(20)]
    for name in names:
        store.save(name, Token.from_reply(server.login(name)))
    pool = TokenPool(lambda name: TokenSource(server.grant(), store, identity=name), maxsize=20)
    sent = []
    for name in names:
        with requests.Session() as session:
            adapter = RefreshAdapter(pool[name], origins=server.api, inner=transport)
            session.mount(server.api, adapter)
            assert session.get(server.api + "items").status_code == 200
            sent.append(pool[name].token().access_token)
    transport.close()
    assert len(set(sent)) == 20
    assert server.counts.connections == 1


def test_a_pool_on_files(tmp_path: Any) -> None:
    """The identities of a pool live beside each other in one file."""
    store = FileStore(tmp_path / "tokens.json")
    for name in "ab":
        store.save(name, issue(name, 1))
    pool = TokenPool(lambda name: TokenSource(Provider(), store, identity=name), maxsize=2)
    assert [pool[name].token().access_token for name in "ab"] == ["access-a-1", "access-b-1"]
