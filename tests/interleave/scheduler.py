"""Every interleaving of a few threads, one step at a time.

The code under test is given the locks, conditions, clock and `spawn` of a
`Run`. Its threads are real and hand each other a baton: one runs, until it
comes to one of these; there the plan of the run says who goes on. `explore`
makes plans until all schedules with at most so many preemptions were run.

- A *preemption* is a switch away from a thread that could go on. Who goes on
  where a thread blocks or ends is free, and every choice is tried.
- Time is virtual. It passes when nobody can run, up to the next timeout; and at
  any moment in a scenario that allows it, which then counts as a preemption.
  So do a stray wake-up of a waiter and a Ctrl-C.
- Nobody can run, and not all have ended: a deadlock, which is a failure.

**Left out** is what cannot show anything new. First, a preemption at a step
that touches nothing of another thread's: a look at the clock, a release, a
notify, a spawn; the one at the next acquire ends in the same state. Second,
what follows a state that was met before with as many preemptions left. A state
is where each thread stands and what its variables hold, read off its frames;
what is shared, as the scenario tells it; the time; and who runs. `every_point`
and `pruning=False` leave nothing out, for the test that the rest loses nothing.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from . import pieces
from .pieces import Aborted, Condition, Lock, Option, Rules, Seen, Task, Worker

SAFETY = 60.0  # seconds of real time for one run; only a fault in here needs them
_COMMUTE = {"clock", "release", "notify", "spawn", "spawned"}

_OWN_FILES = {__file__, pieces.__file__}
_idle: list[Worker] = []


class Found(AssertionError):
    """Raised with the schedule that broke a rule."""


class Values(Protocol):
    """How a scenario tells one state from another."""

    def name(self, value: object, refers: list[object]) -> object:
        """What tells a variable's value from others; a thing with an identity joins `refers`."""

    def holds(self, thing: object) -> object:
        """What such a thing holds now."""

    def shared(self, refers: list[object]) -> list[object]:
        """All else that the threads share, in the same way."""


