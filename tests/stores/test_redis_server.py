"""RedisStore: what it keeps in Redis, for how long, in which slot, and how often it asks."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.crc import key_slot
from redis.retry import Retry

from requests_refresh import Token
from requests_refresh.errors import RefreshTimeout, StoreConflict
from requests_refresh.stores import Encryption, RedisStore
from requests_refresh.stores.shared import Cell
from requests_refresh.testing.contract_support import NASTY, enter
from tests.servers.fixtures import OwnRedis
from tests.servers.process import HOST, until
from tests.servers.redis import RedisServer
from tests.servers.relay import Relay
from tests.stores.contract import FULL, NEW, NEWER, OLD, SAFETY

IDENTITIES = [*NASTY, "}", "{", "{}", "}{", "{a}b", "=", "\ud800", "\ud83d\udd11", "\U0001f511"]


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    """A client that looks from outside."""
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisStore]:
    """A store with nothing in it."""
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex, lease=0.5)
    yield store
    store.close()


def keys(client: Any, store: RedisStore) -> set[str]:
    """The names of all keys of the store."""
    return {name.decode() for name in client.scan_iter(f"{store._prefix}:*", count=1000)}


# Names.


def test_all_keys_of_an_identity_are_in_one_slot() -> None:
    """Redis Cluster: whatever the identity, its token and leases are in the same slot."""
    for prefix in ("p", "a:b", "\N{KEY}"):
        store = RedisStore("redis://localhost/", prefix=prefix)
        for identity in IDENTITIES:
            key = store._key(identity).encode()
            slot = key_slot(key + b":token")
            assert slot == key_slot(key + b":lease") == key_slot(key + b":holder")
            assert key.count(b"{") == key.count(b"}") == 1
            assert slot == key_slot(key[key.index(b"{") + 1 : -1])  # what stands in the braces


def test_identities_are_spread_over_slots() -> None:
    """The slot depends on the identity, so a cluster shares the load."""
    store = RedisStore("redis://localhost/")
    assert len({key_slot(store._key(f"user-{n}").encode()) for n in range(1000)}) > 900


def test_names_of_keys(client: Any, store: RedisStore) -> None:
    """Each identity has two keys, the lease's while it is held, and each is listed as it is."""
    for identity in IDENTITIES:
        store.save(identity, NEW)
    assert len(keys(client, store)) == len(IDENTITIES)
    assert sorted(store.identities()) == sorted(IDENTITIES)
    assert all(store.load(identity) == NEW for identity in IDENTITIES)
    store.save("a@b.c/d", NEW)
    with store.exclusive("a@b.c/d", 1.0):
        names = {f"{store._prefix}:{{=a@b.c%2Fd}}:{kind}" for kind in ("token", "lease")}
        assert names <= keys(client, store)
    assert f"{store._prefix}:{{=a@b.c%2Fd}}:lease" not in keys(client, store)


# How long.


def ttl(client: Any, store: RedisStore) -> int:
    """Milliseconds until what is stored for "default" is dropped; -1: never, -2: not there."""
    left: int = client.pttl(store._key("default") + ":token")
    return left


def test_what_holds_a_refresh_token_never_expires(client: Any, store: RedisStore) -> None:
    """I7: nothing with a refresh token has a TTL, ended or not, also in place of what had one."""
    soon, late = time.time() + 60, time.time() - 1e6
    with_refresh = [
        Token("a", refresh_token="r"),
        Token("a", refresh_token="r", expires_at=soon),
        Token("a", refresh_token="r", expires_at=late),
        Token(refresh_token="r", expires_at=soon),
    ]
    for token in with_refresh:
        store.save("default", Token("b", expires_at=soon))
        assert ttl(client, store) > 0
        store.save("default", token)
        assert ttl(client, store) == -1
        store.delete("default")
        store.save("default", token, replacing=None)
        assert ttl(client, store) == -1


def test_an_access_token_goes_some_time_after_its_end(client: Any, store: RedisStore) -> None:
    """What can be asked for again has a TTL of an hour more than its life; without an end none."""
    for life, left in ((100.0, 3700.0), (-50.0, 3600.0), (-1e9, 3600.0)):
        store.save("default", Token("a", expires_at=time.time() + life))
        assert left - SAFETY < ttl(client, store) / 1000 <= left
    store.save("default", Token("a"))
    assert ttl(client, store) == -1


@pytest.mark.parametrize("end", [1e12, 1e15, 1e18, 1e300, -1e300])
def test_an_end_that_is_no_date(client: Any, store: RedisStore, end: float) -> None:
    """An end so far away that Redis could not count to it can be stored."""
    token = Token("a", expires_at=end)
    store.save("default", token)
    assert store.load("default") == token
    assert (ttl(client, store) == -1) == (end > 0)


# Leases.


def test_a_lease_ends(client: Any, store: RedisStore) -> None:
    """I3: a lease that nobody renews ends by the server's clock."""
    assert store._acquire("default", "gone")
    assert 0 < client.pttl(store._key("default") + ":lease") <= 500
    with pytest.raises(RefreshTimeout, match="default"):
        enter(store, "default", 0.0)
    enter(store, "default", SAFETY)
    assert client.pttl(store._key("default") + ":lease") == -2


def test_only_its_owner_touches_a_lease(client: Any, store: RedisStore) -> None:
    """I1: who lost a lease neither renews, nor gives back, nor takes what another holds."""
    assert store._acquire("default", "one")
    assert store._acquire("default", "one")  # whose answer was lost the first time
    assert not store._acquire("default", "two")
    assert not store._extend("default", "two")
    assert not store._release("default", "two")
    assert client.get(store._key("default") + ":lease") == b"one"
    assert store._extend("default", "one")
    assert store._release("default", "one")
    assert not store._release("default", "one")
    assert not store._extend("default", "one")
    assert client.pttl(store._key("default") + ":lease") == -2


