"""os.fork in bad moments: nobody hangs, nothing is shared that must not be."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

from .harness import Start, goes_on, refuse_together

GOOD = {"status": 200}


def test_a_fork_in_the_middle_of_a_round(
    server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I1, I14: the child of a FileStore waits for the parent's round like any other process."""
    server.faults("token", Fault(hold=held))
    server.revoke_access()
    refuse = refuse_together(server, 3)
    program = start("forks:middle", store="file")
    refuse()
    program.tell()
    program.expect("forked")
    program.still_runs()
    held.set()
    assert [program.expect("child") for _ in range(3)] == [GOOD] * 3
    assert [program.expect("parent") for _ in range(4)] == [GOOD] * 4
    program.ends()
    assert server.counts.refresh_calls == 1
    goes_on(server, path)


def test_a_fork_in_the_middle_of_a_round_of_a_memory_store(
    server: AuthServer, held: Event, start: Start
) -> None:
    """I3, I14: the child of a MemoryStore learns at once that it cannot renew; the parent can."""
    token = server.login()
    server.faults("token", Fault(hold=held))
    server.revoke_access()
    refuse = refuse_together(server, 3)
    program = start("forks:middle", store="memory", token=token)
    refuse()
    program.tell()
    program.expect("forked")
    for _ in range(3):
        answer = program.expect("child")  # while the parent's round is still held
        assert answer["error"] == "LoginRequired"
        assert "forked" in answer["text"]
        assert "FileStore" in answer["text"]
    held.set()
    assert [program.expect("parent") for _ in range(4)] == [GOOD] * 4
    program.ends()
    assert server.counts.refresh_calls == 1
    assert server.counts.reuses == 0


def test_the_child_of_a_memory_store_has_the_access_token_only(
    server: AuthServer, start: Start
) -> None:
    """I14: it works while that lives; then LoginRequired says why, and which store to use."""
    token = server.login()
    program = start("forks:living", store="memory", token=token, another=server.login("other"))
    assert program.expect("parent") == GOOD
    assert program.expect("child") == GOOD
    assert program.expect("child") == {"refresh_token": None}
    server.revoke_access("default")
    program.tell()
    for _ in range(2):
        answer = program.expect("child")
        assert answer["error"] == "LoginRequired"
        assert "forked" in answer["text"]
        assert "FileStore" in answer["text"]
    assert "FileStore" in program.expect("child")["text"]
    assert program.expect("child") == GOOD  # after a login of its own
    assert program.expect("parent") == GOOD
    program.ends()
    assert server.counts.refresh_calls == 1
    assert server.counts.reuses == 0


@pytest.mark.parametrize("only", ["refresh_token", None])
def test_the_first_token_of_a_forked_source(
    only: str | None, server: AuthServer, start: Start
) -> None:
    """I14: a first token that was never used is the parent's, its refresh token that is."""
    token = server.login()
    server.revoke_access()
    program = start("forks:unused", store="memory", token=token, only=only)
    answer = program.expect("child")
    assert answer["error"] == "LoginRequired"
    assert program.expect("parent") == GOOD
    program.ends()
    assert server.counts.refresh_calls == 1
    assert server.counts.reuses == 0


@pytest.mark.parametrize("store", ["memory", "file"])
def test_a_fork_while_every_lock_is_held(store: str, server: AuthServer, start: Start) -> None:
    """I3, I14: locks that a thread of the parent holds are nobody's in the child."""
    program = start("forks:locks", store=store, token=server.login(), another=server.login())
    assert program.expect("child") == GOOD
    assert program.expect("child") == {"renewed": True}
    assert program.expect("child") == {"stats": 1}
    assert program.expect("parent") == GOOD
    program.ends()


@pytest.mark.parametrize("inner", [False, True], ids=["own pool", "inner adapter"])
def test_pooled_connections_stay_with_the_parent(
    inner: bool, server: AuthServer, start: Start
) -> None:
    """I13, I14: parent and child use one session at once, over connections of their own."""
    program = start("forks:sockets", store="file", inner=inner)
    assert program.expect("child") == {"right": 30}
    assert program.expect("parent") == {"right": 30}
    program.ends()
    used: dict[str, set[int]] = {"parent": set(), "child": set()}
    for seen in server.log:
        if seen.call == "api":
            used[seen.path.split("/")[2]].add(seen.connection)
    assert [len(connections) for connections in used.values()] == [1, 1]
    assert used["parent"] != used["child"]


@pytest.mark.usefixtures("near_its_end")
def test_a_child_that_leaves_in_the_middle_of_a_round(
    server: AuthServer, path: Path, held: Event, start: Start
) -> None:
    """I7, I14: the exit of a forked child waits for the child's own round."""
    server.faults("token", Fault(hold=held, after_work=True))
    program = start("forks:leave")
    assert program.expect("child") == {"statuses": [200, 200]}
    server.wait_for("refreshes")
    program.still_runs()
    held.set()
    assert program.expect("parent") == GOOD
    program.ends()
    goes_on(server, path)


def test_a_callback_that_forks(server: AuthServer, start: Start) -> None:
    """I3, I14: a child made on the round's own thread has the new token and waits for nobody."""
    server.revoke_access()
    program = start("forks:in_callback")
    assert program.expect("child") == GOOD
    assert program.expect("parent") == GOOD
    program.ends()
    assert server.counts.refresh_calls == 1
