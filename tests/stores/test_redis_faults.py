"""RedisStore where the server refuses, or holds what is none of ours."""

from __future__ import annotations

import json
import logging
import pickle
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from requests_refresh import Token
from requests_refresh.errors import ConfigurationError, StoreError
from requests_refresh.stores import RedisStore
from requests_refresh.testing.contract_support import enter
from requests_refresh.testing.peer import changed
from tests.servers.fixtures import OwnRedis
from tests.servers.redis import RedisServer
from tests.stores.contract import CANARY, NEW, OLD, shown

SECRET = Token(CANARY, refresh_token=f"{CANARY}-r", extra={CANARY: CANARY})


def uses(store: RedisStore) -> list[Callable[[], object]]:
    """All that can be done to "default"."""
    return [
        lambda: store.load("default"),
        lambda: store.save("default", SECRET),
        lambda: store.save("default", SECRET, replacing=None),
        lambda: store.delete("default"),
        lambda: store.delete("default", replacing=SECRET),
    ]


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisStore]:
    """A store with nothing in it."""
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)
    yield store
    store.close()


def _text(**changes: Any) -> bytes:
    document = {"schema": 1, "identity": "default", "token": {"access_token": CANARY}}
    document.update(changes)
    return json.dumps(document).encode()


NOT_OURS = {
    "empty": b"",
    "text": CANARY.encode(),
    "pickle": pickle.dumps({"access_token": CANARY}),
    "reduce": b"cos\nsystem\n(S'touch planted'\ntR.",
    "bytes": b"\xff\xfe\x00" + CANARY.encode(),
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep extra": b'{"schema": 1, "identity": "default", "token": {"access_token": "'
    + CANARY.encode()
    + b'", "extra": '
    + b'{"a":' * 100_000
    + b"1"
    + b"}" * 100_002,
    "number": b"9" * 10_000,
    "nan": b"NaN",
    "null": b"null",
    "list": b"[1]",
    "no token": b'{"schema": 1, "identity": "default"}',
    "schema": _text(schema=2),
    "no schema": _text(schema=None),
    "schema of another kind": _text(schema=[1]),
    "identity": _text(identity="another"),
    "no identity": _text(identity=None),
    "token of another kind": _text(token=[CANARY]),
    "token without anything": _text(token={}),
    "access token of another kind": _text(token={"access_token": [CANARY]}),
    "line break": _text(token={"access_token": f"{CANARY}\r\nX: y"}),
    "expiry": _text(token={"access_token": CANARY, "expires_at": "soon"}),
    "huge expiry": _text(token={"access_token": CANARY, "expires_at": 10**400}),
    "extra": _text(token={"access_token": CANARY, "extra": [1]}),
    "sealed": _text(token={"sealed": CANARY}),
}


@pytest.mark.parametrize("value", NOT_OURS.values(), ids=NOT_OURS.keys())
@pytest.mark.parametrize("decode", [False, True], ids=["", "decoded"])
def test_what_is_not_ours_is_left_alone(
    redis_server: RedisServer, value: bytes, decode: bool
) -> None:
    """I7, I9: a value that is no token is a StoreError that names the key, and stays as it is."""
    with (
        redis.Redis.from_url(redis_server.url) as client,
        redis.Redis.from_url(redis_server.url, decode_responses=decode) as given,
    ):
        store = RedisStore(given, prefix=uuid.uuid4().hex)
        key = store._key("default") + ":token"
        client.set(key, value)
        for use in uses(store):
            with pytest.raises(StoreError) as caught:
                use()
            assert type(caught.value) is StoreError
            assert repr(key) in str(caught.value)
            assert not [*shown(caught.value, CANARY)]
        assert client.get(key) == value
        assert client.pttl(key) == -1
        assert store.identities() == ["default"]
        store.wait("default", 0.0)


def test_a_key_of_another_type(store: RedisStore, redis_server: RedisServer) -> None:
    """I9: a list where a token or a lease belongs is refused, named, and left as it is."""
    key = store._key("default")
    with redis.Redis.from_url(redis_server.url) as client:
        client.rpush(key + ":token", CANARY)
        for use in uses(store):
            with pytest.raises(StoreError, match="WRONGTYPE") as caught:
                use()
            assert repr(key + ":token") in str(caught.value)
            assert not [*shown(caught.value, CANARY)]
        assert client.lrange(key + ":token", 0, -1) == [CANARY.encode()]
        client.delete(key + ":token")
        client.rpush(key + ":lease", CANARY)
        with pytest.raises(StoreError) as caught:
            enter(store, "default", 0.0)
        assert not [*shown(caught.value, CANARY)]
        assert client.lrange(key + ":lease", 0, -1) == [CANARY.encode()]


def test_a_server_without_scripts(own_redis: OwnRedis) -> None:
    """I9: a server whose errors quote what it was sent: none of it is shown."""
    server = own_redis("--rename-command", "EVAL", "")
    with redis.Redis.from_url(server.url) as client:
        with pytest.raises(redis.ResponseError, match=CANARY):
            client.execute_command("EVAL", CANARY, "1")  # so it does quote
        store = RedisStore(server.url)
        for use in uses(store)[1:3]:
            with pytest.raises(StoreError, match="ResponseError") as caught:
                use()
            assert not [*shown(caught.value, CANARY)]
        store.close()
        store = RedisStore(server.url)
        with pytest.raises(StoreError), store.exclusive("default", 0.0):
            pytest.fail("It was entered.")
        assert client.dbsize() == 0
        store.close()


