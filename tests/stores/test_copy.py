"""`copy` between stores, and `identities`, which it goes by."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import keyring
import pytest

from requests_refresh import Token, TokenStore
from requests_refresh.errors import (
    ConfigurationError,
    RefreshTimeout,
    StoreConflict,
    StoreError,
)
from requests_refresh.stores import (
    Encryption,
    FileStore,
    KeyringStore,
    MemoryStore,
    RedisStore,
    SQLStore,
    copy,
)
from requests_refresh.testing.contract_support import NASTY, random_texts
from tests.servers.redis import RedisServer
from tests.stores.contract import CANARY, FULL, NEW, OLD, SAFETY, shown
from tests.stores.keychains import Keychain

KINDS = ("memory", "file", "sqlite", "redis")
KEY = Encryption.new_key()
Make = Callable[..., TokenStore]


@pytest.fixture
def make(tmp_path: Path, redis_server: RedisServer) -> Iterator[Make]:
    """`make(kind, encrypted=False)`: a new store with nothing in it, closed in the end."""
    with ExitStack() as stack:
        numbers = itertools.count()

        def new(kind: str, encrypted: bool = False) -> TokenStore:
            encryption = Encryption(KEY) if encrypted else None
            path = tmp_path / f"{next(numbers)}"
            store: TokenStore
            if kind == "memory":
                store = MemoryStore()
            elif kind == "file":
                store = FileStore(path / "tokens.json", encryption=encryption)
            elif kind == "sqlite":
                store = SQLStore(f"sqlite:///{path}.db", encryption=encryption)
            else:
                url, prefix = redis_server.url, uuid.uuid4().hex
                store = RedisStore(url, prefix=prefix, encryption=encryption)
            stack.callback(store.close)
            return store

        yield new


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, make: Make) -> TokenStore:
    """A store of each kind that can list what it holds."""
    return make(request.param)


def held(store: TokenStore) -> dict[str, Token | None]:
    """All that is stored."""
    return {identity: store.load(identity) for identity in store.identities()}


# Copying.


@pytest.mark.parametrize(
    ("one", "other", "encrypted"),
    [
        *((one, other, False) for one in KINDS for other in KINDS),
        *((kind, kind, True) for kind in KINDS[1:]),
    ],
)
def test_between_stores(make: Make, one: str, other: str, encrypted: bool) -> None:
    """What one store holds is in the other, every field of it, and still in the first."""
    source, target = make(one, encrypted), make(other)
    tokens = {"default": FULL, "refresh": Token(refresh_token="r"), "access": Token("a")}
    for identity, token in tokens.items():
        source.save(identity, token)
    target.save("own", NEW)
    assert copy(source, target) == 3
    assert held(source) == tokens
    assert held(target) == {**tokens, "own": NEW}
    assert copy(source, target) == 3  # once more is fine
    assert copy(source, target, ["access", "missing"], move=True) == 1
    assert held(source).keys() == {"default", "refresh"}
    assert copy(source, target, move=True) == 2
    assert held(source) == {}
    assert held(target) == {**tokens, "own": NEW}


@pytest.mark.parametrize(("one", "other"), [("file", "redis"), ("redis", "sqlite")])
def test_any_identity(make: Make, one: str, other: str) -> None:
    """Identities of every Unicode arrive as they are."""
    source, target = make(one), make(other)
    identities = list(dict.fromkeys([*NASTY, *random_texts(20)]))
    for number, identity in enumerate(identities):
        source.save(identity, Token(f"access-{number}", refresh_token="r"))
    assert copy(source, target) == len(identities)
    assert held(target) == held(source)
    assert held(target).keys() == set(identities)


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("other", KINDS)
def test_a_conflict(make: Make, other: str, move: bool) -> None:
    """What the target holds is not overwritten, both stay as they are, and nothing is shown."""
    source, target = make("file"), make(other)
    theirs = Token(CANARY, refresh_token=CANARY)
    source.save("a", NEW)
    source.save("default", theirs)
    target.save("default", OLD)
    with pytest.raises(StoreConflict, match="default") as caught:
        copy(source, target, ["a", "default"], move=move)
    assert not [*shown(caught.value, CANARY)]
    assert held(source) == ({} if move else {"a": NEW}) | {"default": theirs}
    assert held(target) == {"a": NEW, "default": OLD}
    target.delete("default")
    assert copy(source, target, move=move) == (1 if move else 2)  # it goes on where it stopped


def test_the_same_login_refreshed_elsewhere(make: Make) -> None:
    """A target whose login has been refreshed since is not put back to the older token."""
    source, target = make("file"), make("redis")
    source.save("default", OLD)
    assert copy(source, target) == 1
    target.save("default", NEW, replacing=OLD)
    with pytest.raises(StoreConflict):
        copy(source, target)
    assert target.load("default") == NEW


def test_what_vanishes_at_the_conflict_is_a_conflict(make: Make) -> None:
    """A target that is emptied between the conflict and the look at it is a conflict still."""

    class Fleeting(MemoryStore):
        def load(self, identity: str) -> Token | None:
            self.delete(identity)
            return super().load(identity)

    source, target = make("memory"), Fleeting()
    source.save("default", NEW)
    target.save("default", NEW)
    with pytest.raises(StoreConflict):
        copy(source, target, move=True)
    assert source.load("default") == NEW


def test_what_can_not_be_stored_stays(make: Make) -> None:
    """I7: a target that has no room for a login leaves it where it was."""
    source, target = make("redis"), MemoryStore(maxsize=1)
    source.save("a", NEW)
    source.save("b", OLD)
    with pytest.raises(StoreError, match="full"):
        copy(source, target, ["a", "b"], move=True)
    assert held(source) == {"b": OLD}
    assert held(target) == {"a": NEW}


def test_a_wrong_key_in_the_source(make: Make) -> None:
    """What cannot be read is not copied, and not removed either."""
    source, target = make("redis", True), make("memory")
    assert isinstance(source, RedisStore)
    source.save("default", NEW)
    assert source._url is not None
    wrong = RedisStore(source._url(), prefix=source._prefix)
    with pytest.raises(StoreError, match="no key"):
        copy(wrong, target, move=True)
    wrong.close()
    assert held(source) == {"default": NEW}
    assert held(target) == {}


@pytest.mark.parametrize("one", KINDS)
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_login_that_is_being_refreshed(make: Make, one: str, side: str) -> None:
    """I1: a login that somebody holds, in either store, is waited for, and copied as it is then."""
    source, target = make(one), make("memory" if one == "redis" else "redis")
    watched = source if side == "source" else target
    source.save("default", OLD)
    entered, leave = threading.Event(), threading.Event()

    def refresh() -> None:
        with watched.exclusive("default", SAFETY):
            entered.set()
            assert leave.wait(SAFETY)
            source.save("default", NEW, replacing=OLD)

    thread = threading.Thread(target=refresh)
    thread.start()
    assert entered.wait(SAFETY)
    try:
        with pytest.raises(RefreshTimeout):
            copy(source, target, timeout=0.01, move=True)
        assert held(target) == {}
        assert source.load("default") == OLD
        timer = threading.Timer(0.02, leave.set)
        timer.start()
        assert copy(source, target, timeout=SAFETY, move=True) == 1
        timer.join()
    finally:
        leave.set()
        thread.join(SAFETY)
    assert held(target) == {"default": NEW}
    assert held(source) == {}


def test_a_store_that_can_not_list(tmp_path: Path, make: Make) -> None:
    """A store that cannot list its identities says so, and is copied from by name."""
    backend: keyring.backend.KeyringBackend = Keychain({})
    source, target = KeyringStore("sync", backend=backend, locks=tmp_path / "locks"), make("redis")
    source.save("default", NEW)
    with pytest.raises(StoreError, match="Name the identities"):
        copy(source, target)
    assert copy(source, target, (name for name in ["default"]), move=True) == 1
    assert copy(target, source, move=True) == 1
    assert source.load("default") == NEW


def test_a_name_is_not_several(make: Make) -> None:
    """A text in place of a list of identities is refused: its letters are none."""
    source, target = make("memory"), make("memory")
    source.save("ab", NEW)
    source.save("a", NEW)
    with pytest.raises(ConfigurationError, match=r"\[identity\]"):
        copy(source, target, "ab")
    assert held(target) == {}


# Listing.


def test_what_is_listed(store: TokenStore) -> None:
    """`identities` lists what holds a token: not what was deleted, nor what is merely held."""
    assert list(store.identities()) == []
    for identity in ("", "a", "b"):
        store.save(identity, NEW)
    store.delete("a")
    with store.exclusive("held", 1.0), store.exclusive("b", 1.0):
        assert sorted(store.identities()) == ["", "b"]
    assert sorted(store.identities()) == ["", "b"]


def test_many_are_listed() -> None:
    """A store of 2,500 lists each once."""
    store = MemoryStore()
    for number in range(2500):
        store.save(f"user-{number}", NEW)
    assert sorted(store.identities()) == sorted(f"user-{number}" for number in range(2500))


def test_many_are_listed_by_redis(redis_server: RedisServer) -> None:
    """Of 2,500 keys in Redis, among others', each is listed once, and of its own prefix only."""
    import redis

    names = [f"user-{number}" for number in range(2500)]
    store = RedisStore(redis_server.url, prefix="many")
    with redis.Redis.from_url(redis_server.url) as client, client.pipeline() as pipeline:
        for name in names:
            for prefix in ("many", "many:more", "more-than-many"):
                pipeline.set(f"{prefix}:{{={name}}}:token", "x")
            pipeline.set(f"many:{{={name}}}:lease", "x")
        pipeline.execute()
    assert sorted(store.identities()) == sorted(names)
    store.close()


