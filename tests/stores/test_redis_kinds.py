"""RedisStore on all that it can be given: clusters, sentinels, sockets, passwords, clients."""

from __future__ import annotations

import os
import pickle
import threading
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from requests_refresh import Token
from requests_refresh.errors import ConfigurationError, RefreshTimeout, StoreConflict, StoreError
from requests_refresh.stores import RedisStore
from requests_refresh.testing.contract_support import enter, in_threads
from requests_refresh.testing.peer import changed, count
from tests.servers.fixtures import OwnRedis
from tests.servers.process import HOST, Server, ask, temporary_directory, until
from tests.servers.redis import RedisServer, binary
from tests.stores.contract import CANARY, FULL, NEW, OLD, SAFETY, shown


class Sentinel(Server):
    """One sentinel, which watches one Redis and is of its opinion alone."""

    def __init__(self, directory: Path, master: RedisServer, password: str = "") -> None:
        super().__init__(directory)
        self._config = directory / "sentinel.conf"
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {directory}",
            f"sentinel monitor mymaster {HOST} {master.port} 1",
        ]
        if password:
            lines.append(f"sentinel auth-pass mymaster {password}")
        self._config.write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        return f"redis+sentinel://{HOST}:{self.port}/mymaster"

    def _command(self) -> list[str]:
        return [binary(), str(self._config), "--sentinel"]

    def _answers(self) -> bool:
        question = b"SENTINEL GET-MASTER-ADDR-BY-NAME mymaster\r\n"
        return HOST.encode() in ask(self.port, question)


@pytest.fixture(scope="module")
def sentinel(redis_server: RedisServer) -> Iterator[Sentinel]:
    """A sentinel that watches the Redis of all tests."""
    with temporary_directory() as directory, Sentinel(directory, redis_server) as sentinel:
        yield sentinel


def works(server: Any, **settings: Any) -> None:
    """What matters of the contract: swaps, exclusion, waiting, listing, closing."""
    settings = {"prefix": uuid.uuid4().hex, **settings}
    store, other = RedisStore(server, **settings), RedisStore(server, **settings)
    try:
        assert store.load("default") is None
        store.save("default", OLD, replacing=None)
        with pytest.raises(StoreConflict):
            other.save("default", NEW, replacing=None)
        other.save("default", FULL, replacing=OLD)
        assert store.load("default") == FULL
        with store.exclusive("default", SAFETY) as held:
            assert held.assure(0.1)
            with pytest.raises(RefreshTimeout):
                enter(other, "default", 0.02)
            enter(other, "other", 0.0)
        enter(other, "default", SAFETY)
        before = store.load("default")
        timer = threading.Timer(0.02, other.save, ("default", NEW))
        timer.start()
        assert changed(store, "default", before, SAFETY) == NEW
        timer.join()
        other.save("{a}", NEW)
        assert sorted(store.identities()) == ["default", "{a}"]
        store.close()
        assert store.load("default") == NEW
        store.delete("default", replacing=NEW)
        store.delete("default")
        assert list(other.identities()) == ["{a}"]
    finally:
        store.close()
        other.close()


def test_a_cluster(own_redis: OwnRedis) -> None:
    """Redis Cluster, by URL and by a client: no command touches two slots."""
    server = own_redis(cluster=True)
    url = server.url.replace("redis://", "redis+cluster://")
    # A client of a cluster asks much before its first command; a busy host may take its time.
    works(f"{url}?socket_timeout={SAFETY}&socket_connect_timeout={SAFETY}")
    client = redis.RedisCluster.from_url(server.url)
    works(client)
    assert client.ping()
    client.close()
    assert pickle.loads(pickle.dumps(RedisStore(url))).load("default") is None  # noqa: S301 - ours


def test_a_cluster_that_is_none(redis_server: RedisServer) -> None:
    """A Redis that is no cluster is a StoreError, and heals nothing by itself."""
    store = RedisStore(redis_server.url.replace("redis://", "redis+cluster://"))
    with pytest.raises(StoreError, match="Redis"):
        store.load("default")


def test_sentinels(sentinel: Sentinel) -> None:
    """The master that a sentinel names, its database too; the first sentinel may be gone."""
    works(sentinel.url)
    works(sentinel.url + "/1")
    works(sentinel.url.replace("//", "//localhost:1,"))


def test_a_service_that_no_sentinel_knows(sentinel: Sentinel) -> None:
    """A service that is not watched is a StoreError that says so."""
    store = RedisStore(sentinel.url.replace("mymaster", "another"))
    with pytest.raises(StoreError, match="another"):
        store.load("default")
    store.close()


def test_a_password_behind_sentinels(own_redis: OwnRedis) -> None:
    """The URL's password is the master's, and no error shows it."""
    server = own_redis(password=CANARY)
    with temporary_directory() as directory, Sentinel(directory, server, CANARY) as sentinel:
        works(sentinel.url.replace("//", f"//:{CANARY}@"))
        store = RedisStore(sentinel.url.replace("//", f"//:wrong-{CANARY}@"))
        with pytest.raises(StoreError) as caught:
            store.load("default")
        assert not [*shown(caught.value, CANARY)]
        store.close()


