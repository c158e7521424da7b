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
from .shared import LONGEST_LEASE, Cell, SharedStore
from .urls import StoreURL
from .values import Encryption, unless_wrong

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_T = TypeVar("_T")
_NAME: Final = re.compile(r"([A-Za-z_]\w*\.)?[A-Za-z_]\w{0,59}", re.ASCII)
_LONGEST: Final = LONGEST_LEASE * 1000
_PAGE: Final = 1000  # rows that are listed at once
_TRIES: Final = 20  # of a statement that fails for others' sake
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
    _dispose: weakref.finalize[..., SQLStore] | None = None
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
        encryption = unless_wrong(encryption)
        unseen: Iterator[Any] = iter([database])
        del database  # tracebacks with locals show no password
        engines = dialects.sqlalchemy().Engine
        # An AsyncEngine has one within, which is refused below, with words for both.
        unread = [getattr(one, "sync_engine", one) for one in unseen]
        if isinstance(unread[0], engines):
            self._engine = unread[0].execution_options(isolation_level="AUTOCOMMIT")
        if self._engine is None:
            self._url = StoreURL(unread.pop(), "SQLStore")
        if not isinstance(table, str) or not _NAME.fullmatch(table):
            raise ConfigurationError(
                "table must be the name of a table, of at most 60 letters, digits and underscores,"
                " with a schema and a dot before it if need be."
            )
        super().__init__(lease=lease, encryption=encryption, listen=self._listen)
        if self._engine is not None:
            if problem := dialects.problem(self._engine.url, self._engine.dialect, given=True):
                raise ConfigurationError(problem)
        elif self._url is not None and self._url.fixed is not None:
            dialects.parsed(self._url)
        self._create, self._name = create, table
        self._channel = table[-63:]  # PostgreSQL takes no longer one
        self._table = dialects.table_of(table)
        self._find = dialects.value_of(self._table)
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
            for _, text in rows:
                try:
                    identity = json.loads(text)
                except (ValueError, RecursionError):
                    identity = None
                if not isinstance(identity, str):
                    problem = f"A row of the table {self._name} is of no identity (id {last[:8]}…)."
                    raise StoreError(f"{problem} All is as it was. Mend the row, or remove it.")
                yield identity

    def close(self) -> None:
        super().close()
        if self._url is not None:
            with self._making:
                self._engine, self._ready, dispose = None, False, self._dispose
            if dispose is not None:
                dispose()

    def _read(self, identity: str) -> Cell | None:
        key = {"key": self._key(identity)}
        row = self._run(lambda at: at.execute(self._find, key).first())
        return None if row is None else Cell(row[0], row[1])

    def _swap(self, identity: str, old: Cell | None, new: str | None, life: float | None) -> bool:
        values = {"value": new, "mark": secrets.token_hex(16)}
        return self._run(lambda at: self._swap_on(at, identity, old, values))

    def _swap_on(self, at: Connection, identity: str, old: Cell | None, values: Any) -> bool:
        columns, new = self._table.c, values["value"]
        there = columns.value.is_(None) if old is None else columns.mark == old.mark
        # The second time that this runs it may have been swapped already, unheard.
        swapped = self._update(at, identity, there | (columns.mark == values["mark"]), values)
        if not swapped and not (old is None and self._insert(at, identity, values)):
            return False
        if new is None:
            self._sweep(at, identity)
        self._tell(at, identity)
        return True

    def _acquire(self, identity: str, owner: str) -> int:
        taken = self._run(lambda at: self._acquire_on(at, identity, owner))
        if taken and self._connected().dialect.name == "sqlite":
            try:
                self._run(self._prove_room)
            except BaseException:
                with suppress(Exception):  # what it was is raised; the lease ends by itself
                    self._release(identity, owner)
                raise
        return taken

    def _acquire_on(self, at: Connection, identity: str, owner: str) -> int:
        columns, now = self._table.c, dialects.now(at.dialect.name)
        query = dialects.sqlalchemy().select(columns.holder, columns.held_until, now)
        row = at.execute(query.where(columns.id == self._key(identity))).first()
        values = {"holder": owner, "held_until": now + int(self._lease * 1000)}
        if row is None:
            return self._insert(at, identity, {"mark": secrets.token_hex(16), **values})
        holder, until, moment = row
        # One that would end later than any can has been left behind by a clock that was set back.
        if holder is not None and holder != owner and moment < until <= moment + _LONGEST:
            return False
        same = columns.holder.is_(None) if holder is None else columns.holder == holder
        same &= columns.held_until == until
        taken = self._update(at, identity, same, values)
        return 2 if taken and holder not in (None, owner) else int(taken)

    def _extend(self, identity: str, owner: str) -> bool:
        def extend(at: Connection) -> bool:
            until = dialects.now(at.dialect.name) + int(self._lease * 1000)
            mine = self._table.c.holder == owner
            return self._update(at, identity, mine, {"held_until": until})

        return self._run(extend)

    def _release(self, identity: str, owner: str) -> bool:
        columns = self._table.c

        def release(at: Connection) -> bool:
            mine, no_value = columns.holder == owner, columns.value.is_(None)
            if not self._update(at, identity, mine & ~no_value, {"holder": None}):
                if not self._update(at, identity, mine, {"holder": None}):
                    return False
                self._sweep(at, identity)
            self._tell(at, identity)
            return True

        return self._run(release)

    def _update(self, at: Connection, identity: str, where: Any, values: Any) -> bool:
        update = self._table.update().where(self._table.c.id == self._key(identity), where)
        return at.execute(update.values(values)).rowcount == 1

    def _insert(self, at: Connection, identity: str, values: Any) -> bool:
        row = {"id": self._key(identity), "identity": json.dumps(identity), **values}
        alchemy = dialects.sqlalchemy()
        there = alchemy.select(self._table.c.id).where(self._table.c.id == row["id"])
        for left in reversed(range(_TRIES)):
            try:
                at.execute(self._table.insert().values({"held_until": 0, **row}))
                return True
            except alchemy.exc.IntegrityError:
                if at.execute(there).first() is not None:
                    return False  # somebody else was faster
                if not left:  # none that was gone again: a constraint that is not ours
                    raise
        raise AssertionError

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
            notify = dialects.sqlalchemy().func.pg_notify(self._channel, self._key(identity))
            with suppress(dialects.sqlalchemy().exc.DBAPIError):  # who waits looks now and then
                at.execute(dialects.sqlalchemy().select(notify))

    def _listen(self, listener: Listener) -> None:
        dialects.listen(self._connected(), self._channel, listener)

    def _run(self, work: Callable[[Connection], _T]) -> _T:
        """Each statement of `work` is a transaction of its own. It may run twice."""
        again = True
        for left in reversed(range(_TRIES)):
            engine = self._connected()
            pool = engine.pool
            try:
                with engine.connect() as at:
                    if not self._ready:
                        self._prepare(at)
                    result = work(at)
                    if self._url is None:
                        at.commit()  # your Engine's events may have begun a transaction
                    return result
            except dialects.sqlalchemy().exc.DBAPIError as error:
                self._ready = False  # whatever happened to it: look
                if left and dialects.collided(error):
                    continue
                if not (left and again and error.connection_invalidated):
                    raise
                again = False  # a pooled connection had died; the pool has been emptied
            finally:
                if engine is not self._engine:  # closed meanwhile, and its pool has this one back
                    pool.dispose()
        raise AssertionError

    def _prepare(self, at: Connection) -> None:
        if not dialects.exists(at, self._table):
            if not self._create:
                raise StoreError(
                    f"The table {self._name} is missing, and create=False leaves it to you to"
                    " create. Nothing was changed; the documentation has the statement."
                )
            try:
                self._table.create(at)
            except dialects.sqlalchemy().exc.DBAPIError:
                if not dialects.exists(at, self._table):  # else another process was faster
                    raise
        at.commit()
        self._ready = True

    def _connected(self) -> Engine:
        with self._making:
            if self._engine is None:
                assert self._url is not None
                self._engine = engine = dialects.engine_of(dialects.parsed(self._url))
                # Who drops the store without closing it leaves no connection open.
                self._dispose = finalizer = weakref.finalize(self, engine.dispose)
                finalizer.atexit = False
            return self._engine

    def _key(self, identity: str) -> str:
        return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()

    def _where(self, identity: str) -> str:
        shown = identity if len(identity) <= 200 else f"{identity[:200]}…"
        return f"the row of {shown!r} in the table {self._name}"

    def _reason(self, error: Exception) -> str:
        return dialects.reason(error, self._engine.url if self._engine is not None else None)

    def _is_away(self, error: Exception) -> bool:
        if not isinstance(error, dialects.sqlalchemy().exc.DBAPIError):
            return False
        return error.connection_invalidated or error.statement is None

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
