"""Rubbish in place of arguments and of stores: a clear error of ours, and nothing lost."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from requests_refresh import (
    ANY,
    FileStore,
    RedisStore,
    RefreshError,
    RefreshTimeout,
    SQLStore,
    StoreError,
    Token,
    TokenPool,
    TokenSource,
)
from requests_refresh.errors import ConfigurationError
from requests_refresh.stores import Encryption, MemoryStore, TokenStore, copy
from tests.servers import RedisServer

TOKEN = Token("access", refresh_token="refresh")


def grant(token: Token | None) -> str:
    return "new"


@pytest.fixture(params=["file", "sqlite", "memory", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TokenStore]:
    made: dict[str, Callable[[], TokenStore]] = {
        "file": lambda: FileStore(tmp_path / "private" / "tokens.json"),
        "sqlite": lambda: SQLStore(f"sqlite:///{tmp_path}/private/tokens.db"),
        "memory": MemoryStore,
        "redis": lambda: RedisStore(
            request.getfixturevalue("redis_server").url, prefix=uuid.uuid4().hex
        ),
    }
    with closing(made[request.param]()) as one:
        yield one


def test_saving_none_deletes_nothing(store: TokenStore) -> None:
    """I7: save(identity, None), a slip, is an error and loses no login."""
    store.save("x", TOKEN)
    nothing: Any = None
    with pytest.raises(RefreshError):
        store.save("x", nothing)
    assert store.load("x") == TOKEN


def test_saving_a_text_spoils_nothing(store: TokenStore) -> None:
    """I7: save(identity, "access token") is an error of ours, and what was stored is intact."""
    store.save("x", TOKEN)
    text: Any = "access"
    with pytest.raises(RefreshError):
        store.save("x", text)
    assert store.load("x") == TOKEN


@pytest.mark.parametrize("identity", [None, 5, b"x"])
def test_an_identity_that_is_no_text(store: TokenStore, identity: Any) -> None:
    """An identity that is no text is an error of ours in each method, and nothing is stored."""
    for method in (
        lambda: store.load(identity),
        lambda: store.save(identity, TOKEN),
        lambda: store.delete(identity),
        lambda: store.exclusive(identity, 1.0).__enter__(),
        lambda: store.wait(identity, 0.01),
    ):
        with pytest.raises(RefreshError):
            method()


@pytest.mark.parametrize("timeout", [None, "5", float("nan"), True])
def test_a_timeout_that_is_no_number(store: TokenStore, timeout: Any) -> None:
    """A timeout that is no number of seconds is an error of ours."""
    with pytest.raises(RefreshError):
        store.exclusive("x", timeout).__enter__()
    with pytest.raises(RefreshError):
        store.wait("x", timeout)


class Plain(TokenStore):
    """A store of somebody's; `lease` is what its `exclusive` yields."""

    def __init__(self, lease: Any = None) -> None:
        self._tokens: dict[str, Token] = {}
        self._lease = lease

    def load(self, identity: str) -> Token | None:
        return self._tokens.get(identity)

    def save(self, identity: str, token: Token, *, replacing: Any = ANY) -> None:
        self._tokens[identity] = token

    def delete(self, identity: str, *, replacing: Any = ANY) -> None:
        self._tokens.pop(identity, None)

    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[Any]:
        yield self._lease


class Sulking:
    """A lease whose mark cannot be read."""

    def assure(self, seconds: float) -> bool:
        return True

    @property
    def taken_over(self) -> bool:
        raise OSError


@pytest.mark.parametrize("lease", ["rubbish", Sulking()], ids=["text", "raises"])
def test_a_lease_that_is_none(lease: Any) -> None:
    """What a store yields from `exclusive` is the store's fault, and the error names it."""
    source = TokenSource(grant, Plain(lease), token=Token(refresh_token="r"), timeout=2.0)
    with pytest.raises(StoreError, match="Plain"):
        source.token()


class Lost:
    """A lease that is lost each time, for so many times that it might as well be for ever."""

    asked = 0

    def assure(self, seconds: float) -> bool:
        self.asked += 1
        return self.asked > 200


def test_a_lease_that_is_always_lost() -> None:
    """I3, I5: a store whose `assure` is never true is asked now and then, until the deadline."""
    lease = Lost()
    source = TokenSource(grant, Plain(lease), token=Token(refresh_token="r"), timeout=1.0)
    with pytest.raises(RefreshTimeout):
        source.token()
    source.close()
    assert lease.asked < 50


def test_a_pool_of_no_texts() -> None:
    """pool[[...]] is an error of ours."""
    identity: Any = ["x"]
    with pytest.raises(ConfigurationError):
        TokenPool(lambda name: TokenSource(grant, identity=name), maxsize=1)[identity]


def test_a_copy_onto_itself_is_refused() -> None:
    """copy(store, store) is a slip that is told at once."""
    store = MemoryStore()
    store.save("x", TOKEN)
    with pytest.raises(ConfigurationError):
        copy(store, store, timeout=0.1)


def test_a_key_of_somebody_elses(redis_server: RedisServer) -> None:
    """A key in Redis whose name is of no identity is told as that when all are listed."""
    prefix = uuid.uuid4().hex
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(f"{prefix}:{{=%ff}}:token", "rubbish")
    with (
        closing(RedisStore(redis_server.url, prefix=prefix)) as store,
        pytest.raises(StoreError, match="no identity"),
    ):
        store.identities()


@pytest.mark.parametrize("make", [Encryption.from_file, Encryption.from_environment])
def test_keys_from_nowhere(make: Callable[[Any], Encryption]) -> None:
    """Encryption.from_file(None), of a setting that is missing, is an error of ours."""
    with pytest.raises(ConfigurationError):
        make(None)


def test_a_deep_token_costs_no_other_login(tmp_path: Path) -> None:
    """I7: an extra value nested deeply is refused, or read again from any depth of the stack."""
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    with closing(FileStore(tmp_path / "private" / "tokens.json")) as store:
        store.save("other", TOKEN)
        with suppress(StoreError):
            store.save("x", Token("access", extra={"deep": deep}))
        assert from_below(300, lambda: store.load("other")) == TOKEN


def from_below(levels: int, work: Callable[[], object]) -> object:
    return work() if not levels else from_below(levels - 1, work)
