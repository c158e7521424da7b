"""No pauses between the calls of a round, and no environment of whoever runs the tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from requests_refresh import asking, replay

from .world import left_open


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses within a round are a hundredth; backing off, which is longer, stays as it is."""
    monkeypatch.setattr(
        asking, "_random", SimpleNamespace(uniform=lambda low, high: low / 100 ** (high < 0.5))
    )
    monkeypatch.setattr(replay, "_LONGEST_READ", 0.05)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """I13: when all is over there are as many sockets and threads as before."""
    files, threads = left_open()
    yield
    for _ in range(500):  # a thread counts for a moment after its work
        now = left_open()
        if now[0] <= files and now[1] <= threads:
            return
        threading.Event().wait(0.01)
    assert left_open() == (files, threads), "files and threads are left"
