"""What stores on servers share: settings, swaps, pickles, errors, and nobody left asleep."""

from __future__ import annotations

import logging
import math
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from requests_refresh.errors import ConfigurationError, RefreshError, RefreshTimeout, StoreError
from requests_refresh.stores import Encryption, RedisStore, SQLStore, notices, shared
from requests_refresh.stores.shared import Cell
from requests_refresh.tokens import Token

from .contract import CANARY, NEW, NEWER, OLD, SAFETY, shown
from .databases import Database, database_of


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_of("sqlite", request) as made:
        yield made


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_of("postgresql", request) as made:
        yield made


@pytest.mark.parametrize("kind", [SQLStore, RedisStore])
@pytest.mark.parametrize(
    "lease",
    [0, 0.0, -1, 0.049, 3600.1, math.inf, -math.inf, math.nan, True, "5", None, [5], 10**400],
)
def test_leases_that_are_refused(kind: Callable[..., Any], lease: Any) -> None:
    """A lease is a number of seconds that can be kept."""
    url = "redis://localhost" if kind is RedisStore else "sqlite:///tokens.db"
    with pytest.raises(ConfigurationError, match="lease"):
        kind(url, lease=lease)


@pytest.mark.parametrize("lease", [0.05, 1, 3600, 3600.0])
def test_leases_that_are_not(lease: float) -> None:
    """The bounds are inside."""
    assert SQLStore("sqlite:///tokens.db", lease=lease)._lease == lease


