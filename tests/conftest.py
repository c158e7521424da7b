"""Fixtures for every test: servers, each started when the first test asks for it."""

from __future__ import annotations

import signal

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

# A shell that starts this in the background has SIGINT ignored, and so would all processes that
# the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
