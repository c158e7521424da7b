"""Notices: who waits is woken, no change is missed, and nothing is left when nobody waits."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from requests_refresh.stores import notices as module
from requests_refresh.stores.notices import Deaf, Listener, Notices

from .contract import SAFETY

NAME = "requests-refresh-notices"
Event = Callable[[], None]


class Source:
    """What is listened to: the test says what is heard, and when listening ends or fails."""

    def __init__(self) -> None:
        self.events: queue.Queue[Callable[[Listener], None]] = queue.Queue()
        self.starts = 0
        self.begin: Event = lambda: None  # before it is ready

    def __call__(self, listener: Listener) -> None:
        self.starts += 1
        self.begin()
        listener.ready()
        while listener.wanted():
            try:
                event = self.events.get(timeout=0.02)
            except queue.Empty:
                continue
            event(listener)

    def say(self, key: str) -> None:
        self.events.put(lambda listener: listener.heard(key))

    def fail(self) -> None:
        self.events.put(failing)


def failing(listener: object) -> None:
    raise OSError("the connection is gone")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing wakes but a notice; threads end soon when nobody waits."""
    monkeypatch.setattr(module, "LONG", SAFETY)
    monkeypatch.setattr(module, "_START", SAFETY)
    monkeypatch.setattr(module, "_IDLE", 0.05)
    yield
    gone()


def gone() -> None:
    """See that the threads which listen have ended."""
    for thread in threading.enumerate():
        if thread.name == NAME:
            thread.join(SAFETY)
            assert not thread.is_alive()


class Waiter:
    """A thread that waits for a key; `looked` is set when it has looked and goes to sleep."""

    def __init__(self, notices: Notices, key: str, unchanged: Callable[[], bool] = lambda: True):
        self.looked, self.woke = threading.Event(), threading.Event()
        self._unchanged = unchanged
        self._thread = threading.Thread(target=self._run, args=(notices, key))
        self._thread.start()

    def _run(self, notices: Notices, key: str) -> None:
        notices.wait(key, self._look, SAFETY)
        self.woke.set()

    def _look(self) -> bool:
        same = self._unchanged()
        self.looked.set()
        return same

    def has_looked(self) -> None:
        assert self.looked.wait(SAFETY)

    def ends(self) -> None:
        assert self.woke.wait(SAFETY / 2)  # not by the end of its time
        self._thread.join(SAFETY)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def notices(source: Source) -> Notices:
    return Notices(source)


def test_only_who_waits_for_it(notices: Notices, source: Source) -> None:
    """A notice wakes all that wait for its key, and nobody else."""
    waiters = {key: [Waiter(notices, key) for _ in range(3)] for key in "ab"}
    for several in waiters.values():
        for waiter in several:
            waiter.has_looked()
    source.say("nobody's")
    source.say("a")
    for waiter in waiters["a"]:
        waiter.ends()
    assert not any(waiter.woke.is_set() for waiter in waiters["b"])
    source.say("b")
    for waiter in waiters["b"]:
        waiter.ends()
    assert source.starts == 1
    assert notices._ears == {}


def test_a_change_before_the_look(notices: Notices) -> None:
    """What changed before anything listened is seen by looking."""
    Waiter(notices, "a", lambda: False).ends()


def test_a_change_during_the_look(notices: Notices, source: Source) -> None:
    """A notice that comes while the waiter looks, and sees nothing yet, wakes it all the same."""

    def change() -> bool:
        source.say("a")
        done = threading.Event()
        source.events.put(lambda listener: done.set())
        return done.wait(SAFETY)

    Waiter(notices, "a", change).ends()


