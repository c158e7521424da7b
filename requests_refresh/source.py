"""Where a token comes from: fresh? near its end? dead? Then ask the gate.

`TokenSource` hands out the current token of one identity and renews it once
for all who use it: the threads of this process by its gate, other processes
and hosts by the store. While a token is fresh, handing it out is two attribute
reads and a look at the clock: no lock, no store.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import lifecycle
from .errors import ConfigurationError, LoginRequired, RefreshError, RefreshLoop
from .gate import Gate, Round, start_thread
from .renewal import Renewal
from .settings import as_login, check_settings, require
from .stores import MemoryStore, TokenStore
from .strikes import Strikes
from .tokens import Current, Outcome, Token

log = logging.getLogger("requests_refresh")

Grant = Callable[[Token | None], Token | Mapping[str, Any] | str]
"""How a token is obtained: it gets the old one, or None where nothing is stored."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a source has done in this process so far. Counts, and one sum of seconds."""

    refreshes: int  # new tokens from the provider
    adoptions: int  # newer tokens of somebody else's that were taken instead
    waits: int  # calls that waited for a round
    wait_seconds: float  # how long they waited, added up
    failures: int  # rounds that ended with an error
    replays: int  # requests that were sent again
    unreplayable: int  # refused requests whose body could not be sent again
    strikes: int  # tokens that were refused right after their issue


