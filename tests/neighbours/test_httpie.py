"""HTTPie beside us: the real `http` command, through the login of a profile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from requests_refresh.testing import AuthServer
from tests.cli.conftest import home
from tests.cli.support import Home

__all__ = ["home"]


def http(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; without a text it has no standard input."""
    command = [sys.executable, "-m", "httpie", *words, *["--ignore-stdin"][: text is None]]
    return subprocess.run(command, input=text or "", capture_output=True, text=True, check=False)


@pytest.fixture
def login(server: AuthServer, home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A profile `it` that is logged in; HTTPie keeps its own files in this home."""
    monkeypatch.setenv("HTTPIE_CONFIG_DIR", str(home.top / "httpie"))
    home.log_in(server)
    return home


def test_a_request_outlives_an_expiry(server: AuthServer, login: Home) -> None:
    """I1: a token that has died is renewed once, and the request with its body sent again."""
    server.revoke_access()
    done = http("--auth-type=refresh", "-a", "it", "POST", server.api + "items", "name=x")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["length"] == len('{"name": "x"}')
    assert server.counts.refreshes == 1
    done = http("--auth-type=refresh", "-a", "it", server.api + "items")
    assert json.loads(done.stdout)["path"] == "/api/items"
    assert server.counts.refreshes == 1


def test_a_stream_is_not_sent_again(server: AuthServer, login: Home) -> None:
    """I11: a body that can be read only once gets the 401."""
    server.revoke_access()
    done = http("-A", "refresh", "-a", "it", "--chunked", "--check-status", server.api, text="xy")
    assert done.returncode == 4
    assert server.counts.refreshes == 0


def test_a_login_that_is_over(server: AuthServer, login: Home) -> None:
    """The error is told in words, with no secret in it."""
    server.revoke_login()
    done = http("-A", "refresh", "-a", "it", server.api + "items")
    assert done.returncode == 1
    assert "LoginRequired" in done.stderr


def test_another_origin(server: AuthServer, login: Home) -> None:
    """I9: a token goes to the origins of its profile alone."""
    with AuthServer() as other:
        done = http("-A", "refresh", "-a", "it", other.api + "items")
        assert done.returncode == 1
        assert "nothing was sent" in " ".join(done.stderr.split())
        redirect = f"{server.api}redirect?to={other.api}x"
        done = http("-A", "refresh", "-a", "it", "--follow", redirect)
        (seen,) = other.log  # its 401 is no refusal of our token
        assert "Authorization" not in seen.headers
    assert server.counts.refreshes == 0


def test_no_such_profile(login: Home) -> None:
    """The name of a profile that is not there is told."""
    assert "no profile" in http("-A", "refresh", "-a", "other", "http://127.0.0.1:1/").stderr


def test_the_plugin_is_found(tmp_path: Path) -> None:
    """`http --help` tells of it."""
    assert "refresh" in http("--help").stdout