def test_a_lease_that_was_lost(client: Any, store: RedisStore) -> None:
    """I1: a holder whose lease another one has is told, and leaves that one's alone."""
    with store.exclusive("default", 1.0) as held:
        assert held.assure(0.1)
        client.set(store._key("default") + ":lease", "another")
        assert not held.assure(0.1)
        assert not held.assure(0.1)
    assert client.get(store._key("default") + ":lease") == b"another"


def test_a_lease_that_vanished(client: Any, store: RedisStore) -> None:
    """I1: a lease that the server has dropped is lost, and is not taken up again."""
    with store.exclusive("default", 1.0) as held:
        client.delete(store._key("default") + ":lease")
        assert not held.assure(0.1)
    assert client.pttl(store._key("default") + ":lease") == -2


# Swaps.


def test_a_swap_that_is_done_twice(store: RedisStore) -> None:
    """I7: a swap whose answer was lost, and that is sent again, is no conflict."""
    for old, new in ((None, "1"), (Cell("1", "1"), "2")):
        assert store._swap("default", old, new, None)
        assert store._swap("default", old, new, None)
    assert not store._swap("default", Cell("1", "1"), "3", None)
    assert not store._swap("default", None, "3", None)
    assert not store._swap("default", Cell("1", "1"), None, None)
    assert store._swap("default", Cell("2", "2"), None, None)


@pytest.mark.parametrize("change", ["save", "swap", "delete", "delete one"])
@pytest.mark.parametrize("encryption", [None, Encryption(Encryption.new_key())], ids=["", "sealed"])
def test_an_answer_that_was_lost(
    own_redis: OwnRedis, change: str, encryption: Encryption | None
) -> None:
    """I7: where the server did it and its answer was lost on the way, it is no conflict."""
    server = own_redis()
    with Relay(server.port) as relay, redis.Redis.from_url(server.url) as client:
        again = Retry(ConstantBackoff(0.01), 1000, (redis.ConnectionError,))
        through = redis.Redis(host=HOST, port=relay.port, retry=again, socket_timeout=SAFETY)
        store = RedisStore(through, prefix=uuid.uuid4().hex, encryption=encryption)
        if change != "save":
            store.save("default", OLD)
        changes: dict[str, Callable[[], None]] = {
            "save": lambda: store.save("default", NEW, replacing=None),
            "swap": lambda: store.save("default", NEW, replacing=OLD),
            "delete": lambda: store.delete("default"),
            "delete one": lambda: store.delete("default", replacing=OLD),
        }
        key = store._key("default") + ":token"
        before = client.get(key)
        failed: list[BaseException] = []

        def run() -> None:
            try:
                changes[change]()
            except BaseException as error:
                failed.append(error)

        client.execute_command("CLIENT", "PAUSE", int(SAFETY * 1000), "WRITE")
        thread = threading.Thread(target=run)
        try:
            thread.start()
            until(lambda: any("b" in c["flags"] for c in client.client_list()), "the script")
            relay.cut()
        finally:
            client.execute_command("CLIENT", "UNPAUSE")
        until(lambda: client.get(key) != before, "the change")
        relay.refuse()
        relay.heal()
        thread.join(SAFETY)
        assert failed == []
        assert store.load("default") == (None if change.startswith("delete") else NEW)
        through.close()


def test_a_swap_between_others(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that comes between the look and the swap is seen: compared anew, never overwritten."""
    really = store._swap

    def late(*args: Any) -> bool:
        monkeypatch.undo()
        store.save("default", NEWER)
        return really(*args)

    store.save("default", OLD)
    monkeypatch.setattr(store, "_swap", late)
    with pytest.raises(StoreConflict):
        store.save("default", NEW, replacing=OLD)
    assert store.load("default") == NEWER
    monkeypatch.setattr(store, "_swap", late)
    store.save("default", FULL)  # in place of anything
    assert store.load("default") == FULL


# How often it asks.


def asked(client: Any, command: str) -> int:
    """How often the server was asked that since `CONFIG RESETSTAT`."""
    calls: int = client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]
    return calls


def test_who_waits_does_not_poll(own_redis: OwnRedis) -> None:
    """Who waits is told: in more than a second it looks a few times, and not fifty."""
    server = own_redis()
    store, other = RedisStore(server.url), RedisStore(server.url)
    with redis.Redis.from_url(server.url) as client:
        store.save("default", OLD)
        store.load("default")
        store.wait("default", 0.01)  # the listener is at its place, or on its way
        until(lambda: client.pubsub_numsub(store._channel)[0][1] == 1, "the listener")
        client.config_resetstat()
        for _ in range(2):
            store.wait("default", 0.6)
        assert 1 <= asked(client, "get") <= 8
        client.config_resetstat()
        with other.exclusive("default", 0.0), pytest.raises(RefreshTimeout):
            enter(store, "default", 1.2)
        assert 2 <= asked(client, "eval") <= 12
    store.close()
    other.close()


def test_a_notice_is_heard(store: RedisStore, redis_server: RedisServer, client: Any) -> None:
    """A change is published under the key's name, a lease that was given back too."""
    with client.pubsub(ignore_subscribe_messages=False) as ear:
        ear.subscribe(store._channel)
        assert ear.get_message(timeout=SAFETY)["type"] == "subscribe"
        store.save("default", NEW)
        with store.exclusive("default", 0.0):
            store.delete("default")
        heard = [ear.get_message(timeout=SAFETY)["data"].decode() for _ in range(3)]
        assert heard == [store._key("default")] * 3
        store.delete("default")  # changes nothing
        assert ear.get_message(timeout=0.0) is None
