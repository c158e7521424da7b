"""A whole life of a client, from its making to its fork, with the hunt at every moment."""

from __future__ import annotations

import json
import os
import tempfile
import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests

from requests_refresh import MemoryStore, RefreshAdapter, TokenPool, TokenSource
from tests.adapter.support import Crowd, advance, wait_until
from tests.grants.endpoint import Answer, reset
from tests.grants.test_secrets import BAD, NEW

from .clients import CLIENTS, MORE, Client, Make, told
from .hunt import Hunt
from .provider import Provider, echo, provided
from .secrets import Secrets

_PATIENCE = 20.0  # seconds
_GARBLED = ("not HTTP", "cut", "bad chunk", "not JSON", "control character", "bad life")


class Stray(BaseException):
    """What no library catches, as a signal's handler raises it."""


class Life:
    """One client and what befalls it."""

    def __init__(self, hunt: Hunt, provider: Provider, foreign: Provider, client: Client) -> None:
        self.hunt = hunt
        self.provider = provider
        self.foreign = foreign
        self.client = client
        self.trouble: list[BaseException] = []  # for the callbacks to raise
        store = MemoryStore() if client.store is None else client.store
        self.source = TokenSource(
            client.grant,
            store,
            identity="someone",
            token=provider.issue() if client.logged_in else None,
            relogin=client.relogin,
            timeout=_PATIENCE,
            on_refresh=self._called,
            on_logout=self._called,
        )
        self.adapter = RefreshAdapter(self.source, origins=provider.api, scheme=client.scheme)
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.mount(provider.api, self.adapter)
        self.pool = TokenPool(lambda identity: self.source, maxsize=3)
        hunt.roots += [self.session, self.adapter, self.source, self.source.stats, self.pool]
        hunt.roots += [client.grant, store, self.adapter._scheme, *client.more]
        hunt.roots += [getattr(client.grant, "revoke", None)]
        assert self.pool["someone"] is self.source

    def _called(self, source: TokenSource, what: object) -> None:
        if self.trouble:
            raise self.trouble.pop()

    # What is done, and the hunt after it.

    def step(self, moment: str, *works: Callable[[], Any]) -> list[Any]:
        outcomes = [_outcome_of(work) for work in works]
        self.source.close()  # no round is left half done
        self.judge(moment, outcomes)
        return outcomes

    def judge(self, moment: str, outcomes: list[Any]) -> None:
        self.hunt.look(moment)
        for outcome in outcomes:
            if isinstance(outcome, requests.Response):
                self.hunt.response(outcome)
            elif isinstance(outcome, BaseException):
                self.hunt.error(outcome)

    def get(self, path: str = "x", **options: Any) -> requests.Response:
        return self.session.get(self.provider.api + path, timeout=_PATIENCE, **options)

    def expired(self, **options: Any) -> requests.Response:
        self.provider.revoke_access()
        return self.get(**options)

    def log_in(self) -> None:
        self.provider.clear()
        self.source.login(self.provider.issue())

    def after_a_fault(self, moment: str, *faults: Any) -> None:
        """The token dies, and the provider answers like this. Then all is well again."""
        self.provider.will("/token", *faults)
        self.step(moment, self.expired, self.source.token)
        advance(self.source, 120)
        self.log_in()

    def live(self) -> None:
        """The moments of a life, one by one."""
        self.step("made")
        assert self.step("first use", self.get)[0].status_code == 200
        self.step("fresh", self.get, self.source.token)
        self.step("401 and replay", self.expired)
        self.step("a body that goes once", lambda: self._post_once())
        there = {"to": f"{self.foreign.root}/api/there"}
        here = {"to": f"{self.provider.api}there"}
        self.step("redirects", *(lambda to=to: self.get(params=to) for to in (there, here)))
        assert self.foreign.server.seen
        for seen in self.foreign.server.seen:
            assert not self.provider.secrets.kinds_in(f"{seen.path} {seen.headers} {seen.body!r}")
        advance(self.source, 3300)
        self.step("ahead", self.get)
        self._waiters()
        self._callbacks()
        self._faults()
        self._strikes()
        self._store()
        self._end()

    def _post_once(self) -> requests.Response:
        self.provider.revoke_access()
        body = iter([b"x"])
        return self.session.post(self.provider.api + "x", data=body, timeout=_PATIENCE)

    def _waiters(self) -> None:
        """A round that runs, with waiters, one of whom gives up."""
        self.log_in()
        stale = self.source.token()
        self.provider.revoke_access()
        with self.provider.holding("/token") as arrived:
            crowd = Crowd(lambda number: _outcome_of(self.get), 3)
            arrived()
            running = self.source._gate._round
            assert running is not None
            wait_until(lambda: running.waiters == 3)
            late = _outcome_of(lambda: self.source.renew(stale, timeout=0.01))
            self.judge("a round running", [late])
        self.judge("a round done", crowd.join())

    def _callbacks(self) -> None:
        for trouble in (LookupError("mine"), Stray("mine")):
            self.trouble = [trouble]
            self.step(f"callback with {type(trouble).__name__}", self.expired)
        self.log_in()

    def _faults(self) -> None:
        for name in ("not HTTP", "bad head"):  # of the API, which has the token by then
            self.provider.will("/api/x", BAD[name])
            self.step(f"API: {name}", self.get)
        self.provider.will("/api/x", reset)
        self.step("API: reset", self.get)
        self.provider.secrets.add("access token", NEW)
        later = Answer(503, NEW, headers=[("Retry-After", "50")])
        self.after_a_fault("unavailable", later)
        self.after_a_fault("answer lost", reset, reset)
        for status in (200, 400, 401, 404):
            self.after_a_fault(f"echo {status}", echo(status))
        self.after_a_fault("refused", Answer(401, {"error": "invalid_client"}))
        for name in _GARBLED:
            behave = BAD[name]
            self.after_a_fault(name, behave, behave)

    def _strikes(self) -> None:
        def refused() -> Any:
            return self.get("always")

        self.step("strikes", *[refused] * 5, lambda: self.source.renew(self.source.token()))
        advance(self.source, 120)
        self.log_in()

    def _store(self) -> None:
        """A store that fails, and one that takes nothing when the provider has answered."""
        store: Any = self.source._store

        def fails(*args: object, **settings: object) -> Any:
            raise OSError("no")

        for name in ("load", "exclusive"):
            setattr(store, name, fails)
            self.step(f"store: {name} fails", self.expired, self.source.token)
            delattr(store, name)
            advance(self.source, 120)
        self.log_in()
        store.save = fails
        self.source._renewal._asking.reserve = 0.1  # once it has asked,
        for seconds in (0.5, 2.0, 8.0):  # for which it goes on trying; a busy host takes longer
            self.source._timeout = seconds
            late = [_outcome_of(self.expired), _outcome_of(lambda: self.source.login("x" * 20))]
            if self.source._place.unsaved is not None:
                break
            advance(self.source, 120)
        assert self.source._place.unsaved is not None
        self.judge("not saved", late)
        del store.save
        self.source._timeout = _PATIENCE
        self.step("saved at last", self.get)

    def _end(self) -> None:
        self.log_in()
        self.provider.will("/token", Answer(400, {"error": "invalid_grant"}))
        self.step("login over", self.expired, self.source.token)
        for answer in (Answer(503, NEW), Answer(400, {"error": "invalid_client"})):
            self.log_in()
            self.provider.will("/revoke", answer, answer)
            self.step("logout", lambda: self.source.logout(revoke=True))
        self.step("logged out", self.source.logout, self.get, lambda: self.source.login({"x": NEW}))
        self.log_in()
        self.step("back again", self.get)
        self.session.close()
        self.source.close()
        self.hunt.look_last("closed")


