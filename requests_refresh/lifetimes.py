"""How long a token lives here: when it is worth renewing, and when it counts as dead."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from .tokens import Current, Token

_random = random.SystemRandom()  # has no state that a fork could double


class Lifetimes:
    """Puts a token's life on a monotonic clock.

    ahead, leeway: seconds, or None, as TokenSource takes them.
    clock: that monotonic clock, in seconds.
    """

    def __init__(
        self, ahead: float | None, leeway: float | None, clock: Callable[[], float]
    ) -> None:
        self._ahead = ahead
        self._leeway = leeway
        self._clock = clock
        self.took = 0.25  # seconds of the last refresh; before the first, what many take

    def current(self, token: Token, sent: float | None = None) -> Current:
        """`token` with its moments on the clock.

        sent: when it was asked for, if just now: its life is then counted from
            there by the monotonic clock. A stored time is a hint of another clock.
        """
        now = self._clock()
        if token.access_token is None:
            return Current(token, -math.inf, -math.inf)
        if token.expires_at is None:
            return Current(token, math.inf, math.inf)
        left = life = token.expires_at - time.time()
        if token.issued_at is not None:
            life = token.expires_at - token.issued_at
            left = life - (now - sent) if sent is not None else min(left, life)
        leeway = min(0.02 * life, 5.0) if self._leeway is None else min(self._leeway, life / 2)
        if sent is not None and left <= leeway:
            # Dead as it was issued: a clock is wrong, or the reply. Let the API decide.
            return Current(token, math.inf, math.inf)
        ahead = self._ahead
        if ahead is None:
            # A leeway of the user's own may be long; a refresh must fit in before it.
            ahead = max(min(0.1 * life, 300.0), 4 * self.took)
            if self._leeway is not None:
                ahead = max(ahead, leeway + 4 * self.took)
            ahead = min(ahead, 0.375 * life)
            ahead *= _random.uniform(1, 4 / 3)
        end = now + left
        return Current(token, end - max(leeway, min(ahead, life / 2)), end - leeway)


def time_for(grant: object, timeout: float) -> float:
    """Seconds that a call of `grant` may need, a third of the round's at most."""
    own = getattr(grant, "timeout", None)
    if isinstance(own, tuple) and all(isinstance(part, (int, float)) for part in own):
        return min(sum(own), timeout / 3)
    return timeout / 3
