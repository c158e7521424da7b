"""Many identities in one process: a source for each that is in use, and no more.

For web tiers and workers that act for many users. A source is held for as long
as somebody uses it; what outlives it is its access token, in a bounded cache,
so that the next use needs neither the store nor a renewal. A refresh token is
in the store alone.

**One source for an identity.** As long as one lives the pool hands out that
very one, so the requests of an identity meet in one gate. What is evicted from
the cache is a token that the store has as well, never a source: an eviction
cannot begin a second renewal beside one that runs.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from cachetools import LRUCache, TLRUCache

from . import lifecycle
from .errors import ConfigurationError, LoginRequired, RefreshError
from .gate import Gate
from .source import TokenSource
from .tokens import Current


class TokenPool:
    """`pool[identity]` is the source of that identity, the same one for all who use it.

        store, transport = RedisStore("redis://cache.internal/0"), HTTPAdapter(pool_maxsize=50)
        pool = TokenPool(lambda user: TokenSource(grant, store, identity=user), maxsize=10_000)

        with requests.Session() as session:
            session.mount(API, RefreshAdapter(pool[user], origins=API, inner=transport))

    make: a callable `identity -> TokenSource`, whose `identity` is that one.
        Called without a lock, maybe by two threads at a time for one identity;
        one of the two sources is then thrown away unused.
    maxsize: how many access tokens are kept for identities that nobody uses at
        the moment, 1 or more. The least recently used go first, and each goes
        at its end.

    Hold on to what you get for as long as you use it. Thread-safe, and after a
    fork. `pool[identity]` does not block, unless `make` does; it raises
    ConfigurationError for an identity that is no text, and for what `make`
    returns if that is no source for it. A pickle holds no token.
    """

    def __init__(self, make: Callable[[str], TokenSource], *, maxsize: int) -> None:
        if not callable(make):
            raise ConfigurationError("make is not callable; it makes the TokenSource of a user.")
        if isinstance(maxsize, bool) or not isinstance(maxsize, int) or maxsize < 1:
            raise ConfigurationError("maxsize is not a number of access tokens to keep, 1 or more.")
        self._make = make
        self._maxsize = maxsize
        self._lock = threading.Lock()
        self._live: weakref.WeakValueDictionary[str, TokenSource] = (
            weakref.WeakValueDictionary()  # guarded by _lock, as are the next two
        )
        self._last: TLRUCache[str, Current] = TLRUCache(
            maxsize, ttu=lambda identity, current, now: current.dead_at, timer=time.monotonic
        )
        # Of logins that are over, so that the next source does not tell it again.
        self._ended: LRUCache[str, tuple[float, RefreshError]] = LRUCache(maxsize)
        lifecycle.watch(self)

    def __getitem__(self, identity: str) -> TokenSource:
        if not isinstance(identity, str):
            raise ConfigurationError("identity is not a text.")
        with self._lock:
            source = self._live.get(identity)
        if source is not None:
            return source
        made = self._make(identity)
        if not isinstance(made, TokenSource) or made.identity != identity:
            kind = type(made).__name__
            what = repr(made) if isinstance(made, TokenSource) else f"something of the type {kind}"
            del made  # it may be a token
            raise ConfigurationError(
                f"make was to return the TokenSource of {identity!r}, and returned {what}. Give"
                " the source that identity; nothing was changed."
            )
        with self._lock:
            source = self._live.get(identity)
            if source is None:
                source = self._live[identity] = made
                known = self._last.get(identity), self._ended.get(identity)
                made.begin_with(known, partial(self._note, identity))
        return source

    def __len__(self) -> int:
        """How many sources are in use."""
        return len(self._live)

    def close(self) -> None:
        """Let running rounds and pending saves end, as `TokenSource.close` does. Blocks."""
        with self._lock:
            sources = list(self._live.values())
        began = time.monotonic()
        for source in sources:
            source._let_work_end(time.monotonic() - began)

    def _note(self, identity: str, gate: Gate) -> None:
        with self._lock:  # over the reading, too, so that a logout is never followed by a token
            self._last.pop(identity, None)
            self._ended.pop(identity, None)
            current, held = gate.current, gate.held
            if held is not None and isinstance(held[1], LoginRequired):
                error = held[1].own_copy()
                error.__cause__ = None  # its frames would keep the source alive
                self._ended[identity] = held[0], error
            if current is not None and current.token.access_token is not None:
                token = replace(current.token, refresh_token=None)
                self._last[identity] = Current(token, current.ahead_at, current.dead_at)

    def _after_fork_in_child(self) -> None:
        # Maybe in the middle of another thread's change: what is kept can be read again.
        self._lock = threading.Lock()
        self._last.clear()
        self._ended.clear()

    def __repr__(self) -> str:
        if not hasattr(self, "_last"):
            return "<TokenPool that was not made>"
        return f"<TokenPool of {len(self)} sources in use, {len(self._last)} tokens kept>"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(TokenPool, maxsize=self._maxsize), (self._make,)
