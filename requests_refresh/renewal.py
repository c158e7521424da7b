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
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from .asking import Asking
from .errors import (
    LoginRequired,
    RefreshError,
    RefreshTimeout,
    StoreConflict,
    StoreError,
    scrub,
)
from .gate import Gate, Round
from .grants.failures import as_refresh_error
from .lifetimes import Lifetimes, time_for
from .stores import MemoryStore
from .stores.saving import Holding, Place
from .tokens import Current, Outcome, Token

log = logging.getLogger("requests_refresh")

_SLICE = 0.05  # seconds to ask for `exclusive` while an earlier round leaves; else one try
_PATIENCE = 1.0, 5.0  # seconds for which a call of a provider in trouble is waited for
_LATE = (
    "Somebody else went on renewing this login, or on holding its place in the store, until the"
    " time was over. Nothing was changed. Try again."
)
_PAUSE = 1.0  # seconds to let the store wait for a change in between; it may take less


class Renewal:
    """The steps of a round, for one identity. `work` runs in one thread at a time.

    Only a round that a login or logout detached may still be at work beside
    the next one; `exclusive` and compare-and-swap keep those two apart.
    """

    def __init__(
        self,
        grant: Callable[[Token | None], Any],
        place: Place,
        identity: str,
        *,
        first: Token | None,
        relogin: Callable[[], Any] | None,
        lifetimes: Lifetimes,
        timeout: float,
        issued: Callable[[Token], None],
    ) -> None:
        self.place = place
        self.first = first  # saved at the first use, if the store holds none
        self._grant = grant
        self._identity = identity
        self._relogin = relogin
        self._lifetimes = lifetimes
        self._issued = issued
        self._asking = Asking(time_for(grant, timeout))
        self._over: Token | None = None  # what the login ended with
        self._leaving = False  # a round is published, and is giving `exclusive` back

    def serve(self, gate: Gate) -> None:
        """Work for that gate's rounds; each needs the other, so this comes second."""
        self.gate = self._asking.gate = gate

    def _took(self, seconds: float) -> None:
        self._lifetimes.took = seconds
        self.gate.patience = min(max(_PATIENCE[0], 4 * seconds), _PATIENCE[1])

    # -------------------------------------------------------------- a round

    def work(self, round_: Round) -> Outcome | None:
        """Do the round's work. None: too little of its time was left; begin another.

        Raises RefreshError, with `round_.hold` set to the backoff.
        """
        handled = sys.exc_info()[1]  # by a caller who does the work himself: that is his
        try:
            outcome = self._renew(round_)
        except Exception as exc:
            error = scrub(as_refresh_error(exc, handled), handled)
        else:
            if outcome is not None:
                self._asking.failures = 0
            return outcome
        if round_.held is None and not round_.done:
            round_.hold = self._asking.hold_back(error, round_)
        raise error

    def _renew(self, round_: Round) -> Outcome | None:
        stored = self.place.load()
        adopted = self._adopted(stored, round_)
        if adopted is not None:
            return adopted
        dead = isinstance(round_.held, LoginRequired)
        if dead and stored is not None and not stored.same_issue(self._over):
            round_.held = None  # somebody has logged in since
        if round_.held is not None:
            raise round_.held.own_copy()
        exclusive = Holding()
        try:
            outcome = self._enter(exclusive, round_) or self._inside(exclusive, round_)
            if outcome is not None:  # it is stored; nobody waits while we give the place back
                self.gate.publish(round_, outcome)
            return outcome
        finally:
            self._leaving = True
            exclusive.leave(self._identity)
            self._leaving = False

    def _enter(self, exclusive: Holding, round_: Round) -> Outcome | None:
        """Enter `exclusive`, or find that somebody else has renewed meanwhile."""
        while True:
            left = round_.remaining()
            if self.place.enter_exclusive(exclusive, min(_SLICE * self._leaving, left)):
                return None
            if left <= 0:
                raise RefreshTimeout(_LATE)
            self.place.wait(min(_PAUSE, round_.remaining()))
            adopted = self._adopted(self.place.load(), round_)
            if adopted is not None:
                return adopted

    def _inside(self, exclusive: Holding, round_: Round) -> Outcome | None:
        asked = False
        while True:
            used = self.gate.current  # before we look whether a login came in between
            self.place.save_unsaved()
            stored = self._load_or_put_first(round_)
            adopted = self._adopted(stored, round_)
            if adopted is not None:
                return adopted
            if round_.done:  # the stored token is a new login's: not this round's to spend
                raise _detached()
            if round_.remaining() < self._asking.reserve:
                # An answer that we did not wait for would be lost, and the login with it.
                if not asked:
                    round_.trouble = RefreshTimeout(_LATE)
                    return None
                raise RefreshTimeout(
                    "The stored token went on changing until the time was over."
                    " What is stored is intact. Try again."
                )
            asked = True
            if not self.place.assure(exclusive, self._asking.reserve):
                return None  # we were stopped for too long: another may be spending it
            self._asking.outcome_unknown |= exclusive.taken_over
            if stored is not None and stored.access_token is not None:
                round_.fallback = Current(stored, -math.inf, -math.inf)
            base = stored
            if stored is not None and used is not None and self.gate.past.has_replaced(stored):
                base = used.token  # an old one came back, and its refresh token is used up
            try:
                issued, sent = self._ask(partial(self._grant, base), base, exclusive, round_)
            except LoginRequired as refusal:
                outcome = self._refused(refusal, stored, exclusive, round_)
            else:
                outcome = self._keep(issued, sent, base, stored, round_)
            if outcome is not None:
                return outcome
            # somebody else's token is in the store: look again

    def _ask(
        self, call: Callable[[], Any], base: Token | None, exclusive: Holding, round_: Round
    ) -> tuple[Token, float]:
        assure = partial(self.place.assure, exclusive, self._asking.reserve)
        # A relogin may wait for a person, which says nothing of how long a refresh takes.
        took = self._took if call is not self._relogin else lambda seconds: None
        return self._asking.ask(call, base, round_, assure, took)

    def _refused(
        self, refusal: LoginRequired, stored: Token | None, exclusive: Holding, round_: Round
    ) -> Outcome | None:
        """The login is over, says the provider. None: look again, there is another token."""
        again = self.place.load()
        if again is not None and not again.same_issue(stored):
            return None
        if not self.place.assure(exclusive, 0.0):
            return None  # another may have spent it, and be about to save what came of that
        if self._relogin is not None and not round_.done:
            try:
                issued, sent = self._ask(self._relogin, None, exclusive, round_)
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
                self.place.delete(replacing=again)
        except StoreConflict:
            return None
        except StoreError as exc:
            log.warning("%s: the dead login could not be cleared: %s", self._identity, exc)
        notes = [str(refusal)]
        if self._asking.outcome_unknown:
            notes.append(
                "The outcome of the refresh before was unknown: its answer was lost, or who asked"
                " for it was killed, and the provider may have replaced the refresh token then."
            )
        if self.place.store.note:
            notes.append(self.place.store.note)
        ended = refusal.own_copy()
        ended.args = (" ".join(notes),)
        raise ended

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
            self.place.save(last, replacing=again)
        except StoreConflict:
            return None
        except StoreError as exc:
            log.warning("%s: that could not be stored: %s", self._identity, exc)
        return Outcome(Current(last, used.dead_at, used.dead_at), refreshed=False)

    # ------------------------------------------------------------ the store

    def save_login(self, token: Token) -> Current:
        """Store a new login, whatever was there."""
        self.place.save(token)
        self.first = self.place.unsaved = None
        self._asking.failures, self._asking.outcome_unknown = 0, False
        return self._lifetimes.current(token)

    def forget(self, last: list[Token], look: bool) -> None:
        """Remove what is stored. last: if we `look`, gets what was issued last, stored or not."""
        unsaved, self.place.unsaved = self.place.unsaved, None  # first, or it is stored after
        try:
            last += self.place.take_out(look)
        except BaseException:
            self.place.unsaved = unsaved
            raise
        first, self.first = self.first, None
        if look and unsaved is not None:
            token, replaced, is_older = unsaved
            last[:] = [t for t in last if not (is_older(t) or t.same_issue(replaced))] + [token]
        elif look and all(map(self.gate.past.has_replaced, last)):
            current = self.gate.current  # it goes on being used where the store has forgotten it
            last += [token for token in (current and current.token, first) if token][:1]

    def after_fork(self) -> None:
        """In the child: two processes must not share a rotating refresh token."""
        self.place.unsaved = None  # the parent goes on saving it
        if not isinstance(self.place.store, MemoryStore):
            return
        current, first = self.gate.current, self.first
        if current is not None:
            last = replace(current.token, refresh_token=None)
            self.gate.current = Current(last, current.dead_at, current.dead_at)
        if first is not None:
            alive = first.access_token is not None
            self.first = replace(first, refresh_token=None) if alive else None

    def _load_or_put_first(self, round_: Round) -> Token | None:
        stored, first = self.place.load(), self.first
        if stored is None and first is not None:
            try:
                self.place.save(first, replacing=None)
            except StoreConflict:
                stored = self.place.load()
            else:
                self._take_back_if_detached(first, round_)
                stored = first
        self.first = None
        return stored

    def _keep(
        self, issued: Token, sent: float, base: Token | None, stored: Token | None, round_: Round
    ) -> Outcome | None:
        """Save what was issued. None: somebody else's token is there instead."""

        def is_older(there: Token) -> bool:
            return (
                there.same_issue(base)
                or there.same_issue(stored)
                or self.gate.past.has_replaced(there)
            )

        # A little before the deadline, so that those who wait until then still get it.
        give_up = self.gate.clock() + max(0.0, round_.remaining() * 0.95 - 0.1)
        if not self.place.keep(issued, stored, is_older=is_older, give_up=give_up):
            return None
        if stored is None or stored.refresh_token is None:  # else a swap tells of a logout
            self._take_back_if_detached(issued, round_)
        for spent in (base, stored):
            if spent is not None and not spent.same_issue(issued):
                self.gate.past.replaced(spent)
        self._issued(issued)
        return Outcome(self._lifetimes.current(issued, sent), refreshed=True)

    def _take_back_if_detached(self, token: Token, round_: Round) -> None:
        """What was put where nothing was must not bring a login back that has ended since."""
        if round_.done:
            self.place.unsaved = None
            with suppress(StoreError):
                self.place.delete(replacing=token)
            raise _detached()

    def _adopted(self, stored: Token | None, round_: Round) -> Outcome | None:
        """`stored`, if it lives, is not what this round is to replace, and never went before."""
        used = self.gate.current
        if (
            stored is None
            or _is_known(stored, round_.stale)
            or (used is not None and _is_known(stored, used.token))
            or self.gate.past.has(stored)
        ):
            return None
        current = self._lifetimes.current(stored)
        return Outcome(current, refreshed=False) if self.gate.clock() < current.dead_at else None


def _is_known(stored: Token, known: Token | None) -> bool:
    """Whether it is the same issue. A pool, and a child of a fork, know the access token only."""
    if known is None or (known.refresh_token and stored.refresh_token):
        return stored.same_issue(known)
    return stored.access_token == known.access_token


def _detached() -> RefreshError:
    return RefreshError("A login or logout came in between. Ask again.")
