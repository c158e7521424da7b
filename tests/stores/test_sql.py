"""SQLStore against real databases."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from requests_refresh import TokenStore
from requests_refresh.stores import SQLStore
from requests_refresh.testing import TokenStoreContract
from tests.servers.maria import MariaServer
from tests.servers.postgres import PostgresServer


class SQLContract(TokenStoreContract):
    between_processes = True
    takeover = 1.0
    url: str

    def make_store(self) -> TokenStore:
        return SQLStore(self.url, table=f"t{uuid.uuid4().hex}", lease=1.0)

    def share(self, store: TokenStore) -> TokenStore:
        assert isinstance(store, SQLStore)
        return SQLStore(self.url, table=store._name, lease=1.0)


class TestPostgres(SQLContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres_server: PostgresServer) -> None:
        self.url = postgres_server.url


class TestMaria(SQLContract):
    @pytest.fixture(autouse=True)
    def _server(self, maria_server: MariaServer) -> None:
        self.url = maria_server.url


class TestSQLite(SQLContract):
    @pytest.fixture(autouse=True)
    def _server(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/tokens.db"
