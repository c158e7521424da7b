"""`StoreURL`, by itself and in the stores that take one: its password shows nowhere."""

from __future__ import annotations

import copy
import functools
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import TokenStore
from requests_refresh.errors import ConfigurationError, StoreError
from requests_refresh.stores import Encryption, RedisStore, SQLStore
from requests_refresh.stores.urls import StoreURL
from tests.servers.redis import RedisServer
from tests.stores.contract import CANARY, NEW, shown

MAKERS: list[Callable[[Any], TokenStore]] = [RedisStore, SQLStore]

WITH_A_PASSWORD = [
    f"redis://:{CANARY}@localhost/0",
    f"redis://user:{CANARY}@localhost:6379/0",
    f"redis://localhost/0?password={CANARY}",
    f"redis://localhost/0?PASSWORD={CANARY}",
    f"redis+sentinel://:{CANARY}@one:1,two:2/service",
    f"redis+sentinel://one:1,two:2/service?sentinel_password={CANARY}",
    f"unix://:{CANARY}@/run/redis.sock",
    # A / ? or # in a password, which should be written %2F, %3F or %23, and which some take so.
    f"redis://user:12/{CANARY}@localhost/0",
    f"redis://:12/{CANARY}@localhost/0",
    f"redis://user:12?{CANARY}@localhost/0",
    f"redis://user:12#{CANARY}@localhost/0",
    f"redis://user:{CANARY}@{CANARY}@localhost/0",
]
WITHOUT = [
    "redis://localhost/0",
    "rediss://user@localhost:6379/0?db=5",
    "redis+cluster://localhost",
    "redis+sentinel://one:1,two:2/service/3",
    "unix:///run/redis@home.sock",
    "redis://[::1]:6379/0",
]
NOT_ONE: list[Any] = [
    "",
    CANARY,
    f"{CANARY}@localhost",
    f"http://:{CANARY}@localhost/",
    f"redis://:{CANARY}@localhost:port/",
    f"redis://:{CANARY}@localhost:99999/",
    f"redis://:{CANARY}@[localhost/",
    f"redis://:{CANARY}/@localhost/",
    f"redis://:{CANARY}@localhost\u2100/",
    f"redis+sentinel://:{CANARY}@one:1,two:port/service",
    f"redis+sentinel://:{CANARY}@one:1/",
    f"redis+sentinel://:{CANARY}@one:1/service/number",
    f"redis://:{CANARY}@localhost/".encode(),
    None,
    5,
    [CANARY],
]


@pytest.mark.parametrize("url", WITH_A_PASSWORD)
def test_a_password_is_not_shown(url: str) -> None:
    """I9: a URL's password is in no repr and no pickle, of it or of a store."""
    url_of = StoreURL(url, "RedisStore")
    store = RedisStore(url)
    for thing in (url_of, store):
        assert CANARY not in f"{thing!r} {thing}"
        assert CANARY.encode() not in pickle.dumps(thing)
    assert url_of() == url
    assert url_of.fixed == url


@pytest.mark.parametrize("url", WITHOUT)
def test_a_url_without_a_password_travels(url: str) -> None:
    """What holds no secret is in a pickle, and is shown without its query."""
    again = pickle.loads(pickle.dumps(StoreURL(url, "RedisStore")))  # noqa: S301 - our own
    assert again() == url
    assert repr(again) == repr(url.partition("?")[0].replace("user@", ""))


@pytest.mark.parametrize("url", NOT_ONE, ids=range(len(NOT_ONE)))
def test_what_is_no_url(url: Any) -> None:
    """I9: what no store can be made of is refused at once, and not shown."""
    with pytest.raises(ConfigurationError) as caught:
        RedisStore(url)
    assert not [*shown(caught.value, CANARY)]


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_is_no_url(make: Callable[[Any], TokenStore]) -> None:
    """A URL that is None, as a variable that is not set gives, is told as such at once."""
    with pytest.raises(ConfigurationError, match="needs a URL"):
        make(None)


