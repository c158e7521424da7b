"""Signals while the provider works: they end a caller's wait and nothing else."""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Event

import pytest

from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

from .harness import Start, goes_on, refuse_together


@pytest.fixture(autouse=True)
def expired(server: AuthServer, path: Path, held: Event) -> None:
    """The access token is dead, and the provider holds the call that renews it."""
    server.faults("token", Fault(hold=held))
    server.revoke_access()


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [(signal.SIGINT, "KeyboardInterrupt", -signal.SIGINT), (signal.SIGTERM, "SystemExit", 7)],
)
def test_a_signal_ends_the_wait_and_not_the_round(
    number: int,
    error: str,
    code: int,
    server: AuthServer,
    path: Path,
    held: Event,
    start: Start,
) -> None:
    """I7, I14: Ctrl-C reaches the caller at once, and the exit waits until the token is saved."""
    program = start("interrupts:request")
    server.wait_for("refresh_calls")
    program.signal(number)
    assert program.expect("interrupted") == {"by": error}
    program.expect("exiting")
    for _ in range(3):
        program.signal(number)
        program.still_runs()
    assert server.counts.refreshes == 0
    held.set()
    program.ends(code)
    assert server.counts.refreshes == 1
    goes_on(server, path)


def test_a_caught_ctrl_c_changes_nothing(
    server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I1, I14: who catches Ctrl-C and asks again waits for the round that still runs."""
    program = start("interrupts:catch")
    server.wait_for("refresh_calls")
    program.signal()
    program.expect("interrupted")
    held.set()
    assert program.expect("answer") == {"status": 200}
    program.ends()
    assert server.counts.refresh_calls == 1
    goes_on(server, path)


def test_ctrl_c_while_workers_wait(
    server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I7, I14: Ctrl-C, and again while the exit joins the workers: the token is saved."""
    program = start("interrupts:pool", catch=False)
    server.wait_for("refresh_calls")
    program.expect("waiting")
    program.signal()
    program.expect("interrupted")
    program.still_runs()  # joins the workers
    program.signal()
    program.expect("exiting")
    program.signal()
    program.still_runs()
    held.set()
    program.ends(-signal.SIGINT)
    assert server.counts.refreshes == 1
    goes_on(server, path)


def test_workers_do_not_notice_a_caught_ctrl_c(
    server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I3, I14: Ctrl-C goes to the main thread; the workers that wait all get their answer."""
    refuse = refuse_together(server, 4)
    program = start("interrupts:pool", catch=True)
    refuse()
    program.expect("waiting")
    program.signal()
    program.expect("interrupted")
    held.set()
    assert [program.expect("answer")["status"] for _ in range(4)] == [200] * 4
    program.expect("exiting")
    program.ends()
    assert server.counts.refresh_calls == 1
    goes_on(server, path)
