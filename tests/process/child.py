"""What the programs of these tests share: how they report, are told, and reach the server.

A program is a function of a module in `programs`, run as `python -m MODULE
FUNCTION SETTINGS`. It reports by lines on its standard output, and is told to
go on by lines on its standard input.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import requests

from requests_refresh import FileStore, RefreshAdapter, RefreshTokenGrant, TokenSource

SAFETY = 60  # seconds; what takes longer hangs
GIVEN: dict[str, Any] = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}


def say(what: str, **more: Any) -> None:
    """Report one thing. In a single write, so that threads and forks do not mix theirs."""
    os.write(1, (json.dumps([what, more]) + "\n").encode())


def hear() -> str:
    """Block until the test says something."""
    return sys.stdin.readline().strip()


def grant() -> RefreshTokenGrant:
    return RefreshTokenGrant(GIVEN["token_url"], client_id="test")


def source(store: Any = None, **options: Any) -> TokenSource:
    """A source on the test's file, unless another store is given."""
    return TokenSource(grant(), store or FileStore(GIVEN["path"]), **options)


def session(tokens: TokenSource, **options: Any) -> requests.Session:
    http = requests.Session()
    http.trust_env = False
    http.mount(GIVEN["api"], RefreshAdapter(tokens, origins=GIVEN["api"], **options))
    return http


def get(http: requests.Session, path: str = "items") -> int:
    return http.get(GIVEN["api"] + path, timeout=SAFETY).status_code


def try_get(http: requests.Session, path: str = "items") -> dict[str, Any]:
    """What came of a request: its status, or the error and its words."""
    try:
        return {"status": get(http, path)}
    except Exception as exc:
        return {"error": type(exc).__name__, "text": str(exc)}


def in_threads(count: int, work: Callable[[int], object], *, daemon: bool = False) -> Any:
    threads = [
        threading.Thread(target=work, args=(number,), daemon=daemon) for number in range(count)
    ]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(SAFETY)


def in_a_fork(work: Callable[[], object]) -> int:
    """Do `work` in a child made by os.fork, which then leaves at once; returns its pid."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(SAFETY)
        try:
            work()
        except BaseException as exc:
            say("child failed", error=repr(exc))
            raise
        finally:
            os._exit(0)
    return pid


def run(programs: dict[str, Any]) -> None:
    """Run the function that the command line names; a hang ends with all stacks on stderr."""
    # Not dump_traceback_later: its thread is not there in a fork, whose exit would wait for it.
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(SAFETY)
    programs[sys.argv[1]]()
