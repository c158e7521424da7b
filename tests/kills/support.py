"""How a renewal is killed, and how its survivors fare.

A `Nursery` is a process that makes victims, one after the other. `kill` lets
one of them renew, kills it, lets survivors renew after it, and says what became
of the login. Anything that has no name here is an AssertionError.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from requests_refresh import LoginRequired, Token, TokenSource
from requests_refresh.testing import AuthServer, Fault

from .victim import SAFETY, open_store, session

TOP = Path(__file__).parents[2]
LEASE = 0.2  # seconds
PATIENCE = 15.0  # seconds that a busy machine may take for what is no waiting
TOGETHER = 4  # victims at a time
SURVIVORS = 2  # threads that ask at once

#: How the provider is stopped, for the steps at which it is not the victim that stops.
PROVIDER: dict[str, dict[str, Any]] = {"asked": {"status": 503}, "rotated": {"after_work": True}}
#: Steps at which the old token is what others still have.
EARLY = ("before", "inside", "asked", "rotated", "replied")


class Place(NamedTuple):
    """A shared store: what `open_store` is given."""

    kind: str
    where: str
    name: str
    lease: float = LEASE


class Ended(NamedTuple):
    """What became of a login whose renewal was killed.

    outcome: "refreshed": the survivors refreshed, and the provider had not.
    "adopted": they took what the victim had saved. "again": the provider had
    refreshed already, and did so once more. "lost": the provider refused.
    """

    outcome: str
    seconds: float  # from the kill to the last answer of the survivors
    error: str = ""  # what the survivors were told


class Nursery:
    """A process that makes victims. For one thread at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kills.victim"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=TOP,
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            text=True,
            bufsize=1,
        )

    @contextmanager
    def victim(self, **given: Any) -> Iterator[int]:
        """A victim that is ready to renew: its process. It is killed at the end at the latest."""
        self.tell(json.dumps(given))
        pid: int = self.expect("ready")["pid"]
        try:
            yield pid
        finally:
            os.kill(pid, signal.SIGKILL)  # it never ends by itself
            while (report := self._hear())[0] != "ended":
                pass
            assert report[1]["code"] == -signal.SIGKILL, report

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")

    def expect(self, what: str) -> dict[str, Any]:
        """Block until it reports something, which is to be `what`."""
        report = self._hear()
        if what == "stopped" and report[0] == "done":
            report = self._hear()  # whoever asked has gone on before `exclusive` was left
        assert report[0] == what, f"{what!r} was to come, and {report} came"
        return report[1]

    def _hear(self) -> tuple[str, dict[str, Any]]:
        assert self._process.stdout is not None
        what, more = json.loads(self._process.stdout.readline())
        return what, more

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(SAFETY)


class Survivors:
    """Another program on the same login: threads that ask at once, and what they get."""

    def __init__(self, server: AuthServer, place: Place, identity: str) -> None:
        self._api = server.api
        self._store = open_store(*place)
        self.tokens = TokenSource(
            server.grant(), self._store, identity=identity, timeout=place.lease + PATIENCE
        )
        self._threads = ThreadPoolExecutor(SURVIVORS)

    def ask(self) -> Iterator[Any]:
        """Begin; iterate over what comes back for the answers: statuses and LoginRequireds."""
        return self._threads.map(self._get, range(SURVIVORS))

    def _get(self, _: int) -> int | LoginRequired:
        with session(self._api, self.tokens) as http:
            try:
                return http.get(self._api + "items", timeout=SAFETY).status_code
            except LoginRequired as error:
                return error

    def close(self) -> None:
        self._threads.shutdown()
        self.tokens.close()
        self._store.close()


