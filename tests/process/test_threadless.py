"""Where no thread can be started, the caller does the work, and the promises hold."""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Event

import pytest

from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

from .harness import Start, goes_on

GOOD = {"status": 200}


def test_a_caller_does_the_work(server: AuthServer, path: Path, start: Start) -> None:
    """I1, I3: eight threads at one expiry: one of them refreshes for all."""
    server.revoke_access()
    program = start("threadless:work")
    assert [program.expect("answer") for _ in range(8)] == [GOOD] * 8
    assert program.expect("refreshed") == {"by": "Thread"}
    program.ends()
    assert server.counts.refresh_calls == 1
    goes_on(server, path)


@pytest.mark.usefixtures("near_its_end")
def test_no_thread_for_the_background(server: AuthServer, path: Path, start: Start) -> None:
    """I14: a token that lives is used as it is, and nobody is made to wait for a new one."""
    program = start("threadless:near_the_end")
    assert [program.expect("answer") for _ in range(3)] == [GOOD] * 3
    program.ends()
    assert server.counts.refresh_calls == 0
    goes_on(server, path)


def test_the_exit_waits_for_a_caller_that_does_the_work(
    server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I7, I14: a daemon thread that does a round itself is not cut short by the exit."""
    server.faults("token", Fault(hold=held, after_work=True))
    server.revoke_access()
    program = start("threadless:leave")
    server.wait_for("refreshes")
    program.tell()
    program.expect("exiting")
    program.still_runs()
    held.set()
    program.ends(others={"answer"})
    goes_on(server, path)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "SystemExit")]
)
def test_a_signal_waits_for_the_caller_that_does_the_work(
    number: int, error: str, server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I7, I14: Ctrl-C in a round that the main thread does itself comes when that is saved."""
    server.faults("token", Fault(hold=held, after_work=True))
    server.revoke_access()
    program = start("threadless:interrupted")
    server.wait_for("refreshes")
    program.signal(number)
    program.still_runs()
    held.set()
    assert program.expect("interrupted") == {"by": error}
    assert program.expect("answer") == GOOD
    program.ends()
    assert server.counts.refreshes == 1
    goes_on(server, path)


def test_what_no_thread_could_save_is_saved_at_the_exit(server: AuthServer, start: Start) -> None:
    """I7: a token that is in memory only, after the store failed, is stored before the end."""
    token = server.login()
    server.revoke_access()
    program = start("threadless:unsaved", token=token)
    program.expect("answer")
    program.expect("saved")
    program.ends()
    assert server.counts.refreshes == 1
