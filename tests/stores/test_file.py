"""`FileStore`: the contract, the file's form, and files that are no token file."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from requests_refresh.errors import ConfigurationError, StoreConflict, StoreError
from requests_refresh.stores import FileStore, TokenStore
from requests_refresh.testing import TokenStoreContract
from requests_refresh.tokens import Token
from tests.stores.contract import CANARY, FULL, NEW, OLD, shown


class TestContract(TokenStoreContract):
    between_processes = True
    path: Path

    @pytest.fixture(autouse=True)
    def _place(self, path: Path) -> None:
        self.path = path

    def make_store(self) -> TokenStore:
        return FileStore(self.path)

    def share(self, store: TokenStore) -> TokenStore:
        return FileStore(self.path)


def put(path: Path, content: bytes | str) -> None:
    """Make a private file with this content."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)


def entering(store: FileStore) -> None:
    with store.exclusive("default", 0.0):
        pass


USES: dict[str, Callable[[FileStore], object]] = {
    "load": lambda store: store.load("default"),
    "save": lambda store: store.save("default", NEW),
    "delete": lambda store: store.delete("default"),
    "exclusive": entering,
}


def test_the_form_of_the_file(path: Path, store: FileStore) -> None:
    """The file is JSON with a schema version and a mapping from identity to token."""
    store.save("default", FULL)
    assert json.loads(path.read_bytes()) == {"schema": 1, "tokens": {"default": FULL.to_mapping()}}
    assert path.read_bytes().isascii()


def test_what_others_wrote_is_kept(path: Path, store: FileStore) -> None:
    """A save changes the entry of its identity, and what it does not know stays in the file."""
    tokens = {"a": {"access_token": "a", "new": [1]}, "b": {"odd": "\ud800"}}
    put(path, json.dumps({"schema": 1, "by": "hand", "tokens": tokens}))
    assert store.load("a") == Token("a")
    store.save("default", NEW)
    store.delete("a")
    assert json.loads(path.read_bytes()) == {
        "schema": 1,
        "by": "hand",
        "tokens": {"b": tokens["b"], "default": NEW.to_mapping()},
    }


def test_nothing_is_made_before_it_is_needed(path: Path, store: FileStore) -> None:
    """Making a store, loading from it and waiting leave no trace on the disk."""
    assert store.load("default") is None
    store.wait("default", 0.0)
    assert not path.parent.exists()


def test_a_delete_of_nothing_writes_nothing(path: Path, store: FileStore) -> None:
    """A token file is not made in order to delete from it."""
    store.delete("default")
    assert not path.exists()


def test_nothing_but_locks_is_left_beside_the_file(path: Path, store: FileStore) -> None:
    """A temporary file is gone after each use; lock files stay, named by no identity."""
    with store.exclusive("../identity", 0.0):
        store.save("../identity", NEW)
    names = sorted(os.listdir(path.parent))
    assert len(names) == 3
    assert {"tokens.json", "tokens.json.lock"} < set(names)
    assert not [name for name in names if "identity" in name]
    assert os.listdir(path.parent.parent) == [path.parent.name]


def test_left_over_temporary_files_go(path: Path, store: FileStore) -> None:
    """A save removes what dead writers left, and nothing that is not ours by its name."""
    ours = "tokens.json.0123456789abcdef.tmp"
    stuck = "tokens.json.fedcba9876543210.tmp"
    others = [f"x{ours}", f"{ours}.", "tokens.json.0123.tmp", "tokens-json.0123456789abcdef.tmp"]
    for name in (ours, *others):
        put(path.parent / name, "left over")
    (path.parent / stuck).mkdir()
    store.save("default", NEW)
    names = set(os.listdir(path.parent))
    assert ours not in names
    assert {*others, stuck} < names


