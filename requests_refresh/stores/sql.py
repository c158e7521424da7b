"""`SQLStore`: tokens in a table, on a database that you run already.

What it guarantees:

- **No transaction, and no connection, is held** while a provider is called, nor
  while anybody waits (PostgreSQL: but for one connection of a process, that
  listens). Each statement is a transaction of its own, so a pool of one
  connection is enough, and a pooler that hands out connections by transaction
  may stand in between.
- **One after the other.** A save swaps the row's mark for a new one, in one
  statement. `exclusive` is a lease in the same row, timed by the database's
  clock, so the clocks of its users do not matter.
- **Nothing depends on collations.** Rows are found by a digest of the identity;
  what is stored is ASCII.

What it cannot: a database that forgets what it has committed loses logins with
that (asynchronous replicas in a failover, `fsync=off`).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..errors import ConfigurationError, StoreError
from . import sql_dialects as dialects
from .notices import Listener
from .shared import Cell, SharedStore
from .urls import StoreURL
from .values import Encryption

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_T = TypeVar("_T")
_NAME: Final = re.compile(r"([A-Za-z_]\w*\.)?[A-Za-z_]\w{0,59}", re.ASCII)
_PAGE: Final = 1000  # rows that are listed at once
_ROOM: Final = 2**15  # bytes, written as twice as many letters, that prove that a save fits


class SQLStore(SharedStore):
    """Tokens in a table of SQLite, PostgreSQL, MySQL or MariaDB.

    database: a URL of SQLAlchemy's, such as `sqlite:///tokens.db` or
        `postgresql+psycopg://user@host/name`; or a callable that returns one; or
        an Engine of yours, which then stays open and is not pickled. A SQLite
        file that a URL names is made with mode 0600, and refused if it is not
        yours alone; `~` is expanded.
    table: its name, maybe with its schema's before it. Stores with another
        table share nothing.
    create: whether to create the table where it is missing. False: it is yours
        to create; the documentation has the statement.
    lease: seconds for which `exclusive` outlives a holder who was killed or cut
        off. Give it more than the provider takes to answer.
    encryption: an Encryption, or None to store tokens as JSON that can be read.

    Needs `pip install "requests_refresh[sql]"` and the database's driver. Raises
    ConfigurationError for settings that cannot be right; connects at the first
    use. Every method may block for the database, and raises StoreError when it
    cannot be used. Safe for any thread, and after a fork. A pickle holds no
    password: a URL with one is left behind, a callable is not.
    """

    _url: StoreURL | None = None
    _engine: Engine | None = None
    _name = ""

    def __init__(
        self,
        database: str | Callable[[], str] | Engine,
        *,
        table: str = "requests_refresh_tokens",
        create: bool = True,
        lease: float = 15.0,
        encryption: Encryption | None = None,
    ) -> None:
        alchemy = dialects.sqlalchemy()
        if isinstance(database, alchemy.Engine):
            self._engine = database
        unread: list[Any] = [database]
        del database  # tracebacks with locals show no password
        if self._engine is None:
            self._url = StoreURL(unread.pop(), "SQLStore")
        if not isinstance(table, str) or not _NAME.fullmatch(table):
            raise ConfigurationError(
                "table must be the name of a table, of at most 60 letters, digits and underscores,"
                " with a schema and a dot before it if need be."
            )
        super().__init__(lease=lease, encryption=encryption, listen=self._listen)
        if self._engine is not None:
            dialects.check(self._engine.url, given=True)
        elif self._url is not None and self._url.fixed is not None:
            dialects.parsed(self._url)
        self._create, self._name = create, table
        self._table = dialects.table_of(table)
        self._ready = False  # the table is there

    def identities(self) -> Iterator[str]:
        """The identities that are stored, in no order. Blocks for the database."""
        columns, last = self._table.c, ""
        page = dialects.sqlalchemy().select(columns.id, columns.identity)
        page = page.where(columns.value.is_not(None), columns.identity != "")
        page = page.order_by(columns.id).limit(_PAGE)
        while True:
            later = page.where(columns.id > last)
            rows = self._try("", self._run, lambda at, later=later: at.execute(later).all())
            if isinstance(rows, StoreError):
                raise rows
            if not rows:
                return
            last = rows[-1][0]
            yield from (json.loads(identity) for _, identity in rows)

    def close(self) -> None:
        super().close()
        if self._url is not None and self._engine is not None:
            engine, self._engine = self._engine, None
            engine.dispose()

    def _read(self, identity: str) -> Cell | None:
        columns = self._table.c
        query = dialects.sqlalchemy().select(columns.value, columns.mark)
        query = query.where(columns.id == self._key(identity), columns.value.is_not(None))
        row = self._run(lambda at: at.execute(query).first())
        return None if row is None else Cell(row[0], row[1])

    def _swap(self, identity: str, old: Cell | None, new: str | None, life: float | None) -> bool:
        return self._run(lambda at: self._swap_on(at, identity, old, new))

    def _swap_on(self, at: Connection, identity: str, old: Cell | None, new: str | None) -> bool:
        columns = self._table.c
        there = columns.value.is_(None) if old is None else columns.mark == old.mark
        values = {"value": new, "mark": secrets.token_hex(16)}
        swapped = self._update(at, identity, there, values)
        if not swapped and not (old is None and self._insert(at, identity, values)):
            return False
        if new is None:
            self._sweep(at, identity)
        self._tell(at, identity)
        return True

    def _acquire(self, identity: str, owner: str) -> bool:
        taken = self._run(lambda at: self._acquire_on(at, identity, owner))
        if taken and self._engine is not None and self._engine.dialect.name == "sqlite":
            try:
                self._run(self._prove_room)
            except BaseException:
                with suppress(Exception):  # what it was is raised; the lease ends by itself
                    self._release(identity, owner)
                raise
        return taken

    def _acquire_on(self, at: Connection, identity: str, owner: str) -> bool:
        columns, now = self._table.c, dialects.now(at.dialect.name)
        query = dialects.sqlalchemy().select(columns.holder, columns.held_until, now)
        row = at.execute(query.where(columns.id == self._key(identity))).first()
        values = {"holder": owner, "held_until": now + int(self._lease * 1000)}
        if row is None:
            return self._insert(at, identity, {"mark": secrets.token_hex(16), **values})
        holder, until, moment = row
        if holder is not None and holder != owner and until > moment:
            return False
        same = columns.holder.is_(None) if holder is None else columns.holder == holder
        same &= columns.held_until == until
        return self._update(at, identity, same, values)

    def _extend(self, identity: str, owner: str) -> bool:
        def extend(at: Connection) -> bool:
            until = dialects.now(at.dialect.name) + int(self._lease * 1000)
            mine = self._table.c.holder == owner
            return self._update(at, identity, mine, {"held_until": until})

        return self._run(extend)

    def _release(self, identity: str, owner: str) -> None:
        def release(at: Connection) -> None:
            if self._update(at, identity, self._table.c.holder == owner, {"holder": None}):
                self._sweep(at, identity)
                self._tell(at, identity)

        self._run(release)

    def _update(self, at: Connection, identity: str, where: Any, values: Any) -> bool:
        update = self._table.update().where(self._table.c.id == self._key(identity), where)
        return at.execute(update.values(values)).rowcount == 1

    def _insert(self, at: Connection, identity: str, values: Any) -> bool:
        row = {"id": self._key(identity), "identity": json.dumps(identity), **values}
        try:
            at.execute(self._table.insert().values({"held_until": 0, **row}))
        except dialects.sqlalchemy().exc.IntegrityError:
            return False  # somebody else was faster
        return True

    def _sweep(self, at: Connection, identity: str) -> None:
        """Remove a row that says nothing any more."""
        columns = self._table.c
        empty = columns.value.is_(None) & columns.holder.is_(None)
        at.execute(self._table.delete().where(columns.id == self._key(identity), empty))

    def _prove_room(self, at: Connection) -> None:
        """A full disk shows only when a file is to grow; what it grew by stays in it."""
        name = f"room-{secrets.token_hex(16)}"
        row = {"id": name, "identity": "", "mark": "", "held_until": 0}
        at.execute(self._table.insert().values(value=secrets.token_hex(_ROOM), **row))
        at.execute(self._table.delete().where(self._table.c.id == name))

    def _tell(self, at: Connection, identity: str) -> None:
        if at.dialect.name == "postgresql":
            notify = dialects.sqlalchemy().func.pg_notify(self._name, self._key(identity))
            with suppress(dialects.sqlalchemy().exc.DBAPIError):  # who waits looks now and then
                at.execute(dialects.sqlalchemy().select(notify))

    def _listen(self, listener: Listener) -> None:
        dialects.listen(self._connected(), self._name, listener)

    def _run(self, work: Callable[[Connection], _T]) -> _T:
        """Each statement of `work` is a transaction of its own. It may run twice."""
        again = True
        while True:
            engine = self._connected()
            try:
                with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as at:
                    if not self._ready:
                        self._prepare(at)
                    return work(at)
            except dialects.sqlalchemy().exc.DBAPIError as error:
                self._ready = False  # whatever happened to it: look
                if not (again and error.connection_invalidated):
                    raise
                again = False  # a pooled connection had died; the pool has been emptied

    def _prepare(self, at: Connection) -> None:
        if self._create and not dialects.exists(at, self._table):
            try:
                self._table.create(at)
            except dialects.sqlalchemy().exc.DBAPIError:
                if not dialects.exists(at, self._table):  # else another process was faster
                    raise
        self._ready = True

    def _connected(self) -> Engine:
        with self._making:
            if self._engine is None:
                assert self._url is not None
                self._engine = engine = dialects.engine_of(dialects.parsed(self._url))
                # Who drops the store without closing it leaves no connection open.
                weakref.finalize(self, engine.dispose).atexit = False
            return self._engine

    def _key(self, identity: str) -> str:
        return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()

    def _where(self, identity: str) -> str:
        shown = identity if len(identity) <= 200 else f"{identity[:200]}…"
        return f"the row of {shown!r} in the table {self._name}"

    def _reason(self, error: Exception) -> str:
        return dialects.reason(error)

    def _after_fork_in_child(self) -> None:
        super()._after_fork_in_child()
        if self._engine is not None:  # the connections are the parent's
            self._engine.dispose(close=False)

    def __repr__(self) -> str:
        database = "an Engine" if self._url is None else repr(self._url)
        return f"<SQLStore at {database}, table {self._name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._url is None:
            raise TypeError("A SQLStore on an Engine of yours does not pickle; give it a URL.")
        settings = {"table": self._name, "create": self._create, "lease": self._lease}
        return self._rebuild(self._url, **settings, encryption=self._values.encryption)
