"""I14: Ctrl-C while a person is waited for ends the program at once, and says no secret."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.grants.endpoint import Answer, EndpointServer
from tests.logins.support import DEVICE, fetch, query_of

TOP = Path(__file__).parents[2]
SAFETY = 60.0  # seconds


@contextmanager
def waiting(how: str, server: EndpointServer) -> Iterator[subprocess.Popen[str]]:
    """A program that has shown a person what to do, and waits."""
    server.will(Answer(200, {**DEVICE, "interval": 600}))
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.logins.waits", how, server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=TOP,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        text=True,
    )
    with program:
        try:
            yield program
        finally:
            program.kill()


@pytest.mark.parametrize("how", ["device", "browser", "relogin-device", "relogin-browser"])
def test_ctrl_c(server: EndpointServer, how: str) -> None:
    """I14: a login that waits, in the caller's thread or in a round, does not keep a process up."""
    with waiting(how, server) as program:
        assert program.stdout is not None
        shown = program.stdout.readline()
        out = err = ""
        while program.poll() is None:
            program.send_signal(signal.SIGINT)
            # The interpreter drops one that comes within a callback of its own; a user insists.
            with suppress(subprocess.TimeoutExpired):
                out, err = program.communicate(timeout=SAFETY / 4)
        assert program.returncode == -signal.SIGINT
        assert "exiting" in out
        assert "\nKeyboardInterrupt\n" in err
        assert "CANARY" not in err
        assert "Exception ignored" not in err or "_weakrefset.py" in err
    if "browser" in how:
        redirect = query_of(shown.strip())["redirect_uri"]
        with pytest.raises(OSError, match="refused"):
            fetch(redirect)
        assert server.seen == []
    else:
        assert DEVICE["user_code"] in shown
        assert len(server.seen) == 1
