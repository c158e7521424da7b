"""`open_store`: the URLs it takes, and schemes that packages bring."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import requests_refresh.stores
from requests_refresh.errors import ConfigurationError
from requests_refresh.stores import (
    FileStore,
    KeyringStore,
    MemoryStore,
    RedisStore,
    SQLStore,
    TokenStore,
    open_store,
)
from tests.stores.contract import CANARY, NEW, shown

MODULE = """
from requests_refresh.stores import MemoryStore

class Store(MemoryStore):
    def __init__(self, url):
        super().__init__()
        self.url = url

def broken(url):
    raise RuntimeError("the server is away")

def nothing(url):
    return None
"""
ENTRIES = """[requests_refresh.stores]
vault = vault_of_a_test:Store
broken = vault_of_a_test:broken
nothing = vault_of_a_test:nothing
missing = vault_of_a_test_that_is_not_there:Store
memory = vault_of_a_test:broken
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that brings stores."""
    info = tmp_path / "vault_of_a_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vault-of-a-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (tmp_path / "vault_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "vault_of_a_test", raising=False)


def test_memory() -> None:
    """`memory:` is a MemoryStore, a new one each time."""
    assert isinstance(open_store("memory:"), MemoryStore)
    assert open_store("MEMORY:") is not open_store("memory:")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///var/lib/sync/tokens.json", "/var/lib/sync/tokens.json"),
        ("FILE:///tokens.json", "/tokens.json"),
        ("file:///a%20b/c%3Fd%23e%25.json", "/a b/c?d#e%.json"),
        ("file:///ключ/%D0%BA.json", "/ключ/к.json"),
        ("file:///%ff.json", "/\udcff.json"),
        ("file:///%7E/~x", "/~/~x"),
        ("file://~/.config/sync/tokens.json", "/home/me/.config/sync/tokens.json"),
        ("file://~/%2Fetc", "/home/me/etc"),
    ],
)
def test_file(url: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file URL is a FileStore on its decoded path."""
    monkeypatch.setenv("HOME", "/home/me")
    store = open_store(url)
    assert isinstance(store, FileStore)
    assert repr(store) == repr(FileStore(path))


@pytest.mark.parametrize(
    "url",
    [
        f"memory://{CANARY}",
        f"file:{CANARY}",
        f"file:/{CANARY}",
        "file:",
        "file://",
        "file:///",
        "file://~",
        "file://~/",
        f"file://{CANARY}@localhost/tokens.json",
        f"file://~{CANARY}/tokens.json",
        f"file:///tokens.json?{CANARY}",
        f"file:///tokens.json#{CANARY}",
        "file:///tokens%00.json",
        f"{CANARY}",
        f"~/{CANARY}",
        f"//{CANARY}:x",
        "",
        None,
        5,
    ],
)
def test_a_url_that_cannot_be_read(url: str) -> None:
    """A wrong URL is an error at once, and is shown neither by it nor in its traceback."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert not list(shown(caught.value, CANARY))


@pytest.mark.parametrize(
    "scheme", ["oracle", "postgres", "mysqlx", "redi", "redisss", "keyrin", "fil", "http+x"]
)
def test_an_unknown_scheme(scheme: str) -> None:
    """An unknown scheme is named, with the known ones; the password in the URL is not."""
    with pytest.raises(ConfigurationError, match=r"file:, keyring:, mariadb:, memory:") as caught:
        open_store(f"{scheme}://user:{CANARY}@host/0")
    assert repr(scheme) in str(caught.value)
    assert not list(shown(caught.value, CANARY))


@pytest.mark.usefixtures("package")
def test_a_scheme_that_a_package_brings() -> None:
    """The callable behind an entry point gets the URL as it is and makes the store."""
    store = open_store("vault://user:pass@host/x?y#z")
    assert vars(store)["url"] == "vault://user:pass@host/x?y#z"
    store.save("default", NEW)
    assert isinstance(store, TokenStore)


@pytest.mark.usefixtures("package")
def test_a_package_does_not_take_our_schemes() -> None:
    """What is built in cannot be replaced by a package that happens to be installed."""
    assert type(open_store("memory:")) is MemoryStore


@pytest.mark.usefixtures("package")
def test_schemes_of_packages_are_listed() -> None:
    """The list of known schemes has those of installed packages in it."""
    with pytest.raises(ConfigurationError, match=r"broken:, file:, .*missing:, .*nothing:"):
        open_store("unknown:")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("scheme", "error", "message"),
    [
        ("missing", ConfigurationError, "could not be imported .*ModuleNotFoundError"),
        ("nothing", ConfigurationError, "NoneType"),
        ("broken", RuntimeError, "the server is away"),
    ],
)
def test_a_package_that_is_broken(scheme: str, error: type[Exception], message: str) -> None:
    """A package's fault is told as such, and our frames show no password."""
    with pytest.raises(error, match=message) as caught:
        open_store(f"{scheme}://user:{CANARY}@host")
    assert set(shown(caught.value, CANARY)) <= {"broken.url"}  # its own frame is its own


def test_entry_points_are_looked_up_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own schemes cost no look through what is installed."""

    def fail(**_: str) -> Callable[[], None]:
        raise AssertionError

    monkeypatch.setattr(requests_refresh.stores, "entry_points", fail)
    open_store("memory:")
    open_store("file:///tokens.json")


def test_names() -> None:
    """The stores and their contract are importable from one place."""
    public = {name for name in requests_refresh.__all__ if name.endswith("Store") or name == "ANY"}
    assert public | {"Encryption", "Lease", "copy", "open_store"} == set(
        requests_refresh.stores.__all__
    )


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://user:pw@host:1/0", RedisStore),
        ("rediss://host/0", RedisStore),
        ("unix:///run/redis.sock", RedisStore),
        ("redis+cluster://host:1", RedisStore),
        ("redis+sentinel://one:1,two:2/service/0", RedisStore),
        ("sqlite:///tokens.db", SQLStore),
        ("postgresql+psycopg://user:pw@host/name", SQLStore),
        ("mysql+pymysql://user:pw@host/name", SQLStore),
        ("mariadb+pymysql://user:pw@host/name", SQLStore),
        ("keyring:service", KeyringStore),
    ],
)
def test_stores_on_servers(url: str, kind: type[TokenStore]) -> None:
    """Each scheme opens its store, which connects to nothing yet and shows no password."""
    store = open_store(url)
    assert type(store) is kind
    assert "pw" not in repr(store)
    store.close()


def test_settings_are_handed_on() -> None:
    """What a store takes by name can be given beside its URL."""
    store = open_store("redis://host/0", prefix="mine", lease=3.0)
    assert repr(store) == "<RedisStore at 'redis://host/0', prefix 'mine'>"
    with pytest.raises(TypeError, match="lease"):
        open_store("memory:", lease=3.0)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{CANARY}@host:port/0",
        f"redis+sentinel://:{CANARY}@host",
        f"oracle+x://u:{CANARY}@h/x",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?uri=true",
        f"postgresql+nothing://u:{CANARY}@host/name",
        f"mysql://u:{CANARY}@host:port/x",
    ],
)
def test_a_url_that_a_server_s_store_cannot_read(url: str) -> None:
    """A URL that cannot be right is an error before anything is sent, and is not shown."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert not list(shown(caught.value, CANARY))
