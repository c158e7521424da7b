"""How a provider is asked: tries, the pauses between them, and backing off.

What one round does with its one chance is here: a call that found nobody is
tried again, an answer that was lost is asked for once more, and what a refresh
token may have been spent on is remembered as unknown. After a failure the next
round makes a single call, and those who wait for it are told what the last one
ended with rather than kept waiting for a provider that is down.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from .errors import (
    ConfigurationError,
    LoginRequired,
    RefreshError,
    RefreshRefused,
    RefreshTimeout,
    RefreshUnavailable,
    StoreError,
    scrub,
)
from .gate import Gate, Round
from .grants.failures import as_refresh_error, as_token
from .tokens import Token

_random = random.SystemRandom()  # has no state that a fork could double

_CALLS = 4  # of the provider in one round, where it could not be reached
_LOST_CALLS = 2  # of the provider in one round, where its answer was lost
_LONGEST_PAUSE = 1.0  # seconds between two calls in one round; beyond, the round ends
_SLOW = 1.0  # seconds; a failure that took longer was no hiccup
_LONGEST_BACKOFF, _LONGEST_RETRY_AFTER = 60.0, 3600.0
# After these it is known that the provider has taken no refresh token, or that it is dead.
_NOTHING_SPENT = (LoginRequired, RefreshRefused, ConfigurationError)


class Asking:
    """Asks the provider, for one identity. Used by one round at a time.

    reserve: seconds of a round that a call must have left.
    """

    gate: Gate  # set by the source

    def __init__(self, reserve: float) -> None:
        self.reserve = reserve
        self.failures = 0  # of rounds, in a row
        self.outcome_unknown = False  # whether a refresh token may have been spent for nothing

    def ask(
        self,
        call: Callable[[], Any],
        base: Token | None,
        round_: Round,
        assure: Callable[[], bool],
        took: Callable[[float], None],
    ) -> tuple[Token, float]:
        """What the provider issues, and when its life began, on the gate's clock.

        call: what a grant may return comes of it. base: the token it is
            refreshed from. assure: whether another call is still ours to make.
        took: told the seconds of the call that brought a token.
        """
        handled, lost, calls = sys.exc_info()[1], 0, 0
        while True:
            calls += 1
            sent, sent_at = self.gate.clock(), time.time()
            try:
                issued = as_token(call(), base, sent_at)
            except BaseException as exc:
                if not isinstance(exc, Exception):
                    self.outcome_unknown = True
                    if round_.inline:
                        raise  # it is the caller's own Ctrl-C
                error = scrub(as_refresh_error(exc, handled), handled)
            else:
                took(self.gate.clock() - sent)
                self.outcome_unknown = False
                # A callable may return what it was given some time before.
                return issued, sent - max(0.0, sent_at - (issued.issued_at or sent_at))
            if not isinstance(error, RefreshUnavailable):
                # Rubbish, too, may have come after the provider took the refresh token.
                self.outcome_unknown |= not isinstance(error, _NOTHING_SPENT)
                break
            self.gate.tell_trouble(round_, error, slow=self.gate.clock() - sent >= _SLOW)
            self.outcome_unknown |= error.outcome_unknown
            pause = error.retry_after
            if pause is None:
                pause = _random.uniform(0.05, 0.1) * 2**calls
            lost += error.outcome_unknown
            most = 1 + lost if self.failures else _CALLS
            left = round_.remaining() - self.reserve
            if calls >= most or lost == _LOST_CALLS or pause > min(_LONGEST_PAUSE, left):
                break
            time.sleep(max(0.0, pause))
            if not assure():
                break
        raise error

    def hold_back(self, error: RefreshError, round_: Round) -> float:
        """Seconds for which to make no further call, after a round that ended with `error`."""
        self.failures += 1
        unavailable = isinstance(error, (RefreshUnavailable, RefreshTimeout))
        round_.trouble = error if unavailable else None  # for the next round's waiters
        if isinstance(error, LoginRequired):
            return math.inf
        if isinstance(error, RefreshTimeout) and round_.remaining() <= 0:
            return 0.0  # the round has taken its time already
        longest = 2.0 if isinstance(error, StoreError) else _LONGEST_BACKOFF
        pause = min(longest, 0.5 * 2.0 ** min(self.failures, 10)) * _random.uniform(0.5, 1.0)
        asked = (isinstance(error, RefreshUnavailable) and error.retry_after) or 0.0
        return max(pause, min(asked, _LONGEST_RETRY_AFTER))
