"""Clocks that jump six hours or stop, at each call of the store and the grant in a whole life."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from requests_refresh import RefreshTimeout

from .life import LONG, STEPS, Disturbed, Do, Life, World, naps, record

HOURS = 6 * 3600.0


class Wall:
    """The time of day, which may be moved or stopped."""

    def __init__(self) -> None:
        self.offset = 0.0
        self.stopped_at: float | None = None
        self.really = time.time

    def __call__(self) -> float:
        return self.really() + self.offset if self.stopped_at is None else self.stopped_at

    def jump(self, seconds: float) -> None:
        self.offset += seconds

    def stop(self) -> None:
        self.stopped_at = self()


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    moved = Wall()
    monkeypatch.setattr(time, "time", moved)
    return moved


def at_each_call(
    world: World, happens: Callable[[Life], object], *, monotonic: bool = False
) -> None:
    """Lives in which that happens before one call, and everything goes its way all the same."""
    calls = record(world)
    for number in range(len(calls)):
        life = Life(world)

        struck: list[str] = []

        def strike(
            store: Disturbed, do: Do, life: Life = life, struck: list[str] = struck
        ) -> object:
            struck.append(life.step)
            happens(life)
            return do()

        with naps(life.clock):
            life.store.plan(strike, number)
            before = world.server.counts
            try:
                for step in STEPS:
                    life.play(step, (RefreshTimeout,))
                    if step != "logout":
                        life.check()
                        granted = life.grants
                        assert [life.get() for _ in range(3)] == [200] * 3  # nothing storms
                        life.settle()
                        assert life.grants <= granted + 1
                life.check_over()
            finally:
                life.close()
            after = world.server.counts
            # What was not obtained here may look dead then, and what is in use may die of it.
            most = 5 if monotonic else 3 + (struck[0] in ("login", "elsewhere"))
            assert life.grants <= most, f"{life.grants} refreshes, struck before call {number}"
            assert len(life.store.calls) < 3 * len(calls)
            assert after.reuses == before.reuses
            assert life.logouts == 0
            # A caller's deadline may pass in a jump, where the API has refused his token.
            assert len(life.failures) <= 1
            assert all(isinstance(e, RefreshTimeout) for _, e in life.failures), life.failures


@pytest.mark.parametrize("seconds", [HOURS, -HOURS])
def test_the_time_of_day_jumps(seconds: float, world: World, wall: Wall) -> None:
    """I1, I8: stored times are hints: no request fails, and at most one refresh more is made."""

    def jump(life: Life) -> None:
        wall.jump(seconds)

    at_each_call(world, jump)


def test_the_time_of_day_stops(world: World, wall: Wall) -> None:
    """I1, I8: a time of day that stands still costs nothing."""

    def stop(life: Life) -> None:
        wall.stop()

    at_each_call(world, stop)


def test_the_monotonic_clock_jumps(world: World) -> None:
    """I1, I3, I8: after a suspend all goes on; only a caller whose time is over is told so."""

    def jump(life: Life) -> None:
        life.clock.advance(HOURS)

    at_each_call(world, jump, monotonic=True)


def test_the_monotonic_clock_stops(world: World) -> None:
    """I1, I3: no deadline ever comes then, and the API's refusals renew as ever."""

    def stop(life: Life) -> None:
        life.clock.stopped = True

    at_each_call(world, stop, monotonic=True)


@pytest.mark.parametrize("seconds", [HOURS, -HOURS, None])
def test_a_login_with_a_clock_that_was_wrong(
    seconds: float | None, world: World, wall: Wall
) -> None:
    """I1, I8: a stored login is read hours off: one refresh at most, and every request works."""
    life = Life(world)
    with naps(life.clock):
        life.play("login")
        if seconds is None:
            wall.stop()
        else:
            wall.jump(seconds)
        another = Life(world, Disturbed(life.store.base))
        another.identity = another.source.identity = life.identity
        another.source._place._identity = another.source._renewal._identity = life.identity
        assert [another.get() for _ in range(5)] == [200] * 5
        another.settle()
        assert another.grants <= 1
        another.check()
        life.clock.advance(LONG)
        another.close()
        life.close()
