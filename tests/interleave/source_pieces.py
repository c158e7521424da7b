"""A whole source in a scheduled run: what it is given in place of threads, clocks and stores.

While `in_place` is entered, the modules of a source find a `Threads` where they
look for `threading`, and a `Times` where they look for `time`. So every lock,
condition, thread and sleep of an ordinary `TokenSource` is the run's. What is
shared and read without a lock is `Watched`: a thread may be preempted at each look.
"""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from requests_refresh import asking, gate, lifecycle, lifetimes, settings, source, strikes, tokens
from requests_refresh.errors import LoginRequired, RefreshTimeout, StoreConflict, StoreError
from requests_refresh.gate import remaining
from requests_refresh.stores import ANY, TokenStore, saving
from requests_refresh.stores.base import Replacing, may_go
from requests_refresh.tokens import Token

from .pieces import Condition, Lock, Task
from .scheduler import Run

if TYPE_CHECKING:
    from .source_world import SourceWorld

EPOCH = 1_700_000_000.0  # what the wall clock says when the run's own says 0

_now: list[Run] = []  # the run that the modules are part of, while there is one


def beside_others(run: Run) -> bool:
    """Whether anybody else than mere callers is alive: a round, a login, another process.

    What only those touch can be preempted without loss where the caller of this
    next meets one of them, or what callers touch.
    """
    callers: set[str | None] = getattr(run.values, "callers", set())
    return run.rules.every_point or any(
        not task.done and task is not run.now_runs and task.name not in callers
        for task in run.tasks
    )


def peek(thing: object, name: str) -> Any:
    """An attribute, looked at by the test: no switch point."""
    return vars(thing)[name]


class Watched:
    """An attribute. Without the lock that guards its writes, each look at it is a switch point."""

    def __init__(
        self, name: str, lock_of: Callable[[Any], Lock | None], *, of_a_round: bool = False
    ) -> None:
        self.name = name
        self.lock_of = lock_of
        self.of_a_round = of_a_round  # who merely asks for a token never touches it

    def __get__(self, thing: Any, kind: type | None = None) -> Any:
        if thing is None:
            return self
        self._point(thing)
        return vars(thing)[self.name]

    def __set__(self, thing: Any, value: object) -> None:
        if self.name in vars(thing):
            self._point(thing)
        vars(thing)[self.name] = value

    def _point(self, thing: Any) -> None:
        run = _now[-1]
        if run.now_runs is not None:
            lock = self.lock_of(thing)
            if (lock is None or lock.owner is not run.now_runs) and (
                not self.of_a_round or beside_others(run)
            ):
                run.point("look")


class Quick(Lock):
    """No switch point where it is given back: nobody here is interrupted there."""

    def __exit__(self, *exc: object) -> None:
        me = self.run.now_runs
        if me is not None:
            self.give(me)


class Leaf(Quick):
    """A lock over a few lines that only a lock of the same kind could see half done.

    Nothing is decided under it, so a preemption there shows nothing that one
    at the points around it does not.
    """

    def __enter__(self) -> None:
        me = self.run.now_runs
        if me is not None:
            self.take(me)


class Bell(Condition):
    """No switch point before it rings: the lock is held there."""

    def notify_all(self) -> None:
        if self.run.now_runs is not None:
            for task in self.run.tasks:
                if task.asleep and task.on is self:
                    self.run.wake(task, "notified")


class Thread:
    """In place of a threading.Thread that is about to be started."""

    daemon = True

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], **rest: Any) -> None:
        self.target, self.args = target, args

    def start(self) -> None:
        run, target, args = _now[-1], self.target, self.args
        if run.now_runs is None:
            return
        if getattr(run.values, "no_threads", False):
            run.point("spawn")
            raise RuntimeError("can't start new thread")
        run.add(f"thread {len(run.tasks)}", lambda: target(*args))


class Threads:
    """In place of the module `threading`."""

    TIMEOUT_MAX = threading.TIMEOUT_MAX
    Thread = Thread
    Condition = Bell

    def __init__(self, kind: type[Lock]) -> None:
        self._kind = kind

    def Lock(self) -> Lock:
        return self._kind(_now[-1])

    RLock = Lock

    def get_ident(self) -> int:
        me = _now[-1].now_runs
        return -1 if me is None else me.number

    def current_thread(self) -> object:
        return self.Thread

    def main_thread(self) -> None:
        return None


class Times:
    """In place of the module `time`."""

    def time(self) -> float:
        return EPOCH + _now[-1].now

    def monotonic(self) -> float:
        run = _now[-1]
        everywhere = run.rules.time or run.rules.every_point
        return run.clock() if everywhere else run.now  # each look at what is shared is a point

    def sleep(self, seconds: float) -> None:
        _now[-1].sleep(seconds)


class NoChance:
    """In place of a random generator."""

    def uniform(self, low: float, high: float) -> float:
        return low


def _of_gate(thing: Any) -> Any:
    return vars(thing).get("_lock")


WATCHED: list[tuple[type, Watched]] = [
    (gate.Gate, Watched("current", _of_gate)),
    (gate.Gate, Watched("held", _of_gate)),
    (gate.Gate, Watched("_round", _of_gate)),
    (gate.Round, Watched("done", lambda round_: _of_gate(round_.gate), of_a_round=True)),
    (saving.Place, Watched("unsaved", lambda place: None, of_a_round=True)),
]


