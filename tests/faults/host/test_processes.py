"""Forks and exits at each call of the store and the grant in a round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import FileStore, Token
from requests_refresh.testing import AuthServer

from .life import SAFETY

TOP = Path(__file__).parents[3]
# Of a first round, which adopts what is stored, and of the one that renews it.
CALLS = ("load", "load", "enter", "load", "grant", "save", "leave")
SOME = (5,)  # of them, in the quick form: what the provider issued is not stored yet
EACH = [pytest.param(n, marks=[] if n in SOME else pytest.mark.long) for n in range(len(CALLS))]


def run(program: str, server: AuthServer, **given: Any) -> list[list[Any]]:
    """What a program reports, from its start to its end, which is to be a good one."""
    settings = json.dumps({"api": server.api, "token_url": server.token_url, **given})
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.host.programs", program, settings],
        cwd=TOP,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * SAFETY,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def stored_is_newest(server: AuthServer, path: Path) -> None:
    """I7: what the provider issued last is what the file holds."""
    stored = FileStore(path).load("default")
    assert stored is not None
    assert server.logged_in()
    assert stored.refresh_token == server._logins[0].refresh_token
    assert server.counts.reuses == 0


@pytest.mark.parametrize("number", EACH)
@pytest.mark.parametrize("how", ["sys.exit", "daemon", "os._exit"])
def test_an_exit_at_each_call(how: str, number: int, tmp_path: Path) -> None:
    """I7, I14: main leaves while a round stands there, and the newest refresh token is stored."""
    path = tmp_path / "private" / "tokens.json"
    with AuthServer() as server:
        FileStore(path).save("default", Token.from_reply(server.login()))
        server.revoke_access()
        run("leave", server, path=str(path), number=number, how=how, daemon=how == "daemon")
        # Who asks is not waited for where he is a daemon, or by os._exit: but his round is.
        assert server.counts.refreshes == 1 or (number == 0 and how != "sys.exit")
        stored_is_newest(server, path)


@pytest.mark.parametrize("number", EACH)
def test_a_fork_at_each_call_with_a_file(number: int, tmp_path: Path) -> None:
    """I1, I3, I14: parent and child get their answers, and make one refresh between them."""
    path = tmp_path / "private" / "tokens.json"
    with AuthServer() as server:
        FileStore(path).save("default", Token.from_reply(server.login()))
        server.revoke_access()
        said = run("fork", server, path=str(path), number=number)
        assert sorted(said) == [["after", 200], ["child", 200], ["ended", 0], ["parent", 200]]
        assert server.counts.refreshes == 1
        stored_is_newest(server, path)


@pytest.mark.parametrize("number", EACH)
def test_a_fork_at_each_call_with_memory(number: int) -> None:
    """I3, I7, I14: the child must log in, unless the new token was there; the parent lives."""
    with AuthServer() as server:
        token = server.login()
        server.revoke_access()
        said: dict[str, Any] = dict(run("fork", server, token=token, number=number))
        renewed = CALLS[number] == "leave"
        assert said.pop("child") == (200 if renewed else "LoginRequired")
        assert said == {"parent": 200, "ended": 0, "after": 200}
        assert server.counts.refreshes == 1
        assert server.counts.reuses == 0
        assert server.logged_in()
