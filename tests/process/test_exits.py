"""The interpreter ends in the middle of a round, or asks for one while it ends."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event

import pytest

from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

from .harness import Start, goes_on


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "no daemon"])
@pytest.mark.parametrize(("how", "code"), [("return", 0), ("sys.exit", 3), ("exception", 1)])
def test_an_exit_waits_for_the_round(
    how: str,
    code: int,
    daemon: bool,
    server: AuthServer,
    path: Path,
    held: Event,
    start: Start,
) -> None:
    """I7, I14: however main ends and whoever waits, what the provider issues is saved."""
    server.faults("token", Fault(hold=held, after_work=True))
    server.revoke_access()
    program = start("exits:leave", how=how, daemon=daemon)
    server.wait_for("refreshes")
    program.tell()
    program.expect("leaving")
    if daemon:
        program.expect("exiting")
    program.still_runs()
    held.set()
    if not daemon:
        assert program.expect("answer") == {"status": 200}
        program.expect("exiting")
    program.ends(code, others={"answer"})
    goes_on(server, path)


@pytest.mark.usefixtures("near_its_end")
def test_close_lets_a_worker_leave_by_os_exit(
    server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I7, I14: close() waits for a round that nobody waits for, so os._exit loses nothing."""
    server.faults("token", Fault(hold=held, after_work=True))
    program = start("exits:leave_by_os_exit")
    assert program.expect("answers") == {"statuses": [200, 200]}
    server.wait_for("refreshes")
    program.still_runs()
    held.set()
    program.expect("closed")
    program.ends()
    goes_on(server, path)


@pytest.mark.parametrize("program", ["exits:after_main", "exits:at_exit"])
def test_a_request_while_the_interpreter_ends(
    program: str, server: AuthServer, path: Path, start: Start
) -> None:
    """I1, I3, I14: threads that outlive main, and exit handlers, get a new token as ever."""
    server.revoke_access()
    ending = start(program)
    assert [ending.expect("answer") for _ in range(4)] == [{"status": 200}] * 4
    ending.ends()
    assert server.counts.refreshes == 1
    goes_on(server, path)


def test_a_request_of_the_last_exit_handler(server: AuthServer, path: Path, start: Start) -> None:
    """I7, I14: a handler that runs after the package's own does the round itself."""
    server.revoke_access()
    program = start("late:request")
    assert [program.expect("answer") for _ in range(2)] == [{"status": 200}] * 2
    program.ends()
    assert server.counts.refreshes == 1
    goes_on(server, path)


@pytest.mark.usefixtures("near_its_end")
def test_nothing_begins_in_the_background_when_nobody_will_wait(
    server: AuthServer, path: Path, start: Start
) -> None:
    """I7, I14: a living token near its end is not renewed where the exit would cut that short."""
    server.latency = {"token": 0.5}  # longer than the program still lives
    program = start("late:request", ahead=10_000)
    assert [program.expect("answer") for _ in range(2)] == [{"status": 200}] * 2
    program.ends()
    assert server.counts.refresh_calls == 0
    goes_on(server, path)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="an exit handler cannot fork any more")
def test_the_child_of_an_ending_process_is_not_ending(
    server: AuthServer, path: Path, start: Start
) -> None:
    """I14: a fork in an exit handler makes a process of which every thread may renew."""
    server.revoke_access()
    program = start("late:fork")
    assert program.expect("answer") == {"status": 200}
    program.ends()
    goes_on(server, path)


def test_a_daemon_thread_gets_no_round_that_the_exit_would_cut_short(
    server: AuthServer, path: Path, start: Start
) -> None:
    """I7, I14: after the last wait a daemon thread is refused, and no refresh token is spent."""
    server.revoke_access()
    program = start("late:daemon")
    answer = program.expect("answer")
    assert answer["error"] == "RefreshError"
    assert "ending" in answer["text"]
    assert "login is intact" in answer["text"]
    program.ends()
    assert server.counts.refresh_calls == 0
    goes_on(server, path)
