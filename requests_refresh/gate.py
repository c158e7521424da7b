"""Where requests wait: the one lock and the one condition of a source.

Pure threading: no I/O, no store, no requests. A `Gate` knows the token in use
and whether a round is running, and is asked one thing: "the token I had was
this one; what do I do?" One of four answers is chosen under the lock:

- *adopt*: another token is in use by now, and it lives. Take it.
- *wait*: a round is running. Its outcome will be yours.
- *start*: none is running. Begin one, then wait like everybody else.
- *fail*: refreshing now would do harm (strikes used up, a dead store).

**One round.** `_round` is set and cleared under `_lock` only, and nobody starts
one while it is set, so a crowd of refusals makes one refresh (I1).
**Compare before starting.** The caller names the token that was refused. Where
the token in use is another, the refusal is old news (I2). From the start of a
round on the refused token counts as dead, so no request goes out with it.
**The lock covers decisions only** (I4). `_run` takes it to claim the round, lets go,
works, takes it to publish; callbacks run after that, with the waiters awake.
**Nobody works in the caller's thread.** A round runs on a daemon thread of its
own, and who started it waits like all others. Ctrl-C or an impatient caller ends
that caller's wait and nothing else: what the provider issues is stored (I7).
Where no thread can be started, the caller does the work.
**Every waiter ends** (I3). It sleeps on `_changed` in a loop that looks at its own
round, and `done` is set under the lock that `wait` gives back: no wake-up is lost.
It ends with its round or at its deadline, with an error of its own. A round whose
thread did not come into being is *abandoned*: its waiters ask again.
**Nobody queues behind a dead provider.** Once a call has failed, who has a living
token goes on with it; if that took long, the others are told so (`trouble`). The
next round has a second to show that the provider is back; then they are told again.
**A login or logout** takes the place of a round while it changes the store. The
round that ran is *detached*: it works to its end and publishes nothing.
**The lock** is an RLock, taken by `with`: one step in C; Ctrl-C cannot leave it held.
"""

from __future__ import annotations

import contextvars
import math
import sys
import threading
from collections.abc import Callable
from typing import Any

from .errors import LoginRequired, RefreshError, RefreshLoop, RefreshTimeout, StoreError, scrub
from .tokens import Current, Outcome, Past, Token

_STILL = "No new token came in time; the renewal goes on. The login is intact. Try again later."
_HAD_ITS_ONE = "The API refused the token that was just issued for it. The login is intact."


class Round:  # one renewal, from its start to its outcome
    def __init__(self, gate: Gate, stale: Token | None, deadline: float) -> None:
        self.gate = gate
        self.stale = stale  # what the first caller had refused, if anything
        self.deadline = deadline
        self.parent = at_work()  # a grant may use another source, with a round of its own
        self.held: RefreshError | None = None  # look into the store only, else raise this
        self.hold: float | None = None  # set by the work: seconds to hold back after its error
        self.fallback: Current | None = None  # set by the work: a dead token, better than none
        self.inline = False  # the work is done in its caller's own thread
        self.published = False  # by the work itself, before its end
        # guarded by the gate's lock:
        self.claimed = False  # its thread has begun
        self.done = False
        self.outcome: Outcome | None = None  # neither this nor error: abandoned, ask again
        self.error: RefreshError | None = None
        self.waiters = 0
        self.trouble: RefreshError | None = None  # why none need wait for it beyond `until`
        self.until = math.inf  # for who has no living token
        self.sure_until = gate.clock() + gate.patience  # for who has one, near its end

    def remaining(self) -> float:
        return max(0.0, self.deadline - self.gate.clock())


_running: contextvars.ContextVar[Round | None] = contextvars.ContextVar(
    "requests_refresh_round", default=None
)


def at_work(gate: Gate | None = None) -> Round | None:
    """The innermost round, of `gate`, whose work the caller is; callbacks are no work."""
    round_ = _running.get()
    while round_ is not None and (round_.done or gate not in (None, round_.gate)):
        round_ = round_.parent
    return round_