class Run:
    """One schedule: follows `plan`, then goes on without preemptions."""

    def __init__(self, plan: Sequence[Option], seen: Seen | None, rules: Rules) -> None:
        self.rules = rules
        self.tasks: list[Task] = []
        self.now = 1000.0
        self.now_runs: Task | None = None  # None before, after, and while threads are unwound
        self.taken: list[Option] = []
        self.untried: list[tuple[int, Option]] = []  # at which choice, what else
        self.failure: str | None = None
        self.aborting = False
        self.steps: list[str] = []
        self.values: Values | None = None  # for pruning
        self._plan = plan
        self._seen = seen
        self._used = sum(option.cost for option in plan)
        self._at = ""  # the point that the running thread is at; "" where it cannot go on
        self._main = threading.Lock()
        self._main.acquire()

    # ------------------------------------- what the code under test is given

    def lock(self) -> Lock:
        return Lock(self)

    def condition(self, lock: Lock) -> Condition:
        return Condition(lock)

    def clock(self) -> float:
        me = self.now_runs
        if me is not None:
            self.point("clock")
        return self.now

    def spawn(self, work: Callable[[], None]) -> None:
        me = self.now_runs
        if me is not None:
            self.point("spawn")
            self.add(f"thread {len(self.tasks)}", work)
            self.point("spawned")

    # ---------------------------------------------------- what a scenario uses

    def add(self, name: str, work: Callable[[], object], twin: str | None = None) -> Task:
        """A thread; those with the same `twin` do the same."""
        task = Task(len(self.tasks), name, work, twin)
        self.tasks.append(task)
        return task

    def touch(self, thing: str) -> None:
        """The running thread is about to use something that others use too."""
        if self.now_runs is None:
            raise Aborted
        self.point(thing)

    def sleep(self, seconds: float | None, on: Condition | None = None) -> str:
        """Until somebody wakes it, or the time is over; how it was woken."""
        me = self.now_runs
        if me is None:
            raise Aborted
        me.asleep, me.on = True, on
        me.until = None if seconds is None else self.now + seconds
        if me.deadline is not None and (me.until is None or me.until > me.deadline):
            self.fail(f"{me.name} goes to sleep until {me.until}, and its end is {me.deadline}")
        self._at = ""
        self._hand_over(me)
        me.on = None
        woken = me.woken
        if on is None:  # else it is cleared when the lock is taken again
            me.woken = ""
            self._deliver(me)
        return woken

    def fail(self, why: str) -> None:
        """A rule is broken: this run ends here."""
        self.failure = self.failure or why
        self._abort()

    # -------------------------------------------------------------- switching

    def point(self, name: str) -> None:
        """The running thread may be preempted here."""
        me = self.now_runs
        if me is None:
            return
        self.steps.append(f"{me.name}: {name}")
        self._at = name
        self._hand_over(me)
        self._deliver(me)

    def block(self) -> None:
        """The running thread cannot go on."""
        me = self.now_runs
        assert me is not None
        self._at = ""
        self._hand_over(me)
        self._deliver(me)

    def wake(self, task: Task, how: str) -> None:
        task.asleep, task.until, task.woken = False, None, how

    def _deliver(self, me: Task) -> None:
        if me.interrupted and not me.woken:
            me.interrupted, me.wants = False, None
            raise KeyboardInterrupt

    def _hand_over(self, me: Task) -> None:
        me.frame, me.place, me.handles = sys._getframe(1), None, sys.exc_info()[0]
        chosen = self._choose(me)
        if chosen is not me:
            self._pass_to(chosen)
            assert me.worker is not None
            me.worker.baton.acquire()
            if self.aborting:
                raise Aborted
            self.now_runs = me
        me.frame = None

    def _pass_to(self, task: Task | None) -> None:
        self.now_runs = task
        if task is None:
            self._main.release()
            return
        if task.worker is None:
            task.started = True
            task.worker = _idle.pop() if _idle else Worker()
            task.worker.job = lambda: self._live(task)
        task.worker.baton.release()

    def _live(self, task: Task) -> None:
        following = None
        try:
            task.work()
            task.done = True
            self._at = ""
            if not self.aborting:
                following = self._choose(task)
        except Aborted:
            pass
        except BaseException as exc:
            self.failure = self.failure or f"{task.name} ended with {exc!r}"
            self.aborting = True
        task.done = True
        assert task.worker is not None
        _idle.append(task.worker)  # it looks at its next job only with its baton
        self._pass_to(following)

    def _abort(self) -> None:
        self.aborting = True
        self.now_runs = None
        raise Aborted

    # --------------------------------------------------------------- choosing

    def _choose(self, me: Task | None) -> Task | None:
        """Who goes on. None: all have ended."""
        while not all(task.done for task in self.tasks):
            option = self._pick(me)
            if option.what == "run":
                task = self.tasks[option.task]
                if task is not me:
                    self.steps.append(f"-- {task.name} goes on")
                return task
            self.steps.append(f"-- {option.what} {option.task}")
            self._happen(option)
        return None

    def _happen(self, option: Option) -> None:
        if option.what == "time":
            self.now = max(self.now, min(t.until for t in self.tasks if t.until is not None))
            for task in self.tasks:
                if task.until is not None and task.until <= self.now:
                    self.wake(task, "timeout")
            return
        task = self.tasks[option.task]
        if option.what in ("interrupt", "cut"):
            task.interrupted, task.interruptible = True, False
        if task.asleep:
            self.wake(task, option.what)

    def _pick(self, me: Task | None) -> Option:
        number = len(self.taken)
        if number < len(self._plan):
            option = self._plan[number]
        else:
            options = self._options(me)
            if not options or options[0].cost:
                self.fail("deadlock: nobody can run")
            if self._seen is not None and self._seen.before(self._state(me), self._used):
                self._abort()
            option = options[0]
            self.untried += [(number, other) for other in options[1:]]
        self.taken.append(option)
        return option

    def _options(self, me: Task | None) -> list[Option]:
        """All that may happen; what comes first costs nothing."""
        able = [task for task in self.tasks if task.ready]
        options = []
        goes_on = me is not None and me in able
        if me is not None and goes_on:
            options.append(Option("run", me.number))
        switches = not goes_on or self.rules.every_point or self._at not in _COMMUTE
        if switches:
            options += [Option("run", task.number, int(goes_on)) for task in _others(me, able)]
        timeouts = any(task.until is not None for task in self.tasks)
        if timeouts and not able:
            options.insert(0, Option("time"))
        elif timeouts and self.rules.time and (switches or self._at == "clock"):
            options.append(Option("time", cost=1))
        for task in self.tasks:
            if self.rules.stray and switches and task.asleep and task.on is not None:
                options.append(Option("stray", task.number, 1))
            if task.interruptible and task.started and not task.done:
                options.append(Option("interrupt", task.number, 1))
                if task.asleep and task.on is not None:
                    options.append(Option("cut", task.number, 1))
        return [one for one in options if self._used + one.cost <= self.rules.preemptions]

    def _state(self, me: Task | None) -> int:
        assert self.values is not None, "pruning needs to know what is shared"
        alive = [task for task in self.tasks if not task.done]
        kinds = [(t.twin or "", self._place(t), hash(t.standing), t is me) for t in alive]
        things: list[object] = []
        # Twins are interchangeable, so they have no names here.
        for _, task in sorted(zip(kinds, alive, strict=True), key=lambda pair: pair[0]):
            things += task.refers
        parts: list[object] = [me is not None and me.ready, self.now, *sorted(kinds)]
        parts += self.values.shared(things)
        # The same thing or another one, whatever it is called, and what it holds.
        order = {id(thing): number for number, thing in enumerate(reversed(things))}
        parts += [order[id(thing)] for thing in things]
        parts += [self.values.holds(thing) for thing in things]
        return hash(tuple(parts))

    def _place(self, task: Task) -> int:
        """Where a thread stands in the code under test, and with what in its variables."""
        if task.place is None:
            assert self.values is not None
            places: list[object] = [task.handles]
            task.refers = []
            if not task.started:
                cells = getattr(task.work, "__closure__", None) or ()
                values = [self.values.name(cell.cell_contents, task.refers) for cell in cells]
                places += (getattr(task.work, "__code__", task.work), *values)
            frame = task.frame
            while frame is not None and frame.f_code is not _LIVE:
                if frame.f_code.co_filename not in _OWN_FILES:
                    places += (frame.f_code, frame.f_lasti)
                    for name, value in frame.f_locals.items():
                        places += (name, self.values.name(value, task.refers))
                frame = frame.f_back
            task.place = hash(tuple(places))
        return task.place

    # -------------------------------------------------------------- all of it

    def go(self) -> None:
        """Run to the end, or until there is nothing more to show."""
        try:
            first = self._choose(None)
        except Aborted:
            return
        self._pass_to(first)
        self._wait()
        for task in self.tasks:  # those of a run that was ended early
            if task.worker is not None and not task.done:
                task.worker.baton.release()
                self._wait()

    def _wait(self) -> None:
        if not self._main.acquire(timeout=SAFETY):
            raise Found("a thread came to no switch point\n" + "\n".join(self.steps[-50:]))


