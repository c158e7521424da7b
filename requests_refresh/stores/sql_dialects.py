"""What `SQLStore` must know of each database: its clock, its ears, its engine, its errors."""

from __future__ import annotations

import os
import re
import selectors
import threading
from contextlib import suppress
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
    # Not UNIX_TIMESTAMP: it reads local time, which an autumn has twice.
    "mysql": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000",
}
_NOW_OF: Final = {**_NOW, "mariadb": _NOW["mysql"]}

_POSTGRES: Final[dict[str, Any]] = {
    "connect_timeout": _CONNECT,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}
# So that no statement waits for ever for a server that is gone; what the URL says counts.
_ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "pysqlite": {"timeout": _CONNECT},
    # keepalives: they tell of a link that is lost while an answer is awaited.
    # prepare_threshold: statements that the server keeps do not go through a transaction pooler.
    "psycopg": {**_POSTGRES, "prepare_threshold": None},
    "psycopg2": _POSTGRES,
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
    dialect, missing = None, None
    try:
        made: URL = sqlalchemy().make_url(url())
        dialect = made.get_dialect()
        dialect.import_dbapi()
    except sqlalchemy().exc.ArgumentError:
        made = sqlalchemy().make_url("none://")
    except ImportError as error:
        missing = error.name or f"that {made.drivername} needs"
    wrong = problem(made, dialect, given=False)
    if wrong is None and missing is not None:
        wrong = (
            f"The database's driver could not be imported (no module {missing}). Install it, or"
            " name another in the URL, as in postgresql+psycopg://."
        )
    if wrong is not None:
        del made  # tracebacks with locals show no password
        raise ConfigurationError(wrong)
    return made


def problem(url: URL, dialect: Any, *, given: bool) -> str | None:
    """Why a database cannot be used, or None.

    given: whether it is somebody's own Engine.
    """
    name = url.get_backend_name()
    if name not in _KNOWN:
        return (
            "A SQLStore is for SQLite, PostgreSQL, MySQL and MariaDB, with a driver that SQLAlchemy"
            " knows. Its URL is such as sqlite:///tokens.db or postgresql+psycopg://user@host/name."
        )
    if dialect.is_async:
        return (
            "A SQLStore needs a driver that blocks, such as postgresql+psycopg:// or"
            " mysql+pymysql://, and no AsyncEngine: it is for requests, which block as well."
        )
    if name == "sqlite" and _is_in_memory(url):
        return (
            "A SQLite database in memory is not shared, even by the threads of a process. Name a"
            " file, as in sqlite:///tokens.db, or use a MemoryStore."
        )
    uri = (url.database or "").startswith("file:") or "uri" in url.query
    if name == "sqlite" and not given and uri:  # it would name another file than we made private
        return "Name the SQLite file by its path, as in sqlite:///tokens.db."
    return None


def _is_in_memory(url: URL) -> bool:
    """Whether SQLite would have no file: https://www.sqlite.org/inmemorydb.html, and uri.html."""
    path = url.database or ""
    asked = {f"{name}={value}" for name, value in url.query.items()}
    asked.update(path.partition("?")[2].split("&"))
    nameless = re.fullmatch(r"(file:)?(:memory:[^?]*)?(\?.*)?", path)
    return nameless is not None or bool(asked & {"mode=memory", "vfs=memdb"})


def engine_of(url: URL) -> Engine:
    """An engine with timeouts of our own, that shows no parameters in its errors and logs."""
    alchemy, path = sqlalchemy(), ""
    if url.get_backend_name() == "sqlite":
        path = os.path.abspath(os.path.expanduser(url.database or ""))
        url = url.set(database=path)
    wanted = _ARGUMENTS.get(url.get_dialect().driver, {})
    arguments = {name: value for name, value in wanted.items() if name not in url.query}
    engine: Engine = alchemy.create_engine(
        url,
        connect_args=arguments,
        hide_parameters=True,
        pool_timeout=_CONNECT,
        # So there is nothing to roll back, which on a dead connection is logged as an error.
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,
    )

    def look(dialect: Any, record: Any, args: Any, options: Any) -> None:
        make_private(path)  # each time: SQLite would make a file that was removed, for all to read

    if path:
        alchemy.event.listen(engine, "do_connect", look)
    return engine