class TokenSource:
    """Hands out the current token of one identity, and renews it once for all.

    grant: any callable `(Token or None) -> Token`, OAuth reply mapping or str.
        It runs in a thread of its own, one call at a time for each source.
    store: a TokenStore, a URL for `open_store`, or None for a MemoryStore.
    identity: whose token: the key in the store.
    token: a first Token, a str (an access token) or an OAuth reply. Saved at
        the first use, and only if the store holds none.
    relogin: a callable `() ->` what a grant may return; called when refreshing
        is impossible or refused for good.
    ahead: seconds before its end at which a token is renewed in the background,
        at most half its life. None: a tenth of its life, at most 300 s, at
        least four times what the last refresh took, and up to a third earlier
        at random, so that a fleet does not refresh at once.
    leeway: seconds before its end at which a token counts as dead. None: 2 %
        of its life, at most 5 s.
    background: False: the first caller in a token's last part refreshes it and
        waits; the others go on with it.
    timeout: seconds; the longest that a caller waits, and that a round works.
    strikes: (n, seconds): after n refusals of just-issued tokens within so
        many seconds, no 401 refreshes until they have passed. None: no limit.
    on_refresh: called as `on_refresh(source, token)` after each refresh.
    on_logout: called once as `on_logout(source, error)` when the login is over.
        Both run after the outcome is public and outside every lock, on the
        round's thread; what they raise is logged.

    Raises ConfigurationError for settings that cannot be right. All methods
    may be called from any thread. A copy is the same source; a pickle carries
    no secret, and in the same process it is the same source again.
    """

    def __init__(
        self,
        grant: Grant,
        store: TokenStore | str | None = None,
        *,
        identity: str = "default",
        token: Token | Mapping[str, Any] | str | None = None,
        relogin: Callable[[], Any] | None = None,
        ahead: float | None = None,
        leeway: float | None = None,
        background: bool = True,
        timeout: float = 30.0,
        strikes: tuple[int, float] | None = (3, 30.0),
        on_refresh: Callable[[TokenSource, Token], object] | None = None,
        on_logout: Callable[[TokenSource, LoginRequired], object] | None = None,
    ) -> None:
        store = check_settings(
            grant,
            store,
            identity,
            ahead,
            leeway,
            timeout,
            strikes,
            (relogin, on_refresh, on_logout),
        )
        self._settings = {  # what a pickle carries; the first token is a secret and does not
            "grant": grant,
            "store": store,
            "identity": identity,
            "relogin": relogin,
            "ahead": ahead,
            "leeway": leeway,
            "background": background,
            "timeout": timeout,
            "strikes": strikes,
            "on_refresh": on_refresh,
            "on_logout": on_logout,
        }
        self.identity = identity
        self._grant = grant
        self._store = store
        self._timeout = float(timeout)
        self._background = background
        self._on_refresh = on_refresh
        self._on_logout = on_logout
        self._clock: Callable[[], float] = lambda: time.monotonic()
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("refreshes", "failures", "replays", "unreplayable"), 0)
        self._warned_at = -math.inf
        self._strikes = Strikes(strikes, lambda: self._clock())
        self._renewal = Renewal(
            grant,
            store,
            identity,
            first=None if token is None else as_login(token),
            relogin=relogin,
            ahead=ahead,
            leeway=leeway,
            issued=self._note_issued,
        )
        self._jobs = lifecycle.Jobs(lambda: self._clock(), self._timeout, start_thread)
        self._gate = Gate(
            self._work,
            after=self._after,
            forbid=self._strikes.forbid,
            clock=lambda: self._clock(),
            spawn=self._jobs.spawn,
        )
        self._renewal.gate = self._gate
        self._key = uuid.uuid4().hex
        lifecycle.watch_work(self._key, self)

    # ---------------------------------------------------------- the public

    def token(self, timeout: float | None = None) -> Token:
        """The current token, renewed first if it is dead. Never blocks while it lives.

        timeout: seconds to wait at most; None: the source's own.

        Raises LoginRequired, RefreshRefused, RefreshUnavailable, InvalidReply,
        StoreError or RefreshTimeout. Thread-safe.
        """
        current = self._gate.current
        if current is not None and self._clock() < current.ahead_at:
            return current.token
        return self._settle(self._deadline(timeout)).token

    def renew(self, stale: Token, timeout: float | None = None) -> Token:
        """A token in place of `stale`, which the API has refused. Blocks.

        Never refreshes when a living token other than `stale` is current: then
        that one is adopted. timeout and errors as for `token`, and RefreshLoop
        when too many just-issued tokens were refused. Thread-safe.
        """
        require(isinstance(stale, Token), "renew needs the Token that was refused")
        return self._renew(stale, self._deadline(timeout)).token

    def login(self, token: Token | Mapping[str, Any] | str) -> None:
        """Use and store `token` from now on: a Token, an OAuth reply or an access token.

        Ends backoff and dead logins; who waits for a round gets this one.
        Blocks for the store. Raises InvalidReply or StoreError, and then
        nothing has changed. Thread-safe.
        """
        issue = as_login(token)
        self._renewal.save_login(issue)
        self._strikes.reset()
        self._gate.replace(self._renewal.current(issue))

    def logout(self, revoke: bool = False) -> None:
        """Forget the token, here and in the store. Whoever asks for it gets LoginRequired.

        revoke: tell the provider, too (RFC 7009); only with a grant that has a
        `revoke(token)`. Blocks for the store. Raises StoreError, or
        ConfigurationError for a grant that cannot revoke; nothing has changed
        then. Thread-safe.
        """
        revoker = getattr(self._grant, "revoke", None)
        if revoke and revoker is None:
            raise ConfigurationError(
                "This grant cannot revoke tokens. Nothing has changed. Call logout() without"
                " revoke, or give the grant a revoke(token) method."
            )
        stored = self._renewal.load() if revoke else None
        self._renewal.forget()
        self._gate.replace(
            None, LoginRequired("The login was ended by logout(). Log in again, with login().")
        )
        if stored is not None and revoker is not None:
            revoker(stored)

    def close(self) -> None:
        """Let a running round and a pending save end; blocks for `timeout` seconds at most.

        For workers that leave by `os._exit`; an ordinary exit does it by
        itself. The source may be used again afterwards. Thread-safe.
        """
        self._let_work_end(self._clock())

    @property
    def stats(self) -> Stats:
        """What was done in this process so far. Does not block."""
        gate = self._gate
        return Stats(
            adoptions=gate.adoptions,
            waits=gate.waits,
            wait_seconds=gate.wait_seconds,
            strikes=self._strikes.count,
            **self._counts,
        )

    def __repr__(self) -> str:
        return f"<TokenSource {self.identity!r}>"

    # --------------------------------------------------- for the adapter

    def _fresh(self) -> Token | None:
        """The current token, unless it is dead or near its end."""
        current = self._gate.current
        if current is not None and self._clock() < current.ahead_at:
            return current.token
        return None

    def _deadline(self, timeout: float | None) -> float:
        if timeout is None:
            timeout = self._timeout
        require(timeout >= 0, "timeout is negative")
        return self._clock() + timeout

    def _settle(self, deadline: float, *, sure: bool = False) -> Outcome:
        """A token for a request to begin with; sure: not one in its last part, if possible."""
        gate, current = self._gate, self._gate.current
        if current is None or self._clock() >= current.dead_at:
            return gate.get(None, deadline, self._limit())
        started = gate.start(current.token, self._limit(), refused=False)
        if not (sure and not gate.holding()) and not (started and not self._background):
            return Outcome(current, refreshed=False)
        try:
            return gate.get(current.token, deadline, self._limit(), refused=False, may_start=False)
        except RefreshError:
            if gate.current is None:  # logged out elsewhere
                raise
            return Outcome(current, refreshed=False)  # it lives: nobody notices

    def _for_request(self, deadline: float, *, sure: bool) -> Outcome:
        """As `_settle`; a dead token rather than an error: let the API decide about it."""
        current = self._gate.current
        dead = current is None or self._clock() >= current.dead_at
        if current is not None and dead and self._gate.holding():
            return Outcome(current, refreshed=False)
        try:
            return self._settle(deadline, sure=sure)
        except LoginRequired:
            raise
        except RefreshError:
            current = self._gate.current
            if current is None or current.token.access_token is None:
                raise
            return Outcome(current, refreshed=False)

    def _renew(self, stale: Token, deadline: float, *, may_start: bool = True) -> Outcome:
        try:
            return self._gate.get(stale, deadline, self._limit(), may_start=may_start)
        except RefreshLoop as exc:
            if may_start:
                self._warn_of_loop(exc)
            raise

    def _could_help(self, stale: Token, refreshed: bool) -> bool:
        """Whether `_renew` has a chance; refreshed: this request had its one refresh."""
        loop = self._gate.hopeless(stale, may_start=not refreshed)
        if loop is not None and not refreshed:
            self._warn_of_loop(loop)
        return loop is None

    def _renew_without_waiting(self, stale: Token) -> None:
        self._count("unreplayable")
        self._gate.start(stale, self._limit(), refused=True)

    def _renewing_here(self) -> bool:
        """Whether the caller is the grant of a running round of this source."""
        return self._gate.within_round()

    def _prove(self, token: Token) -> None:
        if self._strikes.unproven is token:
            self._strikes.prove(token)

    def _strike(self, token: Token) -> None:
        self._strikes.strike(token)

    @property
    def _idle(self) -> bool:
        return self._jobs.idle and self._renewal.unsaved is None

    def _let_work_end(self, began: float) -> None:
        deadline = self._renewal.give_up_saving_at = began + self._timeout
        self._jobs.wait(deadline)
        self._renewal.go_on_saving()  # what no thread could be started for
        self._renewal.give_up_saving_at = math.inf

    def _limit(self) -> float:
        return self._clock() + self._timeout

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def _warn_of_loop(self, error: RefreshLoop) -> None:
        """Once in each window."""
        with self._lock:
            now = self._clock()
            if now - self._warned_at < self._strikes.window:
                return
            self._warned_at = now
        log.warning("%s: %s", self.identity, error)

    # --------------------------------------------------- a round's work

    def _work(self, round_: Round) -> Outcome:
        with self._jobs.counted():
            return self._renewal.work(round_)

    def _note_issued(self, token: Token) -> None:
        self._strikes.issued(token)
        self._count("refreshes")

    def _after(self, round_: Round) -> None:
        """The outcome is public and the waiters are awake: log, call back, go on saving."""
        outcome, error = round_.outcome, round_.error
        if outcome is not None and outcome.refreshed:
            log.info("%s: token refreshed", self.identity)
            self._call_back(self._on_refresh, outcome.token)
        elif outcome is not None:
            log.debug("%s: token adopted", self.identity)
        elif error is not None and round_.held is None:
            self._count("failures")
            if isinstance(error, LoginRequired):
                log.error("%s: the login is over: %s", self.identity, error)
                self._call_back(self._on_logout, error.own_copy())
            else:
                log.warning("%s: no new token: %s", self.identity, error)
        if self._renewal.unsaved is not None and self._jobs.extend():
            self._renewal.go_on_saving()

    def _call_back(self, hook: Callable[..., object] | None, value: object) -> None:
        if hook is None:
            return
        try:
            hook(self, value)
        except Exception:
            log.exception("%s: a callback failed; the outcome stands", self.identity)

    # ------------------------------------------- copies, forks, the exit

    def __copy__(self) -> TokenSource:
        return self

    def __deepcopy__(self, memo: object) -> TokenSource:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (self._key, self._settings)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._gate.reset_after_fork()
        self._jobs.reset()
        self._strikes.reset()
        self._renewal.unsaved = None  # the parent goes on saving it
        if isinstance(self._store, MemoryStore):
            # Two processes must not share a rotating refresh token.
            current, first = self._gate.current, self._renewal.first
            if current is not None:
                last = replace(current.token, refresh_token=None)
                self._gate.current = Current(last, current.dead_at, current.dead_at)
            if first is not None:
                alive = first.access_token is not None
                self._renewal.first = replace(first, refresh_token=None) if alive else None


def _revive(key: str, settings: dict[str, Any]) -> TokenSource:
    """The source of a pickle: the very same one in its own process, else a new one."""
    source = lifecycle.find(key)
    if source is None:
        source = TokenSource(**settings)
        source._key = key
        lifecycle.watch_work(key, source)
    assert isinstance(source, TokenSource)
    return source
