"""Real `TokenSource`s, led step by step along a path of the model.

Each source has a `Stepping` store and a grant of its own, over one real store and one real
`Provider`. Whatever call a round makes of them waits until the path says that it is made, so where
a source stands is known, and is compared with the model, as are what is stored, what it uses and
what its caller was told. Nothing here sleeps, and the clock of the sources stands still.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from requests_refresh import (
    LoginRequired,
    RefreshTimeout,
    RefreshUnavailable,
    StoreError,
    TokenSource,
    TokenStore,
)
from requests_refresh import Token as RealToken
from requests_refresh.errors import RefreshError
from requests_refresh.stores import ANY
from requests_refresh.testing.provider import Provider

from .fleet import Move, Process, Rules, Token

SAFETY = 60.0  # seconds; only a fault needs them
#: The call that a process makes where it stands in the model, if not one of that name.
CALLS = {
    **dict.fromkeys(("look", "wait", "reload", "there", "refused"), "load"),
    "surely": "assure",
}


class Stepping(TokenStore):
    """One process's view of the store; also its grant, and what happens to it."""

    def __init__(self, inner: TokenStore, fleet: Fleet) -> None:
        self._inner, self._fleet = inner, fleet
        self._changed = threading.Condition()
        self._at: str | None = None  # the call that waits; guarded by _changed
        self._word: str | None = None  # what becomes of it; guarded by _changed
        self.free = True  # nothing waits, at first
        self.crashed = False

    def _arrive(self, call: str) -> str:
        if self.free:
            return "go"
        with self._changed:
            if self.crashed:
                raise StoreError("what tidies up after the crash reaches nothing")
            self._at, self._word = call, None
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._word or self.crashed, SAFETY)
            if self.crashed:
                raise SystemExit  # no code of ours goes on from here
            assert self._word is not None
            return self._word

    def say(self, word: str) -> None:
        with self._changed:
            self._at, self._word = None, word
            self._changed.notify_all()

    def crash(self) -> None:
        with self._changed:
            self._at, self.crashed = None, True
            self._changed.notify_all()

    def arrived(self) -> str | None:
        """The call that it comes to next; blocks."""
        with self._changed:
            self._changed.wait_for(lambda: self._at, SAFETY)
            return self._at

    def load(self, identity: str) -> RealToken | None:
        self._arrive("load")
        return self._inner.load(identity)

    def save(self, identity: str, token: RealToken, *, replacing: Any = ANY) -> None:
        self._arrive("save")
        self._inner.save(identity, token, replacing=replacing)

    def delete(self, identity: str, *, replacing: Any = ANY) -> None:
        self._arrive("delete")
        self._inner.delete(identity, replacing=replacing)

    def wait(self, identity: str, timeout: float) -> None:
        """The load that follows waits."""

    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[Stepping]:
        assert timeout == 0.0  # a single try
        self._arrive("enter")
        with ExitStack() as place:
            if not self._fleet.rules.lease:
                place.enter_context(self._inner.exclusive(identity, 0.0))  # ends with its holder
            elif self._fleet.holder is not None:
                raise RefreshTimeout
            else:
                self._fleet.holder = self
            yield self
            self._arrive("leave")
            if self._fleet.holder is self:
                self._fleet.holder = None

    def assure(self, seconds: float) -> bool:
        self._arrive("assure")
        return not self._fleet.rules.lease or self._fleet.holder is self

    def grant(self, token: RealToken | None) -> dict[str, Any]:
        lost = RefreshUnavailable("lost", retry_after=0.0, outcome_unknown=True)
        if self._arrive("ask") == "lost":
            raise lost
        if token is None or token.refresh_token is None:
            raise LoginRequired("declined")
        reply = self._fleet.provider.renew(token.refresh_token)
        if self._arrive("answer") == "lost":
            raise lost
        if isinstance(reply, str):
            raise LoginRequired(error=reply)
        return reply


