"""The end of a process, and a fork, in the last part of a token's life."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

from .harness import Start, goes_on


@pytest.mark.usefixtures("near_its_end")
def test_an_exit_waits_for_a_renewal_in_the_background(
    server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I7, I14: nobody waits for it, and yet what the provider issues is saved before the end."""
    server.faults("token", Fault(hold=held, after_work=True))
    program = start("exits:leave", how="return", daemon=True)
    assert program.expect("answer") == {"status": 200}
    server.wait_for("refreshes")
    program.tell()
    program.expect("leaving")
    program.expect("exiting")
    program.still_runs()
    held.set()
    program.ends()
    assert server.counts.api_401 == 0
    goes_on(server, path)


def test_a_fork_before_the_last_part(
    server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I1, I14: parent and child reach it at one moment: one refreshes, and neither waits."""
    server.faults("token", Fault(hold=held))
    program = start("ahead:forked")
    seen = [program.expect(who) for who in ("parent", "child")]
    # The one wait was for the store, at first; the child counts on from the fork.
    assert seen == 2 * [{"statuses": [200] * 3, "waits": 1}]
    server.wait_for("refresh_calls")
    held.set()
    program.tell()
    after = [program.expect(who) for who in ("parent", "child")]
    assert [(one["status"], one["new"]) for one in after] == 2 * [(200, True)]
    assert sum(one["refreshes"] for one in after) == 1
    program.ends()
    assert (server.counts.refresh_calls, server.counts.api_401) == (1, 0)
    goes_on(server, path)