def test_many_are_listed_by_a_database(tmp_path: Path) -> None:
    """Of 2,500 rows, read in pages, each is listed once."""
    store = SQLStore(f"sqlite:///{tmp_path}/tokens.db")
    store.save("default", NEW)
    insert = (
        "INSERT INTO requests_refresh_tokens (id, identity, value, mark, held_until)"
        " VALUES (?, ?, 'x', 'x', 0)"
    )
    names = [f"user-{number}" for number in range(2500)]
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as at, at:
        at.executemany(insert, [(store._key(name), json.dumps(name)) for name in names])
    found = list(store.identities())
    assert sorted(found) == sorted(["default", *names])
    store.close()


@pytest.mark.parametrize("prefix", ["a*", "a?", "[ab]", "a\\", "^a-b", "\N{KEY}"])
def test_a_prefix_is_no_pattern(redis_server: RedisServer, prefix: str) -> None:
    """Signs that Redis reads as a pattern stand for themselves in a prefix."""
    store = RedisStore(redis_server.url, prefix=prefix)
    others = [RedisStore(redis_server.url, prefix=name) for name in ("ab", "a", "b")]
    for other in others:
        other.save("other", NEW)
        other.close()
    store.save("own", NEW)
    assert list(store.identities()) == ["own"]
    store.close()
