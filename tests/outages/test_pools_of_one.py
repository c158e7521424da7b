"""A store that is given a single connection, and a PostgreSQL behind a pooler of transactions."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest
import redis
import sqlalchemy

from requests_refresh import StoreError, TokenSource, TokenStore
from requests_refresh.stores import RedisStore, SQLStore
from requests_refresh.testing import AuthServer
from tests.servers import PostgresServer, RedisServer
from tests.servers.process import HOST, ask, free_port, unprivileged

from .conftest import StartWorker, log_in
from .support import SAFETY, Call, get, until

THREADS, EXPIRIES = 8, 3
IDENTITIES = ("ada", "bob", "eve")
Make = Callable[[], TokenStore]


@pytest.fixture(params=["postgres", "sqlite"])
def on_sql(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Stores on one table, each with an engine of one connection."""
    url = f"sqlite:///{tmp_path}/tokens.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").url
    table = f"t{uuid.uuid4().hex}"
    with ExitStack() as stack:

        def make() -> TokenStore:
            engine = sqlalchemy.create_engine(
                url, poolclass=sqlalchemy.QueuePool, pool_size=1, max_overflow=0, pool_timeout=2
            )
            stack.callback(engine.dispose)
            return SQLStore(engine, table=table, lease=5.0)

        yield make


@pytest.fixture(params=[redis.ConnectionPool, redis.BlockingConnectionPool])
def on_redis(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Make]:
    """Stores with one prefix, each with a client of one connection."""
    prefix = uuid.uuid4().hex
    with ExitStack() as stack:

        def make() -> TokenStore:
            pool = request.param.from_url(redis_server.url, max_connections=1)
            client = stack.enter_context(closing(redis.Redis.from_pool(pool)))
            return RedisStore(client, prefix=prefix, lease=5.0)

        yield make


def two_stores_work(server: AuthServer, make: Make) -> None:
    """Use two stores from many threads each, as two processes would, through some expiries."""
    with closing(make()) as one, closing(make()) as other:
        sources: list[TokenSource] = []
        for identity in IDENTITIES:
            sources.append(server.source(identity, store=one))
            sources[-1].token()  # stores the login
            sources.append(TokenSource(server.grant(), other, identity=identity))

        def work(number: int) -> list[str]:
            mine = sources[number % len(sources) :] + sources[: number % len(sources)]
            return [get(source, server.api) for source in mine]

        for expiry in range(1, EXPIRIES + 1):
            server.revoke_access()
            calls = [Call(partial(work, number)) for number in range(THREADS)]
            came = [outcome for call in calls for outcome in call.result()]
            assert set(came) == {"200"}
            assert server.counts.refreshes == expiry * len(IDENTITIES)
        assert server.counts.reuses == 0


def test_one_connection_to_a_database(server: AuthServer, on_sql: Make) -> None:
    """I1, I3: with an engine of one connection nobody deadlocks, and no request fails."""
    two_stores_work(server, on_sql)


def test_one_connection_to_redis(server: AuthServer, on_redis: Make) -> None:
    """I1, I3: with a client of one connection nobody deadlocks, and no request fails."""
    two_stores_work(server, on_redis)


def test_a_pool_that_stays_full(redis_server: RedisServer) -> None:
    """A client whose connections others keep for good is a StoreError, not a hang."""
    pool = redis.ConnectionPool.from_url(redis_server.url, max_connections=1)
    with closing(redis.Redis.from_pool(pool)) as client, closing(RedisStore(client)) as store:
        taken = pool.get_connection()
        with pytest.raises(StoreError, match="Too many connections"):
            store.load("default")
        pool.release(taken)
        assert store.load("default") is None


@pytest.fixture
def pooler(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[str]:
    """The URL of a PgBouncer that gives out its two connections by transaction."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/bin:/usr/bin")
    if program is None:
        pytest.skip("no pgbouncer here")
    port, settings = free_port(), tmp_path / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\npostgres = host={HOST} port={postgres_server.port} user=tester\n"
        f"[pgbouncer]\nlisten_addr = {HOST}\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
    )
    with open(settings) as given:
        process = subprocess.Popen(
            [program, "/dev/stdin"],
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **unprivileged(),
        )
    try:
        until(lambda: _answers(port) or process.poll() is not None, "an answer of PgBouncer")
        assert process.poll() is None
        yield postgres_server.url.replace(str(postgres_server.port), str(port))
    finally:
        process.kill()
        process.wait(SAFETY)


def _answers(port: int) -> bool:
    return ask(port, b"\0\0\0\x08\x04\xd2\x16\x2f") != b""  # SSLRequest


def test_a_pooler_of_transactions(server: AuthServer, pooler: str, start: StartWorker) -> None:
    """I1: behind a pooler, where nobody hears a notice, a fleet still refreshes once."""
    shared = {"kind": "sql", "url": pooler, "table": f"t{uuid.uuid4().hex}", "lease": 5.0}
    log_in(server, shared)
    fleet = [start(shared), start(shared)]
    for expiry in range(1, EXPIRIES + 1):
        server.revoke_access()
        for process in fleet:
            process.ask("get", times=2, threads=4)
        for process in fleet:
            assert process.answer() == ["200"]
        assert server.counts.refreshes == server.counts.refresh_calls == expiry
    assert server.counts.reuses == 0
