"""A store that fails, hangs or lies, at each of its calls in a whole life of a login."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from requests_refresh import LoginRequired, RefreshError, StoreConflict, StoreError, Token

from .life import LONG, SAFETY, STEPS, Disturbed, Do, Fault, Life, World, naps, record


class DriverError(Exception):
    """What a database's driver raises; a store should not let it out, and one may."""


class Stop(BaseException):
    """As KeyboardInterrupt and SystemExit, which no `except Exception` catches."""


ERRORS: list[Callable[[], BaseException]] = [
    lambda: StoreError("down"),
    lambda: OSError("down"),
    lambda: DriverError("down"),
    Stop,
]
IDS = ["StoreError", "OSError", "driver", "BaseException"]


def before(error: Callable[[], BaseException]) -> Fault:
    """The call fails, and nothing was done."""

    def fail(store: Disturbed, do: Do) -> None:
        raise error()

    return fail


def after(error: Callable[[], BaseException]) -> Fault:
    """It is done, and says that it failed."""

    def fail(store: Disturbed, do: Do) -> None:
        do()
        raise error()

    return fail


def hangs(store: Disturbed, do: Do) -> object:
    """It takes until the test has seen enough."""
    store.hung.set()
    assert store.release.wait(SAFETY)
    return do()


def not_done(store: Disturbed, do: Do) -> None:
    """It says that it was done. A load finds nothing, `exclusive` excludes nobody."""


def old(store: Disturbed, do: Do) -> Token | None:
    """It loads what was there before."""
    do()
    return store.saved[-2] if len(store.saved) > 1 else None


def points(
    world: World, *names: str, steps: tuple[str, ...] = STEPS
) -> Iterator[tuple[int, str, Life]]:
    """For each of those calls in a life: its number, its name, and a life to disturb there."""
    for number, name in enumerate(record(world, steps)):
        if name != "grant" and (not names or name in names):
            life = Life(world)
            with naps(life.clock):
                try:
                    yield number, name, life
                finally:
                    life.close()


def live(life: Life, steps: tuple[str, ...] = STEPS, *, memory: bool = False) -> None:
    """A life in which all that goes wrong is explained, and nothing is lost."""
    reuses = life.world.server.counts.reuses
    for step in steps:
        life.play(step, (Stop,))
        if step != "logout":
            life.check(memory=memory)
    life.check_over()
    assert life.world.server.counts.reuses == reuses
    assert life.logouts == 0
    assert len(life.failures) <= 1, life.failures


@pytest.mark.parametrize("error", ERRORS, ids=IDS)
@pytest.mark.parametrize("when", [before, after])
def test_a_call_fails(
    when: Callable[[Callable[[], BaseException]], Fault],
    error: Callable[[], BaseException],
    world: World,
) -> None:
    """I3, I7, I8: whichever call fails, done or not, it costs one request at most and no login."""
    for number, _, life in points(world):
        life.store.plan(when(error), number)
        live(life)
        assert life.store.befell is not None


@pytest.mark.parametrize("error", ERRORS[:3], ids=IDS[:3])
@pytest.mark.parametrize("when", [before, after])
def test_a_store_dies_and_comes_back(
    when: Callable[[Callable[[], BaseException]], Fault],
    error: Callable[[], BaseException],
    world: World,
) -> None:
    """I3, I7, I8: dead from any call on, and back when a request has failed: all is stored."""
    for number, _, life in points(world):
        life.store.plan(when(error), number, 10_000)
        live(life)


def test_a_call_hangs(world: World) -> None:
    """I3, I5: while any call hangs, callers end at their deadlines; then the login is intact."""
    for number, _, life in points(world):
        life.store.plan(hangs, number)
        for step in STEPS:
            life.prepare(step)
            first, second = Asking(life, step), None
            while not life.store.hung.is_set() and not (first.ended() and life.source._idle):
                pass  # `ended` waits a little
            if life.store.hung.is_set():
                second = Asking(life, "use")
                in_store = step in ("login", "logout")  # they block for the store, and say so
                for asking in [second] if in_store else [first, second]:
                    asking.ends_by_its_deadline()
                life.store.release.set()
                life.store.hung.clear()
            while not first.ended():
                pass
            life.settle()
            life.clock.advance(LONG)
            if step != "logout":
                assert life.get() == 200
                life.settle()
                life.check()
        life.check_over()
        assert life.store.befell is not None


