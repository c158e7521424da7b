"""SQLStore's sessions: none is held, dead ones are replaced, and listening comes and goes."""

from __future__ import annotations

import gc
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy

from requests_refresh.errors import RefreshTimeout, StoreConflict, StoreError
from requests_refresh.stores import SQLStore, notices
from requests_refresh.tokens import Token
from tests.servers.fixtures import OwnPostgres

from .contract import FULL, NEW, NEWER, OLD, SAFETY
from .databases import Database, database_of, statement

BUSY = """SELECT COUNT(*) FROM pg_stat_activity
    WHERE pid != pg_backend_pid() AND xact_start IS NOT NULL AND query LIKE '%{t}%'"""
LISTENING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%{t}%'"


@pytest.fixture(params=["sqlite", "postgresql", "psycopg2", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_of(request.param, request) as made:
        yield made


@pytest.fixture(params=["postgresql", "psycopg2"])
def postgres(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_of(request.param, request) as made:
        yield made


def until(reached: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + SAFETY
    while not (found := reached()):
        assert time.monotonic() < end, what
        time.sleep(0.01)
    return found


@pytest.fixture
def waiting(postgres: Database) -> Iterator[Callable[[SQLStore], threading.Event]]:
    """Has a thread wait on a store until a token is there; the event says that it has seen one."""
    threads = []

    def start(store: SQLStore) -> threading.Event:
        seen = threading.Event()

        def wait() -> None:
            while store.load("default") is None:
                store.wait("default", SAFETY)
            seen.set()

        thread = threading.Thread(target=wait)
        threads.append(thread)
        thread.start()
        return seen

    yield start
    postgres.store().save("default", NEW)
    for thread in threads:
        thread.join(SAFETY)


def test_nothing_is_held_inside(database: Database) -> None:
    """I13: while a provider is called there is no transaction, and no connection in use."""
    engine = database.engine(pool_size=1, max_overflow=0)
    for store in (database.store(), database.store(on=engine)):
        with store.exclusive("default", SAFETY) as held:
            assert database.in_use(store) == 0
            store.save("default", FULL)
            assert held.assure(1.0)
            assert database.in_use(store) == 0
            if database.name == "postgresql":
                assert database.sql(BUSY) == [(0,)]
        assert database.in_use(store) == 0


def test_nothing_is_held_while_waiting(
    postgres: Database,
    waiting: Callable[[SQLStore], threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I13: who waits holds no connection of the pool; the one that listens has no transaction."""
    monkeypatch.setattr(notices, "LONG", SAFETY)
    monkeypatch.setattr(notices, "_IDLE", 0.2)
    engine = postgres.engine(pool_size=1, max_overflow=0)
    store = postgres.store(on=engine)
    store.load("default")
    seen = waiting(store)
    until(lambda: postgres.sql(LISTENING), "nobody listens")
    until(lambda: postgres.in_use(store) == 0, "a connection is held")
    assert postgres.sql(BUSY) == [(0,)]
    assert not seen.is_set()
    postgres.store().save("default", NEW)
    assert seen.wait(SAFETY / 2)
    until(lambda: postgres.sql(LISTENING) == [], "it listens for ever")
    until(lambda: not store._notices.up, "it listens for ever")


def test_the_listener_s_session_dies(
    postgres: Database,
    waiting: Callable[[SQLStore], threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I3: who waits goes on by looking, and hears again as soon as that can be."""
    monkeypatch.setattr(notices, "LONG", SAFETY)
    monkeypatch.setattr(notices, "_RETRY", 0.1)
    store = postgres.store()
    store.load("default")
    seen = waiting(store)
    ((session,),) = until(lambda: postgres.sql(LISTENING), "nobody listens")
    postgres.end(session)
    until(lambda: (session,) not in postgres.sql(LISTENING), "it lives on")
    until(lambda: postgres.sql(LISTENING), "nobody listens again")
    until(lambda: store._notices.up, "nobody listens again")
    assert not seen.is_set()
    postgres.store().save("default", NEW)
    assert seen.wait(SAFETY / 2)


def test_close_while_somebody_waits(
    postgres: Database,
    waiting: Callable[[SQLStore], threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`close` leaves nobody asleep; the store opens again for who still waits."""
    monkeypatch.setattr(notices, "LONG", SAFETY)
    store = postgres.store()
    seen = waiting(store)
    ((session,),) = until(lambda: postgres.sql(LISTENING), "nobody listens")
    store.close()
    until(lambda: (session,) not in postgres.sql(LISTENING), "the old one listens for ever")
    postgres.store().save("default", NEW)
    assert seen.wait(SAFETY / 2)


def test_a_process_with_many_files(
    postgres: Database,
    waiting: Callable[[SQLStore], threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It listens with a descriptor beyond the first 1024, too, which `select` cannot."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this system allows few files only")
    monkeypatch.setattr(notices, "LONG", SAFETY)
    store = postgres.store()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1050)]
    try:
        seen = waiting(store)
        until(lambda: store._notices.up, "nobody listens")
        postgres.store().save("default", NEW)
        assert seen.wait(SAFETY / 2)
        assert store._notices.up
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_dead_sessions(database: Database) -> None:
    """A connection of the pool that has died meanwhile is replaced, and nobody hears of it."""
    if database.name == "sqlite":
        pytest.skip("SQLite has no sessions")
    store = database.store()
    before = set(database.sessions())
    works: list[Callable[[], Any]] = [
        lambda: store.save("default", OLD, replacing=None),
        lambda: store.save("default", NEW, replacing=OLD),
        lambda: store.load("default"),
        lambda: store.exclusive("default", 0.0).__enter__(),
        lambda: list(store.identities()),
        lambda: store.delete("default", replacing=NEW),
    ]
    store.load("default")
    for work in works:
        for session in set(database.sessions()) - before:
            database.end(session)
        work()
    assert store.load("default") is None


@pytest.mark.parametrize("change", ["save", "first", "delete"])
def test_an_answer_that_is_lost(database: Database, change: str) -> None:
    """I7: a swap whose answer the network lost is not taken for somebody else's."""
    if database.name == "sqlite":
        pytest.skip("SQLite has no network")
    store = database.store()
    store.save("default", OLD)
    engine = store._connected()
    cuts: list[str] = []

    def cut(at: Any, cursor: Any, text: str, *rest: object) -> None:
        written = text.startswith("INSERT") if change == "first" else text.startswith("UPDATE")
        if written and not cuts:
            cuts.append(text)
            for session in mine():
                database.end(session)
            cursor.execute("SELECT 1")  # which finds out

    def mine() -> list[int]:
        return [session for session in database.sessions() if session not in before]

    engine.dispose()
    before = database.sessions()
    sqlalchemy.event.listen(engine, "after_cursor_execute", cut)
    if change == "save":
        store.save("default", NEW, replacing=OLD)
        assert store.load("default") == NEW
    elif change == "first":
        store.save("new", NEW, replacing=None)
        assert store.load("new") == NEW
    else:
        store.delete("default", replacing=OLD)
        assert store.load("default") is None
    assert cuts


def test_a_server_that_restarts(own_postgres: OwnPostgres) -> None:
    """Between two uses nobody notices; while it is away errors are StoreErrors in words."""
    server = own_postgres()
    store = SQLStore(server.url)
    store.save("default", NEW)
    server.kill()
    server.start()
    assert store.load("default") == NEW
    server.stop()
    with pytest.raises(StoreError, match=f"127.0.0.1:{server.port}.*What is stored is intact"):
        store.load("default")
    server.start()
    store.save("default", NEWER, replacing=NEW)
    assert store.load("default") == NEWER
    store.close()


def test_a_fork(postgres: Database, waiting: Callable[[SQLStore], threading.Event]) -> None:
    """I14: the child has connections of its own, and the parent's sessions live on."""
    store = postgres.store(lease=60.0)
    before = set(postgres.sessions())
    with store.exclusive("held", SAFETY) as held:
        seen = waiting(store)
        until(lambda: store._notices.up, "nobody listens")
        until(lambda: postgres.in_use(store) == 0, "a connection is held")
        sessions = set(postgres.sessions()) - before
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = _in_the_child(store)
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert held.assure(1.0)
        assert sessions <= set(postgres.sessions())
        assert store._notices.up
        with pytest.raises(RefreshTimeout), postgres.store().exclusive("held", 0.0):
            pytest.fail("the child gave it back")
    assert not seen.is_set()
    assert store.load("child") == NEW


def _in_the_child(store: SQLStore) -> int:
    with store.exclusive("other", SAFETY) as held:
        store.save("child", NEW)
        assert held.assure(1.0)
    store.wait("child", 0.0)
    store.close()
    gc.collect()
    return 0


def test_rows_moved_by_hand(database: Database) -> None:
    """What is no token of ours is refused and left, whoever put it there."""
    store = database.store()
    store.save("one", OLD)
    store.save("two", NEW)
    (text,) = database.sql("SELECT value FROM {t} WHERE id = :id", id=store._key("one"))[0]
    values = [text, "", "no JSON", "[" * 100_000, "{}", '{"schema": 2, "token": {}}', "\x01"]
    for value in values:
        database.sql("UPDATE {t} SET value = :v WHERE id = :id", v=value, id=store._key("two"))
        works: list[Callable[[], Any]] = [
            lambda: store.load("two"),
            lambda: store.save("two", NEWER),
            lambda: store.delete("two"),
        ]
        for work in works:
            with pytest.raises(StoreError, match=r"'two'.*cannot be used.*It is as it was"):
                work()
        query = "SELECT value FROM {t} WHERE id = :id"
        assert database.sql(query, id=store._key("two")) == [(value,)]
    assert store.load("one") == OLD


@pytest.mark.parametrize("identity", ["", "no JSON", "[" * 100_000, "5", "null", '["a"]'])
def test_identities_written_by_hand(database: Database, identity: str) -> None:
    """A row whose identity cannot be read is told of, unless it is none of anybody's."""
    store = database.store()
    store.save("one", OLD)
    database.sql("UPDATE {t} SET identity = :v", v=identity)
    if identity:
        with pytest.raises(StoreError, match=r"is of no identity.*All is as it was"):
            list(store.identities())
    else:
        assert list(store.identities()) == []
    assert store.load("one") == OLD


def test_many_identities(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are listed page by page, each once, those that only hold a lease left out."""
    monkeypatch.setattr("requests_refresh.stores.sql._PAGE", 3)
    store = database.store()
    names = [f"{number}" for number in range(10)]
    for name in names:
        store.save(name, NEW)
    with store.exclusive("no token", SAFETY):
        assert sorted(store.identities()) == names


def test_identities_that_look_alike(database: Database) -> None:
    """Case, accents, trailing spaces and what a collation folds: each has a row of its own."""
    store = database.store()
    names = ["a", "A", "a ", " a", "a\0", "á", "Á", "\uff41", "ß", "ss", "a" * 5000, "a" * 5001, ""]
    for name in names:
        store.save(name, Token(f"token-{len(name)}", extra={"of": name}))
    assert [store.load(name).extra["of"] for name in names] == names  # type: ignore[union-attr] # or it fails
    assert sorted(store.identities()) == sorted(names)


def test_a_conflict_is_still_one(database: Database) -> None:
    """A mark that is another's is no success of ours."""
    store, other = database.store(), database.store()
    store.save("default", OLD)
    other.save("default", NEW)
    with pytest.raises(StoreConflict):
        store.save("default", NEWER, replacing=OLD)
    assert statement(database.url, database.table).strip().startswith("CREATE TABLE")
