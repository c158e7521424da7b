"""Signals that come at random moments of a request, in the thread that sends it."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
import requests

from requests_refresh import FileStore, RefreshAdapter, RefreshError, Token, TokenSource
from requests_refresh.testing import AuthServer
from tests.adapter.support import advance

# It may hit a finalizer, or a socket that nobody has yet.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SEED = int(os.environ.get("SIGNAL_SEED", random.SystemRandom().randrange(10**6)))
SAFETY = 30.0  # seconds; what takes longer hangs


def within_coverage(frame: FrameType | None) -> bool:
    """Whether a frame belongs to what measures the coverage, or was called by that."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("coverage.") and not name.endswith((".cmdline", ".execfile")):
            return True  # and not what only started the tests
        frame = frame.f_back
    return False


class Alarm:
    """A handler of SIGALRM that raises, or returns, while its owner lets it."""

    def __init__(self, *, raises: bool) -> None:
        self.raises = raises
        self.armed = False
        self.came = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            if within_coverage(frame):
                # Its own locks do not bear it: it would leave one taken, and all would hang.
                signal.setitimer(signal.ITIMER_REAL, 1e-4, 0 if self.raises else 1e-3)
                return
            self.came += 1
            if self.raises:
                self.armed = False
                raise KeyboardInterrupt

    def during(self, seconds: float, work: Callable[[], object]) -> bool:
        """Whether the work was ended by a signal, which came so many seconds after its begin."""
        try:
            try:
                self.armed = True
                signal.setitimer(signal.ITIMER_REAL, seconds, 0 if self.raises else seconds)
                work()
            finally:
                self.armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            return True
        return False


@pytest.fixture
def alarm(request: pytest.FixtureRequest) -> Iterator[Alarm]:
    alarm = Alarm(raises=request.param)
    before = signal.signal(signal.SIGALRM, alarm)
    yield alarm
    signal.signal(signal.SIGALRM, before)


def storms(
    alarm: Alarm, count: int, path: Path, *, threads: bool, patch: pytest.MonkeyPatch
) -> None:
    """So many expiries, each found by this thread, to which a signal comes, and by another.

    threads: whether rounds find a thread; else one of their callers does the work. The provider
    has a time of grace: where the signal hits the call itself, it is asked once more.
    """
    print(f"SIGNAL_SEED={SEED}")
    dice = random.Random(SEED)  # noqa: S311 - no secret
    begin = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if not threads and thread.name.startswith("requests-refresh"):
            raise RuntimeError("can't start new thread")
        begin(thread)

    patch.setattr(threading.Thread, "start", start)
    with AuthServer(grace=3600.0) as server, requests.Session() as http:
        http.trust_env = False
        first = Token.from_reply(server.login("u"))
        source = TokenSource(server.grant(), FileStore(path), token=first, timeout=SAFETY)
        http.mount(server.url, RefreshAdapter(source, origins=server.url))

        def get() -> None:
            assert http.get(server.api, timeout=SAFETY).status_code == 200

        get()
        took = [0.02]
        ended = 0
        for _ in range(count):
            server.revoke_access()
            other: list[object] = []

            def beside(other: list[object] = other) -> None:
                try:
                    get()
                    other.append(200)
                except Exception as exc:
                    other.append(exc)

            companion = threading.Thread(target=beside)
            companion.start()
            begun = time.perf_counter()
            before = server.counts.refresh_calls
            hit = alarm.during(dice.uniform(1e-5, max(took)), get)
            ended += hit
            companion.join(SAFETY)
            assert not companion.is_alive(), "I3: it waits for ever"
            if not hit:
                took = [*took[-9:], time.perf_counter() - begun]
            advance(source, 120)  # beyond the backing off
            assert other == [200] or (hit and not threads and isinstance(other[0], RefreshError))
            get()
            made = server.counts.refresh_calls - before
            assert made <= (1 if threads else 1 + hit), f"I1: {made} refreshes"
            stored = FileStore(path).load("default")
            assert stored is not None
            assert stored.same_issue(source.token()), "I7"
            with FileStore(path).exclusive("default", SAFETY):
                pass  # nobody holds it for ever
        source.close()
    print(alarm.came, "signals,", ended, "requests were ended by one")
    assert alarm.came > count // 8
    assert (ended > 0) is alarm.raises


signals = pytest.mark.parametrize("alarm", [True, False], ids=["raises", "returns"], indirect=True)
rounds = pytest.mark.parametrize("threads", [True, False], ids=["thread", "inline"])


@signals
@rounds
def test_a_signal_at_a_random_moment(
    alarm: Alarm, threads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1, I3, I7, I14: only the request that it hits ends; round, login and `exclusive` live."""
    storms(alarm, 40, tmp_path / "private" / "t.json", threads=threads, patch=monkeypatch)


@pytest.mark.long
@signals
@rounds
def test_many_signals(
    alarm: Alarm, threads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1, I3, I7, I14: the same, a hundred times each."""
    storms(alarm, 100, tmp_path / "private" / "t.json", threads=threads, patch=monkeypatch)


@pytest.mark.parametrize("alarm", [True], indirect=True)
def test_what_measures_the_coverage_is_spared(alarm: Alarm) -> None:
    """I14: a signal that hits the measuring comes a moment later, in what is measured."""
    there: dict[str, object] = {"__name__": "coverage.collector", "hit": signal.raise_signal}
    exec("def lock_data(number):\n    hit(number)\n    done.append(number)", there)
    done: list[object] = []
    there["done"] = done
    lock_data = there["lock_data"]
    assert callable(lock_data)

    def work() -> None:
        lock_data(signal.SIGALRM)
        threading.Event().wait(SAFETY)

    assert alarm.during(SAFETY, work)
    assert done == [signal.SIGALRM]
    assert alarm.came == 1
