"""SQLStore and its table: how it comes to be, what is refused, what an error says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from requests_refresh.errors import ConfigurationError, StoreConflict, StoreError
from requests_refresh.stores import SQLStore
from requests_refresh.tokens import Token

from .contract import CANARY, FULL, NEW, OLD, in_threads, shown
from .databases import URLS, Database, database_of, save_at_once, statement
from .processes import answer, process


@pytest.fixture(params=URLS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_of(request.param, request) as made:
        yield made


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_of("postgresql", request) as made:
        yield made


@pytest.fixture
def maria(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_of("mariadb", request) as made:
        yield made


def test_the_table_is_made_at_once(database: Database) -> None:
    """Eight stores that find no table make it, and none of them fails."""
    stores = [database.store() for _ in range(8)]
    in_threads(8, lambda number: stores[number].save(f"{number}", NEW))
    assert sorted(stores[0].identities()) == [str(number) for number in range(8)]


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_the_table_is_made_at_once_by_processes(database: Database) -> None:
    """So do the threads of two processes."""
    work = (save_at_once, database.url, database.table)
    with process(*work, "a") as (_, one), process(*work, "b") as (_, two):
        assert [answer(one), answer(two)] == ["ready", "ready"]
        one.send("go")
        two.send("go")
        assert [answer(one), answer(two)] == ["done", "done"]
    names = sorted(database.store(create=False).identities())
    assert names == [f"{name}-{number}" for name in "ab" for number in range(4)]


def works(store: SQLStore) -> None:
    """See that it does all that a store does."""
    store.save("default", OLD, replacing=None)
    store.save("default", FULL, replacing=OLD)
    with pytest.raises(StoreConflict):
        store.save("default", NEW, replacing=OLD)
    assert store.load("default") == FULL
    with store.exclusive("default", 5.0) as held, store.exclusive("other", 5.0):
        assert held.assure(1.0)
    assert "default" in store.identities()
    store.delete("default", replacing=FULL)
    assert store.load("default") is None


def test_a_table_made_by_hand(database: Database) -> None:
    """With the statement of the documentation, `create=False` has all that it needs."""
    store = database.store(create=False)
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"{database.table} is missing.*create=False.*Noth"):
            store.save("default", NEW)
    with pytest.raises(StoreError, match="missing"), store.exclusive("default", 0.0):
        pytest.fail("a save could not succeed here")
    with pytest.raises(StoreError, match="missing"):
        list(store.identities())
    database.sql(statement(database.url, database.table))
    works(store)
    assert database.sql("SELECT * FROM {t}") == []


def test_a_table_that_is_dropped(database: Database) -> None:
    """One that goes away under the store is told of once, and made anew."""
    store = database.store()
    store.save("default", NEW)
    database.sql("DROP TABLE {t}")
    with pytest.raises(StoreError, match="could not be reached or used"):
        store.load("default")
    works(store)


def test_a_table_that_may_not_be_made(postgres: Database) -> None:
    """Who may not create is told so by the database's code, and nothing else."""
    with postgres.beside() as at:
        at.execute(sqlalchemy.text(f"CREATE ROLE {postgres.table}r LOGIN"))
        at.execute(sqlalchemy.text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
    url = sqlalchemy.make_url(postgres.url).set(username=f"{postgres.table}r")
    store = postgres.store(on=str(url))
    with pytest.raises(StoreError, match="InsufficientPrivilege 42501"):
        store.load("default")
    store.close()
    postgres.sql("DROP ROLE {t}r")


def test_a_schema(postgres: Database) -> None:
    """A schema may stand before the table, as long as one likes; notices come all the same."""
    schema = f"s{postgres.table}".ljust(60, "x")
    postgres.sql(f"CREATE SCHEMA {schema}")
    store = postgres.store(table=f"{schema}.{postgres.table}")
    try:
        works(store)
        heard = hear(postgres, store._channel)
        store.save("default", NEW)
        assert heard() == [store._key("default")]
        assert postgres.store(create=False, table=f"{schema}.{postgres.table}").load("default")
    finally:
        store.close()
        postgres.sql(f"DROP SCHEMA {schema} CASCADE")


def hear(postgres: Database, channel: str) -> Any:
    """Listen from beside; the function tells what was heard first."""
    psycopg = pytest.importorskip("psycopg")
    url = sqlalchemy.make_url(postgres.url)
    at = psycopg.connect(host=url.host, port=url.port, user=url.username, dbname=url.database)
    postgres.kept.callback(at.close)
    at.autocommit = True
    at.execute(f'LISTEN "{channel}"')
    return lambda: [one.payload for one in at.notifies(timeout=30, stop_after=1)]


@pytest.mark.parametrize(
    "table",
    [
        "",
        "a b",
        "a\n",
        'a"b',
        "a'b",
        "a`b",
        "a;b",
        "a-b",
        "1a",
        "a.b.c",
        ".a",
        "a.",
        "ключ",
        "x; DROP TABLE t; --",
        'x"; SELECT pg_sleep(9); --',
        "a%sb",
        "a:b",
        "a" * 61,
        None,
        5,
        b"tokens",
    ],
)
def test_tables_that_are_refused(table: Any) -> None:
    """What is no plain name never gets into a statement."""
    with pytest.raises(ConfigurationError, match="table must be the name of a table"):
        SQLStore("sqlite:///tokens.db", table=table)


@pytest.mark.parametrize("table", ["a" * 60, "select", "Order", "_"])
def test_tables_that_are_not(database: Database, table: str) -> None:
    """Long names, keywords and capitals do no harm."""
    name = table if len(table) == 60 else f"{table}_{database.table}"[:60]
    store = database.store(table=name)
    works(store)
    assert database.store(table=name, create=False).load("default") is None
    store._table.drop(database.engine())


@pytest.mark.parametrize("isolation", ["SERIALIZABLE", "READ UNCOMMITTED"])
def test_an_engine_of_the_user_s(database: Database, isolation: str) -> None:
    """It is used as it is, stays open, keeps its level, and two stores may have it."""
    engine = database.engine(isolation_level=isolation, pool_size=1, max_overflow=0, echo=True)
    store, other = database.store(on=engine), database.store(on=engine)
    works(store)
    in_threads(2, lambda number: [store, other][number].save(f"{number}", FULL))
    store.close()
    assert database.in_use(store) == 0
    with engine.connect() as at:
        assert at.get_isolation_level() == isolation
    works(store)
    with pytest.raises(TypeError, match="give it a URL"):
        store.__reduce__()
    assert repr(store) == f"<SQLStore at an Engine, table {database.table!r}>"


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ"])
def test_a_database_that_is_strict(postgres: Database, level: str) -> None:
    """Where the server's own level makes statements fail for others' sake, they are tried again."""
    options = f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}"
    engine = postgres.engine(connect_args={"options": options}, pool_size=9)
    stores = [postgres.store(on=engine) for _ in range(8)]
    with engine.connect() as at:
        assert at.get_isolation_level() == level

    def count(number: int) -> None:
        for turn in range(10):
            stores[number].save("default", Token(f"{number}-{turn}"))
            with stores[number].exclusive(f"empty-{turn}", 30.0):
                pass

    in_threads(8, count)


