"""What comes from outside while a source renews: logins, other processes, a bad store."""

from __future__ import annotations

from typing import Any

from requests_refresh.errors import StoreError

from .scheduler import Run
from .source_pieces import peek
from .source_scenarios import BEGIN
from .source_world import LIFE, Check, Scenario, SourceWorld

# ------------------------------------------------------------ login and logout


def login(run: Run) -> Check:
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    world.requests("a", "b")
    new = world.make("L", BEGIN)

    def go() -> None:
        world.provider.good.add("rL")
        world.events.append("login")
        world.source.login(new)

    run.add("login", go)

    def check() -> None:
        assert world.provider.calls <= 1, f"I1: {world.provider.calls} calls"
        world.provider.newest = "rL"
        world.check()
        used = peek(world.source._gate, "current")
        assert used is not None
        assert used.token.access_token == "aL", "a late result went over the login"
        assert world.store.token is not None
        assert world.store.token.same_issue(new), "the store has another login"
        assert set(world.found()) <= {"a1", "aL"}, world.found()

    return check


def logout(run: Run, *, revoke: bool = False, names: str = "a") -> Check:
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    world.requests(*names)

    def go() -> None:
        world.events.append("logout")
        world.source.logout(revoke=revoke)

    run.add("logout", go)

    def check() -> None:
        assert world.provider.calls <= 1, f"I1: {world.provider.calls} calls"
        world.check(over=True, logouts=len(world.ended))
        assert world.store.token is None, "the login came back"
        assert peek(world.source._gate, "current") is None, "a late result brought it back"
        assert set(world.found()) <= {"a1", "LoginRequired"}, world.found()
        if revoke:
            assert not world.provider.good, "what was issued last lives on at the provider"

    return check


def logout_and_revoke(run: Run, *, names: str = "a") -> Check:
    return logout(run, revoke=True, names=names)


# ---------------------------------------------------------- other processes


def sibling(run: Run, *, names: str = "a") -> Check:
    """Another process renews by the same store."""
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    other = world.another()
    world.requests(*names)
    world.requests("other", source=other)

    def check() -> None:
        world.check(1)
        assert set(world.found()) == {"a1"}, world.found()

    return check


def sibling_by_the_clock(run: Run) -> Check:
    """The same with the clock, through two expiries, and no look at the store before."""
    world = SourceWorld(run, life=LIFE, used=LIFE, warm=False)
    other = world.another()
    world.requests("a", times=2, gap=LIFE)
    world.requests("other", source=other, times=2, gap=LIFE)

    def check() -> None:
        world.check(2)
        assert world.found() == ["a1", "a2"] * 2, world.found()

    return check


def sibling_saves(run: Run) -> Check:
    """Somebody logs in elsewhere in the middle: a conflict at the save, if he comes between."""
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    world.requests("a", "b")
    new = world.make("L", BEGIN)

    def go() -> None:
        world.provider.good.add("rL")
        world.store.save("default", new)

    run.add("elsewhere", go)

    def check() -> None:
        assert world.provider.calls <= 1, f"I1: {world.provider.calls} calls"
        world.provider.newest = "rL"
        world.check()
        assert set(world.found()) <= {"a1", "aL"}, world.found()
        assert world.store.token is not None
        assert world.store.token.access_token == "aL", "a newer login was overwritten"

    return check


def logged_out_elsewhere(run: Run) -> Check:
    """The store is emptied in the middle: a late save must not bring the login back."""
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    world.requests("a", "b")

    def go() -> None:
        world.events.append("logout")
        world.store.delete("default")

    run.add("elsewhere", go)

    def check() -> None:
        assert world.provider.calls <= 1, f"I1: {world.provider.calls} calls"
        world.check(over=True, logouts=len(world.ended))
        assert len(world.ended) <= 1
        assert set(world.found()) <= {"a1", "LoginRequired"}, world.found()

    return check


def an_old_one_comes_back(run: Run) -> Check:
    """A backup is put back after the first renewal; its refresh token is used up."""
    world = SourceWorld(run)
    world.refused_since = [BEGIN, BEGIN + 50.0]
    world.requests("a", "b", times=2, gap=50.0)

    def go() -> None:
        run.sleep(20.0)
        world.enter("restore")
        world.store.put(world.first)

    run.add("restore", go)

    def check() -> None:
        world.check(2)
        assert world.found() == ["a1", "a2"] * 2, world.found()

    return check


# --------------------------------------------------------------- a bad store


def save_fails(run: Run, *, times: int = 2, close: bool = False) -> Check:
    """The store refuses a few saves after the provider has answered."""
    world = SourceWorld(run, timeout=6.0 if times > 20 else 30.0)
    world.memory_only = times > 10
    world.refused_since = [BEGIN]
    world.store.refuses_saves = times
    world.requests("a", "b")
    world.requests("later", after=60.0)

    def closes() -> None:
        run.sleep(1.0)
        world.source.close()
        world.events.append(peek(world.source._place, "unsaved") is None)

    if close:
        run.add("close", closes)

    def check() -> None:
        world.check(1)
        assert world.found() == ["a1"] * 3, world.found()
        assert world.store.token is not None
        assert world.store.token.refresh_token == "r1", "I7: it was never stored"
        assert world.events in ([], [True]), "close() left it unsaved"

    return check


def save_fails_for_long(run: Run) -> Check:
    return save_fails(run, times=70)


def close_in_the_middle(run: Run) -> Check:
    return save_fails(run, times=20, close=True)


def nobody_can_enter(run: Run) -> Check:
    """The store is down before: no refresh token is spent, and everyone is told."""
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    world.requests("a", "b", "c")

    def down(identity: str, timeout: float) -> object:
        world.enter("exclusive")
        raise StoreError("the server is down")

    world.store.exclusive = down  # type: ignore[method-assign]

    def check() -> None:
        world.check(0)
        assert world.found() == ["StoreError"] * 3, world.found()

    return check


def save_is_interrupted(run: Run) -> Check:
    """What is no Exception leaves the store at the save: the round ends, its token is saved."""
    world = SourceWorld(run)
    world.refused_since = [BEGIN]
    save, left = world.store.save, [1]

    def interrupted(*args: Any, **options: Any) -> None:
        if left:
            left.pop()
            world.enter("save")
            raise SystemExit
        save(*args, **options)

    world.store.save = interrupted  # type: ignore[method-assign]
    world.requests("a")
    world.requests("later", after=60.0)

    def check() -> None:
        world.check(1)
        assert set(world.found("a")) <= {"RefreshError", "a1"}, world.found()
        assert world.found("later") == ["a1"], world.found()

    return check


CHANGES: dict[Scenario, str] = {
    login: "A login in the middle counts, here and in the store.",
    logout: "A logout in the middle is not undone by a late save.",
    logout_and_revoke: "What was issued last is ended at the provider, too.",
    sibling: "I1: two processes make one call.",
    sibling_by_the_clock: "I1: so they do through two ends.",
    sibling_saves: "I7: a login elsewhere is never overwritten.",
    logged_out_elsewhere: "A login that was ended elsewhere does not come back.",
    an_old_one_comes_back: "I1: a backup's used-up refresh token is not used again.",
    save_fails: "I6, I7: it is saved before it is used, though a few saves fail.",
    save_fails_for_long: "I7: what cannot be saved in time is used, and saved at last.",
    close_in_the_middle: "I7: close() lets the pending save end.",
    save_is_interrupted: "I7: what is no Exception loses no token, and leaves nothing held.",
    nobody_can_enter: "I7: nothing is spent that could not be stored.",
}
