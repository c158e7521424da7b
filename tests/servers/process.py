"""A database server for tests, as a process of its own: started, killed, paused, brought back.

Whatever ends the tests, SIGKILL too, no server outlives them: a shell waits beside
each one, at a pipe that breaks when this process is gone, and kills what it was told of.
(PR_SET_PDEATHSIG would end a server together with the *thread* that started it.)
"""

from __future__ import annotations

import os
import pwd
import random
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
SAFETY = 60  # seconds
WATCH = 'while read -r line; do pids=$line; done; [ -z "$pids" ] || kill -KILL $pids'


def free_port() -> int:
    """A port that nobody has now, nor gets by chance while its server is down.

    It lies below the ports that systems give to the near end of a connection, and
    so does the one 10000 above it, which a Redis of a cluster takes as well.
    """
    while True:
        port = random.randrange(10_000, 22_000)  # noqa: S311 - nothing to be guessed here
        with suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind((HOST, port))
            other.bind((HOST, port + 10_000))
            return port


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """A directory that a server may have its data in, whatever user it runs as.

    pytest's own, when root runs it, can be entered by root alone.
    """
    with tempfile.TemporaryDirectory(prefix="servers-") as name:
        os.chmod(name, 0o711)  # noqa: S103 - others can pass through, and list nothing
        yield Path(name)


def unprivileged() -> dict[str, Any]:
    """For subprocess: some servers refuse to be root, so there they are nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def give_away(directory: Path) -> None:
    """Let the user of `unprivileged` own a directory."""
    if user := unprivileged():
        os.chown(directory, user["user"], user["group"])


def run(*command: str | Path) -> None:
    """Run a command that prepares a server's data, as the server's user."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        timeout=SAFETY,
        check=False,
        **unprivileged(),
    )
    assert done.returncode == 0, f"{command} failed: {done.stdout.decode(errors='replace')}"


def ask(port: int, question: bytes, end: bytes = b"") -> bytes:
    """Connect, send, and return the first piece that comes back; nothing when none comes."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1) as connection:
        connection.sendall(question)
        answer = connection.recv(65536)
        connection.sendall(end)
        return answer
    return b""


def until(reached: Callable[[], bool], what: str) -> None:
    """Wait for it, looking every few milliseconds."""
    end = time.monotonic() + SAFETY
    while not reached():
        assert time.monotonic() < end, f"{what} has not come in {SAFETY} s"
        time.sleep(0.005)


def has_ended(process: psutil.Process) -> bool:
    """True when it is gone; dead and waiting for its parent is as good."""
    try:
        return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def is_stopped(process: psutil.Process) -> bool:
    """True when SIGSTOP has had its effect, or the process is gone."""
    try:
        return bool(process.status() == psutil.STATUS_STOPPED) or has_ended(process)
    except psutil.NoSuchProcess:
        return True


class Server(ABC):
    """One server: the port and the data stay the same for its whole life.

    As a context manager it is started, and ended whatever state a test leaves it in.
    """

    polite = signal.SIGTERM  # asks it to end at once, with all saved
    user: dict[str, Any]  # that it runs as, for subprocess

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.user = {}
        self._log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """What the driver is given to reach it."""

    @abstractmethod
    def _command(self) -> list[str]:
        """What starts it, in the foreground."""

    @abstractmethod
    def _answers(self) -> bool:
        """Try once whether it serves."""

    @property
    def pid(self) -> int:
        """The process, or the one that the others come from."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it serves."""
        assert self._process is None, "it is running already"
        self._watch()
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the tests
                **self.user,
            )
        self._tell([self.pid])
        until(self._serves, f"an answer of {self._command()[0]}")

    def _serves(self) -> bool:
        assert self._process is not None
        answers = self._answers()
        if self._process.poll() is not None:
            said = self._log.read_text(errors="replace")[-3000:]
            raise AssertionError(f"{self._command()} ended: {said}")
        return answers

    def stop(self) -> None:
        """Let it end in good order, and wait for that."""
        self.resume()
        os.kill(self.pid, self.polite)
        self._reap()

    def kill(self) -> None:
        """End all its processes by SIGKILL, as a crash would, and wait until they are gone."""
        processes = self._freeze()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._reap()
        until(lambda: all(map(has_ended, processes)), "the end of every process")

    def restart(self) -> None:
        """Start it again on its port with its data; stop it before that where it still runs."""
        if self._process is not None:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze all its processes: connections are taken by the kernel, and nothing answers."""
        processes = self._freeze()
        self._tell([process.pid for process in processes])
        until(lambda: all(map(is_stopped, processes)), "the standstill of every process")

    def resume(self) -> None:
        """Let all go on; no harm where it was not paused."""
        first = psutil.Process(self.pid)
        for process in [*first.children(recursive=True), first]:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        self._tell([self.pid])

    def _freeze(self) -> list[psutil.Process]:
        """Stop the first process, so that no more come from it, then the others."""
        first = psutil.Process(self.pid)
        first.suspend()
        until(lambda: is_stopped(first), "the standstill of the first process")
        others = first.children(recursive=True)
        for process in others:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        return [first, *others]

    def _reap(self) -> None:
        assert self._process is not None
        self._process.wait(SAFETY)
        self._process = None
        self._tell([])

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = subprocess.Popen(
                ["/bin/sh", "-c", WATCH], stdin=subprocess.PIPE, bufsize=0, start_new_session=True
            )

    def _tell(self, pids: list[int]) -> None:
        """Say which processes are to end with the tests: these, and none of those before."""
        assert self._watcher is not None
        assert self._watcher.stdin is not None
        self._watcher.stdin.write(" ".join(map(str, pids)).encode() + b"\n")

    def close(self) -> None:
        """End what is left of it. The directory stays, with its log."""
        if self._process is not None:
            if self._process.poll() is None:
                self.kill()
            else:
                self._reap()
        if self._watcher is not None:
            assert self._watcher.stdin is not None
            self._watcher.stdin.close()
            self._watcher.wait(SAFETY)
            self._watcher = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
