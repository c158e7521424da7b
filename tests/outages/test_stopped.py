"""The store's server dies, ends or freezes while tokens are used, renewed and saved.

One outage meets every moment at once, each with an identity of its own:

- `early`: its round begins when the server is away;
- `working`: the provider works on its refresh just then;
- `saving`: the provider's reply is there, and is not saved yet;
- `living`: its token lives, and is used all the time;
- `ending`: its token is in its last part, so a renewal is tried in the background.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from requests_refresh import Token, TokenSource, TokenStore
from requests_refresh.testing import AuthServer
from requests_refresh.testing.faults import Fault
from tests.servers import MariaServer, PostgresServer, RedisServer, Server, temporary_directory
from tests.servers.fixtures import OwnRedis

from .conftest import StartWorker, log_in
from .support import SAFETY, Call, get, until
from .worker import store_of

AWAY = 2.0  # seconds
KINDS: dict[str, Callable[..., Server]] = {
    "redis": RedisServer,
    "postgres": PostgresServer,
    "maria": MariaServer,
}
slow = pytest.mark.long
WAYS = ("kill", "stop", "pause")


class Replied:
    """A grant that keeps the first reply back until `go` is set."""

    def __init__(self, grant: Callable[[Token | None], Any]) -> None:
        self._grant = grant
        self.has_reply, self.go = threading.Event(), threading.Event()

    def __call__(self, old: Token | None) -> Any:
        reply = self._grant(old)
        self.has_reply.set()
        self.go.wait(SAFETY)
        return reply


class Stage:
    """Five identities on one store, whose server can be taken away."""

    def __init__(self, auth: AuthServer, data: Server, way: str, timeout: float) -> None:
        self.auth, self.data, self.way, self.timeout = auth, data, way, timeout
        name = uuid.uuid4().hex
        kind = "redis" if isinstance(data, RedisServer) else "sql"
        place = {"prefix": name} if kind == "redis" else {"table": f"t{name}"}
        self.store: TokenStore = store_of(kind, data.url, lease=5.0, **place)
        self._answer = threading.Event()
        self._replied = Replied(auth.grant())
        self.sources: dict[str, TokenSource] = {}
        for who in ("early", "working", "saving", "living", "ending"):
            grant = self._replied if who == "saving" else auth.grant()
            self.sources[who] = source = auth.source(
                who, grant=grant, store=self.store, timeout=timeout
            )
            source.token()
        self.before = auth.counts
        self.calls: dict[str, Call] = {}

    def begin(self) -> None:
        """Bring `working` and `saving` to where they are to be, and take the server away."""
        for who in ("early", "working", "saving"):
            self.auth.revoke_access(who)
        self.calls["saving"] = Call(lambda: self.get("saving"))
        assert self._replied.has_reply.wait(SAFETY)
        self.auth.faults("token", Fault(hold=self._answer))
        self.calls["working"] = Call(lambda: self.get("working"))
        self.auth.wait_for("refresh_calls", self.before.refresh_calls + 2)
        {"kill": self.data.kill, "stop": self.data.stop, "pause": self.data.pause}[self.way]()
        self._answer.set()
        self._replied.go.set()

    def end(self) -> None:
        """Bring the server back."""
        if self.way == "pause":
            self.data.resume()
        else:
            self.data.start()

    def get(self, who: str) -> str:
        return get(self.sources[who], self.auth.api)

    def goes_on_for(self, seconds: float) -> None:
        """See that who has a valid token notices nothing, and that no refresh token is spent."""
        ending = self.sources["ending"]
        ending._clock = lambda: time.monotonic() + 3400.0  # of 3600
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for who in ("living", "ending"):
                assert self.get(who) == "200"
                assert self.sources[who].token().access_token
            assert self.auth.counts.refresh_calls == self.before.refresh_calls + 2
            time.sleep(0.05)

    def heals(self) -> None:
        """See that all go on, and that the store has what they use; nothing was spent twice."""
        ending = self.sources["ending"]
        until(lambda: self.get("early") == "200", "the end of the outage for one")
        until(
            lambda: ending.token() and ending.stats.refreshes == 1,
            "a renewal in the background",
        )
        for who, source in self.sources.items():
            assert self.get(who) == "200"
            until(partial(self._is_saved, who, source), f"what {who} uses")
        counts = self.auth.counts
        assert counts.refreshes == self.before.refreshes + 4
        assert counts.refresh_calls == self.before.refresh_calls + 4
        assert counts.reuses == 0
        assert counts.logins_ended == 0

    def _is_saved(self, who: str, source: TokenSource) -> bool:
        stored = self.store.load(who)
        return stored is not None and stored.same_issue(source.token())

    def close(self) -> None:
        for source in self.sources.values():
            source.close()
        self.store.close()


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], Server]]:
    """Servers to be broken, one of a kind, each started when it is first asked for."""
    with ExitStack() as stack:
        made: dict[str, Server] = {}

        def running(kind: str) -> Server:
            if kind not in made:
                directory = stack.enter_context(temporary_directory())
                made[kind] = KINDS[kind](directory)
                stack.callback(made[kind].close)
                made[kind].start()
            return made[kind]

        yield running


@pytest.fixture
def stage(
    request: pytest.FixtureRequest, server: AuthServer, servers: Callable[[str], Server]
) -> Iterator[Stage]:
    kind, way, timeout = request.param
    stage = Stage(server, servers(kind), way, timeout)
    yield stage
    if stage.data._process is None or way == "pause":
        stage.end()
    stage.close()


def cases(timeout: float, *left_out: tuple[str, str]) -> list[Any]:
    """Every way of every server; the slow and the alike are for the long run."""
    made = []
    for kind in KINDS:
        for way in WAYS:
            later = kind == "maria" or way == "stop" or (kind, way) in left_out
            marks = [slow] if later else []
            made.append(pytest.param((kind, way, timeout), marks=marks, id=f"{kind}-{way}"))
    return made


@pytest.mark.parametrize("stage", cases(10.0, ("postgres", "pause")), indirect=True)
def test_away_for_two_seconds(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """I7, I8: nobody loses a login, and who waits for a token gets it when the server is back."""
    stage.begin()
    early = Call(lambda: stage.get("early"))
    stage.goes_on_for(AWAY)
    stage.end()
    assert stage.calls["working"].result() == "200"
    assert stage.calls["saving"].result() == "200"
    assert early.result() == "200" or early.result().startswith("StoreError: ")
    stage.heals()
    ours = [record for record in caplog.records if record.name == "requests_refresh"]
    assert [record for record in ours if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    "stage", cases(3.0, ("redis", "kill"), ("postgres", "pause")), indirect=True
)
def test_away_for_good(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """I6, I7: who has a new token uses it from memory, and it is saved whenever that can be."""
    stage.begin()
    early = Call(lambda: stage.get("early"))
    stage.goes_on_for(stage.timeout + 1)
    assert early.result().startswith(("StoreError: ", "RefreshTimeout: "))
    assert early.seconds < 2 * stage.timeout
    hangs = stage.way == "pause" and not isinstance(stage.data, RedisServer)
    for who in ("working", "saving"):
        came = stage.calls[who].result()
        assert stage.calls[who].seconds < 2 * stage.timeout
        if hangs:  # psycopg waits for an answer for ever, PyMySQL for longer than we have
            assert came.startswith("RefreshTimeout: ")
        else:
            assert came == "200"
            assert f"{who}: a new token could not be stored and is in memory only" in caplog.text
    stage.end()
    stage.heals()


@pytest.mark.parametrize("back", [True, pytest.param(False, marks=slow)])
def test_a_process_that_ends_meanwhile(
    back: bool, server: AuthServer, own_redis: OwnRedis, start: StartWorker
) -> None:
    """I7: its exit waits for the save, its timeout long; only if that never comes, it is lost."""
    data = own_redis()
    shared = {"kind": "redis", "url": data.url, "lease": 1.0}
    log_in(server, shared)
    worker = start(shared, stops="replied", timeout=20 if back else 3)
    worker.ask("get")
    worker.stands()
    data.kill()
    worker.go_on()
    if not back:
        assert worker.answer() == ["200"]
        assert "in memory only; still trying" in str(worker.call("logs"))
    worker.let_end()
    if back:
        data.start()
        assert worker.answer() == ["200"]
    assert worker.ends() == 0
    if not back:
        data.start()
    came = start(shared).call("get")
    assert came == ["200"] if back else came[0].startswith("LoginRequired: ")
    assert server.counts.reuses == (0 if back else 1)
    assert server.counts.refresh_calls == (1 if back else 2)
