"""What docs/neighbours.md shows runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from requests_refresh.testing import AuthServer

PAGE = (Path(__file__).parent.parent.parent / "docs" / "neighbours.md").read_text("utf-8")
CACHE, MINE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_a_cache_below(server: AuthServer, tmp_path: Path) -> None:
    """I1: the block of the page outlives an expiry."""
    text = CACHE.replace("https://api.example.com/", server.api)
    text = text.replace("https://auth.example.com/token", server.token_url)
    names: dict[str, Any] = {"SECRET": "unused"}
    exec(compile(text.replace("~/.config", str(tmp_path)), "neighbours.md", "exec"), names)
    names["tokens"].login(server.login())
    names["session"].trust_env = False
    server.revoke_access()
    assert names["session"].get(server.api + "items").status_code == 200
    assert server.counts.refreshes == 1
    names["tokens"].close()
    names["session"].close()


def test_a_test_of_ones_own(auth_server: AuthServer, refresh_session: requests.Session) -> None:
    """The test of the page passes, with the fixtures that pytest has found by itself."""
    names: dict[str, Callable[..., object]] = {}
    exec(compile(MINE, "neighbours.md", "exec"), names)
    names["test_mine"](auth_server, refresh_session)
