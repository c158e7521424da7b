"""A real MariaDB for tests, where one is installed."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from .process import HOST, Server, ask, give_away, run, temporary_directory, unprivileged

USER = "tester"
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
SMALL = [
    "--innodb-log-file-size=4M",
    "--innodb-buffer-pool-size=16M",
    "--innodb-flush-log-at-trx-commit=2",  # only a crash of the whole machine would need 1
    "--innodb-doublewrite=0",
    "--innodb-fast-shutdown=2",
]
FIRST = f"""\
CREATE DATABASE IF NOT EXISTS test CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS {USER}@'{HOST}';
GRANT ALL PRIVILEGES ON *.* TO {USER}@'{HOST}';
"""


@functools.cache
def programs() -> tuple[str, str]:
    """The server and the program that makes its data."""
    maker = shutil.which("mariadb-install-db", path=PATH)
    for name in ("mariadbd", "mysqld"):
        server = shutil.which(name, path=PATH)
        if server is not None and maker is not None:
            said = subprocess.run([server, "--version"], capture_output=True, check=False)
            if b"MariaDB" in said.stdout:
                return server, maker
    pytest.skip("no MariaDB here: it takes mariadbd (or its mysqld) and mariadb-install-db")


@functools.cache
def fresh_data() -> Path:
    """A new database, made once, for every server to begin with a copy of."""
    keep = ExitStack()
    atexit.register(keep.close)
    directory = keep.enter_context(temporary_directory())
    give_away(directory)
    run(
        programs()[1],
        *("--no-defaults", f"--datadir={directory / 'data'}", "--skip-test-db"),
        # In a place that servers share, one deletes at its start what others have there.
        f"--tmpdir={directory}",
        *("--auth-root-authentication-method=normal", *SMALL),
    )
    return directory / "data"


class MariaServer(Server):
    """A MariaDB with an empty database "test", and a user who may do all.

    It refuses to be root. Where root runs the tests it is nobody, and the directory
    has to be one that nobody can reach, such as `temporary_directory()`.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.user = unprivileged()
        self._data = directory / "data"
        fresh = fresh_data()
        self._scratch = directory / "scratch"
        for place in (self._data, self._scratch):
            place.mkdir(mode=0o700)
            give_away(place)
        run("cp", "-R", f"{fresh}/.", self._data)
        self._first = directory / "first.sql"
        self._first.write_text(FIRST)

    @property
    def url(self) -> str:
        return f"mysql+pymysql://{USER}@{HOST}:{self.port}/test?charset=utf8mb4"

    def _command(self) -> list[str]:
        return [
            programs()[0],
            "--no-defaults",
            f"--datadir={self._data}",
            f"--tmpdir={self._scratch}",
            f"--socket={self._data / 'socket'}",
            f"--pid-file={self._data / 'pid'}",
            f"--init-file={self._first}",
            f"--bind-address={HOST}",
            f"--port={self.port}",
            "--skip-name-resolve",
            *SMALL,
        ]

    def _answers(self) -> bool:
        # It greets first: 4 bytes of length and number, then the protocol's version.
        # https://mariadb.com/docs/server/reference/clientserver-protocol/
        return ask(self.port, b"")[4:5] == b"\n"