def test_rows_that_come_and_go(database: Database) -> None:
    """Many take turns where nothing is stored: rows are made and removed, and nobody fails."""
    stores = [database.store() for _ in range(6)]

    def take(number: int) -> None:
        for _ in range(8):
            with stores[number].exclusive("default", 30.0):
                assert stores[number].load("default") is None

    in_threads(6, take)
    assert database.sql("SELECT * FROM {t}") == []


def test_a_url_by_callable(database: Database) -> None:
    """The callable is asked at the first use, and again after `close`."""
    asked: list[str] = []

    def url() -> str:
        asked.append(database.url)
        return database.url

    store = database.store(on=url)
    assert asked == []
    works(store)
    store.close()
    works(store)
    assert len(asked) == 2
    store.close()
    store.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"mssql+pyodbc://u:{CANARY}@host/x", "is for SQLite, PostgreSQL, MySQL and MariaDB"),
        (f"oracle://u:{CANARY}@host/x", "is for SQLite, PostgreSQL, MySQL and MariaDB"),
        (f"postgresql+nothing://u:{CANARY}@host/x", "driver that SQLAlchemy knows"),
        (f"mysql+mysqldb://u:{CANARY}@host/x", r"no module MySQLdb\)"),
        (f"postgresql+pg8000://host/x?password={CANARY}", r"no module pg8000\)"),
        (f"postgresql+asyncpg://u:{CANARY}@host/x", "driver that blocks"),
        (f"sqlite+aiosqlite:///x?password={CANARY}", "driver that blocks"),
        ("sqlite://", "in memory"),
        ("sqlite:///", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///:memory:?cache=shared", "in memory"),
        ("sqlite:///file::memory:?cache=shared&uri=true", "in memory"),
        ("sqlite:///file:x?mode=memory&cache=shared&uri=true", "in memory"),
        ("sqlite:///file:?uri=true", "in memory"),
        ("sqlite:///file:/x?vfs=memdb&uri=true", "in memory"),
        ("sqlite:///tokens.db?uri=true&mode=rwc", "by its path"),
        ("sqlite:///file:tokens.db", "by its path"),
    ],
)
def test_databases_that_are_refused(url: str, message: str) -> None:
    """What cannot work is said at construction, in words, without the URL."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        SQLStore(url)
    assert not list(shown(caught.value, CANARY))
    store = SQLStore(lambda: url)  # and at the first use, when that is when it is known
    with pytest.raises(StoreError, match=message) as refused:
        store.load("default")
    assert not list(shown(refused.value, CANARY))


@pytest.mark.parametrize("uri", ["file:x?mode=memory", "file::memory:", "file:/x?vfs=memdb"])
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_engines_that_are_refused(uri: str) -> None:
    """An Engine in memory, or one that needs asyncio, is refused at construction."""
    joint = "&" if "?" in uri else "?"
    with pytest.raises(ConfigurationError, match="in memory"):
        SQLStore(sqlalchemy.create_engine(f"sqlite:///{uri}{joint}uri=true"))
    asynchronous = create_async_engine(f"postgresql+psycopg://u:{CANARY}@host/x")
    for engine in (asynchronous, asynchronous.sync_engine):
        with pytest.raises(ConfigurationError, match="no AsyncEngine") as caught:
            SQLStore(engine)  # type: ignore[arg-type] # which is the point
        assert not list(shown(caught.value, CANARY))
    for other in (5, None, b"sqlite:///x", object()):
        with pytest.raises(ConfigurationError, match="needs a URL"):
            SQLStore(other)  # type: ignore[arg-type] # which is the point


@pytest.mark.parametrize("kind", ["postgresql+psycopg", "postgresql+psycopg2", "mysql+pymysql"])
def test_a_server_that_cannot_be_reached(kind: str) -> None:
    """The error says where it should have been, and no password."""
    store = SQLStore(f"{kind}://user:{CANARY}@127.0.0.1:9/name")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9.*refused") as caught:
        store.save("default", Token(CANARY))
    assert "What is stored is intact" in str(caught.value)
    assert not list(shown(caught.value, CANARY))
    assert CANARY not in repr(store)
    with pytest.raises(StoreError, match="refused"), store.exclusive("default", 0.0):
        pytest.fail("a save could not succeed here")
    store.close()


def test_a_pool_that_is_used_up(postgres: Database) -> None:
    """Who finds no free connection in time is told that, and not that the server is gone."""
    engine = postgres.engine(pool_size=1, max_overflow=0, pool_timeout=0)
    store = postgres.store(on=engine)
    with engine.connect(), pytest.raises(StoreError, match="no connection of the pool was free"):
        store.load("default")
    works(store)


CHECKS = {
    "sqlite": None,  # has no way to add one later
    "postgresql": "ALTER TABLE {t} ADD CONSTRAINT small CHECK (value NOT LIKE '%canary%')",
    "mysql": "ALTER TABLE {t} ADD CONSTRAINT small CHECK (value NOT LIKE '%canary%')",
}


def test_a_constraint_that_fails(database: Database) -> None:
    """What a database quotes of the row is not handed on, and it is not taken for a rival."""
    store = database.store()
    store.load("default")
    if check := CHECKS[database.name]:
        database.sql(check)
    else:
        made = statement(database.url, database.table).rstrip().rstrip(")")
        database.sql("DROP TABLE {t}")
        database.sql(f"{made}, CHECK (value NOT LIKE '%canary%'))")
    for stored in (None, OLD):
        if stored is not None:
            store.save("default", stored)
        with pytest.raises(StoreError, match=r"could not be reached or used \(\w+Vio|Error") as one:
            store.save("default", Token(CANARY, refresh_token=CANARY))
        assert not list(shown(one.value, CANARY))
        assert chain(one.value) == [StoreError]
        assert store.load("default") == stored


def chain(error: BaseException | None) -> list[type[BaseException]]:
    return [] if error is None else [type(error), *chain(error.__cause__ or error.__context__)]


def test_a_value_that_is_too_long(maria: Database) -> None:
    """More than one packet may hold ends the session there; the next call has a new one."""
    store = maria.store()
    store.save("default", OLD)
    with pytest.raises(StoreError, match="could not be reached or used") as caught:
        store.save("default", Token("a", extra={"x": CANARY * 3_000_000}), replacing=OLD)
    assert chain(caught.value) == [StoreError]
    assert CANARY not in str(caught.value)
    assert store.load("default") == OLD
