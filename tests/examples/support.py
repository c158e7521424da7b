"""Running an example as its reader would: a process of its own, its settings in the environment."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from requests_refresh.testing import AuthServer, Fault

TOP = Path(__file__).parents[2]
EXAMPLES = TOP / "examples"
SAFETY = 60  # seconds


def settings(server: AuthServer, **more: object) -> dict[str, str]:
    """What `examples/provider.py` puts into the environment, and more."""
    given = {
        "API_URL": server.api,
        "LOGIN_URL": server.login_url,
        "TOKEN_URL": server.token_url,
        "API_USER": "ann",
        "API_PASSWORD": "of no account",
        "REFRESH_TOKEN": server.login("ann")["refresh_token"],
        "NO_PROXY": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **given, **{name: str(value) for name, value in more.items()}}


@contextmanager
def started(
    *command: object, env: dict[str, str], cwd: Path = EXAMPLES
) -> Iterator[subprocess.Popen[str]]:
    """A command of Python's that runs meanwhile, and is ended in any case."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:  # closes the pipes
        try:
            yield process
        finally:
            process.kill()


def done(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for its end: the exit status, what it printed, and what it complained of."""
    out, errors = process.communicate(timeout=SAFETY)
    return process.returncode, out, errors


class Halt:
    """A moment at which so many requests of the API are at the server at once, none answered."""

    def __init__(self, server: AuthServer, at: int, requests: int) -> None:
        self._server, self._go = server, threading.Event()
        self._last = server.counts.api_requests + at + requests - 1
        for number in range(at, at + requests):
            server.faults("api", Fault(hold=self._go), at=number)

    def kill_tokens(self) -> None:
        """Let the access tokens die at that moment; then all go on, to find that out."""
        self._server.wait_for("api_requests", self._last, SAFETY)
        assert self._server.revoke_access() >= 1
        self._go.set()