def test_the_listener_dies(
    notices: Notices, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that wait wake, go on by looking, and hear again when it can be heard again."""
    waiters = [Waiter(notices, key) for key in "ab"]
    for waiter in waiters:
        waiter.has_looked()
    source.fail()
    for waiter in waiters:
        waiter.ends()
    monkeypatch.setattr(module, "_RETRY", SAFETY)
    notices.wait("a", lambda: True, SAFETY)  # a short while, by looking
    answers = iter([True, True, False])
    notices.wait("a", lambda: next(answers), SAFETY)
    assert source.starts == 1
    monkeypatch.setattr(module, "_RETRY", 0.0)
    waiter = Waiter(notices, "a")
    waiter.has_looked()
    assert source.starts == 2
    source.say("a")
    waiter.ends()


def test_close_while_somebody_waits(notices: Notices, source: Source) -> None:
    """`close` wakes him, and the next wait listens again."""
    waiter = Waiter(notices, "a")
    waiter.has_looked()
    notices.close()
    waiter.ends()
    again = Waiter(notices, "a")
    again.has_looked()
    source.events.put(lambda listener: notices._tell(object(), "a"))  # type: ignore[arg-type] # of an old one
    source.say("a")
    again.ends()
    assert source.starts == 2
    notices.close()
    notices.close()


def test_idle(notices: Notices, source: Source) -> None:
    """The thread ends when nobody has waited for a while, and begins again with who comes next."""
    for times in (1, 2):
        waiter = Waiter(notices, "a")
        waiter.has_looked()
        source.say("a")
        waiter.ends()
        gone()
        assert (source.starts, notices.up) == (times, False)


def test_it_ends_as_somebody_comes(
    notices: Notices, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes between its last look around and its end does not sleep unheard."""
    ended, may_end = threading.Event(), threading.Event()
    real = Source.__call__

    def slow(self: Source, listener: Listener) -> None:
        real(self, listener)
        ended.set()
        assert may_end.wait(SAFETY)

    monkeypatch.setattr(Source, "__call__", slow)
    notices.wait("a", lambda: False, SAFETY)
    assert ended.wait(SAFETY)
    waiter = Waiter(notices, "a")
    waiter.has_looked()
    may_end.set()
    waiter.ends()


def test_it_stays_while_somebody_waits(notices: Notices, source: Source) -> None:
    """The idle time counts from when the last one has gone."""
    waiter = Waiter(notices, "a")
    waiter.has_looked()
    rounds = threading.Semaphore(0)

    def slow(listener: object) -> None:
        time.sleep(0.02)
        rounds.release()

    for _ in range(10):
        source.events.put(slow)
    for _ in range(10):  # four times as long as it stays for nobody
        assert rounds.acquire(timeout=SAFETY)
    source.say("a")
    waiter.ends()
    assert source.starts == 1


@pytest.mark.parametrize("timeout", [0, 0.0, -1.0, -1e9])
def test_no_time(notices: Notices, timeout: float) -> None:
    """Without time it ends at once, whether something listens or not."""
    looks: list[bool] = []

    def look() -> bool:
        looks.append(True)
        return True

    notices.wait("a", look, timeout)
    notices.wait("a", lambda: False, SAFETY)
    notices.wait("a", look, timeout)
    assert 0 < len(looks) < 4
    assert notices._ears == {}


def test_a_listener_that_is_late(
    notices: Notices, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is not at its place yet, who waits goes on by looking; then all look once more."""
    monkeypatch.setattr(module, "_START", 0.01)
    freed = threading.Event()

    def late() -> None:
        assert freed.wait(SAFETY)

    source.begin = late
    notices.wait("a", lambda: True, SAFETY)
    assert not notices.up
    freed.set()
    monkeypatch.setattr(module, "_START", SAFETY)
    notices.wait("a", lambda: False, SAFETY)
    assert notices.up


def test_nothing_to_listen_to(source: Source) -> None:
    """A store that has no notices starts no thread, or one only, to find that out."""

    def deaf() -> None:
        raise Deaf

    notices = Notices(None)
    notices.wait("a", lambda: False, SAFETY)
    notices.wait("a", lambda: True, SAFETY)
    source.begin = deaf
    notices = Notices(source)
    for _ in range(3):
        notices.wait("a", lambda: True, SAFETY)
    assert source.starts == 1


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_no_thread(
    notices: Notices, source: Source, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I14: where no thread can be started it looks; neither that nor Ctrl-C is remembered."""

    def start(self: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        try:
            notices.wait("a", lambda: True, SAFETY)
        except KeyboardInterrupt:
            assert isinstance(error, KeyboardInterrupt)
    waiter = Waiter(notices, "a")
    waiter.has_looked()
    source.say("a")
    waiter.ends()


def test_a_look_that_fails(notices: Notices) -> None:
    """What the look raises is the caller's; nobody is counted as waiting afterwards."""

    def fail() -> bool:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        notices.wait("a", fail, SAFETY)
    assert notices._ears == {}


def test_fork(notices: Notices, source: Source) -> None:
    """I14: the child listens by itself, and the parent's listener is as it was."""
    waiter = Waiter(notices, "a")
    waiter.has_looked()
    pid = os.fork()
    if pid == 0:

        def look() -> bool:
            source.say("a")
            return True

        notices.reset()
        source.events = queue.Queue()
        notices.wait("a", look, SAFETY)
        os._exit(source.starts - 2)
    assert os.waitpid(pid, 0)[1] == 0
    assert not waiter.woke.is_set()
    source.say("a")
    waiter.ends()
    assert source.starts == 1
