"""I9 in the channels that are no part of a client's life: commands, browsers, urllib3's log."""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import sys
import webbrowser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from requests_refresh import BrowserLogin, RefreshTokenGrant, Token
from tests.grants.endpoint import PATIENCE
from tests.logins.support import fetch, query_of

from .clients import told
from .provider import Provider, provided
from .secrets import Secrets

DEMO = ["demo", "--threads", "4", "--expiries", "1", "--lifetime", "0.4", "--latency", "0.1"]
ISSUED = re.compile(r"[ar]t-[A-Za-z0-9_-]{8}")  # how the demo's provider begins its tokens


def test_the_demo_prints_no_token() -> None:
    """I9: both forms of the demo print none of the tokens that are used in them."""
    command = [sys.executable, "-m", "requests_refresh", *DEMO]
    processes = [
        subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for more in ([], ["--naive"])
    ]
    for process in processes:
        output = process.communicate(timeout=2 * PATIENCE)[0].decode()
        assert "refreshes" in output
        assert not ISSUED.search(output)


def test_what_a_browser_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I9: a browser is a process that others can list; of the login it gets the state alone."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    program, seen = tmp_path / "browser", tmp_path / "seen"
    out = shlex.quote(str(seen))
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {out}\nenv > {out}.env\n')
    program.chmod(0o700)
    run = webbrowser.GenericBrowser([str(program), "%s"])
    secrets = Secrets()
    code = secrets.canary("code", "-")

    def open_(url: str) -> bool:
        assert run.open(url)
        query = query_of(url)
        fetch(f"{query['redirect_uri']}?code={code}&state={query['state']}")
        return True

    with provided(secrets) as provider, told(secrets):
        login = BrowserLogin(
            provider.server.url,
            authorize_url=f"{provider.root}/authorize",
            client_id="sync",
            client_secret=secrets.canary("client secret"),
            open=open_,
            wait=PATIENCE,
        )
        assert login().access_token in provider.living
    assert secrets.kinds_in(seen.read_text()) == {"state"}
    assert not secrets.kinds_in(Path(f"{seen}.env").read_text())


def _renewed(provider: Provider) -> RefreshTokenGrant:
    key = provider.secrets.canary("query", "-_")
    grant = RefreshTokenGrant(f"{provider.server.url}?key={key}", client_id="sync")
    grant(Token(refresh_token=provider.secrets.canary("refresh token")))
    return grant


def test_the_query_of_a_token_url(caplog: pytest.LogCaptureFixture) -> None:
    """I9: the query of token_url shows where SECURITY.md says, in urllib3's log, and only there."""
    caplog.set_level(logging.DEBUG)
    secrets = Secrets()
    with provided(secrets) as provider:
        grant = _renewed(provider)
        shown = {
            record.name.partition(".")[0]
            for record in caplog.records
            if secrets.kinds_in(record.getMessage())
        }
        assert shown == {"urllib3"}
        assert not secrets.kinds_in(repr(grant))
        assert urlsplit(provider.server.url).path in repr(grant)
