"""One login's whole life, played against a real server, with a point for all that can go wrong.

A `Life` is a source with a store that tests disturb. Its steps are everything that befalls a
login: it begins, its token is refused, dies by the clock, is renewed elsewhere and ahead of its
end, and the login ends. Each call of the store, the grant and the clock is a point with a
number, and a fault is a function that is called there in place of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from requests_refresh import (
    ANY,
    LoginRequired,
    MemoryStore,
    RefreshAdapter,
    RefreshError,
    Token,
    TokenSource,
    TokenStore,
)
from requests_refresh.stores.base import Replacing
from requests_refresh.testing import AuthServer

SAFETY = 30.0  # seconds; what takes longer hangs
LONG = 1000.0  # seconds; beyond every deadline and every backoff, but not a token's life
TIMEOUT = 10.0  # seconds that a caller of these sources waits
STEPS = ("login", "use", "refused", "clock", "elsewhere", "ahead", "logout")

Do = Callable[[], Any]
Fault = Callable[["Disturbed", Do], Any]
"""Called at a point, with what would have been done there."""


class Clock:
    """A monotonic clock that moves by what is slept, or by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.stopped = False

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        if not self.stopped:
            self.now += seconds


@contextmanager
def naps(clock: Clock) -> Iterator[None]:
    """Pauses are short, and the clock moves by what they should have been."""
    really = time.sleep

    def nap(seconds: float) -> None:
        clock.advance(seconds)
        really(min(seconds, 0.001))

    time.sleep = nap  # type: ignore[assignment]  # nobody here sleeps for an index
    try:
        yield
    finally:
        time.sleep = really


class Disturbed(TokenStore):
    """Does what `base` does, but for the calls that befall a fault.

    first, last: numbers of the calls that `fault` takes the place of.
    """

    def __init__(self, base: TokenStore | None = None) -> None:
        self.base = MemoryStore() if base is None else base
        self.calls: list[str] = []
        self.fault: Fault | None = None
        self.first, self.last = 0, -1
        self.befell: str | None = None  # the name of the first call that it befell
        self.saved: list[Token] = []
        self.on_wait: Callable[[], None] = lambda: None
        self.hung, self.release = threading.Event(), threading.Event()
        self._count = threading.Lock()

    def plan(self, fault: Fault, first: int, last: int | None = None) -> None:
        self.fault, self.first, self.last = fault, first, first if last is None else last

    def heal(self) -> None:
        """What has befallen is over; what has not come yet still comes."""
        if self.befell is not None:
            self.last = -1

    def point(self, name: str, do: Do) -> Any:
        with self._count:
            number = len(self.calls)
            self.calls.append(name)
            faulty = self.first <= number <= self.last
            if name == "grant" and self.first != self.last:
                faulty = False  # a store that is dead, and a provider that is not
            if faulty:
                self.befell = self.befell or name
        return self.fault(self, do) if faulty and self.fault else do()

    def load(self, identity: str) -> Token | None:
        found: Token | None = self.point("load", lambda: self.base.load(identity))
        return found and Token.from_mapping(found.to_mapping())  # told anew, as from a disk

    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        def save() -> None:
            self.base.save(identity, token, replacing=replacing)
            self.saved.append(token)

        self.point("save", save)

    def delete(self, identity: str, *, replacing: Replacing = ANY) -> None:
        self.point("delete", lambda: self.base.delete(identity, replacing=replacing))

    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        held: list[AbstractContextManager[Any]] = []

        def enter() -> None:
            inner = self.base.exclusive(identity, timeout)
            inner.__enter__()
            held.append(inner)

        def leave() -> None:
            while held:
                held.pop().__exit__(None, None, None)

        try:
            self.point("enter", enter)
            yield
            self.point("leave", leave)
        finally:
            leave()  # as a lease would end: a fault in leaving does not hold it for ever

    def wait(self, identity: str, timeout: float) -> None:
        def wait() -> None:
            self.on_wait()
            self.base.wait(identity, min(timeout, 0.001))

        self.point("wait", wait)


class World:
    """A server for many lives, and connections that they share."""

    def __init__(self, server: AuthServer) -> None:
        self.server = server
        self.grant = server.grant()
        self.inner = HTTPAdapter()
        self.lives = 0

    def newest(self, identity: str) -> str | None:
        """The refresh token that the provider takes next; None if the login is over."""
        with self.server._changed:
            living = [one for one in self.server._logins if one.identity == identity and one.alive]
        return living[-1].refresh_token if living else None