@pytest.mark.parametrize(
    ("make", "url", "package", "extra"),
    [
        (RedisStore, f"redis://:{CANARY}@localhost/", "redis", "redis"),
        (SQLStore, f"postgresql://:{CANARY}@localhost/", "sqlalchemy", "sql"),
    ],
)
def test_a_package_is_missing(
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[str], TokenStore],
    url: str,
    package: str,
    extra: str,
) -> None:
    """I9: without the package an error names the extra, and shows no password."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=rf"requests_refresh\[{extra}\]") as caught:
        make(url)
    assert not [*shown(caught.value, CANARY)]


@pytest.mark.parametrize(
    "settings",
    [{"prefix": ""}, {"prefix": "{x}"}, {"lease": 0}, {"encryption": f"key-{CANARY}"}],
    ids=["empty", "braces", "lease", "key"],
)
def test_a_wrong_setting(settings: dict[str, Any]) -> None:
    """I9: an error over another setting shows neither the password nor a key given for one."""
    with pytest.raises(ConfigurationError) as caught:
        RedisStore(f"redis://:{CANARY}@localhost/", **settings)
    assert not [*shown(caught.value, CANARY)]


def test_a_key_in_place_of_an_encryption(tmp_path: Path) -> None:
    """I9: a key where an Encryption belongs is refused, and not shown."""
    key: Any = Encryption.new_key()
    with pytest.raises(ConfigurationError, match="Encryption") as caught:
        SQLStore(f"sqlite:///{tmp_path}/tokens.db", encryption=key)
    assert not [*shown(caught.value, key)]


# Callables.


def _secret_url() -> str:
    return f"redis://:{CANARY}@localhost:1/0"


def test_a_callable_is_asked_at_each_use() -> None:
    """A callable is asked when the URL is needed, and not before."""
    urls = iter(["redis://one/0", "rediss://two/1"])
    url = StoreURL(lambda: next(urls), "RedisStore", ("redis", "rediss"))
    assert url.fixed is None
    assert "lambda" not in repr(url)
    assert url() == "redis://one/0"
    assert url.text("redis") == "redis://two/1"


def test_a_callable_is_pickled_by_its_name() -> None:
    """I9: a function travels by its name, and what it returns does not."""
    data = pickle.dumps(RedisStore(_secret_url))
    assert CANARY.encode() not in data
    again = pickle.loads(data)  # noqa: S301 - our own
    assert CANARY not in repr(again)
    with pytest.raises(StoreError, match="ConnectionError") as caught:  # it went there
        again.load("default")
    assert not [*shown(caught.value, CANARY)]


@pytest.mark.parametrize(
    "result", [None, "", CANARY, f"http://:{CANARY}@localhost/", 5, _secret_url().encode()]
)
def test_a_callable_returns_rubbish(result: Any) -> None:
    """I9: what a callable returns is looked at as a URL is, and not shown."""
    store = RedisStore(lambda: result)
    uses: list[Callable[[], object]] = [
        lambda: store.load("default"),
        lambda: store.save("default", NEW),
        lambda: list(store.identities()),
    ]
    for use in uses:
        with pytest.raises(StoreError) as caught:
            use()
        assert not [*shown(caught.value, CANARY)]
    with pytest.raises(StoreError), store.exclusive("default", 0.0):
        pytest.fail("It was entered.")
    store.wait("default", 0.0)
    store.close()


@pytest.mark.parametrize(
    "error", [KeyError("SECRET"), RuntimeError("SECRET is wrong"), OSError(2, "SECRET")]
)
def test_a_callable_raises(error: Exception) -> None:
    """I9: what a callable raises is told by its kind, and not quoted, for it may hold the URL."""

    def url() -> str:
        raise error

    with pytest.raises(StoreError, match=type(error).__name__) as caught:
        RedisStore(url).load("default")
    assert not [*shown(caught.value, "SECRET")]


# Pickles and copies of stores.


def test_a_url_that_was_left_behind() -> None:
    """I9: a store whose URL had a password says so where it arrives, at every use."""
    stores: list[TokenStore] = [
        RedisStore(f"redis://:{CANARY}@localhost/"),
        SQLStore(f"postgresql+psycopg://user:{CANARY}@localhost/name"),
        SQLStore(f"postgresql+psycopg://user:12/{CANARY}@localhost/name"),
    ]
    for store in stores:
        assert CANARY not in repr(store)
        data = pickle.dumps(pickle.loads(pickle.dumps(store)))  # noqa: S301 - our own
        assert CANARY.encode() not in data
        again = pickle.loads(data)  # noqa: S301 - our own
        assert "not shown" in repr(again)
        uses: list[Callable[[], object]] = [
            functools.partial(again.load, "a"),
            functools.partial(again.save, "a", NEW),
            functools.partial(again.delete, "a"),
            lambda again=again: list(again.identities()),  # type: ignore[misc] # the loop's own
        ]
        for use in uses:
            with pytest.raises(StoreError, match="left behind"):
                use()
        with pytest.raises(StoreError, match="left behind"), again.exclusive("a", 0.0):
            pytest.fail("It was entered.")
        again.wait("a", 0.0)
        again.close()


def test_copies_in_the_process_keep_the_url() -> None:
    """A copy, deep or not, stays in the process and has the whole URL."""
    url = StoreURL(_secret_url(), "RedisStore")
    assert copy.copy(url) is copy.deepcopy(url) is url
    for store in (copy.copy(RedisStore(url)), copy.deepcopy(RedisStore(url))):
        assert store._url is not None
        assert store._url() == _secret_url()


def test_copies_of_a_store_work(redis_server: RedisServer) -> None:
    """A copy of a store with connections has connections of its own, to the same tokens."""
    store = RedisStore(redis_server.url, prefix="copies")
    store.save("default", NEW)
    for other in (copy.copy(store), copy.deepcopy(store)):
        assert other.load("default") == NEW
        other.close()
    assert store.load("default") == NEW
    store.close()


def test_a_scheme_may_be_in_capitals(redis_server: RedisServer) -> None:
    """A scheme is the same in capitals (RFC 3986 section 3.1)."""
    store = RedisStore(redis_server.url.replace("redis:", "REDIS:"), prefix="capitals")
    store.save("default", NEW)
    assert store.load("default") == NEW
    store.close()