class Fleet:
    """As many sources as the model has processes."""

    def __init__(self, rules: Rules, stores: list[TokenStore]) -> None:
        self.rules, self.inner = rules, stores[0]
        self.provider = Provider(
            lifetime=math.inf,
            expires_in=False,
            rotation=rules.provider != "fixed",
            grace=math.inf if rules.provider == "grace" else 0.0,
        )
        self.holder: Stepping | None = None  # of the lease
        self._now = [time.monotonic()] * len(stores)  # on the clock of each
        self._log_in()
        self._steps = [Stepping(store, self) for store in stores]
        self._sources = [TokenSource(s.grant, s, strikes=None) for s in self._steps]
        self._callers: list[threading.Thread | None] = [None] * len(stores)
        self._told: list[str] = [""] * len(stores)
        for number, source in enumerate(self._sources):
            source._clock = partial(self._now.__getitem__, number)
            if number < rules.processes - rules.cold:
                source.token()
            self._steps[number].free = False

    def _log_in(self) -> None:
        self.inner.save("default", RealToken.from_reply(self.provider.login()))

    def make(self, move: Move) -> None:
        """Let happen what the move says."""
        if move.process is None:
            if move.what == "login":
                self._log_in()
            elif move.what == "logout":
                self.inner.delete("default")
            return  # an expiry shows when the token is used
        number, step = move.process, self._steps[move.process]
        if move.what == "use":
            self._use(number)
        elif move.what == "crash":
            step.crash()
            self._end(number)
        elif move.what in ("stop", "its lease ends"):
            assert self.holder is step
            self.holder = None
        else:
            step.say("lost" if move.what == "lost" else "go")

    def _use(self, number: int) -> None:
        self._now[number] += 7200.0  # no failure is held back from for so long
        source = self._sources[number]
        current = source._gate.current
        ask: Callable[[], object] = source.token
        if current is not None:
            ask = partial(source.renew, current.token)

        def call() -> None:
            try:
                ask()
            except LoginRequired:
                self._told[number] = "out"
            except RefreshUnavailable:
                self._told[number] = "unavailable"
            except RefreshError as error:
                self._told[number] = repr(error)
            else:
                self._told[number] = "token"

        self._told[number] = ""
        caller = threading.Thread(target=call, daemon=True)
        self._callers[number] = caller
        caller.start()

    def _end(self, number: int) -> None:
        """Let its caller and its round come to their ends."""
        caller = self._callers[number]
        if caller is not None:
            caller.join(SAFETY)
            assert not caller.is_alive()
        source = self._sources[number]
        if self._steps[number].crashed:
            source._place.unsaved = None  # it was in memory
        source.close()

    def stands(self, number: int, process: Process) -> tuple[str | None, RealToken | None, str]:
        """Where a source stands, the token it uses, and what its caller was told."""
        if process.at == "crashed":
            return "crashed", None, ""
        at: str | None = "idle"
        if process.at == "idle":
            self._end(number)
        else:
            at = self._steps[number].arrived()
        current = self._sources[number]._gate.current
        return at, None if current is None else current.token, self._told[number]

    def close(self) -> None:
        for number, step in enumerate(self._steps):
            if not step.crashed:
                step.crash()
                self._end(number)


class Names:
    """Which real token is which of the model's: told once, and then held to."""

    def __init__(self) -> None:
        self._real: dict[Token, tuple[str | None, str | None]] = {}
        self._refresh: dict[tuple[int, int], str | None] = {}

    def check(self, token: Token | None, real: RealToken | None) -> None:
        assert (token is None) == (real is None), (token, real)
        if token is None or real is None:
            return
        pair = real.access_token, real.refresh_token
        assert self._real.setdefault(token, pair) == pair, token
        assert [*self._real.values()].count(pair) == 1, token
        generation = token.login, token.refresh
        assert self._refresh.setdefault(generation, pair[1]) == pair[1], token


def follow(rules: Rules, stores: list[TokenStore], path: list[Move]) -> None:
    """Go along a path of the model, and find the real sources where the model says."""
    fleet, names = Fleet(rules, stores), Names()
    try:
        for count, move in enumerate(path):
            fleet.make(move)
            world = move.world
            where = f"step {count}: {move.process} {move.what}"
            stands = [fleet.stands(*each) for each in enumerate(world.processes)]
            for process, (at, current, told) in zip(world.processes, stands, strict=True):
                assert at == CALLS.get(process.at, process.at), (where, at, process)
                if at != "crashed":
                    names.check(process.current, current)
                if at == "idle":
                    assert told == process.ending, where
            names.check(world.stored, fleet.inner.load("default"))
            refreshes = sum(login.issued for login in world.logins)
            assert fleet.provider.counts.refreshes == refreshes, where
    finally:
        fleet.close()
