"""A store that can be read and not written: its disk or memory is full, or it is read-only.

A refresh token is not spent where there is no room for its successor.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy

from requests_refresh import FileStore, StoreError, Token, TokenSource, TokenStore
from requests_refresh.stores import RedisStore, SQLStore
from requests_refresh.testing import AuthServer
from tests.servers import PostgresServer, RedisServer
from tests.servers.fixtures import OwnRedis

from .support import get, until

KIBIBYTES = 1024


def mount(place: Path, *options: str) -> None:
    """Mount a small file system, or change how it is mounted."""
    command = shutil.which("mount")
    if command is None:
        pytest.skip("this system has no mount command to make a small file system with")
    together = ",".join([f"size={KIBIBYTES}k", "mode=700", *options])
    made = subprocess.run(
        [command, "-t", "tmpfs", "-o", together, "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("a file system can be mounted here only by root, if at all")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with one MiB, which needs root to be made."""
    place = tmp_path / "disk"
    place.mkdir(mode=0o700)
    mount(place)
    yield place
    subprocess.run(["umount", str(place)], check=True)  # noqa: S607 - found where mount was


def fill(place: Path) -> Path:
    """Leave no byte free."""
    filler = place / "filler"
    with open(filler, "wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return filler


def on_file(disk: Path) -> TokenStore:
    return FileStore(disk / "private" / "tokens.json")


def on_sqlite(disk: Path) -> TokenStore:
    return SQLStore(f"sqlite:///{disk}/private/tokens.db")


def stays_whole(server: AuthServer, store: TokenStore, tokens: TokenSource) -> None:
    """See that nothing is spent where nothing can be written, and all that was there is intact."""
    before, calls = store.load("default"), server.counts.refresh_calls
    server.revoke_access()
    assert get(tokens, server.api).startswith("StoreError: ")
    with pytest.raises(StoreError), store.exclusive("default", 0.0):
        pytest.fail("it was entered")
    with pytest.raises(StoreError):
        store.save("default", Token("x", extra={"fill": "x" * 100_000}))
    assert store.load("default") == before
    assert server.counts.refresh_calls == calls


def heals(server: AuthServer, store: TokenStore, tokens: TokenSource) -> None:
    """See that the login goes on."""
    until(lambda: get(tokens, server.api) == "200", "the end of the outage")
    stored = store.load("default")
    assert stored is not None
    assert stored.same_issue(tokens.token())
    tokens.close()  # the round may still be giving its place back, over a new connection
    assert server.counts.refreshes == 1
    assert server.counts.reuses == 0


@pytest.mark.parametrize("make", [on_file, on_sqlite])
def test_a_full_disk(disk: Path, server: AuthServer, make: Callable[[Path], TokenStore]) -> None:
    """I7: with no room on the disk nothing is spent, and all goes on when there is room."""
    with closing(make(disk)) as store:
        tokens = server.source(store=store)
        assert get(tokens, server.api) == "200"
        filler = fill(disk)
        stays_whole(server, store, tokens)
        filler.unlink()
        heals(server, store, tokens)


@pytest.mark.parametrize("make", [on_file, on_sqlite])
def test_a_read_only_disk(
    disk: Path, server: AuthServer, make: Callable[[Path], TokenStore]
) -> None:
    """I7: on a file system that has become read-only nothing is spent."""
    with closing(make(disk)) as store:
        tokens = server.source(store=store)
        assert get(tokens, server.api) == "200"
        tokens.close()
        store.close()  # a file that is open for writing keeps it from becoming read-only
        mount(disk, "remount", "ro")
        try:
            stays_whole(server, store, tokens)
            tokens.close()
            store.close()
        finally:
            mount(disk, "remount", "rw")
        heals(server, store, tokens)


def on_redis(server: RedisServer) -> Any:
    return redis.Redis.from_url(server.url)


def test_a_redis_without_memory(own_redis: OwnRedis, server: AuthServer) -> None:
    """I7: a Redis that is full and drops nothing takes no lease, so nothing is spent."""
    data = own_redis("--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
    with closing(RedisStore(data.url)) as store, closing(on_redis(data)) as admin:
        tokens = server.source(store=store)
        assert get(tokens, server.api) == "200"
        admin.config_set("maxmemory", "1")
        stays_whole(server, store, tokens)
        admin.config_set("maxmemory", "0")
        heals(server, store, tokens)


def test_a_redis_that_is_a_replica(own_redis: OwnRedis, server: AuthServer) -> None:
    """I7: a Redis that has become a read-only replica takes no lease, so nothing is spent."""
    data, other = own_redis(), own_redis()
    with closing(RedisStore(data.url)) as store, closing(on_redis(data)) as admin:
        tokens = server.source(store=store)
        assert get(tokens, server.api) == "200"
        with closing(RedisStore(other.url)) as copy:
            token = store.load("default")
            assert token is not None
            copy.save("default", token)
        admin.replicaof("127.0.0.1", other.port)
        until(lambda: admin.info("replication")["master_link_status"] == "up", "the replica")
        stays_whole(server, store, tokens)
        admin.replicaof("NO", "ONE")
        heals(server, store, tokens)


def test_a_redis_that_evicts(
    own_redis: OwnRedis, server: AuthServer, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning per store tells of a server that may drop a refresh token."""
    data = own_redis("--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru")
    with closing(RedisStore(data.url)) as store:
        tokens = server.source(store=store)
        for _ in range(3):
            assert get(tokens, server.api) == "200"
            server.revoke_access()
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "maxmemory-policy is allkeys-lru" in warnings[0].getMessage()


def test_a_read_only_postgres(postgres_server: PostgresServer, server: AuthServer) -> None:
    """I7: who may only read takes no lease, so nothing is spent."""
    admin = sqlalchemy.create_engine(postgres_server.url, isolation_level="AUTOCOMMIT")
    url = postgres_server.url.replace("tester@", "reader@")

    def run(*statements: str) -> None:
        with admin.connect() as at:
            for statement in statements:
                at.exec_driver_sql(statement)

    run("CREATE ROLE reader LOGIN SUPERUSER")
    try:
        with closing(SQLStore(url, table="read_only")) as store:
            tokens = server.source(store=store)
            assert get(tokens, server.api) == "200"
            run("ALTER ROLE reader SET default_transaction_read_only = on")
            store.close()
            stays_whole(server, store, tokens)
            run("ALTER ROLE reader RESET default_transaction_read_only")
            store.close()
            heals(server, store, tokens)
    finally:
        run("DROP TABLE IF EXISTS read_only", "DROP ROLE reader")
        admin.dispose()