def make_private(path: str) -> None:
    """See to it that a SQLite file is there and is one's own. StoreError if it is not.

    An existing one is looked at and not opened: closing it would drop the locks
    that SQLite holds on it in this process. A new one is closed before another
    thread goes on to open it.
    """
    private.prepare_directory(os.path.dirname(path))
    try:
        with _making.setdefault("a file", threading.Lock()):
            if not os.path.lexists(path):
                with suppress(FileExistsError):  # another process was faster
                    private.write_new(path, b"")
        wrong = private.unfit(os.stat(path, follow_symlinks=False))
    except OSError as error:
        wrong = private.reason(path, error)
    if wrong is not None:
        raise StoreError(private.refusal(path, wrong))


# Made when it is first asked for, which is after gevent has patched what it patches.
_making: dict[str, threading.Lock] = {}

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_making.clear)


class _Hidden(str):
    """A text whose repr does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'...'"


def table_of(name: str) -> Table:
    """The table. No text in it depends on a collation: ids and marks are hexadecimal."""
    alchemy = sqlalchemy()
    from sqlalchemy.dialects.mysql import LONGTEXT
    from sqlalchemy.types import TypeDecorator

    text = alchemy.Text().with_variant(LONGTEXT(), "mysql", "mariadb")

    class Secret(TypeDecorator[str]):
        """A text that SQLAlchemy does not show where it logs rows, at DEBUG."""

        impl = text
        cache_ok = True

        def process_result_value(self, value: Any, dialect: Any) -> Any:
            return _Hidden(value) if isinstance(value, str) else value

    column, schema = alchemy.Column, name.rpartition(".")[0] or None
    made: Table = alchemy.Table(
        name.rpartition(".")[2],
        alchemy.MetaData(),
        column("id", alchemy.String(64), primary_key=True),  # SHA-256 of the identity
        column("identity", text, nullable=False),  # as JSON, for who looks
        column("value", Secret()),  # the token; null where there is none
        column("mark", alchemy.String(32), nullable=False),  # another with every change
        column("holder", alchemy.String(32)),  # of the lease
        column("held_until", alchemy.BigInteger, nullable=False),  # ms, the database's clock
        schema=schema,
    )
    return made


def value_of(table: Table) -> Any:
    """The query for what is stored under `key`: put together once, as it is asked so often."""
    alchemy, columns = sqlalchemy(), table.c
    query = alchemy.select(columns.value, columns.mark)
    return query.where(columns.id == alchemy.bindparam("key"), columns.value.is_not(None))


def exists(at: Connection, table: Table) -> bool:
    there: bool = sqlalchemy().inspect(at).has_table(table.name, schema=table.schema)
    return there


def now(dialect: str) -> Any:
    """The moment by the database's clock, in milliseconds: an expression."""
    alchemy = sqlalchemy()
    return alchemy.literal_column(_NOW_OF[dialect], alchemy.BigInteger)


def collided(error: Exception) -> bool:
    """Whether a statement failed for others' sake alone, and may succeed the next time."""
    original = getattr(error, "orig", None)
    codes = {getattr(original, "sqlstate", None), getattr(original, "pgcode", None)}
    codes.update(getattr(original, "args", ())[:1])
    return bool(codes & {"40001", "40P01", 1020, 1213})  # serialization, deadlock; MariaDB's


def reason(error: Exception, url: URL | None) -> str:
    """What an error says, without a value that was sent: names and codes only."""
    alchemy = sqlalchemy()
    if isinstance(error, alchemy.exc.TimeoutError):
        return "no connection of the pool was free in time"
    original = getattr(error, "orig", None)
    if original is None:
        return type(error).__name__
    # What the server says may quote a value, at the end of an Engine's own transaction too.
    told = [getattr(original, name, None) for name in ("sqlstate", "pgcode")]
    if getattr(error, "statement", None) is None and not any(told):  # it never came to send one
        at = f" at {url.host}:{url.port}" if url is not None and url.port else ""
        return f"{type(original).__name__}{at}: {' '.join(str(original).split())}"
    for code in (*told, getattr(original, "sqlite_errorname", None)):
        if code:
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
    raw: Any = pooled.driver_connection  # detached, it tells no more
    pooled.detach()
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
        pooled.invalidate()  # not closed by SQLAlchemy, which would roll back first, and log
        raw.close()


def _hear_psycopg(raw: Any) -> list[str]:
    return [notice.payload for notice in raw.notifies(timeout=1.0, stop_after=1)]


def _hear_psycopg2(raw: Any) -> list[str]:
    with selectors.DefaultSelector() as selector:  # select.select knows the first 1024 files only
        selector.register(raw, selectors.EVENT_READ)
        if selector.select(1.0):
            raw.poll()
    heard, raw.notifies[:] = [notice.payload for notice in raw.notifies], []
    return heard
