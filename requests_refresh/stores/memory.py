"""`MemoryStore`: tokens in this process's memory, and nowhere else.

Bounded. A token without a refresh token can be asked for again, so the least
recently used of them makes room when room is needed. A refresh token may be
the only one of its login, so it is never evicted: a store full of them refuses
another identity, and refuses in `exclusive`, before a refresh token is spent.

Its tokens do not outlive the process, and they do not leave it: a pickle
carries none, and the child of a fork keeps the access tokens only, because two
processes that use one rotating refresh token end the login.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from cachetools import LRUCache

from ..errors import ConfigurationError, StoreConflict, StoreError
from ..tokens import Token
from .base import ANY, Replacing, TokenStore, checked, may_go

_FORKED = (
    "This process was forked from the one that holds the refresh token, and has the access"
    " token only: two processes must not share a rotating refresh token. For a login that"
    " processes share use a store that they can share too, such as FileStore."
)
_PICKLED = (
    "This store came out of a pickle, and the tokens of a MemoryStore do not travel in one."
    " For a login that processes share use a store that they can share too, such as FileStore."
)


class _Stored(NamedTuple):
    token: Token
    change: int  # the number of the change that stored it


class MemoryStore(TokenStore):
    """Tokens in memory, for the threads of one process.

    maxsize: how many identities it holds at most, 1 or more; ConfigurationError
        for anything else. Tokens without a refresh token are evicted to make
        room, the least recently used first. Nothing else is, and nothing ever
        expires here.

    Safe for any thread. Nothing blocks but `exclusive` and `wait`. `save`
    raises StoreError for a new identity when all the room is taken by refresh
    tokens; `exclusive` raises it earlier, and keeps the room that it found
    until it is left. A copy is the same store. A pickle holds no token. After
    a fork the child has the access tokens only; `note` says so.
    """

    def __init__(self, maxsize: int = 10_000) -> None:
        if isinstance(maxsize, bool) or not isinstance(maxsize, int) or maxsize < 1:
            raise ConfigurationError(
                f"maxsize is {maxsize!r}; a MemoryStore needs the number of identities that it"
                " may hold, 1 or more."
            )
        self._maxsize = maxsize
        self._reset()
        _instances.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._changes = 0  # guarded by _lock, as are the next three
        self._kept: dict[str, _Stored] = {}  # with a refresh token, or reserved
        self._evictable: LRUCache[str, _Stored] = LRUCache(self._maxsize)
        self._reserved: set[str] = set()  # identities that are in `exclusive`
        self._seen = threading.local()  # .last: what this thread's last load found

    @checked
    def load(self, identity: str) -> Token | None:
        with self._lock:
            stored = self._find_locked(identity)
            self._seen.last = identity, stored and stored.change
        return stored and stored.token

    @checked
    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        with self._lock:
            self._compare_locked(identity, replacing)
            self._make_room_locked(identity)
            self._put_locked(identity, token)
            self._changed.notify_all()

    @checked
    def delete(self, identity: str, *, replacing: Replacing = ANY) -> None:
        with self._lock:
            self._compare_locked(identity, replacing)
            self._kept.pop(identity, None)
            self._evictable.pop(identity, None)
            self._changed.notify_all()

    @checked
    @contextmanager
    def exclusive(self, identity: str, timeout: float) -> Iterator[None]:
        """Hold `identity` among the threads of this process; see `TokenStore.exclusive`.

        Until it is left, there is room for a token of this identity, and what
        is stored for it is not evicted.
        """
        with super().exclusive(identity, timeout):
            try:
                with self._lock:
                    self._make_room_locked(identity)
                    self._reserved.add(identity)
                    if (found := self._evictable.get(identity)) is not None:
                        self._kept[identity] = found
                        del self._evictable[identity]
                yield
            finally:
                with self._lock:
                    self._reserved.discard(identity)
                    held = self._kept.get(identity)
                    if held is not None and held.token.refresh_token is None:
                        self._evictable[identity] = held
                        del self._kept[identity]

    @checked
    def wait(self, identity: str, timeout: float) -> None:
        """Block until a save or delete of `identity`, 50 ms or `timeout` seconds at most.

        Counted is what happened since this thread last loaded `identity`, so
        nothing that comes between the `load` and the `wait` is missed.
        """
        limit = max(0.0, min(timeout, 0.05))  # nobody tells when `exclusive` is free again
        with self._lock:
            seen, change = getattr(self._seen, "last", (None, None))
            if seen != identity:
                change = self._change_locked(identity)
            self._changed.wait_for(lambda: self._change_locked(identity) != change, limit)

    def identities(self) -> list[str]:
        """The identities that are stored, in no order."""
        with self._lock:
            return [*self._kept, *self._evictable]

    def _find_locked(self, identity: str) -> _Stored | None:
        assert self._lock.locked()
        return self._kept.get(identity) or self._evictable.get(identity)

    def _change_locked(self, identity: str) -> int | None:
        stored = self._find_locked(identity)
        return stored and stored.change

    def _compare_locked(self, identity: str, replacing: Replacing) -> None:
        stored = self._find_locked(identity)
        if not may_go(stored and stored.token, replacing):
            raise StoreConflict(
                f"Something else is stored for {identity!r} than what was to be replaced. It is"
                " as it was; load it and go on from there."
            )

    def _make_room_locked(self, identity: str) -> None:
        """See to it that a token for `identity` fits, whatever token it is."""
        assert self._lock.locked()
        if identity in self._reserved or self._find_locked(identity) is not None:
            return
        taken = len(self._kept) + sum(name not in self._kept for name in self._reserved)
        if taken >= self._maxsize:
            raise StoreError(
                f"The MemoryStore is full: it has room for {self._maxsize} identities, and every"
                " one of them holds a refresh token, which is never evicted. All of them are"
                " intact. Give it a larger maxsize, or log out of what is not used any more."
            )
        if taken + len(self._evictable) >= self._maxsize:
            self._evictable.popitem()

    def _put_locked(self, identity: str, token: Token) -> None:
        assert self._lock.locked()
        self._changes += 1
        stored = _Stored(token, self._changes)
        if token.refresh_token is not None or identity in self._reserved:
            self._kept[identity] = stored
            self._evictable.pop(identity, None)
        else:
            self._evictable[identity] = stored
            self._kept.pop(identity, None)

    def _after_fork_in_child(self) -> None:
        # The fork may have come in the middle of another thread's change. Each
        # change inserts before it removes, and a look-up in the cache does not
        # need its order of use, so whatever was stored is found all the same.
        held = {**self._evictable, **self._kept}
        self._reset()
        for identity, (token, change) in held.items():
            if token.refresh_token is not None:
                self.note = _FORKED
                token = replace(token, refresh_token=None)
            if token.access_token is not None:
                self._evictable[identity] = _Stored(token, change)

    def __repr__(self) -> str:
        with self._lock:
            return f"<MemoryStore of {len(self._kept) + len(self._evictable)}>"

    def __copy__(self) -> MemoryStore:
        return self

    def __deepcopy__(self, memo: object) -> MemoryStore:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._maxsize,), {"note": _PICKLED}


_instances: weakref.WeakSet[MemoryStore] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for store in list(_instances):
        store._after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
