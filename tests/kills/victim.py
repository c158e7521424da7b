"""The program that is killed: it renews, and stops where it is told to.

`python -m tests.kills.victim` imports everything once. For each line of
settings on its standard input it makes a fork, and that is one victim: a
process of its own, with a store, a source and a session of its own. It reports
by lines on standard output. When it has ended, by whatever, the first process
says how, and reads the next line.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests

from requests_refresh import FileStore, RefreshAdapter, RefreshTokenGrant, Token, TokenSource
from requests_refresh.stores import Lease, RedisStore, SQLStore, TokenStore

SAFETY = 60  # seconds; what takes longer hangs
LATE = ["redis", "sqlite3", "sqlalchemy.dialects.sqlite", "psycopg", "pymysql"]


def open_store(kind: str, where: str, name: str, lease: float) -> TokenStore:
    """A new way into a shared store."""
    if kind == "file":
        return FileStore(where)
    if kind == "redis":
        return RedisStore(where, prefix=name, lease=lease)
    return SQLStore(where, table=name, lease=lease)


def session(api: str, tokens: TokenSource) -> requests.Session:
    http = requests.Session()
    http.trust_env = False
    http.mount(api, RefreshAdapter(tokens, origins=api))
    return http


class Stopping(TokenStore):
    """Another store, and at one step of a renewal the process stops until it is killed."""

    def __init__(self, inner: TokenStore, step: str) -> None:
        self._inner = inner
        self._step = step

    def _reach(self, step: str) -> None:
        if step == self._step:
            say("stopped")
            hear()  # nothing comes: the kill does, or the end of the tests
            os._exit(1)

    def load(self, identity: str) -> Token | None:
        return self._inner.load(identity)

    def save(self, identity: str, token: Token, **how: Any) -> None:
        self._reach("replied")
        self._inner.save(identity, token, **how)
        self._reach("saved")

    def delete(self, identity: str, **how: Any) -> None:
        self._inner.delete(identity, **how)

    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[Lease | None]:
        self._reach("before")
        with self._inner.exclusive(identity, timeout) as lease:
            self._reach("inside")
            yield lease
        self._reach("left")

    def wait(self, identity: str, timeout: float) -> None:
        self._inner.wait(identity, timeout)


def say(what: str, **more: Any) -> None:
    os.write(1, (json.dumps([what, more]) + "\n").encode())


def hear() -> str:
    return sys.stdin.readline()


def renew(given: dict[str, Any]) -> None:
    """Two requests; before the second the test lets the access token die."""
    signal.alarm(SAFETY)
    store = Stopping(open_store(*given["store"]), given["step"])
    grant = RefreshTokenGrant(given["token_url"], client_id="test")
    http = session(given["api"], TokenSource(grant, store, identity=given["identity"]))
    http.get(given["api"] + "items", timeout=SAFETY)
    say("ready", pid=os.getpid())
    if hear():
        say("going")  # or else a kill might come before that word was read, and another read it
        http.get(given["api"] + "items", timeout=SAFETY)
        say("done")
        hear()


def main() -> None:
    for name in LATE:
        with suppress(ImportError):
            importlib.import_module(name)
    while line := hear():
        pid = os.fork()
        if pid == 0:
            try:
                renew(json.loads(line))
            finally:
                os._exit(1)
        say("ended", code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
