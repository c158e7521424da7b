"""`KeyringStore` where the keychain holds what is no token, discards, refuses or breaks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pytest
from keyring.errors import (
    InitError,
    KeyringError,
    KeyringLocked,
    PasswordDeleteError,
    PasswordSetError,
)

from requests_refresh.errors import StoreConflict, StoreError
from requests_refresh.stores.keyring import KeyringStore
from requests_refresh.tokens import Token
from tests.stores.contract import CANARY, NEW, NEWER, OLD, SAFETY, shown
from tests.stores.keychains import KEY, SECRET, USES, Discarding, Keychain, Refusing, entering


@pytest.fixture
def keychain() -> Keychain:
    """A keychain with nothing in it."""
    return Keychain({})


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    """Where the locks are; the directory is not there yet."""
    return tmp_path / "locks"


@pytest.fixture
def store(keychain: Keychain, locks: Path) -> KeyringStore:
    """A store in it."""
    return KeyringStore("sync", backend=keychain, locks=locks)


# What is stored and is no token.


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    "text",
    [CANARY, f'{{"schema": 1, "identity": "default", "token": "{CANARY}"}}', "", "other"],
    ids=["no JSON", "no token", "empty", "of another identity"],
)
def test_what_is_no_token(store: KeyringStore, keychain: Keychain, text: str, use: str) -> None:
    """I7, I9: what is no token of this identity is named, left as it was, and never quoted."""
    if text == "other":
        store.save("other", SECRET)
        text = keychain.entries["sync", "token:other"]
    keychain.entries[KEY] = text
    with pytest.raises(StoreError, match="as it was") as caught:
        USES[use](store)
    assert "'sync'" in str(caught.value)
    assert "'default'" in str(caught.value)
    assert type(caught.value) is StoreError
    assert not list(shown(caught.value, CANARY))
    assert keychain.entries[KEY] == text


@pytest.mark.parametrize("use", USES)
def test_what_is_no_text(store: KeyringStore, keychain: Keychain, use: str) -> None:
    """A backend that returns something else than a text is a StoreError."""
    keychain.on_get = lambda key: CANARY.encode()
    with pytest.raises(StoreError, match="bytes, which is no text") as caught:
        USES[use](store)
    assert not list(shown(caught.value, CANARY))


@pytest.mark.parametrize("extra", [{"a": object()}, {"a": float("nan")}])
def test_extra_values_that_are_no_json(store: KeyringStore, extra: dict[str, object]) -> None:
    """A token that cannot be written is an error that shows no secret, and the old one stays."""
    store.save("default", OLD)
    with pytest.raises(StoreError, match="extra") as caught:
        store.save("default", Token(CANARY, refresh_token=CANARY, extra=extra))
    assert not list(shown(caught.value, CANARY))
    assert store.load("default") == OLD


# Keychains that discard, refuse or break.


def test_a_keychain_that_discards(locks: Path) -> None:
    """I7: what keyring's `null` backend does silently is told, before a refresh already."""
    store = KeyringStore("sync", backend=Discarding(), locks=locks)
    assert store.load("default") is None
    for use in ("save", "exclusive"):
        with pytest.raises(StoreError, match="discard") as caught:
            USES[use](store)
        assert not list(shown(caught.value, CANARY))


