"""Servers as fixtures: one of each for the whole session, and own ones for a test to break."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

from .maria import MariaServer
from .postgres import PostgresServer
from .process import Server, temporary_directory
from .redis import RedisServer

AnyServer = TypeVar("AnyServer", bound=Server)
OwnRedis = Callable[..., RedisServer]
OwnPostgres = Callable[[], PostgresServer]
OwnMaria = Callable[[], MariaServer]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis that all tests share, each with a prefix of its own."""
    with temporary_directory() as directory, RedisServer(directory) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that all tests share, each with a table of its own."""
    with temporary_directory() as directory, PostgresServer(directory) as server:
        yield server


@pytest.fixture(scope="session")
def maria_server() -> Iterator[MariaServer]:
    """A MariaDB that all tests share, each with a table of its own."""
    with temporary_directory() as directory, MariaServer(directory) as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    """`own_redis(*options, password=..., cluster=...)`: a running one, which ends with the test."""
    with ExitStack() as stack:
        yield functools.partial(_start, stack, RedisServer)


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    """`own_postgres()`: a running one, which ends with the test."""
    with ExitStack() as stack:
        yield functools.partial(_start, stack, PostgresServer)


@pytest.fixture
def own_maria() -> Iterator[OwnMaria]:
    """`own_maria()`: a running one, which ends with the test."""
    with ExitStack() as stack:
        yield functools.partial(_start, stack, MariaServer)


def _start(
    stack: ExitStack, kind: Callable[..., AnyServer], *options: str, **settings: Any
) -> AnyServer:
    directory = stack.enter_context(temporary_directory())
    server = kind(directory, *options, **settings)
    stack.enter_context(server)
    return server
