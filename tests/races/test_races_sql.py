"""SQLStore where an engine, a clock or a lock is not what it hopes for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import event

from requests_refresh import RefreshTimeout, Token
from requests_refresh.stores import SQLStore

TOKEN = Token("a", refresh_token="r")


def of_the_manual(url: str) -> sqlalchemy.Engine:
    """An engine whose transactions begin as SQLAlchemy's own manual has it for SQLite."""
    engine = sqlalchemy.create_engine(url)

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def test_an_engine_whose_events_begin_a_transaction(tmp_path: Path) -> None:
    """I7: what `save` has reported as stored is stored, whatever events an engine has."""
    url = f"sqlite:///{tmp_path}/tokens.db"
    ours = SQLStore(url)
    ours.save("other", TOKEN)  # the table is there
    ours.close()
    engine = of_the_manual(url)
    try:
        SQLStore(engine).save("default", TOKEN)
        with engine.connect() as at:
            count = at.execute(sqlalchemy.text("SELECT count(*) FROM requests_refresh_tokens"))
            assert count.scalar() == 2
    finally:
        engine.dispose()


def test_a_lease_on_such_an_engine(tmp_path: Path) -> None:
    """I1: who holds an identity holds it, whatever events an engine has."""
    url = f"sqlite:///{tmp_path}/tokens.db"
    ours = SQLStore(url)
    ours.save("default", TOKEN)
    engine = of_the_manual(url)
    try:
        with SQLStore(engine).exclusive("default", 0) as held:
            assert held.assure(1)
            with pytest.raises(RefreshTimeout), ours.exclusive("default", 0):
                pass
    finally:
        engine.dispose()
        ours.close()


def test_a_clock_of_the_database_that_was_set_back(tmp_path: Path) -> None:
    """I3: a lease that ends later than any lease can is a clock's fault, and holds nobody up."""
    store = SQLStore(f"sqlite:///{tmp_path}/tokens.db", lease=0.5)
    try:
        store.save("default", TOKEN)
        later = int((time.time() + 2 * 3600) * 1000)
        values = {"holder": "of a process that was killed", "held_until": later}
        with store._connected().begin() as at:
            at.execute(store._table.update().values(values))
        with store.exclusive("default", 2.0):
            pass
    finally:
        store.close()