def _outcome_of(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except BaseException as exc:
        return exc


def forked(hunt: Hunt, life: Life) -> None:
    """The hunt in a child, which reports what it found."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        told = ""
        try:
            hunt.places = {}
            hunt.look_last("forked")
            outcome = _outcome_of(lambda: life.source.renew(life.source.token()))
            life.judge("renewed in the child", [outcome])
            told = json.dumps({place: sorted(kinds) for place, kinds in hunt.places.items()})
        except BaseException:
            told = traceback.format_exc()
        finally:
            os.write(write, told.encode())
            os._exit(0)
    os.close(write)
    with open(read) as file:
        report = file.read()
    os.waitpid(child, 0)
    assert report.startswith("{"), report
    hunt.note(json.loads(report))


@cache
def lived(name: str, folder: Path) -> Hunt:
    """The hunt in the life of one client."""
    return hunted({**CLIENTS, **MORE}[name], folder / name)


def hunted(make: Make, folder: Path, live: Callable[[Life], object] | None = None) -> Hunt:
    """The hunt in the life of a client that `make` makes. live: what befalls it, if not all."""
    secrets, empty = Secrets(), [folder / "home", folder / "tmp"]
    for one in (folder, folder / "store", *empty):
        one.mkdir(mode=0o700, parents=True)
    hunt = Hunt(secrets, empty)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
            patch.setenv(name, str(empty[name == "TMPDIR"]))
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        patch.setattr(tempfile, "tempdir", None)
        patch.chdir(empty[0])
        stack.enter_context(told(secrets))
        provider = stack.enter_context(provided(secrets))
        foreign = stack.enter_context(provided(Secrets()))
        stack.enter_context(hunt.listening())
        life = Life(hunt, provider, foreign, make(provider, folder))
        with closing(life.source._store), closing(life.session):
            (live or Life.live)(life)
            if hasattr(os, "fork"):
                forked(hunt, life)
    for path in (folder / "store").iterdir():
        if secrets.kinds_in(path.read_bytes()):
            hunt.files.add(path.name)
    return hunt