def test_a_value_that_never_rests(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save among endless others gives up with an error, and its message has no token."""
    store, other = database.store(), database.store()
    real, looks = store._read, []

    def read(identity: str) -> Cell | None:
        found = real(identity)
        looks.append(1)
        other.save(identity, Token(f"{CANARY}-{len(looks)}"))
        return found

    monkeypatch.setattr(store, "_read", read)
    with pytest.raises(StoreError, match=r"went on changing, 100 times.*It is intact") as caught:
        store.save("default", Token(CANARY))
    assert len(looks) == shared._SWAPS == 100
    assert not list(shown(caught.value, CANARY))
    assert other.load("default") == Token(f"{CANARY}-100")
    monkeypatch.setattr(store, "_read", real)
    store.save("default", NEW)
    assert other.load("default") == NEW


def test_a_pickle_holds_all_settings(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """I14: what comes out of a pickle is the same store on the same table, with the same key."""
    monkeypatch.setenv("KEY_OF_A_TEST", Encryption.new_key())
    store = database.store(
        create=True, lease=7.0, encryption=Encryption.from_environment("KEY_OF_A_TEST")
    )
    store.save("default", NEW)
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own
    database.kept.callback(copy.close)
    assert repr(copy) == repr(store)
    assert (copy._lease, copy._create, copy._name) == (7.0, True, database.table)
    assert copy.load("default") == NEW
    bare = pickle.loads(pickle.dumps(database.store(create=False)))  # noqa: S301 - our own
    database.kept.callback(bare.close)
    assert (bare._create, bare._lease, bare._values.encryption) == (False, 15.0, None)
    with pytest.raises(StoreError, match="encrypted"):
        bare.load("default")
    redis = RedisStore("redis://localhost/3", prefix="mine", lease=3.0)
    again = pickle.loads(pickle.dumps(redis))  # noqa: S301 - our own
    assert (repr(again), again._lease) == (repr(redis), 3.0)


def test_a_pickle_of_a_subclass(database: Database) -> None:
    """I14: a subclass comes back as what it was."""
    copy = pickle.loads(pickle.dumps(Mine(database.url, table=database.table)))  # noqa: S301 - ours
    assert type(copy) is Mine


class Mine(SQLStore):
    pass


def test_a_pickle_holds_no_password(tmp_path: Path) -> None:
    """I9: a URL with a password is left behind, and who uses what is left is told so."""
    store = SQLStore(f"postgresql+psycopg://u:{CANARY}@localhost/x")
    text = pickle.dumps(store)
    assert CANARY.encode() not in text
    copy = pickle.loads(text)  # noqa: S301 - our own
    with pytest.raises(StoreError, match="left behind when the store was pickled"):
        copy.load("default")


@pytest.mark.parametrize("end", ["close", "release"])
def test_a_release_just_before_the_wait(
    postgres: Database, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3: what is given back between a try and the wait for it wakes who came too late to hear."""
    monkeypatch.setattr(notices, "LONG", SAFETY)
    store, other = postgres.store(), postgres.store()
    holding = store.exclusive("default", SAFETY)
    holding.__enter__()
    real, tried = other._acquire, threading.Event()

    def acquire(identity: str, owner: str) -> int:
        taken = real(identity, owner)
        if not tried.is_set():
            tried.set()
            holding.__exit__(None, None, None)
        return taken

    monkeypatch.setattr(other, "_acquire", acquire)
    done = threading.Event()

    def enter() -> None:
        with other.exclusive("default", SAFETY):
            done.set()

    thread = threading.Thread(target=enter)
    thread.start()
    assert done.wait(SAFETY / 2)
    thread.join(SAFETY)


def test_changes_between_load_and_wait(postgres: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """I3: what changes after a load ends the next wait, each time that it changes."""
    monkeypatch.setattr(notices, "LONG", SAFETY)
    store, other = postgres.store(), postgres.store()
    assert store.load("default") is None
    for token in (OLD, NEW, NEWER):
        other.save("default", token)
        store.wait("default", SAFETY)
        assert store.load("default") == token
    other.delete("default")
    store.wait("default", SAFETY)
    assert store.load("default") is None


def test_a_wait_without_a_load(database: Database) -> None:
    """Who waits for what he has not loaded sees changes from then on."""
    store, other = database.store(), database.store()
    store.save("other", NEW)
    store.load("other")
    store.wait("default", 0.0)
    woke = threading.Event()

    def wait() -> None:
        while store.load("default") is None:
            store.wait("default", SAFETY)
        woke.set()

    thread = threading.Thread(target=wait)
    thread.start()
    other.save("default", NEW)
    assert woke.wait(SAFETY)
    thread.join(SAFETY)


def test_a_wait_on_a_store_that_fails(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, soon but not at once, so that who asks in a loop asks in moderation."""
    store = database.store()
    store.save("default", NEW)
    store.load("default")
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(store, "_read", raising(OSError(CANARY)))
    store.wait("default", SAFETY)
    assert slept == [notices.LONG / 10]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (StoreError("in words"), "^in words$"),
        (RefreshError("in other words"), "^in other words$"),
        (ConfigurationError("a setting"), "^a setting$"),
        (OSError(CANARY), r"\(OSError\)"),
        (KeyError(CANARY), r"\(KeyError\)"),
    ],
)
def test_errors(database: Database, error: Exception, message: str) -> None:
    """I9: whatever comes out of a library is a StoreError in our words, with no chain to it."""
    works: dict[str, Callable[[SQLStore], object]] = {
        "_read": lambda store: store.load("default"),
        "_swap": lambda store: store.save("default", Token(CANARY)),
        "_acquire": lambda store: store.exclusive("default", 0.0).__enter__(),
    }
    for name, work in works.items():
        with pytest.MonkeyPatch.context() as patch:
            store = database.store()
            patch.setattr(store, name, raising(error))
            with pytest.raises(StoreError, match=message) as caught:
                work(store)
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert not list(shown(caught.value, CANARY))


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*args: object) -> Any:
        raise error

    return fail


def test_a_lease_that_cannot_be_given_back(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends by itself; what was done inside is not called failed."""
    store = database.store()
    with caplog.at_level(logging.DEBUG), monkeypatch.context() as patch:
        patch.setattr(store, "_release", raising(OSError(CANARY)))
        with store.exclusive("default", 0.0):
            store.save("default", NEW)
    assert "its lease could not be given back" in caplog.text
    assert CANARY not in caplog.text
    with pytest.raises(RefreshTimeout), database.store().exclusive("default", 0.0):
        pytest.fail("it is held")


def test_fork(database: Database) -> None:
    """I14: the child of a holder works, and gives back what is its own alone."""
    store = database.store(lease=60.0)
    with store.exclusive("default", 0.0) as held:
        pid = os.fork()
        if pid == 0:
            os._exit(_child(store))
        assert os.waitpid(pid, 0)[1] == 0
        with pytest.raises(RefreshTimeout), database.store().exclusive("default", 0.0):
            pytest.fail("the child gave it back")
        assert held.assure(1.0)
    with database.store().exclusive("default", 0.0):
        assert store.load("child") == NEW


def _child(store: SQLStore) -> int:
    with store.exclusive("other", SAFETY) as held:
        store.save("child", NEW)
        return 0 if held.assure(1.0) and not held.inherited else 1