_LIVE = Run._live.__code__


def _others(me: Task | None, able: list[Task]) -> list[Task]:
    others: list[Task] = []
    twins: set[str] = set()
    for task in able:
        if task is me or (not task.started and task.twin in twins):
            continue
        if not task.started and task.twin is not None:
            twins.add(task.twin)
        others.append(task)
    return others


@dataclass
class Report:
    schedules: int = 0  # that were begun
    whole: int = 0  # of these: those that came to their end, as no state was met again
    states: int = 0


def explore(
    scenario: Callable[[Run], Callable[[], None]],
    rules: Rules | None = None,
    *,
    pruning: bool = True,
    ended: Callable[[Run], None] = lambda run: None,
) -> Report:
    """Run every schedule of `scenario`, those with the fewest preemptions first.

    scenario: gives a run its threads and returns the check for its end, which
        raises AssertionError where a rule is broken.
    ended: sees each run that came to its end.

    Raises Found with the steps of the first schedule that breaks one.
    """
    rules = rules or Rules()
    seen = Seen() if pruning else None
    plans: list[list[list[Option]]] = [[[]], *([] for _ in range(rules.preemptions))]
    report = Report()
    for used in range(rules.preemptions + 1):
        while plans[used]:
            run = Run(plans[used].pop(), seen, rules)
            check = scenario(run)
            run.go()
            report.schedules += 1
            if not run.aborting:
                report.whole += 1
                ended(run)
                try:
                    check()
                except AssertionError as exc:
                    run.failure = str(exc)
            if run.failure is not None:
                raise Found("\n".join([run.failure, *run.steps]))
            for number, option in run.untried:
                plans[used + option.cost].append([*run.taken[:number], option])
    report.states = 0 if seen is None else len(seen)
    return report
