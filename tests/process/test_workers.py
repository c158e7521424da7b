"""Children of multiprocessing and concurrent.futures: they leave by ways of their own."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

from .harness import Start, goes_on

each_method = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


@each_method
def test_a_childs_exit_waits_for_the_round(
    method: str, server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I7, I14: no atexit runs in these children; what the provider issues is saved all the same."""
    server.faults("token", Fault(hold=held, after_work=True))
    server.revoke_access()
    program = start("workers:leave", method=method)
    server.wait_for("refreshes")
    program.tell()
    program.still_runs()
    held.set()
    assert program.expect("joined") == {"code": 0}
    program.ends(others={"answer"})
    goes_on(server, path)


@pytest.mark.usefixtures("near_its_end")
@pytest.mark.parametrize("work", ["leave_at_once", "go_on_after_main"])
@each_method
def test_a_round_in_the_background_of_a_child(
    work: str, method: str, server: AuthServer, path: Path, start: Start
) -> None:
    """I7, I14: a round that begins while the child ends comes to its end, or does not begin."""
    server.latency = {"token": 0.2}  # longer than the child still lives
    program = start(f"workers:{work}", method=method)
    assert program.expect("answers") == {"statuses": [200, 200]}
    assert program.expect("joined") == {"code": 0}
    program.ends()
    server.wait_for(lambda counts: counts.refreshes == counts.refresh_calls)
    goes_on(server, path)


@pytest.mark.usefixtures("near_its_end")
@each_method
def test_a_child_that_leaves_by_os_exit(
    method: str, server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I7, I14: with close() before it, os._exit loses nothing."""
    server.faults("token", Fault(hold=held, after_work=True))
    program = start("workers:leave_by_os_exit", method=method)
    assert program.expect("answers") == {"statuses": [200, 200]}
    server.wait_for("refreshes")
    program.still_runs()
    held.set()
    assert program.expect("joined") == {"code": 5}
    program.ends()
    goes_on(server, path)


@each_method
def test_a_session_in_the_pickle_of_a_pool(
    method: str, server: AuthServer, path: Path, start: Start
) -> None:
    """I1, I14: a session that travels to workers shares the login with them, and its refreshes."""
    server.revoke_access()
    program = start("workers:pool", method=method)
    for turn in (1, 2):
        assert program.expect("answers") == {"statuses": [200] * 8}
        assert server.counts.refreshes == turn
        server.revoke_access()
        program.tell()
    program.ends()
    assert server.counts.reuses == 0
    goes_on(server, path)
