"""How a renewal goes: exclusive, reload, compare, refresh, save.

A `Renewal` does the work of a round, on the round's thread and without the
gate's lock. Its order is what keeps a login alive:

- the store is looked at before the provider is called, so that what another
  process has obtained is adopted (I1);
- `exclusive` proves that a save can succeed before a refresh token is spent;
- what the provider issues is saved before anybody uses it (I6), by compare and
  swap, and tried again until it is (I7);
- a refusal is believed only after another look at the store; an outage, a lost
  reply or a wrong setting never clears anything (I8).
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from .errors import (
    LoginRequired,
    RefreshError,
    RefreshTimeout,
    RefreshUnavailable,
    StoreConflict,
    StoreError,
    scrub,
)
from .gate import Gate, Round
from .grants.failures import as_refresh_error, as_token
from .stores.base import Replacing, TokenStore
from .tokens import Current, Outcome, Token

log = logging.getLogger("requests_refresh")
_T = TypeVar("_T")

_SLICE = 0.01  # seconds to ask for `exclusive` before looking at the store again
_PAUSE = 0.05  # seconds to let the store wait for a change in between
_CALLS = 4  # of the provider in one round, where it could not be reached
_LOST_CALLS = 2  # of the provider in one round, where its answer was lost
_LONGEST_PAUSE = 1.0  # seconds between two calls in one round; beyond, the round ends
_LONGEST_BACKOFF = 60.0
_LONGEST_RETRY_AFTER = 3600.0


class Renewal:
    """The steps of a round, for one identity. `work` runs in one thread at a time.

    Only a round that a login or logout detached may still be at work beside
    the next one; `exclusive` and compare-and-swap keep those two apart.
    """

    gate: Gate  # set by the source, which makes each for the other

    def __init__(
        self,
        grant: Callable[[Token | None], Any],
        store: TokenStore,
        identity: str,
        *,
        first: Token | None,
        relogin: Callable[[], Any] | None,
        ahead: float | None,
        leeway: float | None,
        issued: Callable[[Token], None],
    ) -> None:
        self.store = store
        self.first = first  # saved at the first use, if the store holds none
        self._grant = grant
        self._identity = identity
        self._relogin = relogin
        self._ahead = ahead
        self._leeway = leeway
        self._issued = issued
        self._took = 0.0  # seconds of the last refresh
        self._failures = 0  # in a row, for the backoff
        self._outcome_unknown = False
        self._over: Token | None = None  # what the login ended with
        self.unsaved: tuple[Token, Replacing] | None = None
        self.give_up_saving_at = math.inf

    # -------------------------------------------------------------- a round

    def work(self, round_: Round) -> Outcome:
        """Do the round's work; raises RefreshError, with `round_.hold` set to the backoff."""
        try:
            outcome = self._renew(round_)
        except Exception as exc:
            error = scrub(as_refresh_error(exc))
        else:
            self._failures = 0
            return outcome
        if round_.held is None:
            self._failures += 1
            round_.hold = self._backoff(error)
        raise error

    def _renew(self, round_: Round) -> Outcome:
        stored = self.load()
        adopted = self._adopted(stored, round_)
        if adopted is not None:
            return adopted
        dead = isinstance(round_.held, LoginRequired)
        if dead and stored is not None and not stored.same_issue(self._over):
            round_.held = None  # somebody has logged in since
        if round_.held is not None:
            raise round_.held.own_copy()
        with ExitStack() as stack:
            outcome = self._enter(stack, round_) or self._inside(round_)
            try:
                stack.close()
            except Exception as exc:  # what was issued is saved, so it counts
                log.warning("%s: leaving exclusive failed: %s", self._identity, _name(exc))
            return outcome

    def _enter(self, stack: ExitStack, round_: Round) -> Outcome | None:
        """Enter `exclusive`, or find that somebody else has renewed meanwhile."""
        while True:
            left = round_.remaining()
            try:
                holder = self._call(self.store.exclusive, self._identity, min(_SLICE, left))
                self._call(stack.enter_context, holder)
                return None
            except RefreshTimeout:
                if left <= 0:
                    raise
            self._call(self.store.wait, self._identity, min(_PAUSE, round_.remaining()))
            adopted = self._adopted(self.load(), round_)
            if adopted is not None:
                return adopted

    def _inside(self, round_: Round) -> Outcome:
        while True:
            stored = self._load_or_put_first()
            adopted = self._adopted(stored, round_)
            if adopted is not None:
                return adopted
            if round_.done:  # the stored token is a new login's: not this round's to spend
                raise RefreshError("A login or logout came in between. Ask again.")
            base = stored
            used = self.gate.current
            if stored is not None and used is not None and self.gate.is_spent(stored):
                base = used.token  # a save of ours is still pending, or an older one came late
            try:
                issued, sent = self._ask(partial(self._grant, base), base, round_)
            except LoginRequired as refusal:
                outcome = self._refused(refusal, stored, round_)
            else:
                outcome = self._keep(issued, sent, base, stored, round_)
            if outcome is not None:
                return outcome
            # somebody else's token is in the store: look again
            if round_.remaining() <= 0:
                raise RefreshTimeout(
                    "The stored token went on changing until the time was over."
                    " What is stored is intact. Try again."
                )

    def _ask(
        self, call: Callable[[], Any], base: Token | None, round_: Round
    ) -> tuple[Token, float]:
        """What the provider issues, and when it was asked, on the gate's clock."""
        for calls in range(1, _CALLS + 1):
            sent, sent_at = self.gate.clock(), time.time()
            try:
                issued = as_token(call(), base, sent_at)
            except Exception as exc:
                error = scrub(as_refresh_error(exc))
            else:
                self._took = self.gate.clock() - sent
                self._outcome_unknown = False
                return issued, sent
            if not isinstance(error, RefreshUnavailable):
                # Rubbish, too, may have come after the provider took the refresh token.
                self._outcome_unknown |= not isinstance(error, LoginRequired)
                break
            self._outcome_unknown |= error.outcome_unknown
            pause = error.retry_after
            if pause is None:
                pause = random.uniform(0.05, 0.1) * 2**calls
            most = _LOST_CALLS if error.outcome_unknown else _CALLS
            if calls >= most or pause > min(_LONGEST_PAUSE, round_.remaining()):
                break
            time.sleep(pause)
        raise error

    def _refused(
        self, refusal: LoginRequired, stored: Token | None, round_: Round
    ) -> Outcome | None:
        """The login is over, says the provider. None: look again, there is another token."""
        again = self.load()
        if again is not None and not again.same_issue(stored):
            return None
        if self._relogin is not None:
            try:
                issued, sent = self._ask(self._relogin, None, round_)
            except LoginRequired as exc:
                refusal = exc
            else:
                return self._keep(issued, sent, None, again, round_)
        used = self.gate.current
        if again is not None and used is not None and self.gate.clock() < used.dead_at:
            return self._without_refreshing(used, again, refusal)
        self._over = stored
        try:
            if again is not None:
                self._call(self.store.delete, self._identity, replacing=again)
        except StoreConflict:
            return None
        except StoreError as exc:
            log.warning("%s: the dead login could not be cleared: %s", self._identity, exc)
        notes = [str(refusal)]
        if self._outcome_unknown:
            notes.append(
                "The outcome of the refresh before was unknown: its answer was lost, and the"
                " provider may have replaced the refresh token then."
            )
        if self.store.note:
            notes.append(self.store.note)
        refusal.args = (" ".join(notes),)
        raise refusal

    def _without_refreshing(
        self, used: Current, again: Token, refusal: LoginRequired
    ) -> Outcome | None:
        """Go on with a living access token whose refresh token was refused, until it dies."""
        log.error(
            "%s: the provider refused to refresh, so the login ends with its access token: %s",
            self._identity,
            refusal,
        )
        last = replace(used.token, refresh_token=None)
        try:
            self._call(self.store.save, self._identity, last, replacing=again)
        except StoreConflict:
            return None
        except StoreError as exc:
            log.warning("%s: that could not be stored: %s", self._identity, exc)
        return Outcome(Current(last, used.dead_at, used.dead_at), refreshed=False)

    # ------------------------------------------------------------ the store

    def save_login(self, token: Token) -> None:
        """Store a new login, whatever was there."""
        self._call(self.store.save, self._identity, token)
        self.first = self.unsaved = None
        self._failures, self._outcome_unknown = 0, False

    def forget(self) -> None:
        """Remove what is stored."""
        self._call(self.store.delete, self._identity)
        self.first = self.unsaved = None

    def load(self) -> Token | None:
        return self._call(self.store.load, self._identity)

    def _load_or_put_first(self) -> Token | None:
        stored = self.load()
        if stored is None and self.first is not None:
            try:
                self._call(self.store.save, self._identity, self.first, replacing=None)
            except StoreConflict:
                stored = self.load()
            else:
                stored = self.first
        self.first = None
        return stored

    def _keep(
        self, issued: Token, sent: float, base: Token | None, stored: Token | None, round_: Round
    ) -> Outcome | None:
        """Save what was issued. None: somebody else's token is there instead."""
        # A little before the deadline, so that those who wait until then still get it.
        give_up = self.gate.clock() + max(0.0, round_.remaining() * 0.95 - 0.1)
        replacing, pause = stored, 0.01
        while True:
            try:
                self._call(self.store.save, self._identity, issued, replacing=replacing)
                self.unsaved = None
                break
            except StoreConflict:
                problem: StoreError | None = None
            except StoreError as exc:
                problem = exc
            try:
                if problem is None:
                    there = self.load()
                    if there is not None and there.same_issue(issued):
                        self.unsaved = None
                        break  # the save before had come through, and its answer was lost
                    if there is None and stored is not None and stored.refresh_token:
                        raise LoginRequired(
                            "The login was ended elsewhere while it was being refreshed. Log in"
                            " again."
                        )
                    if there is not None and not there.same_issue(base):
                        return None
                    replacing = there
                    continue
            except StoreError as exc:
                problem = exc
            if self.gate.clock() >= give_up:
                log.error(
                    "%s: a new token could not be stored and is in memory only; still trying."
                    " If this process ends before, the login may be lost: %s",
                    self._identity,
                    problem,
                )
                self.unsaved = issued, replacing
                break
            time.sleep(pause)
            pause = min(1.0, pause * 2)
        self._issued(issued)
        return Outcome(self.current(issued, sent), refreshed=True)

    def go_on_saving(self) -> None:
        """Try to store what could not be stored, until it is, or no longer the newest."""
        pause = 0.05
        while (pending := self.unsaved) is not None:
            if self.gate.clock() >= self.give_up_saving_at:
                return
            try:
                token, replacing = pending
                self._call(self.store.save, self._identity, token, replacing=replacing)
            except StoreConflict:
                log.warning("%s: another token was stored meanwhile; it counts", self._identity)
            except StoreError:
                time.sleep(pause)
                pause = min(1.0, pause * 2)
                continue
            if self.unsaved is pending:
                self.unsaved = None

    def _call(self, method: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Call the store; whatever else it raises becomes a StoreError."""
        try:
            return method(*args, **kwargs)
        except RefreshError:
            raise
        except Exception as exc:
            error = StoreError(
                f"{type(self.store).__name__} failed with {_name(exc)}. What it holds is as it"
                " was. See whether it can be reached."
            )
            error.__cause__ = exc
        raise scrub(error)

    # ------------------------------------------------------------- the time

    def current(self, token: Token, sent: float | None = None) -> Current:
        """`token` with its moments on the gate's clock.

        sent: when it was asked for, if just now: its life is then counted from
        there by the monotonic clock. A stored time is a hint of another clock.
        """
        now = self.gate.clock()
        if token.access_token is None:
            return Current(token, -math.inf, -math.inf)
        if token.expires_at is None:
            return Current(token, math.inf, math.inf)
        left = life = token.expires_at - time.time()
        if token.issued_at is not None:
            life = token.expires_at - token.issued_at
            left = life - (now - sent) if sent is not None else min(left, life)
        leeway = min(0.02 * life, 5.0) if self._leeway is None else self._leeway
        ahead = self._ahead
        if ahead is None:
            ahead = max(min(0.1 * life, 300.0), 4 * self._took) * random.uniform(1, 4 / 3)
        end = now + left
        return Current(token, end - max(leeway, min(ahead, life / 2)), end - leeway)

    def _adopted(self, stored: Token | None, round_: Round) -> Outcome | None:
        """`stored`, if it lives, is not what this round is to replace, and never went before."""
        used = self.gate.current
        if (
            stored is None
            or stored.same_issue(round_.stale)
            or (used is not None and stored.same_issue(used.token))
            or self.gate.is_spent(stored)
        ):
            return None
        current = self.current(stored)
        return Outcome(current, refreshed=False) if self.gate.clock() < current.dead_at else None

    def _backoff(self, error: RefreshError) -> float | None:
        """Seconds for which to hold the next call back; None: not at all."""
        if isinstance(error, LoginRequired):
            return math.inf
        if isinstance(error, RefreshTimeout):
            return None
        longest = 2.0 if isinstance(error, StoreError) else _LONGEST_BACKOFF
        pause = min(longest, 0.5 * 2.0 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)
        asked = (isinstance(error, RefreshUnavailable) and error.retry_after) or 0.0
        return max(pause, min(asked, _LONGEST_RETRY_AFTER))


def _name(exc: BaseException) -> str:
    return type(exc).__name__
