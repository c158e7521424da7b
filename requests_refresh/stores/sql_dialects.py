"""What `SQLStore` must know of each database: its clock, its ears, its engine, its errors."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError, StoreError
from . import private
from .notices import Deaf, Listener
from .urls import StoreURL

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table
    from sqlalchemy.engine import URL

_CONNECT: Final = 5  # seconds to wait for a connection
_KNOWN: Final = ("sqlite", "postgresql", "mysql", "mariadb")

# The moment, in milliseconds, by the database's clock.
_NOW: Final = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
    "mysql": "CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)",
}
_NOW_OF: Final = {**_NOW, "mariadb": _NOW["mysql"]}

# So that no statement waits for ever for a server that is gone; what the URL says counts.
_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "pysqlite": {"timeout": _CONNECT},
    # prepare_threshold: statements that the server keeps do not go through a transaction pooler.
    "psycopg": {"connect_timeout": _CONNECT, "tcp_user_timeout": 5000, "prepare_threshold": None},
    "psycopg2": {"connect_timeout": _CONNECT, "tcp_user_timeout": 5000},
    "pymysql": {"connect_timeout": _CONNECT, "read_timeout": 5, "write_timeout": 5},
}


def sqlalchemy() -> Any:
    """SQLAlchemy, or a ConfigurationError that names the extra."""
    try:
        import sqlalchemy
    except ImportError:
        raise ConfigurationError(
            'SQLStore needs SQLAlchemy: pip install "requests_refresh[sql]", and a driver for the'
            " database."
        ) from None
    return sqlalchemy


def parsed(url: StoreURL) -> URL:
    """The URL as SQLAlchemy has it; ConfigurationError, which does not show it."""
    try:
        made: URL = sqlalchemy().make_url(url())
        made.get_dialect()
    except sqlalchemy().exc.ArgumentError:
        made = sqlalchemy().make_url("none://")
    check(made, given=False)
    return made


def check(url: URL, *, given: bool) -> None:
    """Raise ConfigurationError for a database that cannot be used."""
    name = url.get_backend_name()
    if name not in _KNOWN:
        raise ConfigurationError(
            "A SQLStore is for SQLite, PostgreSQL, MySQL and MariaDB, with a driver that SQLAlchemy"
            " knows. Its URL is such as sqlite:///tokens.db or postgresql+psycopg://user@host/name."
        )
    path = url.database or ""
    if name == "sqlite" and (not path or path.startswith(":memory:") or "mode=memory" in path):
        raise ConfigurationError(
            "A SQLite database in memory is not shared, even by the threads of a process. Name a"
            " file, as in sqlite:///tokens.db, or use a MemoryStore."
        )
    if name == "sqlite" and not given and path.startswith("file:"):
        raise ConfigurationError("Name the SQLite file by its path, as in sqlite:///tokens.db.")


def engine_of(url: URL) -> Engine:
    """An engine with timeouts of our own, that shows no parameters in its errors and logs."""
    if url.get_backend_name() == "sqlite":
        path = os.path.abspath(os.path.expanduser(url.database or ""))
        make_private(path)
        url = url.set(database=path)
    alchemy = sqlalchemy()
    try:
        driver = url.get_dialect().driver
        wanted = _ARGUMENTS.get(driver, {})
        arguments = {name: value for name, value in wanted.items() if name not in url.query}
        engine: Engine = alchemy.create_engine(
            url, connect_args=arguments, hide_parameters=True, pool_timeout=_CONNECT
        )
    except (ImportError, alchemy.exc.ArgumentError) as error:
        missing = getattr(error, "name", None) or "of that name"
        raise ConfigurationError(
            f"The database's driver could not be imported (no module {missing}). Install it, or"
            " name another in the URL, as in postgresql+psycopg://."
        ) from None
    return engine


def make_private(path: str) -> None:
    """See to it that a SQLite file is there and is one's own. StoreError if it is not.

    An existing one is looked at and not opened: closing it would drop the locks
    that SQLite holds on it in this process.
    """
    private.prepare_directory(os.path.dirname(path))
    try:
        if not os.path.lexists(path):
            private.write_new(path, b"")
        info = os.stat(path, follow_symlinks=False)
        problem = private.unfit(info)
    except FileExistsError:
        return  # another process was faster, and made it so
    except OSError as error:
        problem = private.reason(path, error)
    if problem is not None:
        raise StoreError(private.refusal(path, problem))


def table_of(name: str) -> Table:
    """The table. No text in it depends on a collation: ids and marks are hexadecimal."""
    alchemy = sqlalchemy()
    from sqlalchemy.dialects.mysql import LONGTEXT

    text = alchemy.Text().with_variant(LONGTEXT(), "mysql", "mariadb")
    column, schema = alchemy.Column, name.rpartition(".")[0] or None
    made: Table = alchemy.Table(
        name.rpartition(".")[2],
        alchemy.MetaData(),
        column("id", alchemy.String(64), primary_key=True),  # SHA-256 of the identity
        column("identity", text, nullable=False),  # as JSON, for who looks
        column("value", text),  # the token; null where there is none
        column("mark", alchemy.String(32), nullable=False),  # another with every change
        column("holder", alchemy.String(32)),  # of the lease
        column("held_until", alchemy.BigInteger, nullable=False),  # ms, the database's clock
        schema=schema,
    )
    return made


def exists(at: Connection, table: Table) -> bool:
    there: bool = sqlalchemy().inspect(at).has_table(table.name, schema=table.schema)
    return there


def now(dialect: str) -> Any:
    """The moment by the database's clock, in milliseconds: an expression."""
    alchemy = sqlalchemy()
    return alchemy.literal_column(_NOW_OF[dialect], alchemy.BigInteger)


def reason(error: Exception) -> str:
    """What an error says, without a value that was sent: names and codes only."""
    alchemy = sqlalchemy()
    if isinstance(error, alchemy.exc.TimeoutError):
        return "no connection of the pool was free in time"
    original = getattr(error, "orig", None)
    if original is None:
        return type(error).__name__
    if getattr(error, "statement", None) is None:  # it never got as far as to send one
        return f"{type(original).__name__}: {' '.join(str(original).split())}"
    for name in ("sqlstate", "pgcode", "sqlite_errorname"):
        if code := getattr(original, name, None):
            return f"{type(original).__name__} {code}"
    arguments = getattr(original, "args", ())
    code = arguments[0] if arguments and isinstance(arguments[0], int) else ""
    return f"{type(original).__name__} {code}".rstrip()


def listen(engine: Engine, channel: str, listener: Listener) -> None:
    """Hear PostgreSQL's notices, over a connection that is none of the pool's any more."""
    driver = engine.dialect.driver
    if engine.dialect.name != "postgresql" or driver not in ("psycopg", "psycopg2"):
        raise Deaf
    pooled = engine.raw_connection()
    pooled.detach()
    raw: Any = pooled.driver_connection
    try:
        raw.autocommit = True
        with raw.cursor() as cursor:
            cursor.execute(f'LISTEN "{channel}"')
        listener.ready()
        hear = _hear_psycopg if driver == "psycopg" else _hear_psycopg2
        while listener.wanted():
            for payload in hear(raw):
                listener.heard(payload)
    finally:
        pooled.close()


def _hear_psycopg(raw: Any) -> list[str]:
    return [notice.payload for notice in raw.notifies(timeout=1.0, stop_after=1)]


def _hear_psycopg2(raw: Any) -> list[str]:
    if select.select([raw], [], [], 1.0)[0]:
        raw.poll()
    heard, raw.notifies[:] = [notice.payload for notice in raw.notifies], []
    return heard
