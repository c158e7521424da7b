"""Threads that cannot be started, at the n-th start of a whole life, for every n."""

from __future__ import annotations

import threading

import pytest

from .life import STEPS, Life, World, naps


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "from then on"])
def test_a_thread_cannot_be_started(
    for_good: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3, I7: whichever start fails, every request works, and one expiry makes one refresh."""
    begin = threading.Thread.start
    starts, fails = [0], [0, 0]

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("requests-refresh"):
            starts[0] += 1
            if starts[0] > fails[0] and (for_good or starts[0] == fails[0] + 1):
                fails[1] += 1
                raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    while True:
        starts[0], fails[1] = 0, 0
        life = Life(world)
        with naps(life.clock):
            for step in STEPS:
                life.play(step)
                if step != "logout":
                    life.check()
            life.check_over()
            life.close()
        assert life.failures == []
        # A background renewal that found no thread may be left out: the token lives.
        assert life.grants in ((3,) if not fails[1] else (2, 3))
        if not fails[1]:
            break
        fails[0] += 1
    assert fails[0] >= 4
