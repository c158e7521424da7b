"""Forks, exits and pickles: what becomes of sources and adapters when a process changes.

What is registered here is told in a child after a fork, and may end its work
before the process ends. Held weakly: nobody is kept alive by it.

An exit waits for the work that runs until its time is over, whatever signals
come meanwhile. From then on no thread is started: who asks does the work
himself, and a daemon thread, for which nothing waits any more, is refused. So
no refresh token is spent that the end of the process could lose (I7). That
goes for the main process and for children, those of multiprocessing too; only
os._exit and what kills outright get past it.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from .errors import RefreshError

_MOST_SIGNALS = 1000  # that an exit waits through; whatever else is wrong, it ends


class Jobs:
    """The threads that work for one source, so that an exit can wait for them.

    clock: a monotonic clock. timeout: seconds; how long each is waited for.
    """

    def __init__(self, clock: Callable[[], float], timeout: float) -> None:
        self._clock = clock
        self._timeout = timeout
        self.reset()

    def reset(self) -> None:
        """Forget them all, as after a fork."""
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._until: dict[object, float] = {}  # guarded by _lock
        self._threads: dict[object, int] = {}  # guarded by _lock

    @property
    def idle(self) -> bool:
        return not self._until

    def spawn(self, work: Callable[[], None]) -> None:
        """Start a thread for `work`. Raises RuntimeError where none can be started."""
        _see_to_the_end()
        job = object()
        try:
            with self._lock:
                self._until[job] = self._clock() + self._timeout
            if _ending_since is not None:  # only now: either the end sees the job, or we the end
                raise RuntimeError("the process is ending")
            # A daemon: one that hangs must not keep the process from ending.
            threading.Thread(
                target=self._run, args=(job, work), name="requests-refresh", daemon=True
            ).start()
        except BaseException:
            with self._lock:
                begun = job in self._threads  # Ctrl-C came after that
            if not begun:
                self._end(job)
            raise

    @contextmanager
    def counted(self) -> Iterator[None]:
        """What a thread does in here is waited for, one that `spawn` did not start too.

        In the main thread a first Ctrl-C is held back until it is done. Raises RefreshError in
        a thread that the end of the process will not wait for.
        """
        with self._lock:
            known = threading.get_ident() in self._threads.values()
        if known:
            yield
            return
        _see_to_the_end()
        job = object()
        self._begin(job)
        try:
            if _ending_since is not None and threading.current_thread().daemon:
                raise RefreshError(
                    "The process is ending, and would end in the middle of a renewal. Nothing was"
                    " asked for, and the login is intact."
                )
            with _signals_held_back():
                yield
        finally:
            self._end(job)

    def _run(self, job: object, work: Callable[[], None]) -> None:
        self._begin(job)
        try:
            work()
        finally:
            self._end(job)

    def _begin(self, job: object) -> None:
        with self._lock:
            self._until.setdefault(job, self._clock() + self._timeout)
            self._threads[job] = threading.get_ident()

    def _end(self, job: object) -> None:
        with self._lock:
            self._until.pop(job, None)
            self._threads.pop(job, None)
            self._ended.notify_all()

    def extend(self) -> bool:
        """Have the calling job waited for until it ends; False if the caller is none."""
        me = threading.get_ident()
        with self._lock:
            mine = [job for job, thread in self._threads.items() if thread == me]
            self._until.update(dict.fromkeys(mine, math.inf))
            return bool(mine)

    def wait(self, deadline: float) -> None:
        """Block until they have ended, each until its time is over; but not for the caller's."""
        me = threading.get_ident()
        with self._lock:
            while True:
                others = [end for job, end in self._until.items() if self._threads.get(job) != me]
                left = min(deadline, max(others, default=-math.inf)) - self._clock()
                if left <= 0:
                    return
                self._ended.wait(min(left, 3600.0))


class Forkable(Protocol):
    def _after_fork_in_child(self) -> None: ...


class Working(Forkable, Protocol):
    @property
    def _idle(self) -> bool: ...
    def _let_work_end(self, waited: float) -> None: ...


_forkable: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_working: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_seen_to_pid: int | None = None
_ending_since: float | None = None  # nobody waits for a thread that starts later


def watch(thing: Forkable) -> None:
    """Have `thing` told in a child after a fork."""
    _forkable[id(thing)] = thing


def watch_work(key: str, thing: Working) -> None:
    """Have `thing` told after a fork, waited for at the exit, and found by its key."""
    _working[key] = thing
    watch(thing)


def find(key: str) -> Any:
    """What was registered in this process, or before its fork, under `key`; or None."""
    return _working.get(key)


def _see_to_the_end() -> None:
    """See to it that the work that begins now can end before this process does.

    Children of multiprocessing leave by os._exit, after a list of finalizers
    of their own, which is emptied when they start.
    """
    global _seen_to_pid, _ending_since
    pid = os.getpid()
    if _seen_to_pid == pid:
        return
    process = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _let_work_end, exitpriority=100)
        if util.is_exiting():  # it may be too late for that
            _ending_since = time.monotonic()
    _seen_to_pid = pid


def ending() -> bool:
    """Whether the process is ending, so that its end waits for what runs."""
    return _ending_since is not None


def _let_work_end() -> None:
    """Wait for what runs, until its deadline, through further Ctrl-C and other signals.

    From here on each caller does his own work: threads of his that are joined
    later, and exit handlers that come later, can still renew.
    """
    global _ending_since
    for _ in range(_MOST_SIGNALS):
        try:
            if _ending_since is None:
                _ending_since = time.monotonic()
            with _deaf_to_ctrl_c():
                for reference in _working.valuerefs():
                    thing = reference()
                    if thing is not None and not thing._idle:
                        thing._let_work_end(time.monotonic() - _ending_since)
            return
        except BaseException:  # raised by the handler of a signal
            continue


def _gets_signals() -> bool:
    """Whether the caller may set handlers: the main thread of the main interpreter may."""
    if threading.current_thread() is not threading.main_thread():
        return False
    handler = signal.getsignal(signal.SIGINT)
    try:
        if handler is not None:  # else it is not Python's, and could not be put back
            signal.signal(signal.SIGINT, handler)
    except ValueError:  # a subinterpreter, which has a main thread of its own
        return False
    return True


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    handler = None
    if _gets_signals():
        handler = signal.getsignal(signal.SIGINT)
    if handler is None:
        yield
        return
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """In the main thread: the first of each that has a handler comes when this is over."""
    handlers: dict[int, Any] = {}
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        came.append(number)
        signal.signal(number, handlers[number])  # who insists is heard

    if _gets_signals():
        both = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        handlers = {number: handler for number, handler in both.items() if callable(handler)}
    try:
        for number in handlers:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def _after_fork_in_child() -> None:
    global _ending_since
    _ending_since = None
    for thing in list(_forkable.values()):
        thing._after_fork_in_child()


# Twice: a signal that comes while the first is being called would take its place.
atexit.register(_let_work_end)
atexit.register(_let_work_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
