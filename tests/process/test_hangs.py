"""What never comes back keeps nobody: neither a caller nor the process."""

from __future__ import annotations

from threading import Event

import pytest

from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

from .harness import Start


@pytest.mark.parametrize("program", ["in_grant", "in_call"])
def test_a_hanging_grant_does_not_keep_the_process(
    program: str, server: AuthServer, held: Event, start: Start
) -> None:
    """I3, I14: after the timeout the caller has his error, and the process ends."""
    server.faults("token", Fault(hold=held))
    server.revoke_access()
    hanging = start(f"hangs:{program}")
    answer = hanging.expect("answer")
    assert answer["error"] in ("RefreshTimeout", "RefreshUnavailable")
    assert "login is" in answer["text"]
    if program == "in_grant":
        hanging.expect("hangs")
    hanging.ends()


def test_a_hanging_callback_keeps_nobody(server: AuthServer, start: Start) -> None:
    """I3, I14: a callback that hangs holds up neither the waiters nor the exit."""
    server.revoke_access()
    program = start("hangs:in_callback")
    assert [program.expect("answer")["status"] for _ in range(4)] == [200] * 4
    program.expect("hangs")
    program.ends()
    assert server.counts.refreshes == 1


def test_a_hanging_store_does_not_keep_the_process(server: AuthServer, start: Start) -> None:
    """I14: a store that fails and then hangs is waited for until the timeout, and no longer."""
    token = server.login()
    server.revoke_access()
    program = start("hangs:in_store", token=token)
    assert program.expect("answer") == {"status": 200}
    program.expect("hangs")
    program.ends()
