"""What a scheduled run is made of: its threads, and the locks they are given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .scheduler import Run


class Aborted(BaseException):
    """Unwinds the threads of a run that has nothing more to show."""


class Option(NamedTuple):
    """What may happen next: "run", "stray", "interrupt" or "cut" of a task, or "time"."""

    what: str
    task: int = -1
    cost: int = 0  # preemptions


@dataclass(frozen=True)
class Rules:
    """What may happen in a schedule.

    preemptions: at most so many. time: time may go on though somebody can run.
    stray: waiters may wake for no reason. every_point: preempt also where it
    cannot matter.
    """

    preemptions: int = 3
    time: bool = False
    stray: bool = False
    every_point: bool = False


class Worker:
    """A real thread; many runs use it, one after the other."""

    def __init__(self) -> None:
        self.baton = threading.Lock()
        self.baton.acquire()
        self.job: Callable[[], None] = lambda: None
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self) -> None:
        while True:
            self.baton.acquire()
            self.job()


class Task:
    """A thread of the code under test."""

    def __init__(
        self, number: int, name: str, work: Callable[[], object], twin: str | None
    ) -> None:
        self.number = number
        self.name = name
        self.work = work
        self.twin = twin  # tasks with the same one do the same: one order of starting is enough
        self.worker: Worker | None = None
        self.started = self.done = False
        self.wants: Lock | None = None
        self.asleep = False
        self.on: Condition | None = None  # what it waits on; None: it merely sleeps
        self.until: float | None = None
        self.deadline: float | None = None  # it must not sleep longer than that
        self.woken = ""
        self.interruptible = False  # a Ctrl-C may still come
        self.interrupted = False  # it came, and is not yet raised
        self.frame: FrameType | None = None  # where it stands
        self.handles: object = None  # the exception that is being handled there
        self.place: int | None = None  # a hash of that, once asked for
        self.refers: list[object] = []  # the things of identity in its variables, in order

    @property
    def ready(self) -> bool:
        if self.done or self.asleep:
            return False
        # Ctrl-C ends the wait for a lock, but not for that of a condition it waited on.
        leaves = self.interrupted and not self.woken
        return leaves or self.wants is None or self.wants.owner is None

    @property
    def standing(self) -> tuple[object, ...]:
        """What its frames do not tell."""
        wants = self.wants is not None
        return self.started, self.done, self.asleep, self.until, wants, self.woken, self.interrupted


class Lock:
    """In place of a threading.RLock. Who takes it twice is in a deadlock here."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.owner: Task | None = None

    def __enter__(self) -> None:
        me = self.run.now_runs
        if me is not None:
            self.run.point("acquire")
            self.take(me)

    def __exit__(self, *exc: object) -> None:
        me = self.run.now_runs
        if me is not None:
            self.give(me)
            # A Ctrl-C comes after it: the release is one step, in C.
            self.run.point("release")

    def _is_owned(self) -> bool:
        return self.run.now_runs is None or self.owner is self.run.now_runs

    locked = _is_owned  # what is asserted of a lock is that the caller has it

    def take(self, me: Task) -> None:
        me.wants = self
        if self.owner is not None:
            self.run.block()
        me.wants = None
        self.owner = me

    def give(self, me: Task) -> None:
        if self.owner is not me:
            raise RuntimeError("cannot release un-acquired lock")
        self.owner = None


class Condition:
    """In place of a threading.Condition."""

    def __init__(self, lock: Lock) -> None:
        self.lock = lock
        self.run = lock.run

    def wait(self, timeout: float | None = None) -> bool:
        me = self.run.now_runs
        if me is None:
            raise Aborted
        self.lock.give(me)
        woken = self.run.sleep(timeout, self)
        if woken == "cut":  # a Ctrl-C after the lock was given back and before it would be retaken
            me.woken, me.interrupted = "", False
            raise KeyboardInterrupt
        self.lock.take(me)
        me.woken = ""
        if woken == "interrupt":
            me.interrupted = False
            raise KeyboardInterrupt
        return woken == "notified"

    def notify_all(self) -> None:
        me = self.run.now_runs
        if me is None:
            return
        if self.lock.owner is not me:
            self.run.fail("notify without the lock")
        self.run.point("notify")
        for task in self.run.tasks:
            if task.asleep and task.on is self:
                self.run.wake(task, "notified")


class Seen:
    """The states met so far, each with the fewest preemptions."""

    def __init__(self) -> None:
        self._fewest: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._fewest)

    def before(self, state: int, used: int) -> bool:
        if self._fewest.get(state, used + 1) <= used:
            return True
        self._fewest[state] = used
        return False
