"""What the processes of a fleet run: threads that send ordinary requests.

They report, and are told, by lines; see tests/process/child.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from requests_refresh import (
    JSONGrant,
    RefreshAdapter,
    RefreshTokenGrant,
    Token,
    TokenSource,
    TokenStore,
)
from requests_refresh.stores import ANY, Lease
from requests_refresh.stores.base import Replacing

from ..process.child import GIVEN, SAFETY, hear, in_threads, join, run, say
from .support import Place

PAUSE = 0.1  # seconds between two requests of a thread: 64 of them are what two cores can bear


def digest(access_token: str) -> str:
    """What a token is called in reports."""
    return hashlib.sha256(access_token.encode()).hexdigest()[:16]


class Watched(TokenStore):
    """A store that tells when its user waits for others, and keeps when he has saved what."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._loaded: Token | None = None
        self._awaited: Token | None = None
        self.saved: dict[str, float] = {}

    def load(self, identity: str) -> Token | None:
        self._loaded = self._store.load(identity)
        return self._loaded

    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        self._store.save(identity, token, replacing=replacing)
        self.saved[digest(token.access_token or "")] = time.monotonic()

    def delete(self, identity: str, *, replacing: Replacing = ANY) -> None:
        self._store.delete(identity, replacing=replacing)

    def exclusive(self, identity: str, timeout: float) -> AbstractContextManager[Lease | None]:
        return self._store.exclusive(identity, timeout)

    def wait(self, identity: str, timeout: float) -> None:
        if self._awaited is not self._loaded and self._awaited != self._loaded:
            say("waits")  # once for each expiry
        self._awaited = self._loaded
        self._store.wait(identity, timeout)

    def close(self) -> None:
        self._store.close()


class Wire(HTTPAdapter):
    """Keeps when each token was first sent."""

    def __init__(self) -> None:
        super().__init__(pool_maxsize=GIVEN["threads"])
        self.used: dict[str, float] = {}

    def send(self, request: requests.PreparedRequest, *args: Any, **how: Any) -> requests.Response:
        token = request.headers["Authorization"].split()[1]
        self.used.setdefault(digest(str(token)), time.monotonic())
        return super().send(request, *args, **how)


class Member:
    """This process's source on one store, and the threads that ask by it until `over` is set."""

    def __init__(self, store: TokenStore, grant: Callable[[Token | None], Token], **how: Any):
        self.outcomes: Counter[str] = Counter()  # guarded by _changed, as is the next
        self._begun_after: dict[int, int] = {}  # by thread: the turn of its last request
        self._changed = threading.Condition()
        self._turn = 0
        self._over = threading.Event()
        self.wire = Wire()
        self.store = store
        self.tokens = TokenSource(grant, store, **how)
        self._http = requests.Session()
        self._http.trust_env = False
        adapter = RefreshAdapter(self.tokens, origins=GIVEN["api"], inner=self.wire)
        self._http.mount(GIVEN["api"], adapter)
        self._threads = in_threads(GIVEN["threads"], self._work)

    def _work(self, number: int) -> None:
        over = False
        while not over:
            # Once more when it is over, so that the last token is used as well.
            turn, over = self._turn, self._over.wait(PAUSE)
            try:
                outcome = str(self._http.get(GIVEN["api"] + "items", timeout=SAFETY).status_code)
            except Exception as exc:
                outcome = f"{type(exc).__name__}: {exc}"
            with self._changed:
                self.outcomes[outcome] += 1
                self._begun_after[number] = turn
                self._changed.notify_all()

    def turn(self) -> None:
        """Wait until every thread has sent a request from now on and has its answer."""
        self._turn += 1
        everyone = [self._turn] * GIVEN["threads"]
        with self._changed:
            self._changed.wait_for(lambda: list(self._begun_after.values()) == everyone)

    def end(self) -> None:
        self._over.set()
        join(self._threads)
        self.tokens.close()
        self._http.close()
        self.wire.close()
        self.store.close()


def works() -> None:
    """At each word: say when every thread has been answered since."""
    store = Watched(Place(**GIVEN["place"]).open())
    member = Member(store, RefreshTokenGrant(GIVEN["token_url"], client_id="test"))
    while hear() == "go":
        member.turn()
        say("worked")
    member.end()
    say("over", outcomes=member.outcomes, saved=store.saved, used=member.wire.used)


def lives() -> None:
    """On several stores at once, until the test has seen enough renewals of each."""
    grant = provider_grant()

    def member(name: str) -> Member:
        store = Place(**GIVEN["places"][name]).open()
        return Member(store, grant, on_refresh=lambda *_: say("refreshed", store=name))

    members = {name: member(name) for name in GIVEN["places"]}
    hear()
    for one in members.values():
        one.end()
    for name, one in members.items():
        refreshes = one.tokens.stats.refreshes
        say("over", store=name, outcomes=one.outcomes, refreshes=refreshes, used=one.wire.used)


def provider_grant() -> Callable[[Token | None], Token]:
    """For a real provider. Unless a token is to be renewed ahead, a 401 tells of its end."""
    url = GIVEN["refresh_url"]
    if not GIVEN["client"]:
        return JSONGrant(url)
    client_id, client_secret = GIVEN["client"]
    grant = RefreshTokenGrant(url, client_id=client_id, client_secret=client_secret)
    if GIVEN["ahead"]:
        return grant
    return lambda token: dataclasses.replace(grant(token), expires_at=None)


if __name__ == "__main__":
    run(globals())
