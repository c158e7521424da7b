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
from contextlib import suppress
from typing import Final

from ..errors import StoreError

log = logging.getLogger("requests_refresh")

_RENEWALS: Final = 3  # in the length of a lease
_RETRY: Final = 0.1  # of a lease's length: after a renewal that failed
LOST: Final = (
    "%s: the lease on its renewal was lost, to a stop of this process or to the"
    " store's server. What is stored is guarded all the same."
)


class Held:
    """A lease that this process holds. Thread-safe.

    extend: begins the lease anew, at the server; False if it is ours no more.
        Raises StoreError if the server cannot be asked.
    length: seconds.
    taken_over: whether the holder before never gave it back: he was killed or cut off.
    """

    def __init__(
        self,
        identity: str,
        owner: str,
        length: float,
        extend: Callable[[str, str], bool],
        *,
        taken_over: bool = False,
    ) -> None:
        self.identity = identity
        self.owner = owner
        self.length = length
        self.taken_over = taken_over
        self.renew_at = time.monotonic() + length / _RENEWALS
        self.lost = False
        self._extend = extend
        self._pid = os.getpid()
        self._done = threading.Event()

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

    def keep(self) -> None:
        """Renew it until `let_go`. Where no thread can be started it lasts for its length.

        Each has a thread of its own: a server that answers late for one identity,
        whose row somebody locks, must not cost us the others.
        """
        thread = threading.Thread(target=self._run, name="requests-refresh-lease", daemon=True)
        with suppress(RuntimeError):
            thread.start()

    def let_go(self) -> None:
        """Renew it no more; who holds it gives it back himself."""
        if not self.inherited:  # else the thread that stayed behind may have had the event's lock
            self._done.set()

    def renew(self) -> bool:
        """Begin it anew; False if it was lost. Raises StoreError if that cannot be found out."""
        asked = time.monotonic()
        if not self.lost and not self._extend(self.identity, self.owner):
            self.lost = True
        self.renew_at = asked + self.length / _RENEWALS
        return not self.lost

    def _run(self) -> None:
        while not self._done.wait(max(0.0, self.renew_at - time.monotonic())):
            if time.monotonic() < self.renew_at:
                continue  # `assure` was faster
            try:
                kept = self.renew()
            except StoreError as error:
                self.renew_at = time.monotonic() + self.length * _RETRY
                log.debug("%s: its lease could not be renewed: %s", self.identity, error)
                continue
            if not kept:
                if not self._done.is_set():
                    log.warning(LOST, self.identity)
                return


def new_owner() -> str:
    """A name for the holder of a lease, which nobody else has."""
    return secrets.token_hex(16)