def test_a_user_who_may_not_write(own_redis: OwnRedis) -> None:
    """I7: who may not run scripts, or not write, is told in `exclusive`, before anything else."""
    server = own_redis()
    with redis.Redis.from_url(server.url) as client:
        all_rights = "~* &* +@all -eval", "~* &* +@read +eval +info", "~other:* &* +@all"
        for user, rights in zip(("one", "two", "three"), all_rights, strict=True):
            client.execute_command("ACL SETUSER", user, "on", ">pw", *rights.split())
            store = RedisStore(server.url.replace("//", f"//{user}:pw@"))
            with pytest.raises(StoreError) as caught:
                store.save("default", SECRET)
            assert not [*shown(caught.value, CANARY)]
            with pytest.raises(StoreError), store.exclusive("default", 0.0):
                pytest.fail("It was entered.")
            store.close()
        assert client.dbsize() == 0


@pytest.mark.parametrize("rights", ["+@all", "+@all -publish", "+@all -publish -subscribe -info"])
def test_a_user_without_the_channel(own_redis: OwnRedis, rights: str) -> None:
    """Who may not publish, listen or ask the server about itself still saves, and sees changes."""
    server = own_redis()
    with redis.Redis.from_url(server.url) as client:
        name = "requests_refresh"
        limits = ["on", ">pw", "resetchannels", f"~{name}:*", *rights.split()]
        client.execute_command("ACL SETUSER", "limited", *limits)
        store = RedisStore(server.url.replace("//", "//limited:pw@"))
        other = RedisStore(server.url)
        with store.exclusive("default", 1.0) as held:
            store.save("default", OLD, replacing=None)
            assert held.assure(0.1)
        before = store.load("default")
        other.save("default", NEW, replacing=OLD)
        assert changed(store, "default", before, 30.0) == NEW
        before = other.load("default")
        store.save("default", OLD, replacing=NEW)
        assert changed(other, "default", before, 30.0) == OLD
        store.delete("default", replacing=OLD)
        assert client.dbsize() == 0
        store.close()
        other.close()


def test_a_full_server(own_redis: OwnRedis) -> None:
    """I7: a server that is full and evicts nothing says so in `exclusive`; what it has stays."""
    server = own_redis()
    store = RedisStore(server.url)
    store.save("default", SECRET)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(StoreError, match="OOM"), store.exclusive("default", 0.0):
            pytest.fail("It was entered.")
        with pytest.raises(StoreError, match="OOM") as caught:
            store.save("default", Token(f"{CANARY}-2", refresh_token=CANARY))
        assert not [*shown(caught.value, CANARY)]
        assert store.load("default") == SECRET
        store.save("default", SECRET)  # is there already
    store.close()


@pytest.mark.parametrize(
    ("policy", "memory", "warned"),
    [
        ("noeviction", "100mb", ""),
        ("allkeys-lru", "0", ""),
        ("allkeys-lru", "100mb", "tokens and leases"),
        ("volatile-lru", "100mb", "drops leases"),
    ],
)
def test_a_server_that_evicts(
    own_redis: OwnRedis, caplog: pytest.LogCaptureFixture, policy: str, memory: str, warned: str
) -> None:
    """I7: a server that may drop a token is warned of, once."""
    server = own_redis("--maxmemory", memory, "--maxmemory-policy", policy)
    store = RedisStore(server.url)
    with caplog.at_level(logging.WARNING, "requests_refresh"):
        for _ in range(2):
            enter(store, "default", 1.0)
    assert [warned in record.getMessage() for record in caplog.records] == [True] * bool(warned)
    store.close()


@pytest.mark.parametrize("told", [{}, {"used_memory": 1, "mem_allocator": "x"}])
def test_a_server_that_tells_of_no_policy(redis_server: RedisServer, told: dict[str, Any]) -> None:
    """What speaks Redis's protocol and has no such policy to tell of is good enough."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.set_response_callback("INFO", lambda *_, **__: told)
        enter(RedisStore(client, prefix=uuid.uuid4().hex), "default", 1.0)


@pytest.mark.parametrize("prefix", ["", "{", "}", "a{b}", 5, None, b"x", "\ud800"])
def test_what_is_no_prefix(prefix: Any) -> None:
    """A prefix that would move the slots, or that is no text, is refused at once."""
    with pytest.raises(ConfigurationError, match="prefix"):
        RedisStore("redis://localhost/", prefix=prefix)


@pytest.mark.parametrize("lease", [0, 0.01, -1, 1e9, float("nan"), float("inf"), True, "1", None])
def test_what_is_no_lease(lease: Any) -> None:
    """A lease that nobody could keep is refused at once."""
    with pytest.raises(ConfigurationError, match="lease"):
        RedisStore("redis://localhost/", lease=lease)
