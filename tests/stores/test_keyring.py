"""`KeyringStore`: the contract on a file backend, its form, its locks, and making one."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import filelock
import keyring
import pytest
from keyring.backends import null

from requests_refresh.errors import ConfigurationError, RefreshTimeout, StoreError
from requests_refresh.stores import TokenStore
from requests_refresh.stores.keyring import KeyringStore, open_url
from requests_refresh.testing import TokenStoreContract
from requests_refresh.tokens import Token
from tests.stores.contract import CANARY, FULL, NEW, OLD, SAFETY, shown
from tests.stores.keychains import KEY, USES, Keychain, PlainFile


class TestContract(TokenStoreContract):
    between_processes = True
    place: Path

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.place = tmp_path

    def make_store(self) -> TokenStore:
        backend = PlainFile(self.place / "keyring.cfg")
        return KeyringStore("sync", backend=backend, locks=self.place / "locks")

    def share(self, store: TokenStore) -> TokenStore:
        return self.make_store()


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    """Where the locks are; the directory is not there yet."""
    return tmp_path / "state" / "locks"


@pytest.fixture
def keychain() -> Keychain:
    """A keychain with nothing in it."""
    return Keychain({})


@pytest.fixture
def store(keychain: Keychain, locks: Path) -> KeyringStore:
    """A store in it."""
    return KeyringStore("sync", backend=keychain, locks=locks)


# The form of what is stored.


def test_the_names_of_entries(store: KeyringStore, keychain: Keychain) -> None:
    """Each identity has a name of its own, in lower case, short, ASCII and never empty."""
    identities = ["", "default", "A", "a", "a@b.c", "%41", "ы", "\ud800", "\0", "x" * 9000, "x" * 9]
    for identity in identities:
        store.save(identity, Token("a"))
    names = [name for _, name in keychain.entries]
    assert len(set(names)) == len(identities)
    assert names[:8] == [
        "token:",
        "token:default",
        "token:%41",
        "token:a",
        "token:a%40b.c",
        "token:%2541",
        "token:%d1%8b",
        "token:%ed%a0%80",
    ]
    assert names[9].startswith("token-sha256:")
    assert all(name.isascii() and name == name.lower() and len(name) < 256 for name in names)


def test_an_entry_is_one_text_of_ascii(store: KeyringStore, keychain: Keychain) -> None:
    """A token is one entry of its service, with nothing else left in the keychain."""
    with store.exclusive("default", 0.0):
        store.save("default", FULL)
    assert list(keychain.entries) == [KEY]
    assert keychain.entries[KEY].isascii()
    assert store.load("default") == FULL


def test_services_are_apart(store: KeyringStore, keychain: Keychain, locks: Path) -> None:
    """Two services share no token and no identity's lock, only the lock for writing."""
    other = KeyringStore("other", backend=keychain, locks=locks)
    store.save("default", OLD)
    assert other.load("default") is None
    with store.exclusive("default", 0.0), other.exclusive("default", 0.0):
        other.save("default", NEW)
    assert store.load("default") == OLD


def test_nothing_is_made_before_it_is_needed(store: KeyringStore, locks: Path) -> None:
    """Making a store and waiting leave no trace on the disk."""
    store.wait("default", 0.0)
    assert not locks.parent.exists()


def test_the_locks_are_private(store: KeyringStore, locks: Path) -> None:
    """The directory has mode 0700, its files 0600, and they are named by no identity."""
    with store.exclusive("me@example.com", 0.0):
        store.save("me@example.com", NEW)
    names = os.listdir(locks)
    assert len(names) == 2
    assert "keyring.lock" in names
    assert not [name for name in names if "example" in name or "sync" in name]
    assert locks.stat().st_mode & 0o777 == 0o700
    assert {(locks / name).stat().st_mode & 0o777 for name in names} == {0o600}


@pytest.mark.parametrize("use", USES)
def test_locks_that_are_not_private(store: KeyringStore, locks: Path, use: str) -> None:
    """A directory in which others may write keeps nobody out, so it is refused."""
    locks.mkdir(parents=True)
    locks.chmod(0o777)
    with pytest.raises(StoreError, match="others may write"):
        USES[use](store)


# Locks and changes.


