"""Another process with a store of its own, for the tests of `TokenStoreContract`.

A `Peer` is the handle, `serve` what runs over there. They speak in lines of
JSON: a command and its arguments one way, what came of it the other way. The
store travels as a pickle, from the test to a process that the test started.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from ..errors import RefreshTimeout, StoreConflict
from ..stores import TokenStore
from ..tokens import Token

# The other process imports what this one can, and nothing that happens to lie where it starts.
_START = "import sys; sys.path[:] = sys.argv[1:]; from requests_refresh.testing import peer"


class Peer:
    """Another process, which does one command after the other. For one thread."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, with a line from above
            [sys.executable, "-c", f"{_START}; peer.serve()", *map(os.path.abspath, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="ascii",
        )
        self._replies: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._asked = 0  # replies that are still to come
        self.alive = True

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._replies.put(line)
        self._replies.put("")

    def ask(self, command: str, *args: Any) -> None:
        """Have a command of `_Worker` done, and do not wait for it."""
        assert self._process.stdin is not None
        self._asked += 1
        self._process.stdin.write(json.dumps([command, *args]) + "\n")
        self._process.stdin.flush()

    def answer(self, patience: float, wrong: str = "Another process hangs in the store") -> Any:
        """What came of the oldest command that is not answered; an AssertionError if it failed."""
        try:
            line = self._replies.get(timeout=patience)
        except queue.Empty:
            self.kill()
            raise AssertionError(f"{wrong}: no answer in {patience:g} s.") from None
        if not line:
            self.kill()
            raise AssertionError("Another process that has the store open has died.")
        self._asked -= 1
        reply = json.loads(line)
        if "failed" in reply:
            last = reply["failed"].strip().splitlines()[-1]
            raise AssertionError(f"{wrong}. {last}\n{reply['failed']}")
        return reply["result"]

    def call(self, patience: float, command: str, *args: Any) -> Any:
        """`ask` and `answer` in one."""
        self.ask(command, *args)
        return self.answer(patience)

    def open(self, store: TokenStore) -> None:
        """Send the store over; `answer` tells of it."""
        self.ask("open", base64.b64encode(pickle.dumps(store)).decode("ascii"))

    def kill(self) -> None:
        """End the process at once, by SIGKILL where there is one."""
        self.alive = False
        self._process.kill()
        self._end(None)

    def rest(self, patience: float) -> None:
        """Close its store, to be ready for the next one; or end it, if it does not answer."""
        try:
            if self.alive and self._asked:
                self.kill()
            elif self.alive:
                self.call(patience, "close")
        except (AssertionError, OSError):
            self.kill()

    def stop(self, patience: float) -> None:
        """End the process in good order."""
        if self.alive:
            self.alive = False
            self._end(patience)

    def _end(self, patience: float | None) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with suppress(OSError):  # it has died, and what it was asked last never came there
            stdin.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        stdout.close()


def serve() -> None:
    """Do what comes on standard input, until its end."""
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a store prints is no reply

    def tell(reply: dict[str, object]) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    worker = _Worker(lambda result: tell({"result": result}))
    for line in sys.stdin:
        command, *args = json.loads(line)
        try:
            result = getattr(worker, command)(*args)
        except Exception:
            tell({"failed": traceback.format_exc()})
        else:
            tell({"result": result})


class _Worker:
    """The commands. Tokens come and go as their mappings."""

    def __init__(self, tell: Callable[[object], None]) -> None:
        self._tell = tell
        self._holding = ExitStack()
        self._store: TokenStore

    def open(self, pickled: str) -> None:
        self._store = pickle.loads(base64.b64decode(pickled))  # noqa: S301 - the test's own

    def close(self) -> None:
        self._holding.close()
        self._store.close()

    def load(self, identity: str) -> dict[str, Any] | None:
        return _mapping(self._store.load(identity))

    def save(self, token: dict[str, Any], *identities: str) -> None:
        for identity in identities:
            self._store.save(identity, Token.from_mapping(token))

    def delete(self, identity: str) -> None:
        self._store.delete(identity)

    def swap(self, identity: str, seen: dict[str, Any] | None, token: dict[str, Any]) -> bool:
        """Whether the token could take the place of the one that was seen."""
        replacing = None if seen is None else Token.from_mapping(seen)
        try:
            self._store.save(identity, Token.from_mapping(token), replacing=replacing)
        except StoreConflict:
            return False
        return True

    def enter(self, identity: str, timeout: float) -> bool:
        """Whether it could be entered; it is held from now on."""
        try:
            self._holding.enter_context(self._store.exclusive(identity, timeout))
        except RefreshTimeout:
            return False
        return True

    def leave(self) -> None:
        self._holding.close()

    def count(self, identity: str, times: int, timeout: float) -> None:
        count(self._store, identity, times, timeout)

    def watch(self, identity: str, timeout: float) -> dict[str, Any] | None:
        """Tell that it has looked; then wait, and tell what is there after a change."""
        before = self._store.load(identity)
        self._tell("watching")
        return _mapping(changed(self._store, identity, before, timeout))


def count(store: TokenStore, identity: str, times: int, timeout: float) -> None:
    """Add to a number in a token, so that a step is lost if another comes in between."""
    for _ in range(times):
        with store.exclusive(identity, timeout):
            before = store.load(identity)
            steps = before.extra["steps"] if before else 0
            store.save(identity, Token("a", extra={"steps": steps + 1}))


def changed(store: TokenStore, identity: str, before: Token | None, timeout: float) -> Token | None:
    """What is stored after a change since this thread has loaded `before`."""
    while True:
        store.wait(identity, timeout)
        found = store.load(identity)
        if found != before:
            return found


def _mapping(token: Token | None) -> dict[str, Any] | None:
    return None if token is None else token.to_mapping()
