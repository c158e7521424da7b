"""A process with a source and a session of its own, which does what it is told by lines.

`python -m tests.outages.worker SETTINGS`, both JSON. Each line on standard input
is a command, one of the functions of `Work`, and is answered by a line.
"""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from typing import Any

import requests

from requests_refresh import RefreshAdapter, RefreshTokenGrant, Token, TokenSource, TokenStore
from requests_refresh.stores import RedisStore, SQLStore

SAFETY = 60  # seconds


def store_of(kind: str, url: str, **options: Any) -> TokenStore:
    return RedisStore(url, **options) if kind == "redis" else SQLStore(url, **options)


def stand_still() -> None:
    """Stop this process until somebody lets it go on."""
    # Sent to this thread, so that it goes no step further: another may be slow to take it.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def stop_inside(store: TokenStore) -> None:
    """Have this process stop, once, as soon as it has entered `exclusive`."""
    enter = store.exclusive

    @contextmanager
    def exclusive(identity: str, timeout: float) -> Any:
        with enter(identity, timeout) as held:
            vars(store).pop("exclusive", None)
            stand_still()
            yield held

    vars(store)["exclusive"] = exclusive


class Replied(RefreshTokenGrant):
    """Has this process stop, once, as soon as the provider has replied."""

    stops = True

    def __call__(self, token: Token | None = None) -> Token:
        reply = super().__call__(token)
        if self.stops:
            self.stops = False
            stand_still()
        return reply


def know(hosts: dict[str, str]) -> None:
    """Find these names at these addresses, without a file of the system's."""
    find: Any = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **options: Any) -> Any:
        return find(hosts.get(host, host), *args, **options)

    vars(socket)["getaddrinfo"] = getaddrinfo


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


class Work:
    """The commands."""

    def __init__(self, given: dict[str, Any]) -> None:
        know(given["hosts"])
        self._api = given["api"]
        self._records = Records()
        logging.getLogger("requests_refresh").addHandler(self._records)
        self._store = store_of(**given["store"])
        if given["stops"] == "inside":
            stop_inside(self._store)
        kind = Replied if given["stops"] == "replied" else RefreshTokenGrant
        self._tokens = TokenSource(
            kind(given["token_url"], client_id="test", timeout=given["answer"]),
            self._store,
            timeout=given["timeout"],
        )
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.mount(self._api, RefreshAdapter(self._tokens, origins=self._api))

    def get(self, times: int = 1, threads: int = 1) -> list[str]:
        """What came of so many requests in each of so many threads, each kind once."""
        came: set[str] = set()

        def work() -> None:
            for _ in range(times):
                try:
                    came.add(str(self._http.get(self._api + "items", timeout=20).status_code))
                except Exception as exc:
                    came.add(f"{type(exc).__name__}: {exc}")

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(SAFETY)
        return sorted(came)

    def access_token(self) -> str | None:
        return self._tokens.token().access_token

    def refreshes(self) -> int:
        return self._tokens.stats.refreshes

    def logs(self) -> list[str]:
        return self._records.lines

    def end(self) -> None:
        self._tokens.close()
        self._store.close()
        self._http.close()


def main() -> None:
    signal.alarm(3 * SAFETY)
    work = Work(json.loads(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        command, options = json.loads(line)
        print(json.dumps(getattr(work, command)(**options)), flush=True)


if __name__ == "__main__":
    main()