class Life:
    """One login, from its beginning to its end."""

    def __init__(
        self,
        world: World,
        store: Disturbed | None = None,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        world.lives += 1
        self.world = world
        self.identity = f"user-{world.lives}"
        self.store = store or Disturbed()
        self.clock = clock or Clock()
        self.grants = 0
        self.logouts = 0
        self.failures: list[tuple[str, BaseException]] = []
        self.step = ""
        self._peer: AbstractContextManager[Any] | None = None
        self._peers = threading.Lock()
        options.setdefault("timeout", TIMEOUT)
        self.source = TokenSource(
            self._grant, self.store, identity=self.identity, on_logout=self._over, **options
        )
        self.source._clock = self.clock
        self.http = requests.Session()
        self.http.trust_env = False
        adapter = RefreshAdapter(self.source, origins=world.server.api, inner=world.inner)
        self.http.mount(world.server.api, adapter)
        self.store.on_wait = self.peer_ends

    def _grant(self, old: Token | None) -> Any:
        self.grants += 1
        return self.store.point("grant", lambda: self.world.grant(old))

    def _over(self, source: TokenSource, error: LoginRequired) -> None:
        self.logouts += 1

    def get(self) -> int:
        return self.http.get(self.world.server.api + "items", timeout=SAFETY).status_code

    def peer_begins(self) -> None:
        """Another process is renewing: it holds `exclusive` until somebody waits for it."""
        self._peer = self.store.base.exclusive(self.identity, 0)
        self._peer.__enter__()

    def peer_ends(self) -> None:
        with self._peers:
            peer, self._peer = self._peer, None
        if peer is not None:
            # In a thread of its own: it has no part in the round that may be calling this.
            other = threading.Thread(target=self._peer_renews)
            other.start()
            other.join()
            peer.__exit__(None, None, None)

    def _peer_renews(self) -> None:
        stored = self.store.base.load(self.identity)
        issued = self.world.grant(stored)
        token = issued if isinstance(issued, Token) else Token.from_reply(issued, stored)
        self.store.base.save(self.identity, token, replacing=stored)

    def prepare(self, step: str) -> None:
        """What befalls the login in this step."""
        self.step = step
        if step in ("refused", "elsewhere", "clock"):
            self.world.server.revoke_access(self.identity)
        if step == "elsewhere":
            self.peer_begins()
        current = self.source._gate.current
        if step == "clock":
            self.clock.advance(4000)
        elif step == "ahead" and current is not None:
            end = (current.ahead_at + current.dead_at) / 2
            self.clock.advance(max(0.0, end - self.clock.now))

    def act(self, step: str) -> None:
        """What the program does in this step. Raises what it gets to see."""
        if step == "login":
            self.source.login(self.world.server.login(self.identity))
        elif step == "logout":
            self.source.logout()
        else:
            status = self.get()
            assert status == 200, f"{status} in {step}"

    def settle(self) -> None:
        """The store works again, a peer ends, and so does whatever runs here."""
        self.peer_ends()
        tick, polls = threading.Event(), 0
        while True:
            self.store.heal()  # again and again, as it may befall what is in the background
            if self.source._idle:
                break
            tick.wait(0.001)
            polls += 1
            assert polls < 10_000, f"work was left over after {self.step}"
        self.source.close()

    def play(self, step: str, allowed: tuple[type[BaseException], ...] = ()) -> None:
        """One step; what fails by a fault is tried once more when that is over, and works."""
        self.prepare(step)
        try:
            self.act(step)
        except BaseException as error:
            if self.store.befell is None or not isinstance(error, (RefreshError, *allowed)):
                raise  # no fault explains it
            self.failures.append((step, error))
            self.settle()
            self.clock.advance(LONG)  # no backoff lasts as long
            self.act(step)
        self.settle()

    def check(self, *, memory: bool = False) -> None:
        """I7, I8: the provider's newest refresh token is where it belongs. memory: or in use."""
        newest = self.world.newest(self.identity)
        assert newest is not None, f"the login is lost in {self.step}"
        stored = self.store.base.load(self.identity)
        known = {stored and stored.refresh_token}
        current = self.source._gate.current
        if memory and current is not None:
            known.add(current.token.refresh_token)
        assert newest in known, f"the newest refresh token is nowhere after {self.step}"

    def check_over(self) -> None:
        """After the logout: nothing is stored, and who asks is told."""
        assert self.store.base.load(self.identity) is None
        try:
            self.get()
        except LoginRequired:
            return
        raise AssertionError("a request went through after the logout")

    def close(self) -> None:
        self.store.release.set()
        self.settle()
        self.http.close()


def record(world: World, steps: tuple[str, ...] = STEPS) -> list[str]:
    """The calls of a life that nothing disturbs."""
    life = Life(world)
    with naps(life.clock):
        for step in steps:
            life.play(step)
            if step != "logout":
                life.check()
        calls = life.store.calls[:]
        life.check_over()
        life.close()
    assert life.grants == 3
    assert not life.failures
    return calls