def remaining() -> float:
    """Seconds left of the round that calls this, for a grant to bound its waits; inf outside one.

    Does not block. Any thread that runs in the round's context may call it.
    """
    return math.inf if (round_ := _running.get()) is None else round_.remaining()


class Gate:
    """The token in use, the round that renews it, and those who wait for it.

    work: does a round's work, without the lock. None: its waiters ask again.
    after: runs when the outcome is public, unless the round was detached.
    forbid: asked with a refused token and whether it lives: why nothing may start.
    clock: monotonic, in seconds. spawn: starts a daemon thread, or raises RuntimeError.
    """

    def __init__(
        self,
        work: Callable[[Round], Outcome | None],
        *,
        after: Callable[[Round], None] = lambda round_: None,
        forbid: Callable[[Token, bool], RefreshLoop | None] = lambda stale, alive: None,
        clock: Callable[[], float],
        spawn: Callable[[Callable[[], None]], None],
        lock: Callable[[], Any] | None = None,
        condition: Callable[[Any], Any] | None = None,
    ) -> None:
        self._work = work
        self._after = after
        self._forbid = forbid
        self.clock = clock
        self._make_lock: Callable[[], Any] = lock or threading.RLock
        self._make_condition = condition or threading.Condition
        self._spawn = spawn
        #: Written under _lock; read without it by the fresh path (I15).
        self.current: Current | None = None
        self.held: tuple[float, RefreshError] | None = None
        self.trouble: RefreshError | None = None  # of the last round; guarded by _lock
        self.patience = 1.0  # seconds that a refresh may well take
        self.past = Past()  # thread-safe; what must not come back
        self.waits, self.wait_seconds, self.adoptions = 0, 0.0, 0  # guarded by _lock
        self._round: Round | None = None  # guarded by _lock
        self.reset()

    def reset(self) -> None:
        """As at first, or in the child of a fork: lock and condition are made anew."""
        if self._round is not None:
            self._round.done = True
        self._lock = self._make_lock()
        self._changed = self._make_condition(self._lock)
        self._round = None

    def get(
        self,
        stale: Token | None,
        deadline: float,
        limit: float,
        *,
        refused: bool = True,
        may_start: bool = True,
    ) -> Outcome:
        """A living token other than `stale`: adopted, or a round's. Blocks.

        Raises what the round ended with, RefreshTimeout, or RefreshLoop.
        stale: the token to be replaced, or None for whoever just wants one.
        refused: whether the API refused `stale`, or its end is merely near.
        deadline: until when this caller waits, on the gate's clock.
        limit: until when a round works that starts now.
        may_start: False: adopt or join, but start nothing; RefreshLoop instead.
        """
        if self.within_round():
            raise RefreshError(
                "The grant asked the source for the token that it is there to obtain, and would"
                " wait for itself. The login is intact. Let it use the token that it is handed."
            )
        asked_again, length = False, limit - self.clock()
        while True:
            mine = Round(self, stale, self.clock() + length)
            got = self._begin(mine, refused=refused, may_start=may_start, inline=True)
            outcome = got if isinstance(got, Outcome) else self._await(got, deadline, not refused)
            if outcome is None:
                continue  # abandoned: ask again
            if asked_again or outcome.refreshed or not outcome.token.same_issue(stale):
                return outcome
            asked_again = True  # it was adopted before we could say that it is refused

    def start(self, stale: Token | None, limit: float, *, refused: bool) -> bool:
        """Begin a round that nobody waits for; the arguments are those of `get`. Never waits.

        False: one runs, a failure is held back from, or nothing can or may be started.
        """
        if self.holding() or (self._at_work() and not refused) or self.within_round():
            return False
        mine = Round(self, stale, limit)
        try:
            return self._begin(mine, refused=refused, may_start=True, inline=False) is mine
        except (RefreshLoop, StoreError, RuntimeError):
            return False

    def _begin(self, mine: Round, refused: bool, may_start: bool, inline: bool) -> Outcome | Round:
        """Decide; where the answer is `mine`, it is at work from here on."""
        try:
            with self._lock:
                answer = self._decide_locked(mine, refused=refused, may_start=may_start)
            if answer is mine:
                self._launch(mine, inline)
        except BaseException:
            self._abandon(mine)
            raise
        return answer

    def hopeless(self, stale: Token, *, may_start: bool) -> RefreshLoop | None:
        """Why asking for a token in place of `stale` would fail at once, or None."""
        with self._lock:
            other, alive = self._other_locked(stale)
            return None if other else self._hopeless_locked(stale, alive, may_start)

    def within_round(self) -> bool:
        """Whether the caller is itself the work of a running round of this gate."""
        return at_work(self) is not None

    def holding(self) -> bool:
        """Whether the last failure still keeps the next call from the provider. Takes no lock."""
        held = self.held
        return held is not None and self.clock() < held[0]

    def _at_work(self) -> bool:  # takes no lock: a moment later it may be otherwise anyway
        round_ = self._round
        return round_ is not None and (round_.claimed or round_.remaining() > 0)

    def _decide_locked(self, mine: Round, *, refused: bool, may_start: bool) -> Outcome | Round:
        """Adopt, wait, start or fail; see the head of this file. `mine` is what would start."""
        assert self._lock._is_owned()
        stale = mine.stale
        other, alive = self._other_locked(stale)
        if other is not None:
            self.adoptions += stale is not None
            return Outcome(other, refreshed=False)
        if stale is not None and refused:
            if loop := self._hopeless_locked(stale, alive, may_start):
                raise loop
            self.past.refused(stale)
            if self.current is not None and self.current.token.same_issue(stale):
                self.current = Current(self.current.token, -math.inf, -math.inf)
        if self._round is not None:
            if self._at_work():
                return self._round
            self._detach_locked()  # its starter died in between, and did not take it back
        if not may_start:
            raise RefreshLoop(_HAD_ITS_ONE)
        if self.held is not None:
            mine.held = self.held[1] if self.holding() else None
            if isinstance(mine.held, StoreError):
                raise mine.held.own_copy()
            mine.sure_until = -math.inf
        if self.trouble is not None:
            mine.trouble, mine.until = self.trouble, self.clock() + self.patience
        self._round = mine
        return mine

    def _other_locked(self, stale: Token | None) -> tuple[Current | None, bool]:
        """The token in use if it lives and is not `stale`; and whether any lives."""
        current = self.current
        alive = current is not None and self.clock() < current.dead_at
        other = current if alive and current and not current.token.same_issue(stale) else None
        return other, alive

    def _hopeless_locked(self, stale: Token, alive: bool, may_start: bool) -> RefreshLoop | None:
        if self._round is None and not may_start:
            return RefreshLoop(_HAD_ITS_ONE)
        return self._forbid(stale, alive)

    def _launch(self, round_: Round, inline: bool) -> None:
        context = contextvars.copy_context()
        try:
            return self._spawn(lambda: context.run(self._run, round_, False))
        except RuntimeError:  # no thread to be had: limits, or an interpreter that is ending
            if not inline:
                raise
        contextvars.copy_context().run(self._run, round_, True)

    def _run(self, round_: Round, inline: bool) -> None:
        _running.set(round_)
        outcome, error, mine = None, None, False
        handled = sys.exc_info()[1]  # by an inline caller: it and its frames are his
        try:
            with self._lock:
                if round_.done or round_.claimed:
                    return  # taken back before it began, or begun in two threads
                mine, round_.claimed, round_.inline = True, True, inline
            outcome = self._work(round_)
        except RefreshError as exc:
            error = exc
        except BaseException as exc:
            error = RefreshError(
                f"A {type(exc).__name__} ended the renewal. What is stored is intact. Try again."
            )
            error.__cause__ = scrub(exc, handled)
            if inline and not isinstance(exc, Exception):
                raise  # it is the caller's own Ctrl-C
        finally:
            try:
                published = mine and (self._finish(round_, outcome, error) or round_.published)
            except BaseException:  # a Ctrl-C, while an inline caller waited for the lock
                self._finish(round_, outcome, error)
                raise
        if published:
            self._after(round_)

    def publish(self, round_: Round, outcome: Outcome) -> None:  # while the work tidies up
        round_.published = self._finish(round_, outcome, None)

    def _finish(self, round_: Round, outcome: Outcome | None, error: RefreshError | None) -> bool:
        """Publish and wake the waiters; False if the round was detached."""
        with self._lock:
            if round_.done:
                return False
            round_.outcome, round_.error, self._round = outcome, error, None
            self.trouble = None if outcome else round_.trouble
            if outcome is not None:
                self._use_locked(outcome.current)
                self.held = None
                self.adoptions += not outcome.refreshed and round_.stale is not None
            elif error is not None:
                over = isinstance(error, LoginRequired)
                self.current = None if over else self.current or round_.fallback
                if round_.hold is not None:
                    self.held = (self.clock() + round_.hold, error)
            round_.done = True  # last, so that it can be tried again
            self._changed.notify_all()
            return True

    def tell_trouble(self, round_: Round, error: RefreshError, *, slow: bool) -> None:
        """A call of the provider's failed: nobody with a living token waits on; if slow, nobody."""
        with self._lock:
            round_.trouble, round_.sure_until = error, -math.inf
            round_.until = -math.inf if slow else round_.until
            self._changed.notify_all()

    def _use_locked(self, current: Current | None) -> None:
        if self.current is not None:
            self.past.replaced(self.current.token)
        if current is not None:
            self.past.forget(current.token)
        self.current = current

    def _abandon(self, round_: Round) -> None:
        """Take back a round whose thread has not begun; nothing to do for any other."""
        with self._lock:
            if self._round is round_ and not round_.claimed:
                self._detach_locked()

    def _detach_locked(self) -> None:
        if self._round is not None:
            self._round.done = True  # with neither outcome nor error: its waiters ask again
            self._round = None
            self._changed.notify_all()

    def _await(self, round_: Round, deadline: float, alive: bool) -> Outcome | None:
        """The round's outcome; None if it was abandoned. Raises its error, or RefreshTimeout.

        alive: whether the caller has a living token.
        """
        began = self.clock()
        # Nobody waits for a round that has overrun its time already: what it calls hangs.
        until = deadline if began < round_.deadline else began
        try:
            with self._lock:
                round_.waiters += 1
                self.waits += (round_.sure_until if alive else round_.until) > began
                try:
                    while not round_.done:
                        released = round_.sure_until if alive else round_.until
                        left = min(until, released) - self.clock()
                        if left <= 0:
                            told = released <= until and round_.trouble
                            raise told.own_copy() if told else RefreshTimeout(_STILL)
                        self._changed.wait(min(left, threading.TIMEOUT_MAX))
                finally:
                    round_.waiters -= 1
                    self.wait_seconds += self.clock() - began
        except RuntimeError as exc:  # Ctrl-C between giving the lock back and sleeping
            raise exc.__context__ or exc from None
        if round_.error is not None:
            raise round_.error.own_copy()
        return round_.outcome

    def replace(self, change: Callable[[], Current | None], error: RefreshError | None) -> None:
        """A login or a logout: use what `change` returns, or fail with `error`, if given.

        change: changes the store, without the lock. If it raises, the token in use stays.
        """
        mine = Round(self, None, self.clock() + 30.0)  # for which who asks waits at most
        current, changed = None, False
        try:
            with self._lock:
                self._detach_locked()
                self._round = mine
            current = change()
            changed = True
        finally:
            with self._lock:
                if self._round is mine:
                    self._detach_locked()
                if changed:
                    self._use_locked(current)
                    self.held, self.trouble = (math.inf, error) if error else None, None

    def __repr__(self) -> str:
        waiting = self._round and self._round.waiters
        return f"<Gate {'idle' if waiting is None else f'renewing, {waiting} waiting'}>"