@pytest.mark.parametrize("use", USES)
def test_no_keychain(locks: Path, use: str) -> None:
    """Where keyring has no backend, its `fail` backend, the error says what is needed."""
    store = KeyringStore("sync", backend=Refusing(), locks=locks)
    with pytest.raises(StoreError, match=r"Secret Service .* another store \(NoKeyringError\)"):
        USES[use](store)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyringLocked(CANARY), "locked"),
        (InitError(CANARY), "could not be opened"),
        (PasswordSetError(CANARY), "refused to store"),
        (PasswordDeleteError(CANARY), "refused to delete"),
        (KeyringError(CANARY), "failed with KeyringError"),
        (OSError(1783, CANARY), "failed with OSError 1783"),
        (RuntimeError({"password": CANARY}), "failed with RuntimeError"),
        (type("KeyringLocked", (Exception,), {})(), "failed with KeyringLocked"),
    ],
)
def test_a_keychain_that_fails(
    store: KeyringStore, keychain: Keychain, use: str, error: Exception, words: str
) -> None:
    """I9: whatever a backend raises is a StoreError that says what it is and not what it says."""

    def failing(*key: object) -> None:
        raise error

    store.save("default", SECRET)
    keychain.on_get = keychain.on_set = keychain.on_delete = failing
    with pytest.raises(StoreError, match=words) as caught:
        USES[use](store)
    assert type(caught.value) is StoreError
    assert caught.value.__cause__ is None
    assert not list(shown(caught.value, CANARY))
    keychain.on_get = keychain.on_set = keychain.on_delete = None
    assert store.load("default") == SECRET


def test_a_locked_keychain_is_asked_once(store: KeyringStore, keychain: Keychain) -> None:
    """Who said no to the question for his password is not asked again by the same load."""

    def locked(key: object) -> None:
        raise KeyringLocked

    store.save("default", OLD)
    keychain.on_get = locked
    keychain.calls.clear()
    with pytest.raises(StoreError):
        store.load("default")
    assert keychain.calls == ["get"]


def limited(keychain: Keychain, limit: int, error: Exception) -> Callable[..., None]:
    """What a keychain does that refuses long values, as Windows' does beyond 1280 characters."""

    def set_password(key: tuple[str, str], value: str) -> None:
        if len(value) > limit:
            raise error
        keychain.entries[key] = value

    return set_password


def test_a_value_that_is_too_long(store: KeyringStore, keychain: Keychain) -> None:
    """I7: a limit is told with the length, and the old token is intact."""
    keychain.on_set = limited(keychain, 1280, OSError(1783, "The stub received bad data"))
    store.save("default", OLD)
    long = Token(CANARY * 200, refresh_token="r")
    with pytest.raises(
        StoreError, match=r"OSError 1783.* before is intact.* 2\d\d\d char"
    ) as caught:
        store.save("default", long, replacing=OLD)
    assert "FileStore" in str(caught.value)
    assert not list(shown(caught.value, CANARY))
    assert store.load("default") == OLD


def test_a_limit_is_found_before_a_refresh(store: KeyringStore, keychain: Keychain) -> None:
    """I7: `exclusive` finds that a token some characters longer would not fit any more."""
    keychain.on_set = limited(keychain, 1280, PasswordSetError())
    store.save("default", Token("a" * 950))
    entering(store)
    with store.exclusive("default", 0.0):
        store.save("default", Token("a" * 1070))
    with pytest.raises(StoreError, match="refused to store"):
        entering(store)
    assert list(keychain.entries) == [KEY]


def test_a_keychain_that_cuts(store: KeyringStore, keychain: Keychain) -> None:
    """I7: a value that comes back cut is an error, and the old one is put back."""
    store.save("default", OLD)
    keychain.on_set = lambda key, value: keychain.entries.update({key: value[:200]})
    with pytest.raises(StoreError, match=r"discarded or changed .* before is intact"):
        store.save("default", Token("a" * 300))
    assert store.load("default") == OLD
    with pytest.raises(StoreError, match="before is intact"):
        store.save("other", Token("a" * 300))
    assert store.load("other") is None


def test_a_write_that_destroys(store: KeyringStore, keychain: Keychain) -> None:
    """I7: where a failed write has deleted the old token, as on macOS, it is put back."""

    def delete_first(key: tuple[str, str], value: str) -> None:
        keychain.entries.pop(key, None)
        limit(key, value)

    limit = limited(keychain, 400, PasswordSetError())
    keychain.on_set = delete_first
    store.save("default", OLD)
    with pytest.raises(StoreError, match="before is intact"):
        store.save("default", Token("a" * 500))
    assert store.load("default") == OLD