@pytest.mark.parametrize("path", ["", "/", "/mymaster/x", "/mymaster/-1"])
def test_a_url_that_names_no_service(path: str) -> None:
    """I9: a URL of sentinels without a service is refused at once, its password not shown."""
    with pytest.raises(ConfigurationError, match="service") as caught:
        RedisStore(f"redis+sentinel://:{CANARY}@localhost:26379{path}")
    assert not [*shown(caught.value, CANARY)]


def test_passwords(own_redis: OwnRedis) -> None:
    """I9: a password opens the server; a wrong one, or none, is a StoreError that shows none."""
    server = own_redis(password=CANARY)
    works(server.url)
    wrong = server.url.replace(CANARY, f"wrong-{CANARY}")
    user = server.url.replace(f":{CANARY}", f"user:{CANARY}")
    none = server.url.replace(f":{CANARY}@", "")
    for url in (wrong, user, none, wrong + "?protocol=3", user + "?protocol=3"):
        store = RedisStore(url)
        with pytest.raises(StoreError, match="Error") as caught:
            store.save("default", NEW)
        assert not [*shown(caught.value, CANARY)]
        store.wait("default", 0.0)
        store.close()


def test_a_unix_socket(own_redis: OwnRedis) -> None:
    """A Redis at a socket in the file system."""
    with temporary_directory() as directory:
        path = directory / "redis.sock"
        own_redis("--unixsocket", str(path))
        works(f"unix://{path}")
        works(f"unix://{path}?db=1")


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("protocol", [2, 3])
def test_clients_of_every_kind(redis_server: RedisServer, decode: bool, protocol: int) -> None:
    """A client of yours may decode its answers, and speak either protocol; it stays open."""
    url = redis_server.url
    client = redis.Redis.from_url(url, decode_responses=decode, protocol=protocol)
    works(client)
    connection = client.connection_pool.get_connection()
    assert connection._sock is not None  # still open after `close`
    client.connection_pool.release(connection)
    store = RedisStore(client)
    assert "client" in repr(store)
    with pytest.raises(TypeError, match="give it a URL"):
        pickle.dumps(store)
    client.close()


@pytest.mark.parametrize("options", ["max_connections=1", "max_connections=3", "protocol=3"])
def test_options_in_the_url(redis_server: RedisServer, options: str) -> None:
    """A URL may say more: with few connections, none is kept for listening."""
    works(f"{redis_server.url}?{options}")


def test_a_client_with_one_connection(redis_server: RedisServer) -> None:
    """A pool of one, of yours, is enough, if it waits or not."""
    for pool in (redis.ConnectionPool, redis.BlockingConnectionPool):
        client = redis.Redis(connection_pool=pool.from_url(redis_server.url, max_connections=1))
        works(client)
        client.connection_pool.disconnect()


def test_many_threads_and_two_connections(redis_server: RedisServer) -> None:
    """32 threads at once get along with two connections."""
    url = f"{redis_server.url}?max_connections=2&timeout={SAFETY}"
    store = RedisStore(url, prefix=uuid.uuid4().hex)

    def work(number: int) -> None:
        count(store, f"{number % 4}", 2, SAFETY)
        store.save(f"own-{number}", NEW)
        store.wait(f"own-{number}", 0.001)

    in_threads(32, work)
    for number in range(4):
        assert store.load(f"{number}") == Token("a", extra={"steps": 16})
    assert len(list(store.identities())) == 36
    store.close()


def test_a_fork_while_it_listens(redis_server: RedisServer) -> None:
    """I14: a child hears with an ear of its own, and its parent goes on hearing."""
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)
    store.save("default", OLD)
    with redis.Redis.from_url(redis_server.url) as client:
        ended, waiter = threading.Event(), threading.Event()

        def listen() -> None:
            while not ended.is_set():
                store.wait("something", 0.2)
                waiter.set()

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            until(lambda: client.pubsub_numsub(store._channel)[0][1] == 1, "the listener")
            before = store.load("default")
            with warnings.catch_warnings():
                # Python 3.12 and later: there are threads. That this works is what is tested.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                good = False
                try:
                    store.save("default", NEW, replacing=OLD)
                    store.load("default")
                    store.wait("default", 0.01)
                    enter(store, "default", 5.0)
                    store.close()
                    good = store.load("default") == NEW
                finally:
                    os._exit(0 if good else 1)
            assert changed(store, "default", before, SAFETY) == NEW
            assert os.waitpid(child, 0)[1] == 0
            assert client.pubsub_numsub(store._channel)[0][1] >= 1
            before = store.load("default")
            timer = threading.Timer(0.02, client.publish, (store._channel, "nothing"))
            timer.start()
            store.wait("default", 0.1)
            timer.join()
            assert store.load("default") == before
        finally:
            ended.set()
            thread.join(SAFETY)
    store.close()
