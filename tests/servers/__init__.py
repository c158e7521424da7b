"""Real servers for tests, each a process of its own, and a relay to cut them off with."""

from __future__ import annotations

from .maria import MariaServer
from .postgres import PostgresServer
from .process import Server, temporary_directory
from .redis import RedisServer
from .relay import Relay

__all__ = [
    "MariaServer",
    "PostgresServer",
    "RedisServer",
    "Relay",
    "Server",
    "temporary_directory",
]
