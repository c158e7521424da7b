"""A store that is closed while a thread of its own, such as the lease's, is at work."""

from __future__ import annotations

import gc
import threading
import uuid
from contextlib import closing

import sqlalchemy

from requests_refresh import Token
from requests_refresh.stores import SQLStore
from tests.kills.victim import SAFETY
from tests.servers.postgres import PostgresServer


def test_a_call_under_way_leaves_no_connection(postgres_server: PostgresServer) -> None:
    """I13: what a thread was about when the store was closed is closed, too, when it is done."""
    name = f"t{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(postgres_server.url)
    with closing(SQLStore(postgres_server.url, table=name)) as store, engine.connect() as other:
        store.save("default", Token("one"))
        other.execute(sqlalchemy.text(f"LOCK TABLE {name} IN EXCLUSIVE MODE"))
        saving = threading.Thread(target=store.save, args=("default", Token("two")))
        saving.start()
        waiting = sqlalchemy.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not other.execute(waiting).scalar():
            pass
        store.close()
        other.rollback()
        saving.join(SAFETY)
        assert not saving.is_alive()
        gc.collect()  # psycopg tells of a connection that was dropped and not closed
    engine.dispose()