def kill(
    nursery: Nursery,
    place: Place,
    step: str,
    *,
    grace: bool,
    early: bool = False,
    after: float | None = None,
) -> Ended:
    """Kill a renewal at a step, and see that its survivors lose nothing but what is lost.

    early: the survivors ask, and wait, before the kill. after: seconds, in
    place of a step, from the moment when the victim is let go.
    """
    identity, released = uuid.uuid4().hex, threading.Event()
    with (
        AuthServer(grace=3600 if grace else 0) as server,
        closing(open_store(*place)) as store,
        closing(Survivors(server, place, identity)) as survivors,
    ):
        first = Token.from_reply(server.login(identity))
        store.save(identity, first)
        where = {"api": server.api, "token_url": server.token_url, "store": place}
        with nursery.victim(**where, identity=identity, step=step):
            server.revoke_access()
            if step in PROVIDER:
                server.faults("token", Fault(hold=released, **PROVIDER[step]))
            nursery.tell("go")
            nursery.expect("going")
            if after is not None:
                time.sleep(after)
            elif step in PROVIDER:
                counts = "refreshes" if step == "rotated" else "refresh_calls"
                server.wait_for(counts, timeout=SAFETY)
            else:
                nursery.expect("stopped")
            if early:
                asked = survivors.ask()
                # The victim's, and one of theirs: from its round on the others hold theirs back.
                server.wait_for("api_401", 2, SAFETY)
            killed = time.monotonic()
        released.set()
        if not early:
            server.wait_for(lambda counts: counts.connections_open == 0, timeout=SAFETY)
            spent, saved = server.counts.refreshes, store.load(identity)
            asked = survivors.ask()
        answers = [*asked]
        seconds = time.monotonic() - killed
        outcome = _outcome(server, survivors, answers)
        assert seconds < place.lease + PATIENCE, f"{step}: {seconds} s for {outcome}"
        if outcome == "lost":
            # The one case that no client can mend, and nothing else.
            assert not grace, step
            assert early or (spent == 1 and first.same_issue(saved)), step
            assert store.load(identity) is None
        _goes_on(server, place, identity, lost=outcome == "lost")
        return Ended(outcome, seconds, str(answers[0]))


def _outcome(server: AuthServer, survivors: Survivors, answers: list[Any]) -> str:
    counts, by_them = server.counts, survivors.tokens.stats.refreshes
    told = [answer for answer in answers if isinstance(answer, LoginRequired)]
    if len(told) == SURVIVORS and {error.error for error in told} == {"invalid_grant"}:
        # Both share one refusal, and the provider was asked for it once; or once more, where a
        # busy host stopped who asked for longer than a lease of 0.2 s. The login is gone by then.
        if (by_them, counts.refreshes, counts.reuses) == (0, 1, 1):
            assert 1 <= counts.refresh_refused <= SURVIVORS
            return "lost"
    elif answers == [200] * SURVIVORS and counts.reuses == counts.refresh_refused == 0:
        names = {(1, 1): "refreshed", (0, 1): "adopted", (1, 2): "again"}
        if name := names.get((by_them, counts.refreshes)):
            return name
    raise AssertionError(f"{answers}, {by_them} refreshes by the survivors; {counts}")


def _goes_on(server: AuthServer, place: Place, identity: str, *, lost: bool) -> None:
    """See that the next expiry is met by one refresh; or that all are told of a lost login."""
    before = server.counts
    server.revoke_access()
    with closing(Survivors(server, place, identity)) as later:
        answers = [*later.ask()]
    if lost:
        assert [type(answer) for answer in answers] == [LoginRequired] * SURVIVORS
        assert server.counts.refresh_calls == before.refresh_calls
    else:
        assert answers == [200] * SURVIVORS, answers
        assert server.counts.refreshes == before.refreshes + 1
        assert server.counts.reuses == 0


def length(nursery: Nursery, place: Place) -> float:
    """Seconds that a victim takes, if nobody kills it, until it has its answer."""
    identity = uuid.uuid4().hex
    with AuthServer() as server, closing(open_store(*place)) as store:
        store.save(identity, Token.from_reply(server.login(identity)))
        where = {"api": server.api, "token_url": server.token_url, "store": place}
        with nursery.victim(**where, identity=identity, step=""):
            server.revoke_access()
            nursery.tell("go")
            nursery.expect("going")
            begun = time.monotonic()
            nursery.expect("done")
            return time.monotonic() - begun


class Nurseries:
    """Several of them, for many kills at once."""

    def __init__(self) -> None:
        self._all = [Nursery() for _ in range(TOGETHER)]
        self._free: queue.SimpleQueue[Nursery] = queue.SimpleQueue()
        for nursery in self._all:
            self._free.put(nursery)

    def each(self, work: Any, things: list[Any]) -> list[Any]:
        """`work(nursery, thing)` for each thing; what came of each, in their order."""

        def one(thing: Any) -> Any:
            nursery = self._free.get()
            try:
                return work(nursery, thing)
            finally:
                self._free.put(nursery)

        with ThreadPoolExecutor(TOGETHER) as threads:
            return list(threads.map(one, things))

    def close(self) -> None:
        for nursery in self._all:
            nursery.close()
