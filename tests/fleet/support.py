"""A fleet: several processes on one store, each with a source and threads of its own.

`storm` lets them go through forced expiries and tells what came of it. The
refresh of each expiry is answered only when every other process waits for it.
"""

from __future__ import annotations

import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from requests_refresh import Token, TokenStore, open_store
from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault

if TYPE_CHECKING:
    from typing_extensions import Self

TOP = Path(__file__).parents[2]
SAFETY = 60  # seconds
ANSWER = 0.05  # seconds that a provider takes; who says that he waits is still on his way to sleep
STORES = ("file", "sqlite", "redis", "postgres", "maria")


@dataclass(frozen=True)
class Place:
    """Where a fleet's tokens lie: what `open_store` takes, in this process and in others."""

    url: str
    settings: dict[str, Any] = field(default_factory=dict)

    def open(self) -> TokenStore:
        return open_store(self.url, **self.settings)

    def put(self, token: Token) -> None:
        store = self.open()
        store.save("default", token)
        store.close()


def new_place(kind: str, directory: Path, url_of: Callable[[str], str]) -> Place:
    """A place that nobody else uses. `url_of(kind)` is asked for a server's URL."""
    unique = uuid.uuid4().hex
    if kind == "file":
        return Place(f"file://{directory / unique / 'tokens.json'}")
    if kind == "sqlite":
        return Place(f"sqlite:///{directory / unique}.db")
    return Place(url_of(kind), {"prefix" if kind == "redis" else "table": f"t{unique}"})


class Fleet:
    """Processes that all run one function of `programs`; what they report comes in one queue.

    A context manager, which ends them whatever has happened.
    """

    def __init__(self, program: str, processes: int, directory: Path, **given: Any) -> None:
        self.processes = processes
        self._command = [sys.executable, "-m", "tests.fleet.programs", program, json.dumps(given)]
        self._errors = directory / f"{uuid.uuid4().hex}.err"
        self._reports: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self._aside: list[tuple[str, dict[str, Any]]] = []
        self._running: list[subprocess.Popen[str]] = []
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._closing.close)
            for _ in range(self.processes):
                self._start()
            stack.pop_all()
        return self

    def _start(self) -> None:
        with open(self._errors, "a") as stderr:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=TOP,
                env={**os.environ, "NO_PROXY": "127.0.0.1"},
                text=True,
                bufsize=1,
            )
        self._running.append(process)
        self._closing.enter_context(process)  # closes the pipes
        reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        reader.start()
        self._closing.callback(reader.join, SAFETY)
        self._closing.callback(process.kill)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            what, more = json.loads(line)
            self._reports.put((what, more))
        if process.wait():  # one that has done its part may well end before the others have
            self._reports.put(("ended", {}))

    def tell(self, word: str = "go") -> None:
        """Say it to every process."""
        for process in self._running:
            assert process.stdin is not None
            process.stdin.write(word + "\n")
            process.stdin.flush()

    def expect(self, what: str, times: int) -> list[dict[str, Any]]:
        """Block until it has been reported so often; other reports are kept for later."""
        found = [more for name, more in self._aside if name == what][:times]
        for more in found:
            self._aside.remove((what, more))
        while len(found) < times:
            try:
                name, more = self._reports.get(timeout=SAFETY)
            except queue.Empty:
                name, more = "nothing", {}
            assert name not in ("ended", "nothing"), (
                f"{name} came in place of {what!r}, which {len(found)} of {times} have said;"
                f" others: {self._aside}; on stderr: {self._errors.read_text()}"
            )
            if name == what:
                found.append(more)
            else:
                self._aside.append((name, more))
        return found

    def ends(self) -> None:
        """Wait until all have ended in good order, with nothing on stderr."""
        codes = [process.wait(SAFETY) for process in self._running]
        errors = self._errors.read_text()
        assert (set(codes), errors) == ({0}, ""), (codes, errors)

    def __exit__(self, *_: object) -> None:
        self._closing.close()


@dataclass(frozen=True)
class Storm:
    """What came of a fleet's expiries: counted by the server, then by the processes.

    delays: seconds, by expiry, from the return of the save in the process that
    refreshed to the first request with the new token from the last process.
    """

    expiries: int
    refresh_calls: int
    refreshes: int
    reuses: int
    requests: int
    failed: dict[str, int]
    delays: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.delays)


def storm(
    place: Place,
    directory: Path,
    *,
    processes: int,
    threads: int,
    expiries: int,
    kind: type[Fleet] = Fleet,
) -> Storm:
    """Let a fleet, whose threads all go on asking, meet one forced expiry after the other."""
    with AuthServer() as server:
        place.put(Token.from_reply(server.login()))
        given = {"api": server.api, "token_url": server.token_url, "threads": threads}
        with kind("works", processes, directory, **given, place=asdict(place)) as fleet:
            fleet.tell()
            fleet.expect("worked", processes)
            for expiry in range(1, expiries + 1):
                _expire(server, fleet, expiry)
                fleet.tell()
                fleet.expect("worked", processes)
            fleet.tell("over")
            ends = fleet.expect("over", processes)
            fleet.ends()
        assert server.logged_in()
        counts = server.counts
    outcomes = sum((Counter(end["outcomes"]) for end in ends), Counter[str]())
    return Storm(
        expiries=counts.expiries,
        refresh_calls=counts.refresh_calls,
        refreshes=counts.refreshes,
        reuses=counts.reuses,
        requests=outcomes.total(),
        failed={outcome: times for outcome, times in outcomes.items() if outcome != "200"},
        delays=[
            max(end["used"][token] for end in ends) - saved
            for one in ends
            for token, saved in one["saved"].items()
        ],
    )


def _expire(server: AuthServer, fleet: Fleet, refreshes: int) -> None:
    """Kill the access token; its refresh is answered when all other processes wait for it."""
    held = threading.Event()
    server.faults("token", Fault(hold=held))
    try:
        server.revoke_access()
        server.wait_for("refresh_calls", refreshes, SAFETY)
        fleet.expect("waits", fleet.processes - 1)
        time.sleep(ANSWER)
    finally:
        held.set()
