"""The demo: it keeps its promise, tells when one was broken, and ends on Ctrl-C."""

from __future__ import annotations

import itertools
import queue
import re
import runpy
import signal
import subprocess
import sys
import threading
from importlib import import_module, metadata
from types import SimpleNamespace

import pytest
import requests

from requests_refresh.cli import demo, main, naive
from requests_refresh.testing import AuthServer, Counts, Fault

QUICK = ["demo", "--threads", "6", "--expiries", "2", "--lifetime", "1", "--latency", "0.1"]
JOIN = 60.0  # seconds; only a hanging test needs them


def table(text: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\S.*?)  +(\S.*)$", text, re.MULTILINE))


def test_the_demo_keeps_its_promise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1: as many refreshes as tokens died in use, no 401 and no error seen; exit status 0."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    status = main(QUICK)
    out = capsys.readouterr().out
    rows = table(out)
    assert status == 0, out
    assert rows["refreshes"] == rows["expiries: tokens that died in use"] == "2"
    assert rows["401s that a caller saw"] == rows["errors that a caller saw"] == "0"
    assert rows["login at the end"] == "alive"
    assert int(rows["401s on the wire"]) >= 2
    assert int(rows["requests held"]) >= 2
    assert "expiry 2 of 2" in out
    assert "Kept" in out


def test_the_naive_demo_tells_what_broke(capsys: pytest.CaptureFixture[str]) -> None:
    """Two threads past the check spend one refresh token; the table says so, exit status 1."""
    both, calls = threading.Barrier(2), itertools.count()

    def in_step(record: object) -> bool:
        if next(calls) < 2:
            both.wait(JOIN)
        return True

    naive.log.addFilter(in_step)
    try:
        status = main(["demo", "--naive", "--threads", "2", "--lifetime", "0.3", "--latency", "1"])
    finally:
        naive.log.removeFilter(in_step)
    out = capsys.readouterr().out
    assert status == 1, out
    assert table(out)["login at the end"] == "dead"
    assert "a refresh token was used twice" in out


class Waiters(list[queue.Queue[str]]):
    """A list that tells when something was put in."""

    def __init__(self) -> None:
        self.put = threading.Semaphore(0)

    def append(self, item: queue.Queue[str]) -> None:
        super().append(item)
        self.put.release()


def test_the_naive_queue_works_when_nothing_goes_wrong() -> None:
    """The pattern is carried over fairly: where timing is kind, its queue does its work."""
    go, statuses = threading.Event(), []
    with AuthServer() as server, requests.Session() as session:
        session.trust_env = False
        interceptor = naive.Interceptor(server.token_url, server.login(), patience=JOIN)
        waiters = Waiters()
        interceptor.waiting = waiters
        session.auth = interceptor

        def ask() -> None:
            statuses.append(session.get(server.api + "x", timeout=JOIN).status_code)

        ask()
        server.revoke_access()
        server.faults("token", Fault(hold=go))
        threads = [threading.Thread(target=ask) for _ in range(3)]
        threads[0].start()
        server.wait_for("refresh_calls")
        for thread in threads[1:]:
            thread.start()
        assert waiters.put.acquire(timeout=JOIN)
        assert waiters.put.acquire(timeout=JOIN)
        go.set()
        for thread in threads:
            thread.join(JOIN)
        assert statuses == [200] * 4
        assert server.counts.refreshes == 1


def test_each_broken_promise_is_named() -> None:
    """Whatever breaks the promise is told in words, and only that."""
    settings = demo.Settings(expiries=2)
    good = Counts(expiries=2, refreshes=2)
    clean = demo.Tally()
    assert demo.broken_promises(settings, good, clean, True) == []
    for counts, words in [
        (Counts(expiries=2, refreshes=3), "refreshes: 3"),
        (Counts(expiries=2, refreshes=1, refresh_refused=2), "refused ones: 2"),
        (Counts(expiries=1, refreshes=1), "only 1 of 2"),
    ]:
        (told,) = demo.broken_promises(settings, counts, clean, True)
        assert words in told
    seen = demo.Tally()
    for status in (200, 401, 500, requests.Timeout()):
        seen.note(status, 0.0)
    assert demo.broken_promises(settings, good, seen, False) == [
        "401s that a caller saw: 1",
        "errors that a caller saw: 2; the first: status 500",
        "the login is dead",
    ]
    other = demo.Tally()
    other.note(requests.Timeout("late"), 2.0)
    assert (other.first_error, other.longest_hold) == ("Timeout: late", 2.0)


def test_expiries_that_do_not_come_end_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo waits for its expiries, and not for ever."""
    ticks = itertools.count(0, 20)
    monkeypatch.setattr(demo, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    with AuthServer() as server:
        demo._watch(demo.Settings(), server, demo.Tally())
        assert server.counts.expiries == 0


def test_an_interrupt_lets_the_threads_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I14: Ctrl-C in the middle leaves no thread at work, and no error that is none."""

    def interrupted(settings: object, server: AuthServer, tally: object) -> None:
        server.wait_for("api_200", 6)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_watch", interrupted)
    assert main(QUICK) == 130
    assert capsys.readouterr().out.endswith("Interrupted.\n")
    assert "demo" not in {thread.name for thread in threading.enumerate()}


def test_ctrl_c_ends_it_with_130() -> None:
    """I14: a real SIGINT ends the demo at once, without a traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "requests_refresh", *QUICK, "--expiries", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert "6 threads" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=JOIN)
    assert (process.returncode, err) == (130, "")
    assert out.endswith("Interrupted.\n")


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["x"],
        ["demo", "--threads", "0"],
        ["demo", "--threads", "x"],
        ["demo", "--lifetime", "nan"],
        ["demo", "--latency", "-1"],
    ],
)
def test_wrong_usage_is_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be run is refused with status 2 before anything starts."""
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert "usage: requests-refresh" in capsys.readouterr().err


def test_version_and_module(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m requests_refresh --version` names the version, installed or not."""

    def version(name: str) -> str:
        if not installed:
            raise metadata.PackageNotFoundError(name)
        return "1.2.3"

    import_module("requests_refresh.__main__")  # importing it runs nothing
    monkeypatch.delitem(sys.modules, "requests_refresh.__main__")
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(sys, "argv", ["requests-refresh", "--version"])
    for installed in (True, False):
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("requests_refresh", run_name="__main__")
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        assert shown == f"requests-refresh {'1.2.3' if installed else '(not installed)'}\n"
