"""docs/logins.md: its code runs as it stands, but for the addresses in it."""

from __future__ import annotations

import io
import re
import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest
import requests

import requests_refresh
from requests_refresh import FileStore
from tests.authorization.servers import AuthlibServer
from tests.grants.endpoint import PATIENCE, Answer, EndpointServer

PAGE = Path(__file__).parents[2] / "docs" / "logins.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
DEVICE, BROWSER, PASSWORD = BLOCK.findall(PAGE.read_text("utf-8"))


def run(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(text, "docs", "exec"), names)
    return names


def at(server: AuthlibServer, text: str, store: Path) -> str:
    text = text.replace("https://auth.example.com", server.url)
    text = text.replace("~/.config/sync/tokens.json", str(store))
    return text.replace('"sync"', repr(server.client_id("none")))


class Screen(io.StringIO):
    """Whoever reads here confirms the login."""

    def __init__(self, server: AuthlibServer) -> None:
        super().__init__()
        self.server = server

    def flush(self) -> None:
        found = re.search(r"enter (\S+)", self.getvalue())
        assert found is not None
        self.server.confirm(found[1])


def test_on_any_device(
    authlib: AuthlibServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing stored the code is shown, and what comes of it is stored."""
    authlib.configure(interval=1)
    store = tmp_path / "private" / "tokens.json"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Screen(authlib))
        names = run(at(authlib, DEVICE, store))
    names["tokens"].close()
    stored = FileStore(store).load("default")
    assert stored is not None
    assert stored.refresh_token is not None
    assert authlib.get(stored.access_token or "").json()["scope"] == "read write"


def test_with_the_browser(
    authlib: AuthlibServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login of its own, before anything is asked for."""

    def visit(url: str) -> bool:
        with requests.Session() as http:
            http.trust_env = False
            return http.get(url, timeout=PATIENCE).ok

    monkeypatch.setattr(webbrowser, "open", visit)
    names = run(at(authlib, BROWSER, tmp_path / "private" / "tokens.json"))
    assert authlib.get(names["tokens"].token().access_token).status_code == 200
    names["tokens"].close()


def test_by_a_password(server: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form of Django SimpleJWT, with the password from the environment."""
    monkeypatch.setenv("SYNC_PASSWORD", "p")
    server.will(Answer(200, {"access": "a", "refresh": "r"}))
    api = server.url.removesuffix("token")
    names = run(PASSWORD.replace("https://api.example.com/", api))
    names["tokens"].close()
    assert server.only.path == "/token/"
    assert server.only.json == {"username": "sync", "password": "p"}


def test_the_errors_are_those_of_the_package() -> None:
    """What the last table names exists."""
    table = PAGE.read_text("utf-8").partition("## How it can end")[2]
    names = re.findall(r"^\| `(\w+)` \|", table, re.M)
    assert len(names) == 4
    assert all(issubclass(getattr(requests_refresh, name), Exception) for name in names)
