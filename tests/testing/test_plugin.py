"""The fixtures that pytest finds by itself, in a project of somebody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MINE = """
import threading


def test_one_expiry(auth_server, token_source, refresh_session):
    assert refresh_session.get(auth_server.api + "items").status_code == 200
    auth_server.revoke_access()
    url = auth_server.api + "items"
    threads = [threading.Thread(target=refresh_session.get, args=(url,)) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert auth_server.counts.refreshes == token_source.stats.refreshes == 1


def test_another(auth_server):
    assert auth_server.counts.logins == 0
"""


def test_the_fixtures(tmp_path: Path) -> None:
    """I1: a project that imports nothing of ours has a server, a source and a session."""
    (tmp_path / "test_mine.py").write_text(MINE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
