"""When refreshing does not help: an API that refuses what the provider has just issued.

Such a refusal is a strike. After so many in so many seconds nothing refreshes
because of a 401 until the window has passed (I12), so that one path that always
says 401 costs the provider a few calls and the others nothing. A token that was
accepted once, or that lived for a while, can be revoked honestly: no strike.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable

from .errors import RefreshLoop
from .tokens import Token


class Strikes:
    """Counts strikes. Thread-safe; its lock is taken last and held over nothing.

    limit: (how many, in how many seconds), or None for no limit.
    clock: a monotonic clock, in seconds.
    """

    def __init__(self, limit: tuple[int, float] | None, clock: Callable[[], float]) -> None:
        self._limit = limit
        self.window = 0.0 if limit is None else float(limit[1])  # seconds
        self._clock = clock
        #: The last token issued while no request has succeeded with it. Read without a lock.
        self.unproven: Token | None = None
        self._since = -math.inf  # guarded by _lock
        self._struck: deque[tuple[float, bytes]] = deque()  # guarded by _lock
        self.reset()
        self.count = 0  # guarded by _lock

    def reset(self) -> None:
        """Forget all, as for a new login; and the lock, as after a fork."""
        self._lock = threading.Lock()
        self._struck.clear()
        self.unproven = None

    def issued(self, token: Token) -> None:
        """Note that the provider has just issued `token`."""
        with self._lock:
            self.unproven, self._since = token, self._clock()

    def prove(self, token: Token) -> None:
        """Note that a request succeeded with `token`."""
        with self._lock:
            if token is self.unproven:
                self.unproven = None

    def strike(self, token: Token) -> None:
        """Note that `token` was refused right after its issue; counts once for each token."""
        mark = token.fingerprint()
        with self._lock:
            if all(mark != struck for _, struck in self._struck):
                self._struck.append((self._clock(), mark))
                self.count += 1

    def forbid(self, stale: Token, alive: bool) -> RefreshLoop | None:
        """Why nothing may be refreshed because `stale` was refused, or None.

        alive: whether the clock calls it alive; the dead are renewed in any case.
        """
        if self._limit is None:
            return None
        most, window = self._limit
        # Just issued: so lately that a loop of such refusals would fill the window.
        if stale.same_issue(self.unproven) and self._clock() - self._since < window / most:
            self.strike(stale)
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