@contextmanager
def in_place() -> Iterator[pytest.MonkeyPatch]:
    """While entered, sources are part of the run that `SourceWorld` names."""
    with pytest.MonkeyPatch.context() as patch:
        threads: list[ModuleType] = [source, gate, strikes, lifecycle]
        for module in threads:
            leaf = module is lifecycle
            patch.setattr(module, "threading", Threads(Leaf if leaf else Quick))
        for module in (source, asking, saving, lifetimes, settings, tokens):
            patch.setattr(module, "time", Times())
        for module in (asking, lifetimes):
            patch.setattr(module, "_random", NoChance())
        for name in ("_working", "_forkable"):
            patch.setattr(lifecycle, name, weakref.WeakValueDictionary())
        for owner, watched in WATCHED:
            patch.setattr(owner, watched.name, watched, raising=False)
        patch.setattr(logging.getLogger("requests_refresh"), "disabled", True)
        for module in (asking, saving, strikes, lifetimes):
            if hasattr(module, "log"):
                patch.setattr(module.log, "disabled", True)
        yield patch


class SharedStore(TokenStore):
    """A store that several sources, as if each in a process of its own, use step by step."""

    def __init__(self, world: SourceWorld) -> None:
        self.world = world
        self.run = world.run
        self.token: Token | None = None
        self.ever: set[str | None] = set()  # what was stored at some time
        self.refuses_saves = 0  # so many of the next are answered with an error
        self.holder: Task | None = None
        self._waiting: list[Task] = []

    def load(self, identity: str) -> Token | None:
        self.world.enter("load")
        return self.token

    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        self.world.enter("save")
        if self.refuses_saves:
            self.refuses_saves -= 1
            raise StoreError("the disk is full")
        if not may_go(self.token, replacing):
            raise StoreConflict("another one is there")
        self.put(token)

    def put(self, token: Token | None) -> None:
        self.token = token
        if token is not None:
            self.ever.add(token.access_token)
        self._changed()

    def delete(self, identity: str, *, replacing: Replacing = ANY) -> None:
        self.world.enter("delete")
        if self.token is not None:
            if not may_go(self.token, replacing):
                raise StoreConflict("another one is there")
            self.put(None)

    def exclusive(self, identity: str, timeout: float) -> Any:
        return Exclusive(self, timeout)

    def wait(self, identity: str, timeout: float) -> None:
        self.world.enter("wait")
        if self.holder is not None:  # else there was a change since the caller looked
            self.sleep(timeout)

    def sleep(self, timeout: float) -> None:
        me = self.run.now_runs
        if me is not None:
            self._waiting.append(me)
        try:
            self.run.sleep(timeout)
        finally:
            if me is not None:
                self._waiting.remove(me)

    def _changed(self) -> None:
        for task in self._waiting:
            self.run.wake(task, "notified")


class Exclusive:
    """One holder at a time."""

    def __init__(self, store: SharedStore, timeout: float) -> None:
        self.store = store
        self.timeout = timeout

    def __enter__(self) -> None:
        store = self.store
        until = store.run.now + self.timeout
        store.world.enter("exclusive")
        while store.holder is not None:
            if store.run.now >= until or not math.isfinite(until):
                raise RefreshTimeout("somebody else holds it")
            store.sleep(until - store.run.now)
        store.holder = store.run.now_runs

    def __exit__(self, *exc: object) -> None:
        store = self.store
        store.world.enter("leave")
        if store.run.now_runs is not None:
            if store.holder is not store.run.now_runs:
                store.run.fail("who does not hold the store left it")
            store.holder = None
            store._changed()


class Provider:
    """Rotates. The n-th call issues "an" and "rn"; a refresh token used twice ends the login."""

    timeout = (0.5, 1.5)  # what a round keeps in reserve

    def __init__(self, world: SourceWorld) -> None:
        self.world = world
        self.calls = 0
        self.good: set[str | None] = {"r0"}
        self.spent: set[str | None] = set()
        self.newest = "r0"  # issued at last, dead or alive
        self.life: float | None = None
        self.takes: dict[int, float] = {}  # seconds; by the number of the call
        self.fails: Callable[[int], None] = lambda number: None
        self.revoked: list[str | None] = []
        self.always_refused = False  # by the API, whatever is issued

    def __call__(self, base: Token | None) -> Token:
        world = self.world
        world.enter("provider")
        self.calls += 1
        number = self.calls
        if remaining() < sum(self.timeout):
            world.run.fail(f"I5: a call with {remaining()} seconds left")
        if number in self.takes:
            world.run.sleep(self.takes[number])
        self.fails(number)
        return self.issue(base, number)

    def issue(self, base: Token | None, number: int) -> Token:
        world = self.world
        if base is None or base.refresh_token is None:
            raise LoginRequired("declined")
        if base.refresh_token in self.spent:
            self.good.clear()
            world.run.fail(f"I1: {base.refresh_token} was used again")
        if base.refresh_token not in self.good:
            raise LoginRequired("over", error="invalid_grant")
        if base.access_token is not None and not world.needs_renewal(base):
            world.run.fail(f"I2: {base.access_token} was refreshed, and lives")
        self.good.remove(base.refresh_token)
        self.spent.add(base.refresh_token)
        self.newest = f"r{number}"
        self.good.add(self.newest)
        issued = world.make(number)
        world.enter("answer")
        return issued

    def revoke(self, token: Token) -> None:
        self.world.enter("revoke")
        self.revoked.append(token.refresh_token)
        self.good.discard(token.refresh_token)
