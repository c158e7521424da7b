"""RedisStore against real Redis servers."""

from __future__ import annotations

import uuid

import pytest

from requests_refresh import TokenStore
from requests_refresh.stores import RedisStore
from requests_refresh.testing import TokenStoreContract
from tests.servers.redis import RedisServer


class TestRedis(TokenStoreContract):
    between_processes = True
    takeover = 1.0

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.url

    def make_store(self) -> TokenStore:
        return RedisStore(self.url, prefix=uuid.uuid4().hex, lease=1.0)

    def share(self, store: TokenStore) -> TokenStore:
        assert isinstance(store, RedisStore)
        return RedisStore(self.url, prefix=store._prefix, lease=1.0)
