"""Databases for the tests of SQLStore, each with a table of its own, and ways to look at it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.schema import CreateTable

from requests_refresh import Token
from requests_refresh.stores import SQLStore, sql_dialects

from .contract import SAFETY

URLS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "psycopg2": "postgresql+psycopg2",
    "mariadb": "mysql+pymysql",
}


class Database:
    """One database, one table in it that is not there yet, and the stores made on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.table = f"t{uuid.uuid4().hex}"
        self.kept = ExitStack()  # what ends with the test

    @property
    def name(self) -> str:
        return self.url.partition(":")[0].partition("+")[0]

    def engine(self, **settings: Any) -> sqlalchemy.Engine:
        engine = sqlalchemy.create_engine(self.url, **settings)
        self.kept.callback(engine.dispose)
        return engine

    def store(self, **settings: Any) -> SQLStore:
        """A store of its own, on the one table."""
        on = settings.pop("on", self.url)
        store = SQLStore(on, **{"table": self.table, **settings})
        self.kept.callback(store.close)
        return store

    @contextmanager
    def beside(self) -> Iterator[sqlalchemy.Connection]:
        """A connection that is none of a store's; each statement is committed by itself."""
        engine = sqlalchemy.create_engine(
            self.url, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as at:
            yield at

    def sql(self, text: str, **values: Any) -> list[Any]:
        """Run a statement in which {t} is the table."""
        with self.beside() as at:
            result = at.execute(sqlalchemy.text(text.format(t=self.table)), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    def in_use(self, store: SQLStore) -> int:
        """How many connections of its pool are in use."""
        pool = store._connected().pool
        assert isinstance(pool, sqlalchemy.QueuePool)
        return pool.checkedout()

    def sessions(self) -> list[int]:
        """The numbers of the sessions of others in this database, with which they can be ended."""
        if self.name == "postgresql":
            where = "datname = current_database() AND backend_type = 'client backend'"
            query = f"SELECT pid FROM pg_stat_activity WHERE pid != pg_backend_pid() AND {where}"  # noqa: S608 - ours
        else:
            query = "SELECT id FROM information_schema.processlist WHERE id != connection_id()"
        return [row[0] for row in self.sql(query)]

    def end(self, session: int) -> None:
        """End a session, as a restart of the server would."""
        pg = self.name == "postgresql"
        self.sql(f"SELECT pg_terminate_backend({session})" if pg else f"KILL {session}")


def statement(url: str, table: str) -> str:
    """The statement that makes the table, for who makes it himself."""
    dialect = sqlalchemy.make_url(url).get_dialect()()
    return str(CreateTable(sql_dialects.table_of(table)).compile(dialect=dialect))


@contextmanager
def database_of(kind: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """The database of a kind in URLS."""
    if kind == "sqlite":
        path: Path = request.getfixturevalue("tmp_path")
        url = f"sqlite:///{path}/tokens.db"
    else:
        fixture = "maria_server" if kind == "mariadb" else "postgres_server"
        url = URLS[kind] + request.getfixturevalue(fixture).url[len(URLS["postgresql"]) :]
        if kind == "mariadb":
            url = request.getfixturevalue(fixture).url
    database = Database(url)
    with database.kept:
        yield database
        # Stores first, in the order in which they were made last.
        database.kept.close()
        if kind != "sqlite":
            database.sql("DROP TABLE IF EXISTS {t}")


def save_at_once(report: Connection, url: str, table: str, name: str) -> None:
    """Save by four stores in four threads, when the other end says so."""
    go = threading.Event()

    def save(number: int) -> None:
        assert go.wait(SAFETY)
        store = SQLStore(url, table=table)
        store.save(f"{name}-{number}", Token("a"))
        store.close()

    with ThreadPoolExecutor(4) as pool:
        saved = [pool.submit(save, number) for number in range(4)]
        report.send("ready")
        report.recv()
        go.set()
        for one in saved:
            one.result(SAFETY)
    report.send("done")
