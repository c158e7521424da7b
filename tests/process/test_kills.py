"""kill -9 of the process that refreshes: the next one takes over, and no lock is left."""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Event

import pytest

from requests_refresh import FileStore
from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

from .harness import Start, goes_on

KILLED = -signal.SIGKILL


def test_killed_before_the_call(server: AuthServer, path: Path, held: Event, start: Start) -> None:
    """I7, I14: killed while the API still answers its 401; nothing was begun, nothing is locked."""
    server.faults("api", Fault(hold=held))
    server.revoke_access()
    first = start("kills:asks")
    server.wait_for("api_requests")
    first.signal(signal.SIGKILL)
    first.ends(KILLED)
    goes_on(server, path)


@pytest.mark.parametrize("waiting", [False, True], ids=["later", "waiting"])
def test_killed_while_the_provider_works(
    waiting: bool, server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I1, I14: the lock dies with its holder, so one that waits for it takes over at once."""
    server.faults("token", Fault(hold=held, status=503), at=1)  # its call comes to nothing
    server.revoke_access()
    first = start("kills:asks")
    server.wait_for("refresh_calls")
    if waiting:
        second = start("kills:asks")
        server.wait_for("api_401", 2)
        second.still_runs()
        assert server.counts.refresh_calls == 1
    first.signal(signal.SIGKILL)
    first.ends(KILLED)
    if not waiting:
        second = start("kills:asks")
    assert second.expect("answer") == {"status": 200}
    second.ends()
    assert server.counts.refreshes == 1
    goes_on(server, path)


def test_killed_after_the_save(server: AuthServer, path: Path, start: Start) -> None:
    """I6, I14: what is saved counts: the next process adopts it and calls nobody."""
    server.revoke_access()
    start("kills:dies", when="after").ends(KILLED)
    assert server.counts.refreshes == 1
    second = start("kills:asks")
    assert second.expect("answer") == {"status": 200}
    second.ends()
    assert server.counts.refreshes == 1
    goes_on(server, path)


def test_killed_between_the_answer_and_the_save(
    server: AuthServer, path: Path, start: Start
) -> None:
    """I14: what no client can mend, under a strict provider, ends clearly: LoginRequired."""
    server.revoke_access()
    start("kills:dies", when="before").ends(KILLED)
    assert server.counts.refreshes == 1
    second = start("kills:asks")
    answer = second.expect("answer")
    assert answer["error"] == "LoginRequired"
    second.ends()
    assert server.counts.refresh_calls == 2
    assert FileStore(path).load("default") is None


def test_killed_between_the_answer_and_the_save_with_grace(
    server: AuthServer, path: Path, start: Start
) -> None:
    """I7, I14: the old refresh token is used again, which a provider with grace allows."""
    server.grace = 60
    server.revoke_access()
    start("kills:dies", when="before").ends(KILLED)
    second = start("kills:asks")
    assert second.expect("answer") == {"status": 200}
    second.ends()
    assert server.counts.refreshes == 2
    goes_on(server, path)
