"""Leases: `exclusive` for stores on servers, which cannot see a process die.

A lease has an owner and an end, by the server's clock. While its holder lives
a thread renews it, three times in its length; when he is killed it ends by
itself, so a SIGKILL costs the others one lease and no more.

A lease is no proof: a process may be stopped for longer than it lasts, and go
on. So whoever is about to spend a refresh token asks `assure` first, which has
the server confirm that the lease is his and begin it anew. What is stored is
guarded by compare-and-swap besides.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

from ..errors import StoreError

log = logging.getLogger("requests_refresh")

_RENEWALS: Final = 3  # in the length of a lease
_RETRY: Final = 0.1  # of a lease's length: after a renewal that failed


class Held:
    """A lease that this process holds. Thread-safe.

    extend: begins the lease anew, at the server; False if it is ours no more.
        Raises StoreError if the server cannot be asked.
    length: seconds.
    """

    def __init__(
        self, identity: str, owner: str, length: float, extend: Callable[[str, str], bool]
    ) -> None:
        self.identity = identity
        self.owner = owner
        self.length = length
        self.renew_at = time.monotonic() + length / _RENEWALS
        self.lost = False
        self._extend = extend
        self._pid = os.getpid()

    @property
    def inherited(self) -> bool:
        """Whether it is the parent's, and this process came from a fork."""
        return self._pid != os.getpid()

    def assure(self, seconds: float) -> bool:
        """Have the server confirm that nobody else holds this identity, for one lease from now.

        seconds: how long what comes next may take. The lease is renewed
            meanwhile; one that is shorter is warned of, because it ends in the
            middle if the store cannot be reached just then.

        False: it was lost, and another may hold it. Raises StoreError if the
        store cannot be asked. Blocks for the store.
        """
        if self.inherited or not self.renew():
            return False
        if seconds > self.length:
            log.debug(
                "%s: a refresh may take %.1f s, and the lease on it is %.1f s only",
                self.identity,
                seconds,
                self.length,
            )
        return True

    def renew(self) -> bool:
        asked = time.monotonic()
        if not self.lost and not self._extend(self.identity, self.owner):
            self.lost = True
        self.renew_at = asked + self.length / _RENEWALS
        return not self.lost


class Keeper:
    """Renews the leases of one store that this process holds. Fork-safe, if `reset` is called."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Hold nothing, as in the child of a fork."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._held: set[Held] = set()  # guarded by _lock
        self._running = False  # guarded by _lock

    def add(self, held: Held) -> None:
        """Keep it until `drop`. Where no thread can be started it lasts for its length."""
        with self._lock:
            self._held.add(held)
            start, self._running = not self._running, True
            self._changed.notify_all()
        if start:
            thread = threading.Thread(target=self._run, name="requests-refresh-lease", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                with self._lock:
                    self._running = False

    def drop(self, held: Held) -> None:
        """Let it go; who holds it gives it back himself."""
        with self._lock:
            self._held.discard(held)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._lock:
                alive = [held for held in self._held if not held.lost]
                if not self._held:
                    self._running = False
                    return
                first = min((held.renew_at for held in alive), default=float("inf"))
                pause = min(first - time.monotonic(), threading.TIMEOUT_MAX)
                if pause > 0:
                    self._changed.wait(pause)
                    continue
                due = [held for held in alive if held.renew_at <= time.monotonic()]
            for held in due:
                self._renew(held)

    def _renew(self, held: Held) -> None:
        try:
            kept = held.renew()
        except StoreError as error:
            held.renew_at = time.monotonic() + held.length * _RETRY
            log.debug("%s: its lease could not be renewed: %s", held.identity, error)
            return
        with self._lock:
            still = held in self._held
        if still and not kept:
            log.warning(
                "%s: the lease on its renewal was lost, to a stop of this process or to the"
                " store's server. What is stored is guarded all the same.",
                held.identity,
            )


def new_owner() -> str:
    """A name for the holder of a lease, which nobody else has."""
    return secrets.token_hex(16)
