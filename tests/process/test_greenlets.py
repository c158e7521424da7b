"""gevent: greenlets wait like threads, for one round, and the exit for theirs."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

from .harness import Start, goes_on

GOOD = {"status": 200}


@pytest.mark.parametrize("program", ["patched_first", "patched_late", "patched_in_use"])
def test_many_greenlets_at_one_expiry(
    program: str, server: AuthServer, path: Path, start: Start
) -> None:
    """I1, I3, I14: 32 greenlets make one refresh, be the source older than the patching or not."""
    server.revoke_access()
    greenlets = start(f"greenlets:{program}")
    if program == "patched_in_use":
        assert [greenlets.expect("before") for _ in range(4)] == [GOOD] * 4
        assert server.counts.refreshes == 1
        server.revoke_access()
        greenlets.tell()
    assert greenlets.expect("answers") == {"answers": [GOOD] * 32}
    greenlets.ends()
    assert server.counts.refreshes == 1 + (program == "patched_in_use")
    goes_on(server, path)


@pytest.mark.usefixtures("near_its_end")
def test_an_exit_waits_for_a_greenlet(
    server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I7, I14: the round is a greenlet that the exit lets run to its end."""
    server.faults("token", Fault(hold=held, after_work=True))
    program = start("greenlets:leave")
    assert [program.expect("answer") for _ in range(2)] == [GOOD] * 2
    server.wait_for("refreshes")
    program.still_runs()
    held.set()
    program.ends()
    goes_on(server, path)
