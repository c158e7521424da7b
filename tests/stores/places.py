"""Where tokens are kept, seen from behind a store's back: the raw bytes, to look for secrets."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import uuid
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from typing import Any

import redis

from requests_refresh.stores import Encryption, FileStore, RedisStore, SQLStore, TokenStore
from tests.servers.redis import RedisServer


class Place(ABC):
    """One place; `make` opens a store on it, any number of times."""

    name: str  # that its errors have to say

    @abstractmethod
    def make(self, encryption: Encryption | None = None) -> TokenStore: ...

    @abstractmethod
    def raw(self) -> bytes:
        """All that is there, names and values."""

    @abstractmethod
    def move(self, one: str, other: str) -> None:
        """Put the value of one identity where another's is, as it stands."""


class FilePlace(Place):
    def __init__(self, directory: Path) -> None:
        self._path = directory / "private" / "tokens.json"
        self.name = str(self._path)

    def make(self, encryption: Encryption | None = None) -> TokenStore:
        return FileStore(self._path, encryption=encryption)

    def raw(self) -> bytes:
        files = sorted(self._path.parent.iterdir())
        return b"".join(file.name.encode() + file.read_bytes() for file in files)

    def move(self, one: str, other: str) -> None:
        document = json.loads(self._path.read_text())
        document["tokens"][other] = document["tokens"][one]
        self._path.write_text(json.dumps(document))


class SQLitePlace(Place):
    name = "the table requests_refresh_tokens"

    def __init__(self, directory: Path) -> None:
        self._path = directory / "tokens.db"

    def make(self, encryption: Encryption | None = None) -> TokenStore:
        return SQLStore(f"sqlite:///{self._path}", encryption=encryption)

    def raw(self) -> bytes:
        return self._path.read_bytes()

    def move(self, one: str, other: str) -> None:
        names = [hashlib.sha256(name.encode()).hexdigest() for name in (other, one)]
        with closing(sqlite3.connect(self._path)) as at, at:
            changed = at.execute(
                "UPDATE requests_refresh_tokens SET value = (SELECT value FROM"
                " requests_refresh_tokens WHERE id = ?2) WHERE id = ?1",
                names,
            )
            assert changed.rowcount == 1


class RedisPlace(Place):
    def __init__(self, server: RedisServer) -> None:
        self._url = server.url
        self._prefix = uuid.uuid4().hex
        self.name = f"the key '{self._prefix}:"

    def make(self, encryption: Encryption | None = None) -> TokenStore:
        return RedisStore(self._url, prefix=self._prefix, encryption=encryption)

    def raw(self) -> bytes:
        with redis.Redis.from_url(self._url) as client:
            names: Any = sorted(client.scan_iter(self._prefix + ":*", count=1000))
            return b"".join(name + (client.dump(name) or b"") for name in names)

    def move(self, one: str, other: str) -> None:
        with redis.Redis.from_url(self._url) as client:
            client.copy(
                f"{self._prefix}:{{={one}}}:token",
                f"{self._prefix}:{{={other}}}:token",
                replace=True,
            )
