"""Work that tests of stores have done by processes of their own, and how those are started.

The functions take a Connection to report on, and a path. They are started by
a server process that has no threads, so that a fork is harmless.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import pytest

from requests_refresh.errors import RefreshTimeout, StoreError
from requests_refresh.stores import FileStore, MemoryStore
from requests_refresh.tokens import Token

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.stores.processes"])
SAFETY = 60  # seconds


@contextmanager
def process(work: Any, *args: Any) -> Iterator[tuple[Any, Connection]]:
    """Run `work(connection, *args)` in a process of its own, which ends with the block.

    It has time to end by itself when the other end of its connection is closed.
    """
    ours, theirs = CONTEXT.Pipe()
    child = CONTEXT.Process(target=work, args=(theirs, *args), daemon=True)
    child.start()
    theirs.close()
    try:
        yield child, ours
    finally:
        ours.close()
        child.join(SAFETY)
        child.kill()
        child.join(SAFETY)


def answer(connection: Connection) -> Any:
    """The next thing that a process reports."""
    assert connection.poll(SAFETY)
    return connection.recv()


def in_threads(count: int, work: Any) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SAFETY)


def save_many(report: Connection, path: str, name: str) -> None:
    """Save five tokens from each of eight threads."""

    def save(number: int) -> None:
        for turn in range(5):
            store.save(f"{name}-{number}-{turn}", Token(f"access-{name}-{number}-{turn}"))

    store = FileStore(path)
    in_threads(8, save)
    report.send("done")


def save_big(report: Connection, path: str) -> None:
    """Save one token after the other, each said before it is begun, until the end."""
    store = FileStore(path)
    number = 0
    while True:
        report.send(number)
        store.save("default", Token(f"access-{number}", extra={"fill": str(number) * 100_000}))
        number += 1


def save_and_die(report: Connection, path: str, last: int) -> None:
    """Save, killed before the system call that comes after `last` others, if there is one."""
    store = FileStore(path)
    calls = itertools.count()

    def counted(real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if next(calls) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "fchmod", "write", "fsync", "replace", "close", "unlink", "listdir"):
            patch.setattr(os, name, counted(getattr(os, name)))
        store.save("default", Token("access-1", refresh_token="refresh-1"))


def count(report: Connection, path: str, times: int) -> None:
    """Add to a counter that only `exclusive` protects, from two threads."""
    counter = path + ".counter"

    def add(number: int) -> None:
        store = FileStore(path)
        for _ in range(times):
            with store.exclusive("default", SAFETY):
                with open(counter) as file:
                    before = int(file.read())
                with open(counter, "w") as file:
                    file.write(str(before + 1))

    in_threads(2, add)
    report.send("done")


def hold(report: Connection, path: str) -> None:
    """Hold the identity until the other end says or dies."""
    with FileStore(path).exclusive("default", SAFETY):
        report.send("held")
        report.poll(SAFETY)


def hold_and_fork(report: Connection, path: str) -> None:
    """Fork while another thread holds the identity; the child lives until the other end says."""
    store = FileStore(path)
    held = threading.Event()

    def keep() -> None:
        with store.exclusive("default", SAFETY):
            held.set()
            threading.Event().wait(SAFETY)

    threading.Thread(target=keep, daemon=True).start()
    held.wait(SAFETY)
    pid = os.fork()
    if pid == 0:
        signal.alarm(SAFETY)
        try:
            with store.exclusive("default", 0.0):
                report.send("entered")
        except RefreshTimeout:
            report.send("kept out")
        store.save("other", Token("from-the-child"))
        with store.exclusive("other", 0.0):
            report.send("works")
        report.poll(SAFETY)
        os._exit(0)
    os.waitpid(pid, 0)


def write_without_room(report: Connection, path: str) -> None:
    """Try `exclusive` and `save` where no file may grow past 4 KiB; report the messages."""
    store = FileStore(path)
    attempts: list[Callable[[], object]] = [
        lambda: store.exclusive("default", 0.0).__enter__(),
        lambda: store.save("default", Token("a", extra={"fill": "x" * 5000})),
    ]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    for attempt in attempts:
        try:
            attempt()
        except StoreError as error:
            report.send(str(error))
        else:
            report.send("no error")
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def fork_memory(report: Connection) -> None:
    """Fork while another thread holds an identity; the child tells what it has."""
    store = MemoryStore(maxsize=4)
    store.save("both", Token("a", refresh_token="r", expires_at=5.0, scope="s"))
    store.save("access", Token("b"))
    store.save("refresh", Token(refresh_token="r"))
    held = threading.Event()

    def keep() -> None:
        with store.exclusive("access", SAFETY):
            held.set()
            threading.Event().wait(SAFETY)

    threading.Thread(target=keep, daemon=True).start()
    held.wait(SAFETY)
    with store.exclusive("both", 0.0):
        pid = os.fork()
        if pid != 0:
            os.waitpid(pid, 0)
            return
    signal.alarm(SAFETY)
    names = ("both", "access", "refresh")
    found = [token and token.to_mapping() for token in map(store.load, names)]
    with store.exclusive("access", 0.0):
        store.save("new", Token("c", refresh_token="r2"))
    report.send((found, store.note, repr(store), store.load("new") is not None))
    os._exit(0)
