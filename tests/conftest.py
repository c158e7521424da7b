"""Fixtures for every test: servers, each started when the first test asks for it."""

from __future__ import annotations

from .servers.fixtures import (
    maria_server,
    own_maria,
    own_postgres,
    own_redis,
    postgres_server,
    redis_server,
)

__all__ = [
    "maria_server",
    "own_maria",
    "own_postgres",
    "own_redis",
    "postgres_server",
    "redis_server",
]
