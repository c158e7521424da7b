"""The servers that the tests of stores run on can be killed, paused and cut off."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from ..servers import (
    MariaServer,
    PostgresServer,
    RedisServer,
    Relay,
    Server,
    postgres,
    redis,
    temporary_directory,
)
from ..servers.fixtures import OwnRedis
from ..servers.process import HOST, SAFETY, ask, has_ended, until

TOP = Path(__file__).parents[2]
KINDS: list[type[Server]] = [RedisServer, PostgresServer, MariaServer]
MOMENT = 0.2  # seconds in which an answer comes that should not come


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server of each kind, for all tests here, each of which leaves it running."""
    with temporary_directory() as directory, request.param(directory) as running:
        yield running


def put(server: Server, value: str) -> None:
    """Keep a value in it."""
    if isinstance(server, RedisServer):
        driver = pytest.importorskip("redis")
        with closing(driver.Redis.from_url(server.url)) as client:
            client.set("kept", value)
        return
    sql(server, "CREATE TABLE IF NOT EXISTS kept (value VARCHAR(50))")
    sql(server, "INSERT INTO kept VALUES (:value)", value=value)


def get(server: Server) -> str:
    """The value that it has kept."""
    if isinstance(server, RedisServer):
        driver = pytest.importorskip("redis")
        with closing(driver.Redis.from_url(server.url, decode_responses=True)) as client:
            return str(client.get("kept"))
    return sql(server, "SELECT max(value) FROM kept")


def sql(server: Server, statement: str, **values: str) -> str:
    """The first value of what a statement gives."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(server.url)
    try:
        with engine.begin() as connection:
            result = connection.execute(sqlalchemy.text(statement), values)
            return str(result.scalar()) if result.returns_rows else ""
    finally:
        engine.dispose()


def processes(server: Server) -> list[psutil.Process]:
    first = psutil.Process(server.pid)
    return [first, *first.children(recursive=True)]


def test_data_outlives_a_kill_and_a_stop(server: Server) -> None:
    """A killed or stopped server comes back on its port with all that it had acknowledged."""
    before = processes(server)
    url = server.url
    put(server, "one")
    server.kill()
    assert all(map(has_ended, before))
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((HOST, server.port))
    server.start()
    assert get(server) == "one"
    put(server, "two")
    server.restart()
    assert server.url == url
    assert get(server) == "two"


def test_a_paused_server_is_silent_until_it_goes_on(server: Server) -> None:
    """A paused server takes connections and answers none, with every one of its processes."""
    put(server, "zero")
    server.pause()
    alive = [process for process in processes(server) if not has_ended(process)]
    assert {process.status() for process in alive} == {psutil.STATUS_STOPPED}
    with socket.create_connection((HOST, server.port)) as connection:
        connection.settimeout(MOMENT)
        connection.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(1)
    server.resume()
    assert get(server) >= "zero"


def test_a_paused_server_can_be_killed(server: Server) -> None:
    """A kill ends what stands still as well."""
    before = processes(server)
    server.pause()
    server.kill()
    assert all(map(has_ended, before))
    server.start()


def test_a_cluster_has_all_slots(own_redis: OwnRedis) -> None:
    """A cluster of one node takes every key, also after a kill, and asks for its password."""
    driver = pytest.importorskip("redis")
    server = own_redis("--maxmemory", "50mb", password="pass", cluster=True)
    for number in range(2):
        with closing(driver.RedisCluster.from_url(server.url)) as client:
            for key in ("{one}x", "{two}x", "{three}x"):
                client.set(key, number)
                assert client.get(key) == str(number).encode()
        if number == 0:
            server.kill()
            server.start()
    assert ask(server.port, b"PING\r\n").startswith(b"-NOAUTH")


PROGRAM = """
import sys, time
from pathlib import Path
from tests import servers
server = getattr(servers, sys.argv[1])(Path(sys.argv[2]))
server.start()
if sys.argv[3] == "paused":
    server.pause()
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("kind", "found", "state"),
    [("RedisServer", redis.binary, "running"), ("PostgresServer", postgres.programs, "paused")],
)
def test_no_server_outlives_the_tests(kind: str, found: Callable[[], object], state: str) -> None:
    """When the process that started a server is killed, so is the server, with all of it."""
    found()  # or skip
    with temporary_directory() as directory, ExitStack() as stack:
        program = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, kind, str(directory), state],
                stdout=subprocess.PIPE,
                cwd=TOP,
                env={**os.environ, "TMPDIR": str(directory)},  # it is left no time to clean up
            )
        )
        stack.callback(program.kill)
        assert program.stdout is not None
        first = psutil.Process(int(program.stdout.readline()))
        everyone = [first, *first.children(recursive=True)]
        program.kill()
        until(lambda: all(map(has_ended, everyone)), "the end of the server")
        postgres.free_memory(directory / "data")


@pytest.fixture
def relay(redis_server: RedisServer) -> Iterator[Relay]:
    with Relay(redis_server.port) as running:
        yield running


def ping(connection: socket.socket) -> bytes:
    connection.sendall(b"PING\r\n")
    return connection.recv(100)


def test_a_cut_relay_holds_everything_back(relay: Relay) -> None:
    """Behind a cut, old and new connections hang, and when it heals nothing is lost."""
    with socket.create_connection((HOST, relay.port), timeout=SAFETY) as old:
        assert ping(old) == b"+PONG\r\n"
        relay.cut()
        with socket.create_connection((HOST, relay.port), timeout=MOMENT) as new:
            old.settimeout(MOMENT)
            for connection in (old, new):
                with pytest.raises(TimeoutError):
                    ping(connection)
            relay.heal()
            for connection in (old, new):
                connection.settimeout(SAFETY)
                assert connection.recv(100) == b"+PONG\r\n"
    assert relay.count == 2


def test_a_refusing_relay_breaks_everything(relay: Relay) -> None:
    """When it refuses, connections end, whether cut or not, and new ones fail until it heals."""
    for cut in (False, True):
        with socket.create_connection((HOST, relay.port), timeout=SAFETY) as old:
            assert ping(old) == b"+PONG\r\n"
            if cut:
                relay.cut()
            relay.refuse()
            assert old.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, relay.port))
        relay.heal()
        assert ask(relay.port, b"PING\r\n") == b"+PONG\r\n"


def test_a_relay_hands_on_the_end(relay: Relay, own_redis: OwnRedis) -> None:
    """When either side ends a connection, so does the other; a server that is gone ends it."""
    with socket.create_connection((HOST, relay.port), timeout=SAFETY) as client:
        client.sendall(b"PING\r\nQUIT\r\n")
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answers:
            assert answers.read() == b"+PONG\r\n+OK\r\n"
    own = own_redis()
    with Relay(own.port) as other:
        own.kill()
        with socket.create_connection((HOST, other.port), timeout=SAFETY) as client:
            assert client.recv(1) == b""
        other.close()  # twice is no harm


def test_a_server_that_cannot_start_says_why(own_redis: OwnRedis) -> None:
    """A server that ends at once fails the test with what it said."""
    with pytest.raises(AssertionError, match="no-such-option"):
        own_redis("--no-such-option", "1")
