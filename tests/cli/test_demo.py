"""The demo: it keeps its promise, tells when one was broken, and ends on Ctrl-C."""

from __future__ import annotations

import itertools
import queue
import re
import signal
import subprocess
import sys
import threading
from contextlib import closing
from importlib import import_module, metadata
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import requests

from requests_refresh import Token, open_store
from requests_refresh.cli import demo, main, naive, picture
from requests_refresh.cli.storm import Done, Sent, Tally
from requests_refresh.testing import AuthServer, Counts, Fault

QUICK = ["demo", "--threads", "6", "--expiries", "2", "--lifetime", "1", "--latency", "0.1"]
JOIN = 60.0  # seconds; only a hanging test needs them


def table(text: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\S.*?)  +(\S.*)$", text, re.MULTILINE))


def fills(drawn: str) -> list[str | None]:
    """The colours of the rectangles in an SVG, in their order."""
    root = ElementTree.fromstring(drawn)  # noqa: S314  # the demo's own
    return [bar.get("fill") for bar in root.iter("{http://www.w3.org/2000/svg}rect")]


def test_the_demo_keeps_its_promise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1: as many refreshes as tokens died in use, no 401 and no error seen; exit status 0."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
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
    clean = Tally()
    assert demo.broken_promises(settings, good, clean, True) == []
    for counts, words in [
        (Counts(expiries=2, refreshes=3), "refreshes: 3"),
        (Counts(expiries=2, refreshes=1, refresh_refused=2), "refused ones: 2"),
        (Counts(expiries=1, refreshes=1), "only 1 of 2"),
    ]:
        (told,) = demo.broken_promises(settings, counts, clean, True)
        assert words in told
    seen = Tally()
    for status in (200, 401, 500, requests.Timeout()):
        seen.note(status, 0.0)
    assert demo.broken_promises(settings, good, seen, False) == [
        "401s that a caller saw: 1",
        "errors that a caller saw: 2; the first: status 500",
        "the login is dead",
    ]
    other = Tally()
    other.note(requests.Timeout("late"), 2.0)
    assert (other.first_error, other.longest_hold) == ("Timeout: late", 2.0)


def test_expiries_that_do_not_come_end_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo waits for its expiries, and not for ever."""
    ticks = itertools.count(0, 20)
    monkeypatch.setattr(demo, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    with AuthServer() as server:
        demo._watch(demo.Settings(), server, Tally(), bytearray(1))
        assert server.counts.expiries == 0


def test_an_interrupt_lets_the_threads_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I14: Ctrl-C in the middle leaves no thread at work, and no error that is none."""

    def interrupted(settings: object, server: AuthServer, tally: object, cells: object) -> None:
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
    assert main(wrong) == 2
    assert "Usage: requests-refresh" in capsys.readouterr().err


def test_version_and_module() -> None:
    """`python -m requests_refresh --version` names the version."""
    import_module("requests_refresh.__main__")  # importing it runs nothing
    command = [sys.executable, "-m", "requests_refresh", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert metadata.version("requests_refresh") in done.stdout


def test_processes_share_a_store(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """I1: two processes on one store make one refresh for each expiry, and leave nothing there."""
    url = f"file://{tmp_path}/tokens.json"
    with closing(open_store(url)) as store:
        store.save("mine", Token("a", refresh_token="r"))
        drawn = tmp_path / "storm.svg"
        status = main([*QUICK, "--processes", "2", "--store", url, "--svg", str(drawn)])
        out = capsys.readouterr().out
        assert status == 0, out
        assert table(out)["refreshes"] == "2"
        assert "2 processes, 6 threads each" in out
        assert list(store.identities()) == ["mine"]
    assert {picture.COLOURS["held"], picture.COLOURS["refused"]} <= set(fills(drawn.read_text()))


def test_the_naive_way_in_processes(capsys: pytest.CaptureFixture[str]) -> None:
    """Two processes that know nothing of each other end the login at once."""
    naively = ["demo", "--naive", "--processes", "2", "--threads", "1", "--expiries", "50"]
    assert main([*naively, "--lifetime", "0.5", "--latency", "0"]) == 1
    assert "Broken" in capsys.readouterr().out


def test_the_picture() -> None:
    """Each bar is where it belongs; a storm that never came is not drawn."""
    calm = [Done(0, 1.0, 2.0, 200, (Sent(1.0, 2.0, 200),))]
    assert picture.storm(calm, 1.0, "x") is None
    early = Done(1, 0.0, 0.1, 200, (Sent(0.0, 0.05, 401), Sent(0.06, 0.1, 200)))
    held = Done(2, 9.0, 10.0, 200, (Sent(9.0, 9.1, 401), Sent(9.5, 10.0, 200)))
    lost = Done(3, 9.0, 9.6, 0, (Sent(9.0, 9.2, 0),))
    drawn = picture.storm([*calm, early, held, lost], 1.0, "a < b")
    assert drawn is not None
    legend = list(picture.COLOURS.values())
    assert fills(drawn)[1 + len(legend) :] == [
        legend[1],
        legend[2],
        legend[3],
        legend[4],
        legend[4],
    ]


def test_no_storm_and_no_place_for_its_picture(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What keeps the picture from being drawn is said, and breaks no promise."""
    settings = demo.Settings(svg=str(tmp_path / "missing" / "storm.svg"))
    assert "Nobody was refused" in demo._drawn(settings, Tally())
    tally = Tally()
    tally.done.append(Done(2, 9.0, 10.0, 200, (Sent(9.0, 9.1, 401), Sent(9.5, 10.0, 200))))
    assert "could not be written" in demo._drawn(settings, tally)