def destroy(store: KeyringStore, keychain: Keychain) -> None:
    """Try a save that deletes the old token and can put nothing in its place."""

    def delete_only(key: tuple[str, str], value: str) -> None:
        keychain.entries.pop(key, None)

    store.save("default", OLD)
    keychain.on_set = delete_only
    for state in ("could not be put back", "before is intact"):  # the second time it was nothing
        with pytest.raises(StoreError, match=state) as caught:
            store.save("default", NEW, replacing=OLD)
        assert type(caught.value) is StoreError
    keychain.on_set = None
    assert store.load("default") is None


def test_a_save_that_is_tried_again(store: KeyringStore, keychain: Keychain) -> None:
    """I7: the token that came instead of a destroyed one can still be saved in its place."""
    destroy(store, keychain)
    with pytest.raises(StoreConflict):
        store.save("default", NEW, replacing=NEWER)
    store.save("default", NEW, replacing=OLD)
    assert store.load("default") == NEW
    with pytest.raises(StoreConflict):
        store.save("default", NEWER, replacing=OLD)


def test_a_delete_after_a_write_that_destroyed(store: KeyringStore, keychain: Keychain) -> None:
    """Logged out stays so, where the token had been destroyed before as well."""
    destroy(store, keychain)
    store.delete("default")
    with pytest.raises(StoreConflict):
        store.save("default", NEW, replacing=OLD)
    assert store.load("default") is None


def test_a_write_that_came_through(store: KeyringStore, keychain: Keychain) -> None:
    """What can be read back is stored, whatever the keychain raised after it."""

    def stored(key: tuple[str, str], value: str) -> None:
        keychain.entries[key] = value
        raise TimeoutError

    keychain.on_set = stored
    store.save("default", NEW)
    assert store.load("default") == NEW


def test_a_keychain_that_is_lost_in_the_middle(store: KeyringStore, keychain: Keychain) -> None:
    """What cannot be read after a write is left alone: it may be the new token or the old."""

    def locked(*key: object) -> None:
        raise KeyringLocked

    def write_and_lock(key: tuple[str, str], value: str) -> None:
        keychain.entries[key] = value
        keychain.on_get = keychain.on_set = locked

    store.save("default", OLD)
    keychain.on_set = write_and_lock
    keychain.calls.clear()
    with pytest.raises(StoreError, match="could not be read afterwards"):
        store.save("default", NEW)
    assert keychain.calls == ["get", "set", "get"]
    keychain.on_get = None
    assert store.load("default") == NEW


def test_a_delete_that_does_nothing(store: KeyringStore, keychain: Keychain) -> None:
    """A token that is still there after a delete is told, before a refresh already."""
    store.save("default", OLD)
    keychain.on_delete = lambda key: None
    for use in ("delete", "exclusive"):
        with pytest.raises(StoreError, match="still after a delete"):
            USES[use](store)
    assert store.load("default") == OLD
    keychain.on_delete = None
    entering(store)
    assert list(keychain.entries) == [KEY]


def test_a_load_in_the_middle_of_a_write(
    store: KeyringStore, keychain: Keychain, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I7: where a keychain deletes before it writes, a load waits and finds the new token."""
    deleted, go_on = threading.Event(), threading.Event()
    real = filelock.lock_descriptor

    def delete_first(key: tuple[str, str], value: str) -> None:
        del keychain.entries[key]
        deleted.set()
        go_on.wait(SAFETY)
        keychain.entries[key] = value

    def lock_and_tell(number: int, **options: Any) -> bool:
        held = real(number, **options)
        go_on.set()  # the reader has found it locked
        return held

    store.save("default", OLD)
    keychain.on_set = delete_first
    writer = threading.Thread(target=store.save, args=("default", NEW), daemon=True)
    writer.start()
    assert deleted.wait(SAFETY)
    monkeypatch.setattr("requests_refresh.stores.private.lock_descriptor", lock_and_tell)
    other = KeyringStore("sync", backend=keychain, locks=locks)
    assert other.load("default") == NEW
    writer.join(SAFETY)