class Asking:
    """A step of a life in a thread of its own."""

    def __init__(self, life: Life, step: str) -> None:
        self._life, self._step = life, step
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._life.act(self._step)
        except RefreshError as error:
            self.error = error

    def ended(self) -> bool:
        self._thread.join(0.001)
        return not self._thread.is_alive()

    def ends_by_its_deadline(self) -> None:
        """The time is over: it ends, though what it waits for hangs."""
        gate = self._life.source._gate
        for _ in range(5000):
            if self.ended():
                return
            self._life.clock.advance(1.0)
            with gate._changed:
                gate._changed.notify_all()
        raise AssertionError(f"{self._step} hangs with the store in {self._life.step}")


@pytest.mark.parametrize("fault", [not_done, after(lambda: StoreConflict("no"))])
def test_a_save_lies(fault: Fault, world: World) -> None:
    """I7: what a store only says it saved is in use, and stored at the next renewal."""
    # Another process has the store only, and would spend what that says is there.
    alone = tuple(step for step in STEPS if step != "elsewhere")
    for number, _, life in points(world, "save", steps=alone):
        life.store.plan(fault, number)
        if number == 0 and fault is not_done:
            # The login was never stored, so at its first renewal it is over, as if logged out.
            life.play("login")
            life.check(memory=True)
            life.prepare("refused")
            with pytest.raises(LoginRequired):
                life.act("refused")
            life.settle()
            life.play("login")
            assert life.get() == 200
            continue
        live(life, alone, memory=fault is not_done)


def test_a_conflict_for_nothing(world: World) -> None:
    """I7: a save or delete that says something else is there is tried again, or said to fail."""
    for number, _, life in points(world, "save", "delete"):
        life.store.plan(before(lambda: StoreConflict("no")), number)
        live(life)


def test_a_delete_lies(world: World) -> None:
    """I3: a logout that the store did not do: whoever asks gets an answer, and can log out."""
    for number, _, life in points(world, "delete"):
        life.store.plan(not_done, number)
        for step in STEPS:
            life.play(step)
        assert life.get() == 200  # a login is stored, so it counts
        life.source.logout()
        life.check_over()


def test_a_load_finds_an_old_token(world: World) -> None:
    """I1, I7: a token that went before is neither used again nor spent again."""
    for number, name, life in points(world, "load"):
        if number > 7:  # before, there was none
            life.store.plan(old, number)
            live(life)
            assert life.store.befell == name


def test_a_load_finds_nothing(world: World) -> None:
    """I8: a store that loads nothing at times logs nobody out for good: what it holds goes on."""
    for number, _, life in points(world, "load"):
        life.store.plan(not_done, number)
        for step in STEPS[:-1]:
            life.play(step)
            life.check()
        life.play("logout")
        life.check_over()


def test_a_load_finds_the_token_of_another(world: World) -> None:
    """I3: it is taken for a login of this one, as nothing tells it from that; nobody hangs."""

    def of_another(store: Disturbed, do: Do) -> Token:
        return Token.from_reply(world.server.login("another"))

    for number, _, life in points(world, "load"):
        life.store.plan(of_another, number)
        for step in STEPS[:-1]:
            life.play(step)
            assert life.get() == 200
            if life.store.befell:
                break
        else:
            raise AssertionError("it was never loaded")


def test_exclusive_excludes_nobody(world: World) -> None:
    """I7: an `exclusive` that only says it holds: where nobody else renews, nothing is lost."""
    for number, _, life in points(world, "enter", "leave"):
        life.store.plan(not_done, number)
        live(life)


def test_a_wait_returns_at_once(world: World) -> None:
    """I3: a wait that does not wait is asked again, and again the store is looked at."""

    def at_once(store: Disturbed, do: Do) -> object:
        waits = store.calls.count("wait")
        return do() if store.calls[-1] != "wait" or waits >= 50 else None

    for number, _, life in points(world, "wait"):
        life.store.plan(at_once, number, 10_000)
        for step in STEPS:
            life.play(step)
        assert life.failures == []
        assert life.store.calls.count("wait") >= 50
