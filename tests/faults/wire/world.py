"""A provider and an API behind proxies, one login in them after another, and who judges it."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import requests

from requests_refresh import MemoryStore, RefreshAdapter, RefreshTokenGrant, Token, TokenSource
from requests_refresh.testing import AuthServer
from tests.adapter.leaks import in_error
from tests.adapter.support import crowd

from .proxy import SAFETY, Break, Kind, Proxy, Side

SECRET = "hush-hush-this-is-the-client"
CALLERS = 2
MOST_CALLS, MOST_LOST = 4, 2  # of the provider in one round, and of these without an answer
MASKS = (b"\x01", b"\x04", b"\x20", b"\x80")  # \x04 makes of a 401 a 001, \x01 a 501
PUT = (b"\0", b"\r", b"\n", b"\xff")


def breaks(of: Side, at: int, masks: Iterable[bytes] = MASKS) -> Iterator[Break]:
    """All that can befall a message before one of its bytes, stalls and floods left out."""
    kinds: tuple[Kind, ...] = ("delay", "drip", "cut", "reset", "again", "drop")
    for kind in kinds:
        yield Break(kind, at, of=of)
    for what in PUT:
        yield Break("put", at, what, of=of)
    for mask in masks:
        yield Break("flip", at, mask, of=of)


def positions(length: int, every: int, first: int = 0) -> list[int]:
    """Each so-manieth byte of a message, its beginning and its end."""
    return sorted({0, length, *range(first % every, length, every)})


class World:
    """A context manager. `read`: seconds that a refresh waits for its answer."""

    def __init__(self, *, grace: float = 0.0, read: float = SAFETY) -> None:
        self.server = AuthServer(grace=grace, client_id="wire", client_secret=SECRET)
        self.grace = grace
        self.read = read

    def __enter__(self) -> World:
        self.server.start()
        self.auth, self.api = Proxy(self.server.port), Proxy(self.server.port)
        self.auth.__enter__()
        self.api.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.auth.__exit__()
        self.api.__exit__()
        self.server.stop()

    def accepts(self, token: Token) -> bool:
        """Whether the provider would renew it."""
        with self.server._changed:
            login = self.server._refresh.get(token.refresh_token or "")
            good = login and (login.refresh_token, login.previous if self.grace else None)
            return bool(login and good and login.alive and token.refresh_token in good)

    @contextmanager
    def login(self) -> Iterator[Login]:
        login = Login(self)
        try:
            yield login
        finally:
            close(login.http)
            login.source.close()
        self.auth.quiet()
        self.api.quiet()


class Login:
    """A login that is stored, its source, and a session that uses it."""

    def __init__(self, world: World) -> None:
        server = self.server = world.server
        self.world = world
        self.before = server.counts
        self.first = Token.from_reply(server.login("u"))
        self.store = MemoryStore()
        self.store.save("default", self.first)
        grant = RefreshTokenGrant(
            world.auth.url("token"),
            client_id="wire",
            client_secret=SECRET,
            timeout=(SAFETY, world.read),
        )
        self.source = TokenSource(grant, self.store, timeout=SAFETY)
        self.http = bare()
        self.http.mount(world.api.url(""), RefreshAdapter(self.source, origins=world.api.url("")))

    def did(self, what: str) -> int:
        """By how much one of the server's counts has grown with this login."""
        return int(getattr(self.server.counts, what) - getattr(self.before, what))

    def send(self, number: int = 0, timeout: float = SAFETY, **options: Any) -> Any:
        """A request with a body: its response, or what it raised."""
        return sent(self.http, self.world.api.url("api/x"), number, timeout, **options)

    def crowd(self, callers: int = CALLERS, timeout: float = SAFETY) -> list[Any]:
        """What becomes of several requests at once."""
        return crowd(lambda number: self.send(number, timeout), callers)


def bare() -> requests.Session:
    http = requests.Session()
    http.trust_env = False
    return http


def close(http: requests.Session) -> None:
    """Close it and what its pools keep, which urllib3 leaves open while a response lives."""
    for adapter in http.adapters.values():
        pools = adapter.poolmanager.pools  # type: ignore[attr-defined]  # all are HTTPAdapters
        for key in pools.keys():  # noqa: SIM118  # it has no other way to be gone through
            pools[key].close()
    http.close()


def body_of(number: int) -> bytes:
    return b"body %04d " % number * 3


def sent(
    http: requests.Session, url: str, number: int, timeout: float, **options: Any
) -> requests.Response | BaseException:
    try:
        return http.post(url, data=body_of(number), timeout=timeout, **options)
    except Exception as exc:
        return exc


def good(came: object, number: int) -> bool:
    """Whether it is the API's 200, to the very bytes that were to be sent."""
    if not isinstance(came, requests.Response) or came.status_code != 200:
        return False
    said = json.loads(came.content)
    body = body_of(number)
    told = (said["identity"], said["length"], said["sha256"])
    assert told == ("u", len(body), hashlib.sha256(body).hexdigest()), "I11: another body"
    return True


def assert_no_secret(error: BaseException, secrets: Iterable[str | None]) -> None:
    """I9: no part of a secret, of 12 characters or more, is in what an error tells."""
    pieces = {
        secret[at : at + 12] for secret in secrets if secret for at in range(3, len(secret) - 11, 4)
    }
    for text in in_error(error):
        assert not any(piece in text for piece in pieces), "a secret is shown"


def left_open() -> tuple[int, int]:
    """Open file descriptors and living threads of this process."""
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def own_errors(came: list[Any], *kinds: type[BaseException]) -> list[Any]:
    """The errors among what came, each of one of the kinds and none raised twice."""
    errors = [one for one in came if isinstance(one, BaseException)]
    for error in errors:
        assert isinstance(error, kinds), repr(error)
    assert len({id(error) for error in errors}) == len(errors), "an error raised twice"
    return errors
