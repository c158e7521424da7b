"""A provider that outlives the outages, sources on the stores that do not, and processes."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from requests_refresh import Token
from requests_refresh.testing import AuthServer

from .support import Worker
from .worker import store_of

StartWorker = Callable[..., Worker]


@pytest.fixture
def server() -> Iterator[AuthServer]:
    with AuthServer() as running:
        yield running


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Set it, and the provider answers the calls that it holds."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """An empty store on redis, postgres or sqlite, as `store_of` takes it; a lease is a second."""
    kind = request.param
    name = uuid.uuid4().hex
    if kind == "redis":
        url = request.getfixturevalue("redis_server").url
        return {"kind": "redis", "url": url, "prefix": name, "lease": 1.0}
    if kind == "postgres":
        url = request.getfixturevalue("postgres_server").url
    else:
        url = f"sqlite:///{tmp_path}/private/tokens.db"
    return {"kind": "sql", "url": url, "table": f"t{name}", "lease": 1.0}


def log_in(server: AuthServer, shared: dict[str, Any], identity: str = "default") -> None:
    """Put a login at the server into the store; its access token is dead already."""
    store = store_of(**shared)
    store.save(identity, Token.from_reply(server.login(identity)))
    store.close()
    server.revoke_access(identity)


@pytest.fixture
def start(server: AuthServer, tmp_path: Path) -> Iterator[StartWorker]:
    """`start(store, **settings)`: a process on that store, which ends with the test."""
    with ExitStack() as stack:

        def begin(store: dict[str, Any], before: tuple[str, ...] = (), **settings: Any) -> Worker:
            given: dict[str, Any] = {"timeout": 20, "answer": 15, "stops": "", "hosts": {}}
            given |= {"api": server.api, "token_url": server.token_url, "store": store}
            given |= settings
            number = len(list(tmp_path.glob("*.err")))
            worker = Worker(given, tmp_path / f"{number}.err", before)
            stack.callback(worker.close)
            return worker

        yield begin
