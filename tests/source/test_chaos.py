"""Several sources on one store that fails at random, and a provider that forgives no reuse."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from requests_refresh import (
    ANY,
    LoginRequired,
    MemoryStore,
    RefreshError,
    RefreshUnavailable,
    StoreError,
    Token,
    TokenSource,
)
from requests_refresh.stores.base import Replacing

CALLS = 40  # that the provider has granted when it is enough
SAFETY = 60.0  # seconds


def dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  # chance in a test is no secret


class Provider:
    """Rotates at each call; a refresh token that comes back is noted, and refused."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.faulty = True
        self.granted = 0
        self.reused: list[str] = []
        self.together = 0  # the most calls at one time
        self.enough = threading.Event()
        self._lock = threading.Lock()
        self._now = 0
        self._valid = {"r0"}
        self._refused: set[str] = set()

    def __call__(self, old: Token | None) -> dict[str, Any]:
        with self._lock:
            self._now += 1
            self.together = max(self.together, self._now)
        try:
            if self.faulty and self.chance.random() < 0.05:
                raise RefreshUnavailable("down", retry_after=0.01)
            time.sleep(0.002 * self.chance.random())
            return self._issue(old)
        finally:
            with self._lock:
                self._now -= 1

    def _issue(self, old: Token | None) -> dict[str, Any]:
        with self._lock:
            spent = None if old is None else old.refresh_token
            if spent not in self._valid:
                self.reused.append(str(spent))
                raise LoginRequired("spent")
            self.granted += 1
            if self.granted >= CALLS:
                self.enough.set()
            self._valid = {f"r{self.granted}"}
            life = self.chance.choice([0, 1, 3600])
            issued = {"access_token": f"a{self.granted}", "refresh_token": f"r{self.granted}"}
            return {**issued, "expires_in": life}

    def refuses(self, token: Token) -> bool:
        """Whether the API refuses it: some die at any moment, for good."""
        with self._lock:
            if self.chance.random() < 0.3:
                self._refused.add(str(token.access_token))
            return token.access_token in self._refused


class Flaky(MemoryStore):
    """Fails before or after what it does, or not at all."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.faulty = False

    def _trip(self) -> None:
        if self.faulty and self.chance.random() < 0.05:
            raise self.chance.choice([StoreError("lost"), OSError("lost")])

    def load(self, identity: str) -> Token | None:
        self._trip()
        return super().load(identity)

    def save(self, identity: str, token: Token, *, replacing: Replacing = ANY) -> None:
        self._trip()
        super().save(identity, token, replacing=replacing)
        self._trip()


@pytest.mark.parametrize("seed", range(3))
def test_no_login_is_lost(seed: int) -> None:
    """I1, I7, I8: whatever fails, no refresh token is spent twice and nobody is logged out."""
    provider, store = Provider(dice(seed)), Flaky(dice(seed))
    store.save("default", Token("a0", refresh_token="r0"))
    store.faulty = True
    logouts: list[LoginRequired] = []
    strange: list[BaseException] = []
    sources = [
        TokenSource(
            provider,
            store,
            strikes=None,
            background=bool(number),
            on_logout=lambda source, error: logouts.append(error),
        )
        for number in range(3)
    ]

    def use(source: TokenSource, chance: random.Random) -> None:
        while not provider.enough.is_set():
            try:
                token = source.token(timeout=chance.choice([0, 0.05, 30]))
                if provider.refuses(token):
                    source.renew(token, timeout=chance.choice([0, 0.05, 30]))
            except RefreshError:
                time.sleep(0.001)  # it is tried again at once: nobody sleeps through a backoff
            except BaseException as exc:
                strange.append(exc)
                provider.enough.set()

    threads = [
        threading.Thread(target=use, args=(source, dice(seed + number)), daemon=True)
        for number, source in enumerate(sources * 4)
    ]
    for thread in threads:
        thread.start()
    enough = provider.enough.wait(SAFETY)
    provider.enough.set()
    for thread in threads:
        thread.join(SAFETY)
    assert not any(thread.is_alive() for thread in threads)
    provider.faulty = store.faulty = False
    for source in sources:
        source.close()
    assert enough
    assert strange == []
    assert logouts == []
    assert provider.reused == []
    assert provider.together == 1
    assert store.load("default") is not None
    assert all(source._place.unsaved is None for source in sources)