@pytest.mark.parametrize("use", USES)
def test_a_writer_that_stopped(
    store: KeyringStore, locks: Path, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3: a keychain that stays busy is a StoreError in the end, and no token is touched."""
    store.delete("default")
    monkeypatch.setattr("requests_refresh.stores.keyring._PATIENCE", 0.02)
    fd = os.open(locks / "keyring.lock", os.O_RDWR)
    try:
        assert filelock.lock_descriptor(fd, blocking=False)
        with pytest.raises(StoreError, match="stayed locked") as caught:
            USES[use](store)
        assert not isinstance(caught.value, RefreshTimeout)
        assert caught.value.__context__ is None
    finally:
        os.close(fd)
    USES[use](store)


def test_each_change_is_another(store: KeyringStore, locks: Path) -> None:
    """Two changes within a tick of the clock do not look like one to those that wait."""
    seen = set()
    for number in range(5):
        store.save("default", Token(f"access-{number}"))
        seen.add((locks / "keyring.lock").stat().st_mtime_ns)
    assert len(seen) == 5


def test_a_change_that_cannot_be_told(store: KeyringStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save has succeeded even where those that wait could not be told."""

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr("os.utime", refuse)
        store.save("default", NEW)
    assert store.load("default") == NEW


def test_waiting_ends_when_the_holder_leaves(
    store: KeyringStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a holder is told when that leaves, also if nothing was saved."""
    monkeypatch.setattr("requests_refresh.stores.keyring._LONGEST_WAIT", 10 * SAFETY)
    loaded = threading.Event()

    def wait() -> None:
        store.load("default")
        loaded.set()
        store.wait("default", 10 * SAFETY)

    with store.exclusive("default", 0.0):
        waiter = threading.Thread(target=wait, daemon=True)
        waiter.start()
        assert loaded.wait(SAFETY)
    waiter.join(SAFETY)
    assert not waiter.is_alive()


def test_who_is_kept_out_wakes_nobody(store: KeyringStore, locks: Path) -> None:
    """A try to hold an identity that fails is no change, or two that try would wake each other."""
    with store.exclusive("default", 0.0):
        before = (locks / "keyring.lock").stat().st_mtime_ns
        other = copy.copy(store)
        with pytest.raises(RefreshTimeout), other.exclusive("default", 0.0):
            pass
        assert (locks / "keyring.lock").stat().st_mtime_ns == before


def test_waiting_for_what_others_do(
    store: KeyringStore, keychain: Keychain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait ends in time to see what somebody did by the keychain's own program."""
    monkeypatch.setattr("requests_refresh.stores.keyring._LONGEST_WAIT", 0.01)
    store.save("default", OLD)
    store.load("default")
    keychain.entries.clear()
    store.wait("default", 10 * SAFETY)
    assert store.load("default") is None


# Making one.


@pytest.mark.parametrize("service", ["", " ", "a\0b", "a\nb", "\ud800", b"sync", None])
def test_a_service_that_is_none(service: str) -> None:
    """A service that a keychain could not show is an error when the store is made."""
    with pytest.raises(ConfigurationError, match="name of a service"):
        KeyringStore(service)


def test_wrong_arguments(locks: Path) -> None:
    """A backend that is a class, and locks that are no path, are errors when the store is made."""
    with pytest.raises(ConfigurationError, match="backend must be an object"):
        KeyringStore("sync", backend=null.Keyring)  # type: ignore[arg-type] # what is tested
    for wrong in ("", 5):
        with pytest.raises(ConfigurationError, match="locks must be"):
            KeyringStore("sync", locks=wrong)  # type: ignore[arg-type] # what is tested


@pytest.fixture
def chosen(keychain: Keychain) -> Iterator[Keychain]:
    """A keychain that keyring chooses."""
    before = keyring.core._keyring_backend
    keyring.set_keyring(keychain)
    yield keychain
    keyring.core._keyring_backend = before


def test_what_keyring_chooses(
    chosen: Keychain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no arguments it is keyring's own choice, and a directory for the user's state."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    store = KeyringStore("sync")
    store.save("default", NEW)
    assert list(chosen.entries) == [KEY]
    if sys.platform.startswith("linux"):
        assert (tmp_path / "requests_refresh" / "keyring.lock").exists()


def test_a_choice_that_fails(
    chosen: Keychain, monkeypatch: pytest.MonkeyPatch, locks: Path
) -> None:
    """A backend that keyring is told to use and cannot is a StoreError."""
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "backend_that.is_not.there")
    monkeypatch.setattr(keyring.core, "_keyring_backend", None)
    with pytest.raises(StoreError, match="failed with ModuleNotFoundError"):
        KeyringStore("sync", locks=locks).load("default")


def test_pickle_and_copy(tmp_path: Path, locks: Path) -> None:
    """I14: a pickle and a copy are stores on the same keychain, and hold no token."""
    store = KeyringStore("sync", backend=PlainFile(tmp_path / "keyring.cfg"), locks=locks)
    store.save("default", NEW)
    for other in (pickle.loads(pickle.dumps(store)), copy.copy(store), copy.deepcopy(store)):  # noqa: S301 - the bytes are from the line itself
        assert other is not store
        assert other.load("default") == NEW
        assert repr(other) == "KeyringStore('sync')"
    with store.exclusive("default", 0.0):
        pickle.dumps(store)


def test_a_backend_that_does_not_pickle(store: KeyringStore, keychain: Keychain) -> None:
    """A pickle without the keychain that was given would be one on another keychain."""
    keychain.on_get = lambda key: None
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(store)


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("keyring:sync", "sync"),
        ("KEYRING:my-program/api", "my-program/api"),
        ("keyring:my%20program", "my program"),
        ("keyring:%d0%ba%D0%BB%3F%23%25", "кл?#%"),
        ("keyring:a:b@c", "a:b@c"),
    ],
)
def test_a_url(url: str, service: str) -> None:
    """A URL names the service, percent-encoded where needed."""
    assert repr(open_url(url)) == f"KeyringStore({service!r})"


@pytest.mark.parametrize(
    "url",
    [
        "keyring:",
        "keyring://",
        f"keyring://user:{CANARY}@host/sync",
        f"keyring:sync?{CANARY}",
        f"keyring:sync#{CANARY}",
        f"keyring:{CANARY}%zz",
        f"keyring:{CANARY}%ff",
    ],
)
def test_a_url_that_is_none(url: str) -> None:
    """I9: what names no service is told without the URL."""
    with pytest.raises(ConfigurationError, match="keyring:my-program") as caught:
        open_url(url)
    assert not list(shown(caught.value, CANARY))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("missing", ["keyring", "platformdirs"])
def test_what_is_not_installed(missing: str) -> None:
    """The module is imported without the extra, and a store that needs it names it."""
    script = f"""
import sys
sys.modules[{missing!r}] = None
from requests_refresh.errors import ConfigurationError
from requests_refresh.stores.keyring import KeyringStore, open_url
for make in (KeyringStore, lambda name: open_url("keyring:" + name)):
    try:
        make("sync")
    except ConfigurationError as error:
        assert 'pip install "requests_refresh[keyring]"' in str(error), error
        assert error.__suppress_context__
    else:
        raise SystemExit("it was made")
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stderr
