"""A process of a soak: threads that send ordinary requests until it is told to end.

`python -m tests.soak.worker SETTINGS`. It reports by lines on its standard output: each
failure by itself, what went well as counts. SIGTERM ends it in good order.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import requests

from requests_refresh import RefreshAdapter, RefreshTokenGrant, TokenSource, open_store
from tests.process.child import say

from .ledger import Stamp

TIMEOUT = 12.0  # seconds of a source: more than the longest lease and a slow provider take
ANSWER = 30.0  # seconds to wait for the API, which nothing befalls
SAFETY = 60.0  # seconds in which every request ends
PAUSE = 0.2, 0.8  # seconds between two requests of a thread: 64 of them leave two cores some time
TELL = 0.5  # seconds between two reports
BODIES = ("GET", "POST", "one-shot")


class Errors(logging.Handler):
    """What the package logs as an error is reported; warnings are counted."""

    def __init__(self, count: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._count = count

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            say("log", at=time.monotonic(), text=record.getMessage()[:300])
        else:
            self._count("warning")


class Worker:
    """The source, the session and the threads of this process."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._counts: Counter[str] = Counter()  # guarded by _lock
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.told = False
        logging.getLogger("requests_refresh").addHandler(Errors(self._count))
        self._store = open_store(given["store"], **given["options"])
        # Shorter than by default, as the tokens are: an answer that does not come is soon lost.
        grant = RefreshTokenGrant(
            given["token_url"], client_id="soak", client_auth=Stamp(), timeout=(2, 4)
        )
        self._tokens = TokenSource(
            grant,
            self._store,
            timeout=TIMEOUT,
            on_logout=lambda source, error: say("logout", text=str(error)),
        )
        self._http = requests.Session()
        self._http.trust_env = False
        adapter = RefreshAdapter(self._tokens, origins=given["api"], pool_maxsize=given["threads"])
        self._http.mount(given["api"], adapter)

    def _work(self, number: int) -> None:
        seed = "-".join(map(str, (*self._given["seed"], number)))
        drawn = random.Random(seed)  # noqa: S311 - to be replayed
        turn = 0
        while not self._over.wait(drawn.uniform(*PAUSE)):
            turn += 1
            kind = drawn.choice(BODIES)
            body = b"" if kind == "GET" else drawn.randbytes(drawn.randrange(1, 4000))
            began, text = time.monotonic(), ""
            try:
                outcome = self._ask(kind, body, f"{number}/{turn}")
            except Exception as exc:
                outcome, text = type(exc).__name__, str(exc)[:300]
            self._count(f"{kind} {outcome}")
            if outcome not in ("ok", "handed on"):
                say("failed", kind=kind, outcome=outcome, began=began, ended=time.monotonic(),
                    text=text)  # fmt: skip

    def _ask(self, kind: str, body: bytes, path: str) -> str:
        """What came of a request: "ok" only if the API had every byte of it."""
        url = self._given["api"] + path
        if kind == "GET":
            response = self._http.get(url, timeout=ANSWER)
        elif kind == "POST":
            response = self._http.post(url, data=body, timeout=ANSWER)
        else:
            response = self._http.post(url, data=iter([body]), timeout=ANSWER)
        if response.status_code == 401 and kind == "one-shot":
            return "handed on"
        if response.status_code != 200:
            return str(response.status_code)
        seen = response.json()
        sent = f"/api/{path}", len(body), hashlib.sha256(body).hexdigest()
        return "ok" if (seen["path"], seen["length"], seen["sha256"]) == sent else "other bytes"

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _tell(self) -> None:
        with self._lock:
            counts, stats = dict(self._counts), self._tokens.stats
        say("counts", counts=counts, refreshes=stats.refreshes, adoptions=stats.adoptions)

    def run(self) -> None:
        """Work until told to end, or until the soak itself has ended without a word."""
        parent = os.getppid()
        threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(self._given["threads"])
        ]
        for thread in threads:
            thread.start()
        while not self.told:
            time.sleep(TELL)
            self._tell()
            if os.getppid() != parent:
                os._exit(1)
        self._over.set()
        end = time.monotonic() + SAFETY
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        if hanging := sum(thread.is_alive() for thread in threads):
            say("hangs", threads=hanging)
            faulthandler.dump_traceback()
        self._tokens.close()
        self._http.close()
        self._store.close()
        self._tell()
        say("over")


def main() -> None:
    worker = Worker(json.loads(sys.argv[1]))

    def end(*_: object) -> None:
        worker.told = True  # an Event's lock may be held by the very thread that this interrupts

    handler: Callable[..., None] = end
    signal.signal(signal.SIGTERM, handler)
    say("ready")
    worker.run()


if __name__ == "__main__":
    main()
