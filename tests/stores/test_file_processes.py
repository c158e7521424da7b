"""`FileStore` between processes: kills, races, forks, and one holder at a time."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import filelock
import pytest

from requests_refresh.errors import RefreshTimeout, StoreError
from requests_refresh.stores import FileStore
from requests_refresh.tokens import Token
from tests.stores import processes
from tests.stores.contract import NEW, OLD, SAFETY
from tests.stores.processes import answer, process
from tests.stores.test_file import USES, entering


def test_no_save_is_lost(path: Path, store: FileStore) -> None:
    """Saves of other identities from eight threads in each of three processes are all there."""
    with ExitStack() as stack:
        work = [(name, process(processes.save_many, str(path), name)) for name in "abc"]
        started = [stack.enter_context(child) for _, child in work]
        assert [answer(connection) for _, connection in started] == ["done"] * 3
    names = [f"{name}-{n}-{turn}" for name in "abc" for n in range(8) for turn in range(5)]
    assert [store.load(name) for name in names] == [Token(f"access-{name}") for name in names]


def test_a_kill_at_each_step_of_a_save(path: Path, store: FileStore) -> None:
    """I7: whichever system call of a save is the last before SIGKILL, the file is old or new."""
    steps = []
    for last in range(100):
        store.save("default", OLD)
        with process(processes.save_and_die, str(path), last) as (child, _):
            child.join(SAFETY)
            steps.append(store.load("default"))
            if child.exitcode == 0:
                break
            assert child.exitcode == -signal.SIGKILL
    replaced = steps.index(NEW)
    assert 5 < replaced < len(steps) - 1
    assert steps == [OLD] * replaced + [NEW] * (len(steps) - replaced)
    assert not list(path.parent.glob("*.tmp"))


def test_a_kill_leaves_a_whole_file(path: Path, store: FileStore) -> None:
    """I7: after SIGKILL at any moment of a save the file is the old or the new one, and private."""
    for kill_after in range(3, 13):
        with process(processes.save_big, str(path)) as (child, connection):
            while (number := answer(connection)) < kill_after:
                pass
            child.kill()
            child.join(SAFETY)
        token = store.load("default")
        assert token is not None
        found = int((token.access_token or "").removeprefix("access-"))
        assert found >= number - 1
        assert token.extra["fill"] == str(found) * 100_000
        assert path.stat().st_mode & 0o777 == 0o600
        json.loads(path.read_bytes())
    store.save("default", NEW)
    assert not list(path.parent.glob("*.tmp"))


def test_holding_is_for_one_process_at_a_time(path: Path) -> None:
    """I1: what `exclusive` protects loses no step among processes and their threads."""
    path.parent.mkdir(mode=0o700)
    counter = path.with_name("tokens.json.counter")
    counter.write_text("0")
    with ExitStack() as stack:
        started = [stack.enter_context(process(processes.count, str(path), 6)) for _ in range(3)]
        assert [answer(connection) for _, connection in started] == ["done"] * 3
    assert counter.read_text() == "36"


def test_a_holder_that_leaves_is_followed(path: Path, store: FileStore) -> None:
    """I3: who waits for another process gets in when that one leaves."""
    with process(processes.hold, str(path)) as (_, connection):
        assert answer(connection) == "held"
        entered = threading.Event()

        def enter() -> None:
            with store.exclusive("default", SAFETY):
                entered.set()

        waiter = threading.Thread(target=enter, daemon=True)
        waiter.start()
        connection.send("leave")
        assert entered.wait(SAFETY)
        waiter.join(SAFETY)


def test_a_fork_does_not_inherit_the_lock(path: Path, store: FileStore) -> None:
    """I14: the child of a fork is kept out, works, and does not hold what a dead parent held."""
    with process(processes.hold_and_fork, str(path)) as (parent, connection):
        assert answer(connection) == "kept out"
        assert answer(connection) == "works"
        assert store.load("other") == Token("from-the-child")
        with pytest.raises(RefreshTimeout), store.exclusive("default", 0.0):
            pass
        parent.kill()
        with store.exclusive("default", SAFETY):
            connection.send("end")


@pytest.mark.parametrize("use", ["save", "delete"])
def test_a_writer_that_stopped(
    path: Path, store: FileStore, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3: a lock that never comes free is a StoreError in the end; `exclusive` needs it not."""
    store.save("default", OLD)
    monkeypatch.setattr("requests_refresh.stores.file._PATIENCE", 0.02)
    fd = os.open(path.with_name("tokens.json.lock"), os.O_RDWR)
    try:
        assert filelock.lock_descriptor(fd, blocking=False)
        with pytest.raises(StoreError, match="stayed locked") as caught:
            USES[use](store)
        assert caught.value.__context__ is None
        assert store.load("default") == OLD
        entering(store)
    finally:
        os.close(fd)
    USES[use](store)


@pytest.mark.parametrize("again", [False, True], ids=["removed", "made anew"])
def test_a_lock_file_that_was_removed(path: Path, store: FileStore, again: bool) -> None:
    """I1: a lock on a file that was removed while it was waited for is none; a new one is taken."""
    store.save("default", OLD)
    lock = path.with_name("tokens.json.lock")
    fd = os.open(lock, os.O_RDWR)
    assert filelock.lock_descriptor(fd, blocking=False)
    saver = threading.Thread(target=store.save, args=("default", NEW), daemon=True)
    # The saver has opened the file that is locked before that is removed.
    opened = threading.Event()
    real = filelock.lock_descriptor

    def lock_and_tell(number: int, **options: Any) -> bool:
        opened.set()
        return real(number, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("requests_refresh.stores.private.lock_descriptor", lock_and_tell)
        saver.start()
        assert opened.wait(SAFETY)
        lock.unlink()
        if again:
            lock.touch(mode=0o600)
        os.close(fd)
        saver.join(SAFETY)
    assert store.load("default") == NEW
    assert lock.exists()


def test_a_replaced_file_can_be_read_to_its_end(path: Path, store: FileStore) -> None:
    """A reader that has opened the file just before a save reads the old one, which is whole."""
    store.save("default", OLD)
    real = os.fstat

    def replace_first(fd: int) -> os.stat_result:
        patch.undo()
        FileStore(path).save("default", NEW)
        return real(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fstat", replace_first)
        assert store.load("default") == OLD
    assert store.load("default") == NEW
