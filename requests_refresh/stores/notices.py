"""Notices: who waits for a token hears of its change from the store's server.

One thread for each store listens, over a connection of its own, while somebody
waits, and ends when nobody has for a while. A notice is a hint: who waits
looks at the store before he falls asleep, and now and then while he sleeps, so
one that is lost costs a moment and no more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

log = logging.getLogger("requests_refresh")

POLL: Final = 0.02  # seconds between two looks at a store that tells nothing
SHORT: Final = 0.05  # seconds after which a wait without notices ends
LONG: Final = 0.5  # seconds after which a wait with notices ends, in case one was lost
_START: Final = 1.0  # seconds to wait for the listener to be at its place
_IDLE: Final = 10.0  # seconds without anybody waiting, after which it ends
_RETRY: Final = 1.0  # seconds after which listening is tried again


class Deaf(Exception):
    """Raised by a `listen` when there is nothing to listen to, now or later."""


class Listener(Protocol):
    """What a store's `listen` is given: its side of the ear."""

    def ready(self) -> None:
        """It listens: what changes from now on will be heard."""

    def heard(self, key: str) -> None:
        """What is stored under `key` may have changed."""

    def wanted(self) -> bool:
        """Whether to go on; to be asked about once a second."""


class _Ear:
    """How often one key's change was heard while somebody waits for it."""

    def __init__(self) -> None:
        self.times = 0
        self.users = 0


class Notices:
    """Wakes who waits for a key. Thread-safe.

    listen: blocks and tells its Listener what it hears, until it is not wanted;
        may raise anything. None: there is nothing to listen to.
    """

    def __init__(self, listen: Callable[[Listener], None] | None) -> None:
        self._listen = listen
        self.reset()

    def reset(self) -> None:
        """Nobody waits and nothing listens, as in the child of a fork."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ears: dict[str, _Ear] = {}  # guarded by _lock, as are the next four
        self._current: _Listening | None = None
        self.up = False
        self._failed_at = float("-inf")
        self._wanted_at = float("-inf")

    def close(self) -> None:
        """Stop listening; the next wait begins it again."""
        with self._lock:
            self._current, self.up = None, False
            self._changed.notify_all()

    def wait(self, key: str, unchanged: Callable[[], bool], timeout: float) -> None:
        """Block until `key` may have changed, `timeout` seconds at most.

        unchanged: looks at the store.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            ear = self._ears.setdefault(key, _Ear())
            ear.users += 1
        try:
            if self._listens(deadline):
                self._hear(ear, unchanged, deadline)
            else:
                _poll(unchanged, deadline)
        finally:
            with self._lock:
                ear.users -= 1
                if not ear.users and self._ears.get(key) is ear:
                    del self._ears[key]

    def _hear(self, ear: _Ear, unchanged: Callable[[], bool], deadline: float) -> None:
        times = ear.times
        if unchanged():
            limit = min(deadline, time.monotonic() + LONG) - time.monotonic()
            with self._lock:
                self._changed.wait_for(lambda: ear.times != times or not self.up, limit)

    def _listens(self, deadline: float) -> bool:
        """See to it that something listens; whether it does by now."""
        if self._listen is None:
            return False
        with self._lock:
            now = self._wanted_at = time.monotonic()
            if self._current is None:
                if now < self._failed_at + _RETRY:
                    return False
                self._current = _Listening(self)
                start = threading.Thread(
                    target=self._run,
                    args=(self._current, self._listen),
                    name="requests-refresh-notices",
                    daemon=True,
                )
                try:
                    start.start()
                except BaseException as error:
                    self._current = None
                    if not isinstance(error, RuntimeError):  # that is: no thread to be had
                        raise
            limit = min(deadline, now + _START) - now
            self._changed.wait_for(lambda: self.up or self._current is None, max(0.0, limit))
            return self.up

    def _run(self, mine: _Listening, listen: Callable[[Listener], None]) -> None:
        failed = True
        try:
            listen(mine)
            failed = False
        except Deaf:
            self._listen = None
        except Exception as error:  # whatever a driver raises: looking goes on without
            log.debug("Changes in the store are not heard: %s", type(error).__name__)
        finally:
            with self._lock:
                if self._current is mine:
                    self._current, self.up = None, False
                    if failed:
                        self._failed_at = time.monotonic()
                    self._changed.notify_all()

    def _tell(self, mine: _Listening, key: str | None) -> None:
        with self._lock:
            if self._current is not mine:
                return
            if key is None:
                self.up = True
            ears = list(self._ears.values()) if key is None else [self._ears.get(key)]
            for ear in ears:
                if ear is not None:
                    ear.times += 1
            if any(ears):
                self._changed.notify_all()

    def _is_wanted(self, mine: _Listening) -> bool:
        with self._lock:
            if self._ears:
                self._wanted_at = time.monotonic()
            return self._current is mine and time.monotonic() < self._wanted_at + _IDLE


class _Listening:
    """One time of listening, from its thread's start to its end."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices

    def ready(self) -> None:
        self._notices._tell(self, None)

    def heard(self, key: str) -> None:
        self._notices._tell(self, key)

    def wanted(self) -> bool:
        return self._notices._is_wanted(self)


def _poll(unchanged: Callable[[], bool], deadline: float) -> None:
    """Look again and again, for a short while: nobody tells when `exclusive` is free."""
    deadline = min(deadline, time.monotonic() + SHORT)
    while unchanged() and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(POLL, left))
