"""The README's code runs: each block, in order, against a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import FileStore
from requests_refresh.testing import AuthServer

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
MOUNT, USE, LOG_IN, BROWSER, OWN, SERVER = BLOCKS


@pytest.fixture
def server() -> Iterator[AuthServer]:
    with AuthServer() as running:
        yield running


def run(server: AuthServer, tmp_path: Path, *blocks: str) -> dict[str, Any]:
    reply = server.login()
    names: dict[str, Any] = {
        "SECRET": server.client_secret or "unused",
        "REFRESH_TOKEN": reply["refresh_token"],
        "USER": "someone",
        "PASSWORD": "something",
    }
    for block in blocks:
        text = (
            block.replace("https://api.example.com/", server.api)
            .replace("https://auth.example.com/token", server.token_url)
            .replace("https://auth.example.com/v2/renew", server.refresh_url)
            .replace("https://app.example.com/", server.url)
            .replace("~/.config", str(tmp_path))
        )
        exec(compile(text, "README.md", "exec"), names)
    return names


def test_the_ten_lines(server: AuthServer, tmp_path: Path) -> None:
    """I1, I6: the first example logs in from a refresh token, and survives an expiry."""
    names = run(server, tmp_path, MOUNT, LOG_IN, USE)
    server.revoke_access()
    assert names["session"].get(names["API"] + "items").status_code == 200
    assert server.counts.refreshes == 2
    assert isinstance(names["tokens"]._store, FileStore)


def test_the_browsers_workflow(
    server: AuthServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second example logs in, goes on by cookie, and says when the login is over."""
    names = run(server, tmp_path, BROWSER)
    server.revoke_access()
    session, url = names["session"], names["APP"] + "api/orders"
    assert session.get(url).status_code == 200
    assert server.counts.refreshes == 1
    server.revoke_login()
    with pytest.raises(names["LoginRequired"]):
        session.get(url)
    names["tokens"].close()  # the callback runs after the waiters are awake
    assert "Please log in again" in capsys.readouterr().out


def test_a_callable_and_a_store_of_ones_own(server: AuthServer, tmp_path: Path) -> None:
    """The third example: what the callable renews is in the store of twenty lines."""
    names = run(server, tmp_path, OWN)
    token = names["tokens"].token()
    assert names["tokens"].token() is token
    assert names["tokens"]._store.load("tenant-7").same_issue(token)
    assert server.counts.refreshes == 1


def test_the_server_for_tests(server: AuthServer, tmp_path: Path) -> None:
    """The last example asserts for itself."""
    run(server, tmp_path, OWN, SERVER)
