"""Programs that fork or end at a call of the store or the grant, in the middle of a round.

`python -m tests.faults.host.programs NAME SETTINGS`; they report by lines on standard output.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import warnings
from typing import Any

import requests

from requests_refresh import FileStore, MemoryStore, RefreshAdapter, Token, TokenSource, lifecycle
from requests_refresh.grants import RefreshTokenGrant

from .life import SAFETY, Disturbed, Do

GIVEN: dict[str, Any] = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}


def say(*what: Any) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())  # one write: forks do not mix theirs


class Round:
    """A source whose store and grant stop once, at one of their calls, until they are let on."""

    def __init__(self) -> None:
        base = FileStore(GIVEN["path"]) if "path" in GIVEN else MemoryStore()
        if "token" in GIVEN:
            base.save("default", Token.from_reply(GIVEN["token"]))
        self.store = Disturbed(base)
        grant = RefreshTokenGrant(GIVEN["token_url"], client_id="test")
        self.tokens = TokenSource(
            lambda old: self.store.point("grant", lambda: grant(old)), self.store
        )
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.mount(GIVEN["api"], RefreshAdapter(self.tokens, origins=GIVEN["api"]))
        self.store.plan(self._stop, GIVEN["number"])

    def _stop(self, store: Disturbed, do: Do) -> Any:
        store.hung.set()
        if GIVEN.get("daemon"):
            while not lifecycle.ending():  # its end is under way, and waits for us
                threading.Event().wait(0.001)
        else:
            assert store.release.wait(SAFETY)
        return do()

    def get(self, who: str) -> None:
        try:
            say(who, self.http.get(GIVEN["api"] + "items", timeout=SAFETY).status_code)
        except Exception as error:
            say(who, type(error).__name__)

    def begin(self) -> threading.Thread:
        """Another thread asks; back when its round stands at that call, or has ended."""
        asking = threading.Thread(target=self.get, args=("parent",), daemon=GIVEN.get("daemon"))
        asking.start()
        while asking.is_alive() and not self.store.hung.wait(0.001):
            pass
        return asking


def leave() -> None:
    """The main thread leaves while the round stands at that call."""
    round_ = Round()
    round_.begin()
    if GIVEN["how"] == "os._exit":
        threading.Timer(0.0, round_.store.release.set).start()
        round_.tokens.close()
        os._exit(0)
    round_.store.release.set()
    sys.exit(0)


def fork() -> None:
    """Another thread forks while the round stands at that call; both go on."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12: forking with threads
    round_ = Round()
    asking = round_.begin()
    child = os.fork()
    if not child:
        signal.alarm(int(SAFETY))
        round_.store._count = threading.Lock()
        round_.store.heal()
        round_.get("child")
        round_.tokens.close()
        os._exit(0)
    round_.store.release.set()
    asking.join(SAFETY)
    say("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    round_.get("after")


if __name__ == "__main__":
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(int(SAFETY))
    globals()[sys.argv[1]]()
