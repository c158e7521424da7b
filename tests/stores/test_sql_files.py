"""SQLStore's SQLite file: nobody else's, whatever the umask, and never somebody else's."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from requests_refresh.errors import ConfigurationError, StoreError
from requests_refresh.stores import SQLStore, private

from .contract import NEW, in_threads
from .databases import Database, database_of


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_of("sqlite", request) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.db"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_it_is_private(database: Database, tmp_path: Path, umask: int) -> None:
    """I9: the file, its journal and its directory are 0600 and 0700, whatever the umask."""
    url = f"sqlite:///{tmp_path}/new/deep/tokens.db"
    store = database.store(on=url)
    before = os.umask(umask)
    try:
        store.save("default", NEW)
        with closing(sqlite3.connect(tmp_path / "new/deep/tokens.db")) as at:
            at.execute(f"UPDATE {database.table} SET held_until = 1")  # noqa: S608 - ours
            files = {path.name: mode(path) for path in (tmp_path / "new/deep").iterdir()}
    finally:
        os.umask(before)
    assert files == {"tokens.db": 0o600, "tokens.db-journal": 0o600}
    assert mode(tmp_path / "new") == mode(tmp_path / "new/deep") == 0o700


def test_it_is_private_when_made_again(database: Database, file: Path) -> None:
    """I9: one that was removed under the store is not made anew for all to read."""
    store = database.store()
    store.load("default")
    file.unlink()
    store.close()
    assert store.load("default") is None
    assert mode(file) == 0o600
    file.unlink()
    store.close()
    in_threads(4, lambda _: store._connected().connect().close())
    assert mode(file) == 0o600


@pytest.mark.parametrize("bits", [0o644, 0o660, 0o604])
def test_one_that_others_may_read(database: Database, file: Path, bits: int) -> None:
    """I9: it is refused and left as it is."""
    file.write_bytes(b"")
    file.chmod(bits)
    store = database.store()
    with pytest.raises(StoreError, match=r"others may read or write it.*It is as it was"):
        store.save("default", NEW)
    assert (file.read_bytes(), mode(file)) == (b"", bits)
    file.chmod(0o600)
    store.save("default", NEW)


def test_links_and_others(database: Database, tmp_path: Path, file: Path) -> None:
    """I9: neither a link, nor a directory, nor a FIFO is taken for the file."""
    target = tmp_path / "elsewhere"
    target.touch(0o600)
    file.symlink_to(target)
    store = database.store()
    with pytest.raises(StoreError, match="no regular file"):
        store.save("default", NEW)
    assert target.read_bytes() == b""
    file.unlink()
    os.link(target, file)
    with pytest.raises(StoreError, match="hard link"):
        store.save("default", NEW)
    file.unlink()
    file.mkdir()
    with pytest.raises(StoreError, match="no regular file"):
        store.save("default", NEW)
    file.rmdir()
    os.mkfifo(file)
    with pytest.raises(StoreError, match="no regular file"):
        store.save("default", NEW)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_foreign_directory(database: Database, tmp_path: Path, file: Path) -> None:
    """I9: who owns the directory could put another file there; so it must be our own."""
    os.chown(tmp_path, 65534, -1)
    try:
        with pytest.raises(StoreError, match="belongs to another user"):
            database.store().load("default")
        os.chown(tmp_path, os.geteuid(), -1)
        tmp_path.chmod(0o770)
        with pytest.raises(StoreError, match="others may write in it"):
            database.store().load("default")
        tmp_path.chmod(0o700)
        file.touch(0o600)
        os.chown(file, 65534, -1)
        with pytest.raises(StoreError, match="belongs to another user"):
            database.store().load("default")
    finally:
        os.chown(tmp_path, os.geteuid(), -1)


def test_a_path_that_cannot_be(database: Database, tmp_path: Path) -> None:
    """What the system has against a path is said in words."""
    with pytest.raises(StoreError, match="File name too long"):
        database.store(on=f"sqlite:///{tmp_path}/{'x' * 300}").load("default")


def test_home(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home directory, and a path without a slash lies here."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    database.store(on="sqlite:///~/.config/tokens.db").save("default", NEW)
    assert mode(tmp_path / "home/.config/tokens.db") == 0o600
    monkeypatch.chdir(tmp_path)
    store = database.store(on="sqlite:///here.db")
    store.save("default", NEW)
    monkeypatch.chdir("/")  # what it has found it keeps
    assert store.load("default") == NEW
    assert mode(tmp_path / "here.db") == 0o600


def test_a_file_that_another_process_makes(
    database: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that appears between the look and the making is looked at like any other."""

    def late(path: str) -> bool:
        if path == str(file):
            file.touch(0o644)
        return False

    monkeypatch.setattr(os.path, "lexists", late)
    file.unlink(missing_ok=True)
    old = os.umask(0o022)
    try:
        with pytest.raises(StoreError, match="others may read or write it"):
            database.store().load("default")
    finally:
        os.umask(old)


def test_a_new_file_is_closed_before_it_is_used(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I7: a thread that makes the file does not, by closing it, drop the lock of another's save.

    POSIX drops all locks of a process on a file when it closes one descriptor of it.
    """
    stores = [database.store() for _ in range(8)]
    real = private.write_new

    def write_new(path: str, data: bytes) -> None:
        with monkeypatch.context() as patch:
            close = os.close

            def late(fd: int) -> None:
                for _ in range(100):
                    os.sched_yield()
                assert not any(store._ready for store in stores)
                close(fd)

            patch.setattr(os, "close", late)
            real(path, data)

    monkeypatch.setattr(private, "write_new", write_new)
    in_threads(8, lambda number: stores[number].save(f"{number}", NEW))
    assert len(list(stores[0].identities())) == 8


def test_a_disk_that_is_full(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: where a save would not fit `exclusive` is refused, and holds nothing."""
    store = database.store()
    store.save("default", NEW)
    with store._connected().connect() as at:
        size = at.exec_driver_sql("PRAGMA page_count").scalar_one()

    def limit(raw: sqlite3.Connection, record: object) -> None:
        raw.execute(f"PRAGMA max_page_count = {size}")

    store.close()
    event.listen(store._connected(), "connect", limit)
    with pytest.raises(StoreError, match="OperationalError"), store.exclusive("default", 0.0):
        pytest.fail("nothing can be saved here")
    with database.store().exclusive("default", 0.0):
        assert store.load("default") == NEW


def test_without_sqlalchemy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has not installed it is told what to install."""
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(ConfigurationError, match=r"pip install .requests_refresh\[sql\]"):
        SQLStore("sqlite:///tokens.db")
