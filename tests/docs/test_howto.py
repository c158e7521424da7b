"""The guides for cron, an SDK, many tenants and tests: their code does what they tell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import FileStore, LoginRequired, Token
from requests_refresh.testing import AuthServer, Fault

from .pages import at, blocks, run

(CRON,) = blocks("howto/cron.md")
(SDK,) = blocks("howto/sdk.md")
(TENANTS,) = blocks("howto/tenants.md")
TESTS, MOMENT = blocks("howto/testing.md")


class Script:
    """The script of the guide, which is started as often as cron would."""

    def __init__(self, server: AuthServer, home: Path) -> None:
        self.store = FileStore(home / ".config/sync/tokens.json")
        self.path = home / "sync.py"
        self.path.write_text(at(server, CRON))

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.path)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def status(self) -> tuple[int, str]:
        with self.start() as running:
            said = running.communicate()[1]
        return running.returncode, said


@pytest.fixture
def script(server: AuthServer, home: Path) -> Script:
    made = Script(server, home)
    made.store.save("default", Token.from_reply(server.login()))
    return made


def test_runs_that_overlap(server: AuthServer, script: Script) -> None:
    """I1: of three runs at once, with a dead token, one refreshes."""
    server.revoke_access()
    server.faults("token", Fault(hold=(go := threading.Event())))
    runs = [script.start() for _ in range(3)]
    server.wait_for("api_401", 3)
    go.set()
    assert [(one.communicate()[1], one.returncode) for one in runs] == [("", 0)] * 3
    assert server.counts.refreshes == 1
    assert server.counts.reuses == 0


def test_the_statuses(server: AuthServer, script: Script) -> None:
    """I8: 4 where the provider is down, which costs nothing; 3 where only a login helps."""
    server.faults("token", Fault(status=503, headers={"Retry-After": "60"}), times=None)
    server.revoke_access()
    status, said = script.status()
    assert status == 4
    assert "\nThe next run will try again: " in "\n" + said
    server.clear_faults()
    assert script.status() == (0, "")
    server.revoke_login()
    status, said = script.status()
    assert status == 3
    assert "\nLog in again: " in "\n" + said


def test_sigterm(server: AuthServer, script: Script) -> None:
    """I7: a SIGTERM in the middle of a refresh lets it end, and what it brought is stored."""
    server.revoke_access()
    server.faults("token", Fault(hold=(go := threading.Event())))
    with script.start() as running:
        server.wait_for("refresh_calls", 1)
        running.send_signal(signal.SIGTERM)
        go.set()
        running.communicate()
    assert running.returncode in (0, 143)  # it may have ended just before
    assert script.status() == (0, "")
    assert server.counts.reuses == 0


@pytest.mark.usefixtures("home")
def test_an_sdk(server: AuthServer) -> None:
    """A library that knows nothing of refreshing goes on when its token dies."""
    names = run(SDK, server)
    names["tokens"].login(server.login())
    for _ in range(2):
        assert names["inventory"].items()["path"] == "/api/items"
        server.revoke_access()
    assert server.counts.refreshes == 1


def test_its_own_adapter_goes_below(server: AuthServer, home: Path) -> None:
    """What the guide says of an adapter that the library mounts: given as `inner=`, it sends."""
    from requests.adapters import HTTPAdapter

    from requests_refresh import RefreshAdapter

    names = run(SDK, server)
    names["tokens"].login(server.login())
    session, API = names["session"], names["API"]
    session.mount(API, HTTPAdapter())
    session.mount(API, RefreshAdapter(names["tokens"], origins=API, inner=session.get_adapter(API)))
    assert names["inventory"].items()["identity"] == "default"


def test_tenants(server: AuthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tenant has a login of its own: connected, used, ended."""
    monkeypatch.setenv("TOKEN_STORE", f"file://{tmp_path}/private/tokens.json")
    names = run(TENANTS, server)
    assert names["orders"]("7") == {"connect": "/connect/7"}
    for tenant in ("7", "8"):
        names["connected"](tenant, server.login(tenant))
        assert names["orders"](tenant)["identity"] == tenant
    server.revoke_access("8")
    assert names["orders"]("8")["identity"] == "8"
    names["disconnect"]("7")
    assert names["orders"]("7") == {"connect": "/connect/7"}
    assert server.counts.refreshes == 1
    with pytest.raises(LoginRequired):
        names["pool"]["7"].token()
    names["pool"].close()
    names["transport"].close()


def test_tests_of_ones_own(tmp_path: Path) -> None:
    """The tests of the guide, written down as on the page, pass."""
    (tmp_path / "test_mine.py").write_text(f"{TESTS}\n\n{MOMENT}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    environment: dict[str, Any] = {**os.environ, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )
    assert re.search(r"4 passed", done.stdout), done.stdout + done.stderr
