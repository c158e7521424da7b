"""The run of a soak: the provider, the store, the workers, and the faults as they are due.

One thread does what is due and takes samples; a thread for each worker takes down what
it reports. Nothing is judged here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from requests_refresh import Token, open_store
from requests_refresh.stores import RedisStore
from requests_refresh.testing import Fault as Reply
from tests.servers import RedisServer, Relay, temporary_directory

from .kinds import GRACE, KINDS, LEASE, LIFE, LONGEST_HELD, Fault, join_rows, plan
from .ledger import Ledger

TOP = Path(__file__).parents[2]
SAFETY = 90.0  # seconds
_TICK, _SAMPLE = 0.05, 1.0  # seconds


@dataclass(frozen=True)
class Sample:
    """What a process had at a moment: resident bytes, open files, sockets, threads."""

    at: float
    rss: int
    files: int
    sockets: int
    threads: int


@dataclass(frozen=True)
class Failed:
    """A request that failed: what it sent, how it ended, from when to when."""

    pid: int
    kind: str
    outcome: str
    began: float
    ended: float
    text: str


@dataclass
class Process:
    """A worker: who it was, what it said, and what it had."""

    number: int
    popen: subprocess.Popen[str]
    began: float
    counts: dict[str, int] = field(default_factory=dict)
    refreshes: int = 0
    samples: list[Sample] = field(default_factory=list)
    ready: bool = False
    to_end_at: float = 0.0  # since when it has been told to end
    over: bool = False  # it has said so
    ended: float = 0.0
    expected: bool = False  # whether it ended as it should
    reader: threading.Thread | None = None

    def sample(self) -> None:
        with suppress(psutil.Error, OSError):
            process = psutil.Process(self.popen.pid)
            sockets = files = 0
            for name in os.listdir(f"/proc/{self.popen.pid}/fd"):
                with suppress(OSError):  # closed in between
                    is_socket = os.readlink(f"/proc/{self.popen.pid}/fd/{name}").startswith("sock")
                    sockets, files = sockets + is_socket, files + (not is_socket)
            rss, threads = process.memory_info().rss, process.num_threads()
            self.samples.append(Sample(time.monotonic(), rss, files, sockets, threads))


class Soak:
    """A soak that can be run once; what came of it is in its attributes."""

    def __init__(
        self,
        *,
        seconds: float,
        processes: int = 4,
        threads: int = 64,
        seed: int = 0,
        store: str | None = None,
        kinds: Iterable[str] = KINDS,
    ) -> None:
        """threads: of all processes together. store: a URL, whose server no fault befalls."""
        if store is not None:
            kinds = [name for name in kinds if KINDS[name].where != "store"]
        self.seconds, self.seed, self.threads = seconds, seed, threads
        self.faults: list[Fault] = []  # those that came
        self._plan = plan(seed, seconds, processes, kinds)
        self.failed: list[Failed] = []
        self.wrong: list[str] = []  # what the run itself has seen go wrong
        self.logs: list[str] = []
        self.processes: list[Process] = []
        self._current: dict[int, Process] = {}  # by number
        self._count, self.threads_each = processes, threads // processes
        self.server = Ledger(lifetime=LIFE, grace=GRACE, log_size=10)
        self._url = store
        self._redis: RedisServer | None = None
        self._given: dict[str, Any] = {}
        self._leases: dict[int, set[object]] = {}  # by pid of who is stopped for long
        self.began = self.ended = 0.0
        self.interrupted = False
        self.alive = self.stored = False

    def run(self) -> None:
        """Do it all. A Ctrl-C ends it in good order; another one at once."""
        with ExitStack() as stack:
            stack.enter_context(self.server)
            directory = stack.enter_context(temporary_directory())
            if self._url is None:
                self._redis = stack.enter_context(RedisServer(directory))
                self._url = self._redis.url
            self._relay = stack.enter_context(Relay(self.server.port))
            name = f"s{uuid.uuid4().hex}"
            options: dict[str, Any] = {}
            if "redis" in self._url:
                options = {"prefix": name, "lease": LEASE}
            elif not self._url.startswith("file"):
                options = {"table": name, "lease": LEASE}
            self._store = open_store(self._url, **options)
            stack.callback(self._store.close)
            self._store.save("default", Token.from_reply(self.server.login()))
            self._given = {
                "api": self.server.api,
                "token_url": f"http://127.0.0.1:{self._relay.port}/token",
                "store": self._url,
                "options": options,
                "threads": self.threads_each,
            }
            self._errors = directory / "errors"
            stack.callback(self._kill_all)
            self._run()

    def _run(self) -> None:
        try:
            for number in range(self._count):
                self._start(number)
            self.began = time.monotonic()
            self._loop()
        except KeyboardInterrupt:
            self.interrupted = True
        for fault in self.faults:
            if not fault.ended:
                self._end(fault)
        self.ended = time.monotonic()
        for process in self._current.values():
            self._tell_to_end(process)
        while any(not process.ended for process in self._current.values()):
            self._reap()
            time.sleep(_TICK)
        for process in self.processes:
            if process.reader is not None:
                process.reader.join(SAFETY)
        join_rows(self.faults)
        self.alive = self.server.logged_in()
        stored = self._store.load("default")
        self.stored = stored is not None and stored.refresh_token == self.server.newest
        if errors := self._errors.read_text():
            self.wrong.append(f"on stderr: {errors[-3000:]}")

    def _loop(self) -> None:
        next_sample, left = self.began, list(self._plan)
        while (now := time.monotonic()) < self.began + self.seconds:
            for fault in self.faults:
                if not fault.ended and self._is_due(fault, now):
                    self._end(fault)
            busy = {fault.place for fault in self.faults if not fault.ended}
            for fault in [one for one in left if one.at <= now - self.began]:
                # On a machine that is late the one before may still be there.
                process = self._current[fault.worker] if fault.worker >= 0 else None
                if fault.place in busy or (process and not process.ready):
                    continue
                left.remove(fault)
                busy.add(fault.place)
                self._begin(fault)
            self._reap()
            if now >= next_sample:
                next_sample += _SAMPLE
                for process in self._current.values():
                    process.sample()
            time.sleep(_TICK)

    # ---------------------------------------------------------- the workers

    def _start(self, number: int) -> None:
        given = {**self._given, "seed": [self.seed, number, len(self.processes)]}
        with open(self._errors, "a") as stderr:
            popen = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.worker", json.dumps(given)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=TOP,
                env={**os.environ, "NO_PROXY": "127.0.0.1"},
                text=True,
                start_new_session=True,  # Ctrl-C is for the soak
            )
        process = Process(number, popen, time.monotonic())
        process.reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self.processes.append(process)
        self._current[number] = process
        process.reader.start()

    def _read(self, process: Process) -> None:
        assert process.popen.stdout is not None
        for line in process.popen.stdout:
            if not line.endswith("\n"):
                break  # it was killed in the middle
            what, more = json.loads(line)
            if what == "failed":
                self.failed.append(Failed(process.popen.pid, **more))
            elif what == "counts":
                process.counts, process.refreshes = more["counts"], more["refreshes"]
            elif what == "log":
                self.logs.append(f"{more['at'] - self.began:.1f} s: {more['text']}")
            elif what in ("ready", "over"):
                setattr(process, what, True)
            else:  # "logout", "hangs"
                self.wrong.append(f"worker {process.number}: {what} {more}")
        process.popen.stdout.close()

    def _tell_to_end(self, process: Process) -> None:
        process.to_end_at = time.monotonic()
        until_ready = time.monotonic() + SAFETY
        while not process.ready and process.popen.poll() is None:
            assert time.monotonic() < until_ready, "a worker does not begin"
            time.sleep(_TICK)
        process.popen.terminate()

    def _reap(self) -> None:
        """See who has ended, as he should or not; the next takes his place."""
        now = time.monotonic()
        for process in list(self._current.values()):
            if process.ended:
                continue
            if process.popen.poll() is None:
                if process.to_end_at and now - process.to_end_at > SAFETY:
                    self.wrong.append(f"worker {process.number} did not end in {SAFETY} s")
                    process.popen.kill()
                continue
            process.ended = now
            assert process.reader is not None
            process.reader.join(SAFETY)
            code = process.popen.returncode
            if not process.expected and not (process.to_end_at and code == 0 and process.over):
                self.wrong.append(f"worker {process.number} ended by itself with {code}")
            for fault in self.faults:
                if fault.kind.name == "worker ended" and fault.pid == process.popen.pid:
                    fault.ended = now
            if not self.ended:
                self._start(process.number)

    def _kill_all(self) -> None:
        for process in self._current.values():
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait(SAFETY)

    # ----------------------------------------------------------- the faults

    def _begin(self, fault: Fault) -> None:
        fault.began, fault.ended = time.monotonic(), 0.0
        self.faults.append(fault)
        name, lost = fault.kind.name, Reply(after_work=True, reply="reset")
        if name == "token revoked":
            self.server.revoke_access()
        elif name == "provider slow":
            self.server.faults("token", Reply(delay=0.4 * fault.lasts), times=None)
        elif name == "provider 503":
            self.server.faults("token", Reply(status=503), times=None)
        elif name == "provider refuses":
            self._relay.refuse()
        elif name == "one answer lost":
            self.server.faults("token", lost)
        elif name == "answers lost":
            self.server.faults("token", lost, times=None)
        elif fault.kind.where == "store":
            assert self._redis is not None
            if name == "redis restarted":
                self._redis.stop()
            elif name == "redis paused":
                self._redis.pause()
            else:
                self._ask_redis("CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub")
        else:
            self._befall(self._current[fault.worker], fault)

    def _befall(self, process: Process, fault: Fault) -> None:
        fault.pid = process.popen.pid
        if fault.kind.name == "worker stopped":
            psutil.Process(fault.pid).suspend()
            self._leases[fault.pid] = set()
        elif fault.kind.name == "worker killed":
            process.expected = True
            process.popen.kill()
            process.popen.wait(SAFETY)
        else:
            self._tell_to_end(process)

    def _is_due(self, fault: Fault, now: float) -> bool:
        if fault.kind.name == "worker ended":
            return False  # when it has
        lasted = now - fault.began
        if fault.kind.name == "worker stopped" and fault.lasts > LONGEST_HELD:
            seen = self._leases[fault.pid]
            if lasted < LONGEST_HELD:
                seen.add(self._holder())
            elif len(seen - {b"?"}) < 2:  # it may be his
                return True
        return lasted >= fault.lasts

    def _holder(self) -> object:
        """Who has the lease on the renewal; b"?" where that cannot be asked just now."""
        away = any(one.kind.where == "store" and not one.ended for one in self.faults)
        if away or self._redis is None or not isinstance(self._store, RedisStore):
            return b"?"
        try:
            return self._store._client().get(self._store._key("default") + ":lease")
        except Exception:
            return b"?"

    def _end(self, fault: Fault) -> None:
        name = fault.kind.name
        if name == "provider refuses":
            self._relay.heal()
        elif fault.kind.where == "provider":
            self.server.clear_faults()
        elif name == "redis restarted":
            assert self._redis is not None
            self._redis.restart()
        elif name == "redis paused":
            assert self._redis is not None
            self._redis.resume()
        elif name == "worker stopped":
            with suppress(psutil.NoSuchProcess):
                psutil.Process(fault.pid).resume()
        fault.ended = time.monotonic()

    def _ask_redis(self, *commands: str) -> None:
        assert self._redis is not None
        for command in commands:
            self._redis._ask(command)
