"""Where requests wait: the one lock and the one condition of a source.

Pure threading: no I/O, no store, no requests. A `Gate` knows the token in use
and whether a round is running, and is asked one thing: "the token I had was
this one; what do I do?" One of four answers is chosen under the lock:

- *adopt*: another token is in use by now, and it lives. Take it.
- *wait*: a round is running. Its outcome will be yours.
- *start*: none is running. Begin one, then wait like everybody else.
- *fail*: refreshing now would do harm (strikes used up, a dead store).

**One round.** `_round` is set and cleared under `_lock` only, and nobody starts
one while it is set: nobody fits between "none is running" and "mine is", so a
crowd of refusals makes one refresh (I1).

**Compare before starting.** The caller names the token that was refused. Where
the token in use is another, the refusal is old news (I2). From the start of a
round on the refused token counts as dead, so no request goes out with it.

**The lock covers decisions only** (I4). `_run` takes it to claim the round, lets
go, works, takes it to publish; callbacks run after that, with the waiters awake.

**Nobody works in the caller's thread.** A round runs on a daemon thread of its
own, and who started it waits like all others. Ctrl-C, a cancelled job or an
impatient caller ends that caller's wait and nothing else: what the provider
issues is stored (I7). Where no thread can be started, the caller does the work.

**Every waiter ends** (I3). A waiter sleeps on `_changed` in a loop that looks at
its own round, and `done` is set under the lock that `wait` gives back: stray
wake-ups do no harm and none is lost. It ends when its round is done or when a
deadline is over, its own or the round's. A round whose thread did not come into
being (Ctrl-C in between) is *abandoned*: its waiters ask again, and one of them
starts the next. Thread or starter, whoever takes the lock first decides which.

**An outcome belongs to its round**, not to the gate: a waiter that is slow to
wake reads the outcome of the round it waited for. Errors are copied for each.

**A login or logout in the middle** abandons the round: its waiters find the new
state. The round's thread works to its end and publishes nothing.

**fork**: the child has no thread that works for it, and maybe a lock that nobody
will release. `reset_after_fork` makes lock and condition anew.

The lock is taken as `with self._lock`, not `with self._changed`: that is one step
in C, in which no signal handler can run, so Ctrl-C cannot leave it held.
"""

from __future__ import annotations

import contextvars
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from .errors import LoginRequired, RefreshError, RefreshLoop, RefreshTimeout, StoreError
from .tokens import Current, Outcome, Token

_LONGEST_WAIT = 3600.0  # of one wait on the condition, seconds; it is in a loop
_HAD_ITS_ONE = "The API refused the token that was just issued for it. The login is intact."
_SPENT_KEPT = 256  # fingerprints of tokens that must not come back


class Round:
    """One renewal, from its start to its outcome."""

    def __init__(self, gate: Gate, stale: Token | None, deadline: float) -> None:
        self.gate = gate
        self.stale = stale  # what the first caller had refused, if anything
        self.deadline = deadline
        self.parent = _running.get()  # a grant may use another source, with a round of its own
        self.held: RefreshError | None = None  # look into the store only, else raise this
        self.hold: float | None = None  # set by the work: seconds to hold back after its error
        # guarded by the gate's lock:
        self.claimed = False  # its thread has begun
        self.done = False
        self.outcome: Outcome | None = None  # neither this nor error: abandoned, ask again
        self.error: RefreshError | None = None
        self.waiters = 0

    def remaining(self) -> float:
        return max(0.0, self.deadline - self.gate.clock())

    def __repr__(self) -> str:
        state = "done" if self.done else "running" if self.claimed else "begun"
        return f"<Round {state}, {self.waiters} waiting>"


_running: contextvars.ContextVar[Round | None] = contextvars.ContextVar(
    "requests_refresh_round", default=None
)


def remaining() -> float:
    """Seconds left of the round that calls this, for a grant to bound its waits; inf outside one.

    Does not block. Any thread that runs in the round's context may call it.
    """
    round_ = _running.get()
    return math.inf if round_ is None else round_.remaining()


def start_thread(work: Callable[[], None]) -> None:
    """Run `work` on a daemon thread: one that hangs must not keep the process from ending."""
    threading.Thread(target=work, name="requests-refresh", daemon=True).start()


