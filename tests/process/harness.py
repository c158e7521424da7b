"""The tests' side of a program: it is started, listened to, told things, and survived."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import pytest
import requests

from requests_refresh import FileStore, RefreshAdapter, TokenSource
from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

TOP = Path(__file__).parents[2]
SAFETY = 60  # seconds
MOMENT = 0.2  # seconds in which a process ends that would end too early


class Program:
    """A program of these tests, running as a process of its own."""

    def __init__(self, name: str, settings: dict[str, Any], errors: Path) -> None:
        module, function = name.split(":")
        self._errors = errors
        self._reports: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue()
        self._aside: list[tuple[str, dict[str, Any]]] = []
        module = f"tests.process.programs.{module}"
        with open(errors, "w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, function, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=TOP,
                env={**os.environ, "NO_PROXY": "127.0.0.1"},
                text=True,
                bufsize=1,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            what, more = json.loads(line)
            self._reports.put((what, more))
        self._reports.put(None)

    def expect(self, what: str) -> dict[str, Any]:
        """Block until it reports `what`; other reports are kept for later."""
        for number, (name, more) in enumerate(self._aside):
            if name == what:
                del self._aside[number]
                return more
        while True:
            try:
                report = self._reports.get(timeout=SAFETY)
            except queue.Empty:
                raise AssertionError(f"no {what!r} came; {self._rest()}") from None
            assert report is not None, f"it ended without {what!r}; {self._rest()}"
            if report[0] == what:
                return report[1]
            self._aside.append(report)

    def tell(self, word: str = "go") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def signal(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def still_runs(self) -> None:
        """See that it does not end, though it has had the time to."""
        with pytest.raises(subprocess.TimeoutExpired):
            self.process.wait(MOMENT)

    def ends(self, code: int = 0, others: Container[str] = ()) -> None:
        """Wait for its end, with this exit code and with nothing more to say, but for `others`."""
        assert self.process.wait(SAFETY) == code, self._rest()
        self._reader.join(SAFETY)
        left = [*self._aside, *iter(self._reports.get, None)]
        assert [report for report in left if report[0] not in others] == [], self._rest()

    def errors(self) -> str:
        return self._errors.read_text()

    def _rest(self) -> str:
        return f"other reports: {self._aside}; on stderr: {self.errors()}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait(SAFETY)
        self._reader.join(SAFETY)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


Start = Callable[..., Program]


def refuse_together(server: AuthServer, number: int) -> Callable[[], None]:
    """Let so many requests meet at the API; call what comes back, and all of them are refused."""
    met = threading.Event()
    server.faults("api", Fault(hold=met), times=number)

    def refuse() -> None:
        server.wait_for("api_requests", number)
        met.set()
        server.wait_for("api_401", number)
        server.wait_for("refresh_calls")

    return refuse


def goes_on(server: AuthServer, path: Path) -> None:
    """See that another process can go on with the stored login: this one does."""
    before = server.counts
    server.revoke_access()
    tokens = TokenSource(server.grant(), FileStore(path))
    with requests.Session() as http:
        http.trust_env = False
        http.mount(server.api, RefreshAdapter(tokens, origins=server.api))
        assert http.get(server.api + "items", timeout=SAFETY).status_code == 200
    assert server.counts.refreshes == before.refreshes + 1
    assert server.counts.reuses == 0
