"""Several processes on one file: one expiry, one refresh, nobody notices."""

from __future__ import annotations

import statistics
import threading
from pathlib import Path

from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

from .harness import Start, goes_on

PROCESSES, THREADS, EXPIRIES = 6, 4, 10
ROUNDS = 7
SOON = 0.1  # seconds from a save to its adoption


def test_a_fleet_on_one_file(server: AuthServer, path: Path, start: Start) -> None:
    """I1: 6 processes x 4 threads through ten expiries: ten refreshes, no failed request."""
    fleet = [start("fleets:works", threads=THREADS, number=n) for n in range(PROCESSES)]
    for expiry in range(EXPIRIES + 1):
        if expiry:
            server.revoke_access()
        for process in fleet:
            process.tell()
        for process in fleet:
            process.expect("worked")
        assert server.counts.refreshes == expiry
    refreshes = 0
    for process in fleet:
        process.tell("over")
        end = process.expect("over")
        assert end["outcomes"] == ["{'status': 200}"]
        refreshes += end["refreshes"]
        process.ends()
    assert refreshes == EXPIRIES
    assert server.counts.refresh_calls == EXPIRIES
    assert server.counts.expiries == EXPIRIES
    assert server.counts.reuses == 0
    assert server.logged_in()
    goes_on(server, path)


def test_a_saved_token_is_adopted_soon(server: AuthServer, start: Start) -> None:
    """I1: who waits for another process has its token within 100 ms of the save."""
    fleet = [start("fleets:adopts") for _ in range(3)]
    for process in fleet:
        process.expect("ready")
    delays = []
    for turn in range(1, ROUNDS + 1):
        held = threading.Event()
        server.faults("token", Fault(hold=held))
        leader, *others = fleet = [*fleet[1:], fleet[0]]
        leader.tell("lead")
        server.wait_for("refresh_calls", turn)
        for process in others:
            process.tell()
            process.expect("waits")
        held.set()
        saved = leader.expect("saved")["at"]
        leader.expect("renewed")
        delays += [process.expect("renewed")["at"] - saved for process in others]
    refreshes = []
    for process in fleet:
        process.tell("over")
        refreshes.append(process.expect("over")["refreshes"])
        process.ends()
    assert sum(refreshes) == ROUNDS
    assert min(refreshes) > 0
    assert server.counts.refreshes == ROUNDS
    assert statistics.median(delays) <= SOON