CORRUPT = {
    "empty": "",
    "cut": '{"schema": 1, "tokens": {"default": {"access_token": "' + CANARY,
    "more behind": '{"schema": 1, "tokens": {}} ' + CANARY,
    "not UTF-8": b'{"schema": 1, "tokens": {"default": {"access_token": "' + b'\xff"}}}',
    "UTF-16": '{"schema": 1, "tokens": {}}'.encode("utf-16"),
    "raw surrogate": b'{"schema": 1, "tokens": {"\xed\xa0\x80": {}}}',
    "deep": '{"schema": 1, "tokens": ' + "[" * 200_000,
    "deep in an entry": '{"schema": 1, "tokens": {"x": ' + '{"a":' * 100_000 + "1" + "}" * 100_002,
    "NaN": '{"schema": 1, "tokens": {"default": {"access_token": "a", "expires_at": NaN}}}',
    "endless number": '{"schema": 1, "tokens": {"x": ' + "1" * 10_000 + "}}",
    "a list": f'["{CANARY}"]',
    "no tokens": '{"schema": 1}',
    "tokens are a list": f'{{"schema": 1, "tokens": ["{CANARY}"]}}',
    "no schema": '{"tokens": {}}',
    "another schema": f'{{"schema": "{CANARY}", "tokens": {{}}}}',
    "an older schema": '{"schema": 0, "tokens": {}}',
    "no entry": '{"schema": 1, "tokens": {"default": null}}',
    "an entry that is a text": f'{{"schema": 1, "tokens": {{"default": "{CANARY}"}}}}',
    "an entry with no token": '{"schema": 1, "tokens": {"default": {"scope": "a"}}}',
    "an entry of a wrong type": '{"schema": 1, "tokens": {"default": {"access_token": 5}}}',
    "an infinite end": '{"schema": 1, "tokens": {"default": {"access_token": "a", '
    f'"refresh_token": "{CANARY}", "expires_at": 1e400}}}}}}',
    "a control character": f'{{"schema": 1, "tokens": {{"default": {{"access_token": "\\n{CANARY}'
    '"}}}',
    "a surrogate": '{"schema": 1, "tokens": {"default": {"access_token": "'
    f'{CANARY}\\ud800"}}}}}}',
    "a planted pickle": pickle.dumps({"schema": 1, "tokens": {}}),
}  # fmt: skip


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_file(path: Path, store: FileStore, content: bytes | str, use: str) -> None:
    """I7, I9: what cannot be read is named, left byte for byte as it was, and never quoted."""
    put(path, content)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="as it was") as caught:
        USES[use](store)
    assert str(path) in str(caught.value)
    assert type(caught.value) is StoreError
    assert not list(shown(caught.value, CANARY))
    assert caught.value.__context__ is None
    assert path.read_bytes() == before


def test_a_wait_after_a_failed_load(path: Path, store: FileStore) -> None:
    """A file that cannot be read does not make a waiter spin: it waits for the next change."""
    put(path, "{")
    with pytest.raises(StoreError):
        store.load("default")
    assert store._seen.mark is None
    store.wait("default", 0.02)


@pytest.mark.parametrize("use", USES)
def test_a_file_that_is_too_large(path: Path, store: FileStore, use: str) -> None:
    """What no token file can be is not read into memory."""
    put(path, "")
    os.truncate(path, 2**40)
    with pytest.raises(StoreError, match="larger than 16 MiB"):
        USES[use](store)
    assert path.stat().st_size == 2**40


