"""examples/legacy_sync: an old script, and what three lines make of it."""

from __future__ import annotations

import difflib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from requests_refresh.testing import AuthServer

from .support import EXAMPLES, Halt, done, settings, started

BEFORE, AFTER = (EXAMPLES / "legacy_sync" / f"{name}.py" for name in ("before", "after"))
DAYS = 120
THREADS = 8


def rows(database: Path) -> dict[str, dict[str, str]]:
    with closing(sqlite3.connect(database)) as opened:
        found = opened.execute("SELECT day, page FROM orders").fetchall()
    return {day: json.loads(page) for day, page in found}


def test_three_lines() -> None:
    """The new script has three lines that the old one has not, one of them an import; one went.

    Lines that hold nothing are not counted: there is one more, above the import.
    """
    old, new = (path.read_text("utf-8").splitlines() for path in (BEFORE, AFTER))
    changes = [line for line in difflib.ndiff(old, new) if line[:2] in ("+ ", "- ")]
    added = [line[2:] for line in changes if line.startswith("+") and line[2:]]
    removed = [line[2:] for line in changes if line.startswith("-")]
    assert [line.split()[0] for line in added] == [
        "from",
        "tokens",
        "session.mount(API,",
    ]
    assert [line.split()[0] for line in removed] == ['session.headers["Authorization"]']


def test_before(server: AuthServer, tmp_path: Path) -> None:
    """The old script ends with the 401 when its token dies, and days are missing."""
    halt = Halt(server, 40, THREADS)
    env = settings(server, DAYS=DAYS, ORDERS_DB=tmp_path / "orders.db")
    with started(BEFORE, env=env) as process:
        halt.kill_tokens()
        status, out, errors = done(process)
    assert (status, out) == (1, "")
    assert "401 Client Error" in errors
    assert 0 < len(rows(tmp_path / "orders.db")) < DAYS
    assert server.counts.refreshes == 0


def test_after(server: AuthServer, tmp_path: Path) -> None:
    """I1: tokens die three times under all threads at once: three refreshes, and no day is lost."""
    halts = [Halt(server, at, THREADS) for at in (20, 60, 100)]
    env = settings(server, DAYS=DAYS, ORDERS_DB=tmp_path / "orders.db")
    with started(AFTER, env=env) as process:
        for halt in halts:
            halt.kill_tokens()
        assert done(process) == (0, f"{DAYS} days are there\n", "")
    found = rows(tmp_path / "orders.db")
    assert len(found) == DAYS
    assert all(page["path"] == f"/api/orders?day={day}" for day, page in found.items())
    counts = server.counts
    assert (counts.expiries, counts.refreshes, counts.reuses) == (3, 3, 0)
