"""When refreshing does not help: an API that refuses what the provider has just issued.

Such a refusal is a strike. After so many in so many seconds nothing refreshes
because of a 401 until the window has passed (I12), so that one path that always
says 401 costs the provider a few calls and the others nothing. A token that was
accepted once, or that lived for a while, can be revoked honestly: no strike.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable

from .errors import RefreshLoop
from .tokens import Token

log = logging.getLogger("requests_refresh")

_NUMBERS_KEPT = 64  # issues whose late refusals are known as such


class Strikes:
    """Counts strikes. Thread-safe; its lock is taken last and held over nothing.

    limit: (how many, in how many seconds), or None for no limit.
    clock: a monotonic clock, in seconds.
    """

    def __init__(self, limit: tuple[int, float] | None, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._window = 0.0 if limit is None else float(limit[1])  # seconds
        self._clock = clock
        #: The last token issued while no request has succeeded with it. Read without a lock.
        self.unproven: Token | None = None
        self._last: Token | None = None  # the last token issued; guarded by _lock
        self._issues = 0  # guarded by _lock
        self._numbers: dict[bytes, int] = {}  # of the last issues; guarded by _lock
        self._since = -math.inf  # guarded by _lock
        self._struck: deque[tuple[float, bytes | int]] = deque()  # guarded by _lock
        self._warned_at = -math.inf  # guarded by _lock
        self.count = 0  # guarded by _lock
        self.after_fork()

    def after_fork(self) -> None:
        """Forget all, and a lock that nobody will release."""
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all, as for a new login."""
        with self._lock:
            self._struck.clear()
            self.unproven = None

    def issued(self, token: Token) -> None:
        """Note that the provider has just issued `token`."""
        with self._lock:
            self.unproven = self._last = token
            self._since = self._clock()
            self._issues += 1
            self._numbers[token.fingerprint()] = self._issues
            while len(self._numbers) > _NUMBERS_KEPT:
                self._numbers.pop(next(iter(self._numbers)))

    def prove(self, token: Token) -> None:
        """Note that a request succeeded with `token`."""
        with self._lock:
            if token is self.unproven:
                self.unproven = None

    def strike(self, token: Token) -> None:
        """Note that `token` was refused right after its issue; counts once for each issue."""
        with self._lock:
            self._strike_locked(token)

    def _strike_locked(self, token: Token) -> None:
        assert self._lock.locked()
        # By number, as a provider may issue the same token again; late refusals, too.
        mark = self._numbers.get(token.fingerprint(), token.fingerprint())
        if all(mark != struck for _, struck in self._struck):
            self._struck.append((self._clock(), mark))
            self.count += 1

    def strike_if_young(self, token: Token) -> None:
        """Strike if it was issued so lately that a loop of such refusals would fill the window."""
        if self._limit is None:
            return
        with self._lock:  # over both, or another issue may come in between
            young = self._clock() - self._since < self._window / self._limit[0]
            if young and token.same_issue(self._last):
                self._strike_locked(token)

    def forbid(self, stale: Token, alive: bool) -> RefreshLoop | None:
        """Why nothing may be refreshed because `stale` was refused, or None.

        alive: whether the clock calls it alive; the dead are renewed in any case.
        """
        if self._limit is None:
            return None
        most, window = self._limit
        if stale.same_issue(self.unproven):
            self.strike_if_young(stale)
        with self._lock:
            while self._struck and self._clock() - self._struck[0][0] >= window:
                self._struck.popleft()
            if not alive or len(self._struck) < most:
                return None
        return RefreshLoop(
            f"The API refused {most} tokens within {window:g} s, each right after its issue, so a"
            " new one does not help. The login is intact; nothing is refreshed until that time is"
            " over. See whether the path wants another scope or audience."
        )

    def warn(self, identity: str, error: RefreshLoop) -> None:
        """Log `error`, once in each window."""
        with self._lock:
            now = self._clock()
            if now - self._warned_at < self._window:
                return
            self._warned_at = now
        log.warning("%s: %s", identity, error)
