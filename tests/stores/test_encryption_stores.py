"""Encryption at rest, in each kind of store: what is in the place itself."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from requests_refresh import Token, TokenStore
from requests_refresh.errors import StoreError
from requests_refresh.stores import Encryption, FileStore, RedisStore
from requests_refresh.testing import TokenStoreContract
from tests.servers.redis import RedisServer
from tests.stores.contract import CANARY, NEW, shown
from tests.stores.places import FilePlace, Place, RedisPlace, SQLitePlace

OLD_KEY, NEW_KEY = Encryption.new_key(), Encryption.new_key()
SECRET = Token(CANARY, refresh_token=f"{CANARY}-r", scope=f"{CANARY}-s", extra={CANARY: CANARY})

Open = Callable[[Encryption | None], TokenStore]


@pytest.fixture(params=["file", "sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place where nothing is yet, in each kind of store."""
    if request.param == "redis":
        return RedisPlace(request.getfixturevalue("redis_server"))
    return FilePlace(tmp_path) if request.param == "file" else SQLitePlace(tmp_path)


@pytest.fixture
def opened(place: Place) -> Iterator[Open]:
    """Opens stores on the place, which are closed in the end."""
    with ExitStack() as stack:

        def open_it(encryption: Encryption | None) -> TokenStore:
            store = place.make(encryption)
            stack.callback(store.close)
            return store

        yield open_it


def refused(place: Place, store: TokenStore, identity: str, why: str) -> None:
    """Every use of what is stored raises a StoreError that says why, and changes no byte."""
    before = place.raw()
    uses: list[Callable[[], object]] = [
        lambda: store.load(identity),
        lambda: store.save(identity, NEW),
        lambda: store.save(identity, NEW, replacing=None),
        lambda: store.save(identity, NEW, replacing=SECRET),
        lambda: store.delete(identity),
        lambda: store.delete(identity, replacing=SECRET),
    ]
    for use in uses:
        with pytest.raises(StoreError, match=why) as caught:
            use()
        assert type(caught.value) is StoreError
        assert place.name in str(caught.value)
        assert not [*shown(caught.value, CANARY)]
        assert not [*shown(caught.value, OLD_KEY), *shown(caught.value, NEW_KEY)]
    assert place.raw() == before


def test_nothing_can_be_read_in_the_place(place: Place, opened: Open) -> None:
    """I9: of a token that was stored encrypted nothing stands in the place, and it comes back."""
    opened(None).save("plain", SECRET)
    assert CANARY.encode() in place.raw()  # so this way of looking sees what is there
    opened(None).delete("plain")
    opened(None).save("plain", NEW)
    store = opened(Encryption(OLD_KEY))
    with store.exclusive("default", 5.0):
        store.save("default", SECRET, replacing=None)
        store.save("default", SECRET, replacing=SECRET)
    assert opened(Encryption(OLD_KEY)).load("default") == SECRET
    if not isinstance(place, SQLitePlace):  # which leaves deleted rows where they were
        assert CANARY.encode() not in place.raw()


def test_nothing_can_be_read_in_the_database(tmp_path: Path) -> None:
    """I9: a database that has always been encrypted holds nothing of a token, freed pages too."""
    place = SQLitePlace(tmp_path)
    store = place.make(Encryption(OLD_KEY))
    for _ in range(3):
        store.save("default", SECRET)
        store.delete("default")
    store.save("default", SECRET)
    assert CANARY.encode() not in place.raw()
    store.close()


def test_the_same_token_is_never_sealed_alike(place: Place, opened: Open) -> None:
    """Who sees two sealed values cannot tell whether they hold the same token."""
    store = opened(Encryption(OLD_KEY))
    seen = set()
    for _ in range(3):
        store.save("default", NEW)
        seen.add(place.raw())
    assert len(seen) == 3


def test_keys_are_rotated(place: Place, opened: Open) -> None:
    """The documented order: added at the end, moved to the front, the old one dropped."""
    old = opened(Encryption(OLD_KEY))
    old.save("a", SECRET)
    old.save("b", SECRET)
    added = opened(Encryption(OLD_KEY, NEW_KEY))
    added.save("a", NEW, replacing=SECRET)
    assert old.load("a") == NEW  # hosts that have the old key only read it still
    first = opened(Encryption(NEW_KEY, OLD_KEY))
    assert first.load("a") == NEW
    first.save("a", SECRET, replacing=NEW)
    assert added.load("a") == SECRET
    last = opened(Encryption(NEW_KEY))
    assert last.load("a") == SECRET  # was written with the first key
    refused(place, last, "b", "another key")
    first.save("b", SECRET)
    assert last.load("b") == SECRET


def test_a_wrong_key(place: Place, opened: Open) -> None:
    """A wrong key is an error that names the store, and loses nothing."""
    opened(Encryption(OLD_KEY)).save("default", SECRET)
    refused(place, opened(Encryption(NEW_KEY)), "default", "another key")
    assert opened(Encryption(OLD_KEY)).load("default") == SECRET


def test_what_is_not_encrypted(place: Place, opened: Open) -> None:
    """An encrypted store takes encrypted values only."""
    opened(None).save("default", SECRET)
    refused(place, opened(Encryption(OLD_KEY)), "default", "not encrypted")
    assert opened(None).load("default") == SECRET


def test_no_key_was_given(place: Place, opened: Open) -> None:
    """A store without a key refuses what is encrypted."""
    opened(Encryption(OLD_KEY)).save("default", SECRET)
    refused(place, opened(None), "default", "no key")
    assert opened(Encryption(OLD_KEY)).load("default") == SECRET


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_value_in_another_place(place: Place, opened: Open, encrypted: bool) -> None:
    """Who can write to the place cannot put one identity's token in another's place."""
    encryption = Encryption(OLD_KEY) if encrypted else None
    store = opened(encryption)
    store.save("victim", SECRET)
    store.save("attacker", SECRET)
    place.move("victim", "attacker")
    if isinstance(place, FilePlace) and not encrypted:
        return  # the names in it are all that there is
    refused(place, opened(encryption), "attacker", "another identity")
    assert store.load("victim") == SECRET


def test_keys_that_were_left_behind_stop_a_round_early(place: Place, opened: Open) -> None:
    """I7: `exclusive` is not entered where a save could not succeed for want of keys."""
    encryption = Encryption(OLD_KEY).__reduce__()
    without = encryption[0](*encryption[1])
    store = opened(without)
    with pytest.raises(StoreError, match="left behind"), store.exclusive("default", 1.0):
        pytest.fail("It was entered.")


class Encrypted(TokenStoreContract):
    between_processes = True

    def encryption(self) -> Encryption:
        return Encryption.from_file(self.keys)

    keys: Path

    @pytest.fixture(autouse=True)
    def _keys(self, tmp_path: Path) -> None:
        self.keys = tmp_path / "keys"
        fd = os.open(self.keys, os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(fd, f"{NEW_KEY}\n{OLD_KEY}\n".encode())
        os.close(fd)


class TestEncryptedFile(Encrypted):
    place: Path

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.place = tmp_path / "private" / "tokens.json"

    def make_store(self) -> TokenStore:
        return FileStore(self.place, encryption=self.encryption())

    def share(self, store: TokenStore) -> TokenStore:
        return self.make_store()


class TestEncryptedRedis(Encrypted):
    takeover = 0.5
    url: str

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.url
        self.prefix = uuid.uuid4().hex

    def make_store(self) -> TokenStore:
        return RedisStore(self.url, prefix=self.prefix, lease=0.5, encryption=self.encryption())

    def share(self, store: TokenStore) -> TokenStore:
        return self.make_store()