def test_a_disk_that_fails(path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that opens and then cannot be looked at is a StoreError that says why."""

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store.save("default", NEW)
    with monkeypatch.context() as patch:
        patch.setattr("os.fstat", fail)
        with pytest.raises(StoreError, match="error") as caught:
            store.load("default")
    assert str(path) in str(caught.value)
    assert store.load("default") == NEW


def test_a_full_file(path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: a file with no room left is found on entering `exclusive`, and is as it was."""
    monkeypatch.setattr("requests_refresh.stores.file._LARGEST", 2**17)
    store.save("a", Token("a", extra={"fill": "x" * 2**16}))
    before = path.read_bytes()
    with pytest.raises(StoreError, match="full"):
        entering(store)
    with pytest.raises(StoreError, match="full"):
        store.save("b", Token("b", extra={"fill": "x" * 2**16}))
    assert path.read_bytes() == before


def test_room_for_the_margin(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: whoever enters `exclusive` can save a token that is 60 KiB larger."""
    monkeypatch.setattr("requests_refresh.stores.file._LARGEST", 2**17)
    store.save("default", Token("a", extra={"fill": "x" * 60_000}))
    with store.exclusive("default", 0.0):
        store.save("default", Token("a", extra={"fill": "x" * 120_000}))


@pytest.mark.parametrize("extra", [{"a": object()}, {"a": float("nan")}, {"a": {1, 2}}])
def test_extra_values_that_are_no_json(
    path: Path, store: FileStore, extra: dict[str, object]
) -> None:
    """A token that cannot be written is an error that shows no secret, and the file is whole."""
    store.save("default", OLD)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="extra") as caught:
        store.save("default", Token(CANARY, refresh_token=CANARY, extra=extra))
    assert not list(shown(caught.value, CANARY))
    assert path.read_bytes() == before


def test_what_cannot_be_written_again_is_found_in_time(path: Path, store: FileStore) -> None:
    """I7: an odd entry of another identity that would spoil the save spoils `exclusive`."""
    put(path, '{"schema": 1, "tokens": {"other": 1e400}}')
    with pytest.raises(StoreError, match="JSON"):
        entering(store)


def test_a_conflict_writes_nothing(path: Path, store: FileStore) -> None:
    """A lost swap does not touch the file."""
    store.save("default", NEW)
    before = path.stat()
    with pytest.raises(StoreConflict):
        store.save("default", OLD, replacing=None)
    assert path.stat().st_ino == before.st_ino


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`~` is the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    FileStore("~/.config/sync/tokens.json").save("default", NEW)
    assert (tmp_path / ".config" / "sync" / "tokens.json").is_file()


def test_a_relative_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative path means the same file after a change of the directory."""
    monkeypatch.chdir(tmp_path)
    store = FileStore("private/tokens.json")
    monkeypatch.chdir("/")
    store.save("default", NEW)
    assert (tmp_path / "private" / "tokens.json").is_file()


@pytest.mark.parametrize(
    "wrong", ["", "/", "dir/", "~", "~nobody-of-that-name/x", "a\0b", "\ud800", b"bytes", None, 5]
)
def test_a_path_that_is_none(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What names no file is an error when the store is made."""
    monkeypatch.setenv("HOME", "/")
    with pytest.raises(ConfigurationError, match=r"tokens\.json"):
        FileStore(wrong)


def test_pickle_and_copy(path: Path, store: FileStore) -> None:
    """I14: a pickle and a copy are stores on the same file, and hold nothing but its path."""
    store.save("default", NEW)
    for other in (pickle.loads(pickle.dumps(store)), copy.copy(store), copy.deepcopy(store)):  # noqa: S301 - the bytes are from the line itself
        assert other is not store
        assert other.load("default") == NEW
        assert repr(other) == f"FileStore({str(path)!r})"
    with store.exclusive("default", 0.0):
        pickle.dumps(store)


def test_a_system_without_users_and_modes(tmp_path: Path) -> None:
    """Where os lacks what Windows lacks, the package imports and keeps tokens."""
    script = """
import os, sys
import filelock, logging, random, requests, threading  # they need some of what goes now
for name in ("geteuid", "fchmod", "O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY", "register_at_fork"):
    delattr(os, name)
from requests_refresh.stores import FileStore, MemoryStore
from requests_refresh.tokens import Token
for store in (FileStore(sys.argv[1]), MemoryStore()):
    with store.exclusive("default", 0.0):
        store.save("default", Token("a"), replacing=None)
    assert store.load("default") == Token("a")
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "new" / "tokens.json")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
