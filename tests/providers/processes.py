"""Starts a server of the tests as a process of its own, and shows its log where a test fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOGS: dict[str, Path] = {}  # by the name of the server's fixture


@contextmanager
def started(name: str, arguments: list[str], directory: Path) -> Iterator[dict[str, Any]]:
    """`python ARGUMENTS`, from its first line, which is JSON and given back, to the block's end."""
    log = LOGS[name] = directory / "log"
    # Coverage is for our package, which no server imports.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    with (
        open(log, "w") as stderr,
        subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            cwd=ROOT,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"{name} did not start: {log.read_text()}"
            where: dict[str, Any] = json.loads(line)
            yield where
        finally:
            process.kill()


def add_logs(report: pytest.TestReport, item: pytest.Item) -> None:
    """Shows the end of the servers' logs below a test that failed."""
    if report.failed:
        for name in LOGS.keys() & set(getattr(item, "fixturenames", ())):
            end = LOGS[name].read_text().splitlines()[-30:]
            report.sections.append((f"the end of {name}'s log", "\n".join(end)))