class Gate:
    """The token in use, the round that renews it, and those who wait for it.

    work: does a round's work, on the round's thread, without the lock.
    after: runs when the outcome is public, unless the round was detached.
    forbid: asked under the lock with a refused token and whether the clock
        calls it alive: why nothing may start because of it, or None.
    clock, lock, condition, spawn: for tests that run every interleaving.
    """

    def __init__(
        self,
        work: Callable[[Round], Outcome],
        *,
        after: Callable[[Round], None] = lambda round_: None,
        forbid: Callable[[Token, bool], RefreshLoop | None] = lambda stale, alive: None,
        clock: Callable[[], float] | None = None,
        lock: Callable[[], Any] | None = None,
        condition: Callable[[Any], Any] | None = None,
        spawn: Callable[[Callable[[], None]], None] = start_thread,
    ) -> None:
        self._work = work
        self._after = after
        self._forbid = forbid
        # Looked up at each call where none is given, so that a patched clock counts.
        self.clock = clock or (lambda: time.monotonic())
        self._make_lock = lock or threading.Lock
        self._make_condition = condition or threading.Condition
        self._spawn = spawn
        #: Written under _lock; read without it by the fresh path (I15).
        self.current: Current | None = None
        self._spent: dict[bytes, None] = {}  # guarded by _lock; oldest first
        self._held: tuple[float, RefreshError] | None = None  # guarded by _lock
        self.waits, self.wait_seconds, self.adoptions = 0, 0.0, 0  # guarded by _lock
        self._fresh_lock()

    def _fresh_lock(self) -> None:
        self._lock = self._make_lock()
        self._changed = self._make_condition(self._lock)
        self._round: Round | None = None  # guarded by _lock

    # ------------------------------------------------------------- asking

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

        stale: the token to be replaced, or None for whoever just wants one.
        refused: whether the API refused `stale`, or its end is merely near.
        deadline: until when this caller waits, on the gate's clock.
        limit: until when a round works that starts now.
        may_start: False: adopt or join, but start nothing; RefreshLoop instead.

        Raises what the round ended with, RefreshTimeout, or RefreshLoop.
        """
        if self.within_round():
            raise RefreshError(
                "The grant asked the source for the very token that it is there to obtain, and"
                " would have waited for itself. The login is intact. Let the grant use the token"
                " that it is handed."
            )
        asked_again = False
        while True:
            mine = Round(self, stale, limit)
            try:
                with self._lock:
                    answer = self._decide_locked(mine, refused=refused, may_start=may_start)
                if answer is mine:
                    self._launch(mine)
            except BaseException:
                self._abandon(mine)
                raise
            outcome = answer if isinstance(answer, Outcome) else self._await(answer, deadline)
            if outcome is None:
                continue  # abandoned: ask again
            if not outcome.refreshed and not asked_again and outcome.token.same_issue(stale):
                asked_again = True  # it was adopted before we could say that it is refused
                continue
            return outcome

    def start(self, stale: Token | None, limit: float, *, refused: bool) -> bool:
        """Begin a round that nobody waits for; the arguments are those of `get`. Never waits.

        Returns whether one was begun: none while one runs or a failure is held
        back from, when strikes are used up, or where no thread can be started.
        """
        if self.within_round():
            return False
        mine = Round(self, stale, limit)
        try:
            with self._lock:
                if self._holding_locked() is not None:
                    return False
                try:
                    answer = self._decide_locked(mine, refused=refused, may_start=True)
                except RefreshLoop:
                    return False
            return answer is mine and self._launch(mine, inline=False)
        except BaseException:
            self._abandon(mine)
            raise

    def hopeless(self, stale: Token, *, may_start: bool) -> RefreshLoop | None:
        """Why asking for a token in place of `stale` would fail at once, or None."""
        with self._lock:
            other, alive = self._other_locked(stale)
            return None if other else self._hopeless_locked(stale, alive, may_start)

    def within_round(self) -> bool:
        """Whether the caller is itself the work of a running round of this gate."""
        round_ = _running.get()
        while round_ is not None:
            if round_.gate is self and not round_.done:
                return True
            round_ = round_.parent
        return False

    def holding(self) -> bool:
        """Whether the last failure still keeps the next call from the provider."""
        with self._lock:
            return self._holding_locked() is not None

    def is_spent(self, token: Token) -> bool:
        """Whether this token was replaced or seen refused here, and must not come back."""
        with self._lock:
            return token.fingerprint() in self._spent

    # ----------------------------------------------------------- deciding

    def _decide_locked(self, mine: Round, *, refused: bool, may_start: bool) -> Outcome | Round:
        """Adopt, wait, start or fail; see the head of this file. `mine` is what would start."""
        assert self._lock.locked()
        stale = mine.stale
        other, alive = self._other_locked(stale)
        if other is not None:
            self.adoptions += stale is not None
            return Outcome(other, refreshed=False)
        if stale is not None and refused:
            loop = self._hopeless_locked(stale, alive, may_start)
            if loop is not None:
                raise loop
            self._spend_locked(stale)
            if self.current is not None and self.current.token.same_issue(stale):
                self.current = Current(self.current.token, -math.inf, -math.inf)
        if self._round is not None:
            if self._round.claimed or self._round.remaining() > 0:
                return self._round
            self._detach_locked()  # its starter died in between, and did not take it back
        if not may_start:
            raise RefreshLoop(_HAD_ITS_ONE)
        mine.held = self._holding_locked()
        if isinstance(mine.held, StoreError):
            raise mine.held.own_copy()
        self._round = mine
        return mine

    def _other_locked(self, stale: Token | None) -> tuple[Current | None, bool]:
        """The token in use if it lives and is not `stale`; and whether it lives at all."""
        current = self.current
        alive = current is not None and self.clock() < current.dead_at
        if current is None or not alive or current.token.same_issue(stale):
            return None, alive
        return current, alive

    def _hopeless_locked(self, stale: Token, alive: bool, may_start: bool) -> RefreshLoop | None:
        if self._round is None and not may_start:
            return RefreshLoop(_HAD_ITS_ONE)
        return self._forbid(stale, alive)

    def _holding_locked(self) -> RefreshError | None:
        if self._held is None or self.clock() >= self._held[0]:
            return None
        return self._held[1]

    def _spend_locked(self, token: Token) -> None:
        self._spent[token.fingerprint()] = None
        while len(self._spent) > _SPENT_KEPT:
            del self._spent[next(iter(self._spent))]

    # ------------------------------------------------------------ a round

    def _launch(self, round_: Round, *, inline: bool = True) -> bool:
        context = contextvars.copy_context()
        try:
            self._spawn(lambda: context.run(self._run, round_, False))
        except RuntimeError:  # no thread to be had: limits, or an interpreter that is ending
            if not inline:
                self._abandon(round_)
                return False
            context.run(self._run, round_, True)
        return True

    def _run(self, round_: Round, inline: bool) -> None:
        _running.set(round_)
        with self._lock:
            if round_.done:
                return  # taken back before it began
            round_.claimed = True
        outcome, error = None, None
        try:
            outcome = self._work(round_)
        except RefreshError as exc:
            error = exc
        except BaseException as exc:
            error = RefreshError(
                f"The renewal was cut short by {type(exc).__name__}. What is stored is intact."
                " Try again."
            )
            error.__cause__ = exc
            if inline and not isinstance(exc, Exception):
                raise  # it is the caller's own Ctrl-C
        finally:
            published = self._finish(round_, outcome, error)
        if published:
            self._after(round_)

    def _finish(self, round_: Round, outcome: Outcome | None, error: RefreshError | None) -> bool:
        """Publish and wake the waiters; False if a login, a logout or a fork detached the round."""
        with self._lock:
            if round_.done:
                return False
            round_.done, round_.outcome, round_.error = True, outcome, error
            self._round = None
            if outcome is not None:
                self._use_locked(outcome.current)
                self._held = None
                self.adoptions += not outcome.refreshed and round_.stale is not None
            elif error is not None:
                if isinstance(error, LoginRequired):
                    self.current = None
                if round_.hold is not None:
                    self._held = (self.clock() + round_.hold, error)
            self._changed.notify_all()
            return True

    def _use_locked(self, current: Current | None) -> None:
        if self.current is not None:
            self._spend_locked(self.current.token)
        if current is not None:
            self._spent.pop(current.token.fingerprint(), None)
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

    def _await(self, round_: Round, deadline: float) -> Outcome | None:
        """The round's outcome; None if it was abandoned. Raises its error, or RefreshTimeout."""
        began = self.clock()
        until = min(deadline, round_.deadline)
        with self._lock:
            round_.waiters += 1
            self.waits += 1
            try:
                while not round_.done:
                    left = until - self.clock()
                    if left <= 0:
                        raise RefreshTimeout(
                            f"No new token after {self.clock() - began:.1f} s of waiting. The login"
                            " is intact and the renewal goes on. Try again, or allow more time."
                        )
                    self._changed.wait(min(left, _LONGEST_WAIT))
            finally:
                round_.waiters -= 1
                self.wait_seconds += self.clock() - began
            if round_.error is not None:
                raise round_.error.own_copy()
            return round_.outcome

    def replace(self, current: Current | None, error: RefreshError | None = None) -> None:
        """A login or a logout: use `current`, or fail with `error` until there is another.

        Detaches the running round; its waiters ask again.
        """
        with self._lock:
            self._detach_locked()
            self._use_locked(current)
            self._held = None if error is None else (math.inf, error)

    def reset_after_fork(self) -> None:
        """In the child: nobody works here and nothing is locked."""
        round_ = self._round
        self._fresh_lock()
        if round_ is not None:
            round_.done = True

    def __repr__(self) -> str:
        round_ = self._round
        return f"<Gate {'idle' if round_ is None else round_!r}>"
