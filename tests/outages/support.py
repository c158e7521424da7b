"""What the tests of outages share: processes of their own, backends, and ways to wait."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import requests

from requests_refresh import RefreshAdapter, TokenSource

TOP = Path(__file__).parents[2]
SAFETY = 60  # seconds


def until(reached: Callable[[], object], what: str) -> None:
    """Look every few milliseconds until it is so."""
    end = time.monotonic() + SAFETY
    while not reached():
        assert time.monotonic() < end, f"not seen in {SAFETY} s: {what}"
        time.sleep(0.005)


def get(tokens: TokenSource, api: str) -> str:
    """What comes of one request: its status, or its error's name and words."""
    with requests.Session() as http:
        http.trust_env = False
        http.mount(api, RefreshAdapter(tokens, origins=api))
        try:
            return str(http.get(api + "items", timeout=SAFETY).status_code)
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"


class Call:
    """A call in a thread of its own: `result()` is what it returned, `seconds` how long it took."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._came: Any = None
        self.seconds = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self._came = self._work()
        except Exception as exc:
            self._came = exc
        self.seconds = time.monotonic() - began

    def result(self) -> Any:
        self._thread.join(SAFETY)
        assert not self._thread.is_alive(), "a call hangs"
        return self._came


class Worker:
    """A process that runs `tests.outages.worker`. For one thread."""

    def __init__(self, settings: dict[str, Any], errors: Path, before: Sequence[str] = ()) -> None:
        self._errors = errors
        self._answers: queue.Queue[str] = queue.Queue()
        command = [*before, sys.executable, "-m", "tests.outages.worker", json.dumps(settings)]
        with open(errors, "w") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=TOP,
                env={**os.environ, "NO_PROXY": "*"},
                text=True,
                bufsize=1,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._next() == "ready"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line.strip())
        self._answers.put("")

    def _next(self) -> str:
        try:
            line = self._answers.get(timeout=SAFETY)
        except queue.Empty:
            raise AssertionError(f"a process hangs; {self._errors.read_text()}") from None
        assert line, f"a process has ended; {self._errors.read_text()}"
        return line

    def ask(self, command: str, **options: Any) -> None:
        """Have it begin a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, options]) + "\n")

    def answer(self) -> Any:
        """What came of the oldest command that was not answered."""
        return json.loads(self._next())

    def call(self, command: str, **options: Any) -> Any:
        self.ask(command, **options)
        return self.answer()

    def stop(self) -> None:
        """Stop it by SIGSTOP, and wait until it stands still."""
        self._process.send_signal(signal.SIGSTOP)
        self.stands()

    def stands(self) -> None:
        """Wait until it is stopped, maybe by itself."""
        process = psutil.Process(self._process.pid)
        until(lambda: process.status() == psutil.STATUS_STOPPED, "a process that stands still")

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def let_end(self) -> None:
        """Have it end when it has done what it was asked."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def ends(self) -> int:
        """Wait for its end; the exit code."""
        return self._process.wait(SAFETY)

    def close(self) -> None:
        """End it, in good order if that can be."""
        self.let_end()
        self.go_on()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(SAFETY)
        self._reader.join(SAFETY)
        assert self._process.stdout is not None
        self._process.stdout.close()
