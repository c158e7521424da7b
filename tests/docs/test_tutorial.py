"""docs/tutorial.md and docs/index.md: each step runs, and prints what is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from requests_refresh import FileStore, Token
from requests_refresh.grants import discovery
from requests_refresh.testing import AuthServer
from tests.grants.endpoint import Answer, running

from .pages import DOCS, blocks, in_order, run

(TEN_LINES,) = blocks("index.md")
SERVER, WITHOUT, SAME, CROWD, NEXT, OVER, OUTAGE, REAL = blocks("tutorial.md")


@pytest.mark.usefixtures("home")
def test_the_steps(server: AuthServer, capsys: pytest.CaptureFixture[str]) -> None:
    """I1, I8: all steps but the last, one after the other, print what the page says they print."""
    names: dict[str, object] = {}
    told = in_order(DOCS / "tutorial.md")
    for step in (SERVER, WITHOUT, SAME, CROWD, NEXT, OVER, OUTAGE):
        run(step, server, names)
        output = told[told.index(("python", step)) + 1]
        assert output == ("text", capsys.readouterr().out)


def test_a_real_provider(
    server: AuthServer, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last step finds what the command has stored, and the endpoint by discovery."""
    store = FileStore(home / ".config/sync/tokens.json")
    store.save("default", Token(refresh_token=server.login()["refresh_token"]))
    discovery._known.clear()
    with running() as endpoint:
        issuer = endpoint.url.removesuffix("/token")
        endpoint.will(Answer(body={"issuer": issuer, "token_endpoint": server.token_url}))
        run(REAL.replace("https://login.example.com", issuer), server)
    assert capsys.readouterr().out == "200\n"
    assert server.counts.refreshes == 1


@pytest.mark.usefixtures("home")
def test_the_ten_lines(server: AuthServer) -> None:
    """The first page's lines are all that is needed, once there is a login."""
    names = run(TEN_LINES, server)
    names["tokens"].login(server.login())
    server.revoke_access()
    assert names["session"].get(names["API"] + "items").status_code == 200
